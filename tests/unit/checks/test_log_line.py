"""Readiness by a line of the log: found whole, once, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from procd.checks.log_line import MAX_LINE_BYTES, TURN_BYTES, Lines, LogLine, LogSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.checks.fake_loop import FakeLoop


class FakeLog:
    """A log file in memory."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content
        self.watchers: list[Callable[[], None]] = []
        self.reads: list[tuple[int, int]] = []
        self.broken = False

    def read(self, offset: int, size: int) -> bytes:
        """Give what is there."""
        self.reads.append((offset, size))
        if self.broken:
            raise OSError
        return self.content[offset : offset + size]

    def watch(self, grown: Callable[[], None]) -> Callable[[], None]:
        """Tell of growth."""
        self.watchers.append(grown)
        return lambda: self.watchers.remove(grown)

    def write(self, more: bytes) -> None:
        """Grow."""
        self.content += more
        for watcher in tuple(self.watchers):
            watcher()

    def source(self, start: int = 0) -> LogSource:
        """It, from an offset."""
        return LogSource(start, self.read, self.watch)


def watch(loop: FakeLoop, log: FakeLog, pattern: str, start: int = 0) -> tuple[LogLine, list[str]]:
    """Look for a pattern; returns the watch, and a list that is no longer empty when it was found."""
    found: list[str] = []
    watching = LogLine(loop, pattern, log.source(start), lambda: found.append("found"))  # type: ignore[arg-type]
    loop.advance(0)
    return watching, found


def test_a_line_that_comes_later_is_found_once(loop: FakeLoop) -> None:
    """It is reported once, and the log is left alone from then on."""
    log = FakeLog()
    _, found = watch(loop, log, r"^listening on \d+$")
    log.write(b"starting\nlistening on 80")
    loop.advance(0)
    assert not found, "the line may go on"
    log.write(b"\nlistening on 81\n")
    loop.advance(0)
    assert found == ["found"]
    assert not log.watchers
    assert not loop.planned


def test_a_line_that_is_there_already_is_found(loop: FakeLoop) -> None:
    """The program may be faster than whoever asks."""
    _, found = watch(loop, FakeLog(b"ready\n"), "ready")
    assert found


def test_lines_of_an_earlier_life_do_not_count(loop: FakeLoop) -> None:
    """Reading begins where the present life begins."""
    log = FakeLog(b"ready\n")
    _, found = watch(loop, log, "ready", start=len(log.content))
    assert not found
    log.write(b"ready\r\n")
    loop.advance(0)
    assert found


def test_it_reads_a_bounded_piece_in_each_turn_until_there_is_nothing(loop: FakeLoop) -> None:
    """A log that was written at length is not read at once."""
    log = FakeLog(b"x" * 100 + b"\n")
    log.content *= 5000
    log.content += b"ready\n"
    _, found = watch(loop, log, "^ready$")
    assert found
    assert len(log.reads) == len(log.content) // TURN_BYTES + 1
    assert all(size <= TURN_BYTES for _, size in log.reads)


def test_nothing_is_read_while_nothing_grows(loop: FakeLoop) -> None:
    """There is no polling."""
    log = FakeLog(b"x\n")
    watch(loop, log, "ready")
    seen = len(log.reads)
    loop.advance(1000)
    assert len(log.reads) == seen
    assert not loop.planned


def test_many_words_of_growth_are_one_read(loop: FakeLoop) -> None:
    """A flood of small writes makes no flood of reads."""
    log = FakeLog()
    watch(loop, log, "ready")
    seen = len(log.reads)
    for _ in range(100):
        log.write(b"x\n")
    loop.advance(0)
    assert len(log.reads) == seen + 2, "the second one finds nothing"


def test_a_log_that_cannot_be_read_is_tried_again_when_it_grows(loop: FakeLoop) -> None:
    """The program is not ready until then."""
    log = FakeLog(b"ready\n")
    log.broken = True
    _, found = watch(loop, log, "ready")
    log.broken = False
    assert not found
    log.write(b"x\n")
    loop.advance(0)
    assert found


def test_cancelled_it_reads_no_more(loop: FakeLoop) -> None:
    """Nothing of it is left, also in the middle of a turn."""
    log = FakeLog()
    watching, found = watch(loop, log, "ready")
    log.write(b"ready\n")
    watching.cancel()
    watching.cancel()
    loop.advance(0)
    assert not found
    assert not log.watchers
    assert not loop.planned


def test_a_pattern_is_searched_in_bytes(loop: FakeLoop) -> None:
    """What is not UTF-8 in the line does not matter; what is in the pattern does."""
    _, found = watch(loop, FakeLog("\0ça va\n".encode() + b"\xff"), "ça")
    assert found


def test_the_beginning_of_an_endless_line_is_looked_at() -> None:
    """And no more is held than that."""
    lines = Lines()
    for _ in range(100):
        assert not lines.feed(b"x" * 10000)
    whole, after = lines.feed(b"\r\nshort\r\n")
    assert whole == b"x" * MAX_LINE_BYTES
    assert after == b"short"


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"\r\n", b"\r"])))
def test_lines_do_not_depend_on_how_they_come(chunks: list[bytes]) -> None:
    """In pieces or at once, the lines are the same."""
    content = b"".join(chunks)
    lines = Lines()
    in_pieces = [line for chunk in chunks for line in lines.feed(chunk)]
    assert in_pieces == Lines().feed(content)
    assert in_pieces == [line.removesuffix(b"\r") for line in content.split(b"\n")[:-1]]
