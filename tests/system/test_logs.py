"""Logs of a real daemon, read by real clients: every byte once, whatever happens to files and processes."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procctl.client import STREAM_DATA, STREAM_GAP
from tests.programs.numbered import content
from tests.system.daemon import BOUND_S, python, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tests.system.daemon import Daemon

#: Lines of 64 bytes; rotated at 32 KiB, a thousand make two files.
LINES = 10_000


def numbered(name: str, *arguments: object, **keys: object) -> str:
    """A program that writes numbered lines, with its log."""
    log = ", ".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in keys.items()
    )
    return f"""
[programs.{name}]
command = {python("numbered.py", *arguments)}
restart = "never"
log = {{ {log} }}
"""


def files_of(daemon: Daemon, name: str) -> list[str]:
    """The files of a log."""
    return sorted(path.name for path in (daemon.directory / "log").glob(f"{name}.log*"))


def until_compressed(daemon: Daemon, name: str) -> None:
    """Wait until all files of a log are compressed but the present one."""
    until(lambda: all(each.endswith((".gz", ".log")) for each in files_of(daemon, name)))


def until_written(daemon: Daemon, name: str, size: int) -> None:
    """Wait until so many bytes are in the log."""
    until(
        lambda: daemon.record(name)["streams"]["stdout"]["offset"] >= size, f"{size} bytes in the log of {name}"
    )


def output_of(following: subprocess.Popen[bytes], size: int) -> bytes:
    """The next bytes that a procctl shows; it is killed when they do not come."""
    assert following.stdout is not None
    os.set_blocking(following.stdout.fileno(), False)
    got = bytearray()
    deadline_s = time.monotonic() + 3 * BOUND_S
    while len(got) < size:
        assert time.monotonic() < deadline_s, f"{len(got)} of {size} bytes came"
        piece = following.stdout.read(size - len(got))
        if piece:
            got += piece
        elif piece == b"":
            break
        else:
            time.sleep(0.01)
    return bytes(got)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("compress", [False, True])
def test_a_followed_log_over_many_rotations_is_the_same_byte_for_byte(
    start_daemon: Callable[..., Daemon], *, compress: bool
) -> None:
    """Twenty files, followed by one from the beginning, and shown to others afterwards."""
    programs = numbered("web", LINES, 2_000_000, "SIGUSR1", max_size="32KiB", keep=50, compress=compress)
    daemon = start_daemon(programs)
    daemon.until_output("web", b"ready\n")
    expected = b"ready\n" + content(LINES)
    with daemon.procctl_running("logs", "web", "-f", "-n", "all") as following:
        assert output_of(following, 6) == b"ready\n"
        daemon.does("signal", "USR1", "web")
        assert b"ready\n" + output_of(following, len(expected) - 6) == expected
    until(lambda: len(files_of(daemon, "web")) >= 20)
    if compress:
        # All but the present one.
        until(
            lambda: (
                sum(name.endswith(".gz") for name in files_of(daemon, "web"))
                == len(files_of(daemon, "web")) - 1
            )
        )
    assert daemon.does("logs", "web", "-n", "all").encode() == expected
    for lines in (1, 10, 600, 5_000, LINES + 1):
        assert (
            daemon.does("logs", "web", "-n", str(lines)).encode()
            == expected.split(b"\n", LINES + 1 - lines)[-1]
        )


def test_since_a_time_is_exact_in_a_log_with_times(start_daemon: Callable[..., Daemon]) -> None:
    """Across compressed files, for both formats; the log itself says what is right."""
    programs = "".join(
        numbered(form, 3_000, 200_000, max_size="32KiB", keep=50, compress=True, format=form)
        for form in ("timestamp", "json")
    )
    daemon = start_daemon(programs)
    for form in ("timestamp", "json"):
        daemon.until_output(form, b"00002999")
        until_compressed(daemon, form)
        assert len(files_of(daemon, form)) > 5
        shown = daemon.does("logs", form, "-n", "all").splitlines(keepends=True)
        assert len(shown) == 3_000
        for number in (1, 700, 1_500, 2_999):
            stamp = shown[number].partition('":"')[2][:27] if form == "json" else shown[number][:27]
            first = next(at for at, line in enumerate(shown) if stamp in line)
            assert daemon.does("logs", form, "--since", stamp) == "".join(shown[first:])
        assert daemon.does("logs", form, "--since", "1h") == "".join(shown)
        assert daemon.does("logs", form, "--since", "now") == ""


def test_rotate_begins_new_files_now(start_daemon: Callable[..., Daemon]) -> None:
    """An empty log stays as it is, and what keeps none, or was never started, is no mistake."""
    daemon = start_daemon(
        numbered("web", 500, 0, "SIGUSR1")
        + """
[programs.mute]
command = ["sleep", "infinity"]
stdout = "null"

[programs.idle]
command = ["sleep", "infinity"]
autostart = false
"""
    )
    log, old = daemon.directory / "log/web.log", daemon.directory / "log/web.log.1"
    daemon.until_output("web", b"ready\n")
    assert daemon.does("rotate", "--all").splitlines() == [
        "web: rotated",
        "mute: nothing to rotate",
        "idle: nothing to rotate",
    ]
    assert (log.read_bytes(), old.read_bytes()) == (b"", b"ready\n")
    daemon.does("rotate", "web")
    assert old.read_bytes() == b"ready\n", "an empty file is no generation"
    daemon.does("signal", "USR1", "web")
    until_written(daemon, "web", 6 + len(content(500)))
    assert log.read_bytes() == content(500)
    assert daemon.does("logs", "web", "-n", "all").startswith("ready\n")
    (row,) = daemon.json("rotate", "web")["programs"]
    assert row == {"name": "web", "ok": True, "state": "RUNNING", "reason": ""}
    assert [(daemon.directory / f"log/web.log.{n}").read_bytes() for n in (1, 2)] == [content(500), b"ready\n"]
    assert daemon.procctl("rotate", "wbe").code == 4


def test_since_a_time_in_a_raw_log_is_the_file_of_that_time(start_daemon: Callable[..., Daemon]) -> None:
    """Which is told by when its first byte came."""
    daemon = start_daemon(numbered("web", 500, 0, "SIGUSR1") + numbered("later", 500, 0, "SIGUSR1"))
    daemon.until_output("web", b"ready\n")
    daemon.does("rotate", "web")
    path = daemon.directory / "log/web.log.1"
    until(path.exists)
    os.setxattr(path, "user.procd.since", b"%d" % (time.time() - 1000))
    os.utime(path, (time.time() - 500,) * 2)
    daemon.does("signal", "USR1", "web")
    until_written(daemon, "web", 6 + len(content(500)))
    assert daemon.does("logs", "web", "--since", "10m").startswith("ready")
    assert daemon.does("logs", "web", "--since", "400s").startswith("00000000")
    at = datetime.fromtimestamp(time.time() - 400, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert daemon.does("logs", "web", "--since", at).startswith("00000000")


class Reader:
    """A client that follows a log, and reads when the test says so."""

    def __init__(self, daemon: Daemon, **where: Any) -> None:  # noqa: ANN401
        self.client = daemon.client()
        self.stream = self.client.stream("logs", program="web", follow=True, **where)
        self.position = self.stream.answer["offset"]
        self.data = bytearray()
        self.gaps: list[tuple[int, int, str]] = []

    def read_to(self, offset: int) -> None:
        """Read up to an offset; every byte has to be where it belongs."""
        for kind, body in self.stream:
            if kind == STREAM_DATA:
                assert body["offset"] == self.position
                self.position += len(body["data"])
                self.data += body["data"]
            elif kind == STREAM_GAP:
                self.gaps.append((self.position, body["bytes"], body["reason"]))
                self.position += body["bytes"]
                self.data += bytes(body["bytes"])
                assert body["next"] == self.position
            if self.position >= offset:
                return


def test_a_follower_that_does_not_read_learns_exactly_what_it_has_missed(
    start_daemon: Callable[..., Daemon],
) -> None:
    """Files that were deleted before it came to them are counted to the byte; all the rest it gets."""
    lines = 40_000
    daemon = start_daemon(numbered("web", lines, 0, "SIGUSR1", max_size="32KiB", keep=4))
    daemon.until_output("web", b"ready\n")
    expected = b"ready\n" + content(lines)
    reader = Reader(daemon)
    daemon.does("signal", "USR1", "web")
    until_written(daemon, "web", len(expected))
    reader.read_to(len(expected))
    assert reader.gaps
    assert {reason for _, _, reason in reader.gaps} == {"rotated away"}
    wanted = bytearray(expected)
    for offset, size, _ in reader.gaps:
        wanted[offset : offset + size] = bytes(size)
    assert reader.data == wanted
    reader.client.close()


def test_what_somebody_cuts_or_deletes_is_a_gap(start_daemon: Callable[..., Daemon]) -> None:
    """By hand, while a follower has not read it; the offsets go on."""
    daemon = start_daemon("[programs.web]\ncommand = ['cat']\nstdin = 'pipe'\n")
    log = daemon.directory / "log/web.log"
    daemon.until_state("web", "RUNNING")
    for word in ("one", "two", "three"):
        daemon.does("send", "web", word)
        daemon.until_output("web", word.encode())
        if word != "three":
            daemon.does("rotate", "web")
    reader = Reader(daemon)
    reader.read_to(14)
    assert bytes(reader.data) == b"one\ntwo\nthree\n"
    Path(f"{log}.1").unlink()
    os.truncate(log, 0)
    daemon.does("send", "web", "four")
    reader.read_to(19)
    assert bytes(reader.data) == b"one\ntwo\nthree\nfour\n"
    assert reader.gaps == []
    late = Reader(daemon, offset=0)
    late.read_to(19)
    assert bytes(late.data) == b"one\n" + bytes(10) + b"four\n"
    assert [size for _, size, _ in late.gaps] == [10]
    done = daemon.procctl("logs", "web", "-n", "all")
    assert done.out == "one\nfour\n"
    assert "10 bytes are missing here: a file of the log was cut or deleted" in done.err
    for each in (reader, late):
        each.client.close()


def test_a_follower_outlives_the_logger_and_the_daemon(start_daemon: Callable[..., Daemon]) -> None:
    """Killed in the middle of a flood, and started anew: no byte is missing or comes twice."""
    daemon = start_daemon(
        numbered("web", LINES, 1_000_000, "SIGUSR1", max_size="32KiB", keep=100, compress=True)
    )
    daemon.until_output("web", b"ready\n")
    expected = b"ready\n" + content(LINES)
    with daemon.procctl_running("logs", "web", "-f", "-n", "all") as following:
        assert output_of(following, 6) == b"ready\n"
        daemon.does("signal", "USR1", "web")
        got = b"ready\n" + output_of(following, 100_000)
        os.kill(daemon.logger, signal.SIGKILL)
        got += output_of(following, len(expected) - len(got))
        assert got == expected
        assert daemon.stop() == 0
        daemon.start()
        daemon.until_output("web", b"ready\n")
        assert output_of(following, 6) == b"ready\n"
    # The offsets went on as well.
    assert daemon.record("web")["streams"]["stdout"]["offset"] == len(expected) + 6


def test_a_stuck_logger_delays_logs_by_a_second_and_nobody_else(start_daemon: Callable[..., Daemon]) -> None:
    """What is in the log is shown, and that it is not all; whoever asks for something else notices nothing."""
    daemon = start_daemon("[programs.web]\ncommand = ['cat']\nstdin = 'pipe'\n")
    daemon.until_state("web", "RUNNING")
    daemon.does("send", "web", "before")
    daemon.until_output("web", b"before")
    with stopped(daemon.logger):
        daemon.does("send", "web", "after")
        began_s = time.monotonic()
        with daemon.procctl_running("logs", "web") as showing, daemon.client() as client:
            slowest_s = 0.0
            while showing.poll() is None:
                asked_s = time.monotonic()
                client.call("status")
                slowest_s = max(slowest_s, time.monotonic() - asked_s)
                assert time.monotonic() - began_s < BOUND_S
            out, err = showing.communicate()
        assert showing.returncode == 0
        assert out == b"before\n"
        assert b"what it wrote last is not in the log yet: the logger does not answer" in err
        assert slowest_s < time.monotonic() - began_s
    daemon.until_output("web", b"after")
    done = daemon.procctl("logs", "web")
    assert (done.out, done.err) == ("before\nafter\n", "")


def test_the_last_words_of_a_program_that_has_just_ended_are_shown(start_daemon: Callable[..., Daemon]) -> None:
    """Whoever waits for the end and then looks sees all."""
    daemon = start_daemon(
        "[programs.web]\ncommand = \"printf 'x%.0s' $(seq 50000); echo last\"\nshell = true\n"
        "restart = 'never'\nautostart = false\n"
    )
    for _ in range(5):
        daemon.does("start", "web", "--no-wait")
        daemon.does("wait", "web", "--for", "exited")
        assert daemon.does("logs", "web", "-n", "1").endswith("last\n")


def test_who_waited_for_an_end_reads_all_of_it_in_the_file(start_daemon: Callable[..., Daemon]) -> None:
    """With any tool, as people do."""
    daemon = start_daemon(
        "[programs.web]\ncommand = 'echo first; echo last >&2; echo last'\nshell = true\n"
        "stderr = 'log'\nrestart = 'never'\nautostart = false\n"
    )
    with daemon.client() as client:
        for count in range(1, 101):
            client.call("start", programs=["web"], wait=False)
            client.call("wait", program="web", **{"for": "exited"})
            assert daemon.output("web") == b"first\nlast\n" * count
            assert daemon.output("web", "stderr") == b"last\n" * count


def test_a_follower_goes_on_in_a_log_that_a_reload_moves(start_daemon: Callable[..., Daemon]) -> None:
    """A new file continues the old one."""
    program = "[programs.web]\ncommand = ['cat']\nstdin = 'pipe'\n"
    daemon = start_daemon(program)
    daemon.until_state("web", "RUNNING")
    daemon.does("send", "web", "one")
    with daemon.procctl_running("logs", "web", "-f", "-n", "all") as following:
        assert output_of(following, 4) == b"one\n"
        daemon.write(program + "log = { path = 'log/moved.log' }\n")
        daemon.does("reload")
        daemon.does("send", "web", "two")
        assert output_of(following, 4) == b"two\n"
    assert (daemon.directory / "log/moved.log").read_bytes() == b"two\n"
    assert daemon.does("logs", "web", "-n", "all") == "two\n"


def test_a_program_without_a_log_says_where_its_output_goes(start_daemon: Callable[..., Daemon]) -> None:
    """And what to do about it."""
    daemon = start_daemon(
        "[programs.web]\ncommand = ['sleep', 'infinity']\nstdout = 'null'\n"
        "[programs.out]\ncommand = ['sleep', 'infinity']\nlog = { path = '/dev/stdout' }\n"
    )
    done = daemon.procctl("logs", "web")
    assert done.code == 1
    assert "it is thrown away" in done.err
    assert 'stdout = "log"' in done.err
    done = daemon.procctl("logs", "web", "--stream", "stderr")
    assert "thrown away" in done.err
    done = daemon.procctl("logs", "out")
    assert done.code == 1
    assert "cannot be read back" in done.err


def test_compressed_files_of_somebody_else_are_read_too(start_daemon: Callable[..., Daemon]) -> None:
    """As `gzip web.log.1` makes them: no attribute says where they begin."""
    daemon = start_daemon("[programs.web]\ncommand = ['cat']\nstdin = 'pipe'\n")
    daemon.until_state("web", "RUNNING")
    for word in ("one", "two"):
        daemon.does("send", "web", word)
        daemon.until_output("web", word.encode())
        daemon.does("rotate", "web")
    old = daemon.directory / "log/web.log.2"
    old.with_name("web.log.2.gz").write_bytes(gzip.compress(old.read_bytes()))
    old.unlink()
    assert daemon.does("logs", "web", "-n", "all") == "one\ntwo\n"
    assert daemon.does("logs", "web", "-n", "2") == "one\ntwo\n"
