"""The log of events: what is written to it, and what the next daemon makes of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from procd.core import Actor, Cause, State, Transition
from procd.runtime import event_log
from procd.runtime.event_log import ENDED, JUMP, KEY, STARTED, EventLog
from procd.runtime.journal import REMEMBERED, Journal
from tests.kernel.children import in_loop, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from procd.config.spec import LogSpec
    from procd.output.streams import StreamKey


class FakeLogs:
    """A logger that writes at once, unless it is stuck; it never rotates."""

    def __init__(self) -> None:
        self.path = ""
        self.stuck = False
        self.largest = 0

    def open(self, key: StreamKey, spec: LogSpec) -> None:
        """Keep a log."""
        assert key == KEY
        self.path = spec.path

    def unwritten(self, key: StreamKey) -> bytes:
        """Nothing is on its way."""
        assert key == KEY
        return b""

    def write(self, key: StreamKey, data: bytes) -> bool:
        """Append to it."""
        assert key == KEY
        assert data.endswith(b"\n")
        if self.stuck:
            return False
        self.largest = max(self.largest, len(data))
        with open(self.path, "ab") as file:  # noqa: PTH123
            file.write(data)
        return True


class Life:
    """A daemon, as far as its events go."""

    def __init__(self, path: Path) -> None:
        self.logs = FakeLogs()
        self.journal = Journal()
        loop = asyncio.get_running_loop()
        self.events = EventLog(loop, self.logs, self.journal, str(path))  # type: ignore[arg-type]

    async def begin(self) -> Life:
        """Start."""
        await self.events.begin(lambda: asyncio.sleep(0), pid=7)
        return self

    def types(self) -> list[str]:
        """What it remembers."""
        return [record.type for record in self.journal.since(0, 10**6)]


def lines(path: Path) -> list[dict[str, Any]]:
    """What stands in the log."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@in_loop
async def test_events_outlive_the_daemon_that_ended(tmp_path: Path) -> None:
    """Their numbers go on, without a hole; each says what it said before."""
    path = tmp_path / "events.log"
    first = await Life(path).begin()
    first.journal.transition(
        Transition("web", State.STOPPED, State.STARTING, Cause("asked", Actor(uid=1, pid=2)), 5.0)
    )
    first.journal.note("says", None, text="a\nb \udc80 ü", count=3)
    before = [record.to_wire() for record in first.journal.since(0, 10)]
    first.events.close()
    first.events.close()
    second = await Life(path).begin()
    after = [record.to_wire() for record in second.journal.since(0, 10)]
    assert after[:3] == before
    assert [record["seq"] for record in after] == [1, 2, 3, 4, 5]
    assert second.types() == [STARTED, "transition", "says", ENDED, STARTED]
    assert after[4]["after"] == "procd had ended"
    assert after[4]["pid"] == 7
    assert [record.seq for record in second.journal.transitions("web")[0]] == [2]
    second.events.close()
    assert [line["seq"] for line in lines(path)] == [1, 2, 3, 4, 5, 6]


@in_loop
async def test_after_a_daemon_that_was_killed_numbers_are_left_out(tmp_path: Path) -> None:
    """What it noted last may be missing, and somebody may have seen its numbers."""
    path = tmp_path / "events.log"
    first = await Life(path).begin()
    first.journal.note("says", None)
    await until(lambda: len(lines(path)) == 2)
    first.journal.note("never written", None)
    with path.open("ab") as file:
        file.write(b'{"seq":3,"time":1.0,"ty')
    second = await Life(path).begin()
    assert second.journal.last == 2 + JUMP + 1
    assert second.types() == [STARTED, "says", STARTED]
    assert "killed" in second.journal.since(2, 1)[0].to_wire()["after"]
    # Who comes with the number that was lost is told what is new.
    assert [record.seq for record in second.journal.since(3, 5)] == [3 + JUMP]
    second.events.close()
    third = await Life(path).begin()
    assert third.journal.last == 5 + JUMP
    third.events.close()
    for life in (first, second, third):
        life.events._flushes = None


@in_loop
async def test_without_a_log_numbers_begin_with_one(tmp_path: Path) -> None:
    """It is the first daemon, or somebody has deleted the log."""
    life = await Life(tmp_path / "events.log").begin()
    assert [record.seq for record in life.journal.since(0, 9)] == [1]
    assert life.journal.since(0, 1)[0].to_wire().keys() == {"seq", "time", "type", "program", "pid"}
    life.events.close()


@in_loop
async def test_only_the_last_events_are_remembered(tmp_path: Path) -> None:
    """Out of two files, and what is no event between them is passed over."""
    path = tmp_path / "events.log"

    def line(seq: int) -> bytes:
        return b'{"seq":%d,"time":1.5,"type":"says","program":"web","x":[1]}\n' % seq

    (tmp_path / "events.log.1").write_bytes(b"".join(line(seq) for seq in range(1, 2001)))
    marks = b"[procd: 99 bytes were dropped]\n{}\n[1]\n\n\xff\n"
    path.write_bytes(marks + b"".join(line(seq) for seq in range(2001, 3001)))
    life = await Life(path).begin()
    records = life.journal.since(0, 10_000)
    # So many lines are read, and five of them are no events; ours came after.
    assert len(records) == REMEMBERED - 5 + 1
    assert records[0].seq == 3001 - (REMEMBERED - 5)
    assert records[-2].to_wire() == json.loads(line(3000))
    life.events.close()


@in_loop
async def test_a_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """And the daemon starts."""
    path = tmp_path / "events.log"
    path.symlink_to("/etc/passwd")
    with capture_logs() as logged:
        life = await Life(path).begin()
    assert [line["event"] for line in logged] == ["events of earlier cannot be read"]
    assert life.types() == [STARTED]
    life.logs.stuck = True
    life.events.close()


@in_loop
async def test_a_burst_is_handed_over_in_messages_that_fit(tmp_path: Path) -> None:
    """After what caused it, in order, and an event that is too long without what makes it so."""
    path = tmp_path / "events.log"
    life = await Life(path).begin()
    for number in range(3000):
        life.journal.note("says", "web", number=number, text="x" * 100)
    life.journal.note("says", "web", text="y" * 100_000)
    assert not path.exists()
    await until(lambda: len(lines(path)) == 3002)
    assert life.logs.largest <= event_log._MESSAGE_BYTES
    assert [line["seq"] for line in lines(path)] == list(range(1, 3003))
    assert lines(path)[-1]["reason"] == "too long to be kept"
    life.events.close()


@in_loop
async def test_while_the_logger_is_stuck_only_so_many_events_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are given up, and that is told; nobody else notices."""
    monkeypatch.setattr(event_log, "_RETRY_S", 0.01)
    monkeypatch.setattr(event_log, "_MOST_WAITING", 100)
    path = tmp_path / "events.log"
    life = Life(path)
    life.logs.stuck = True
    await life.begin()
    for number in range(500):
        life.journal.note("says", "web", number=number)
    await asyncio.sleep(0.03)
    assert len(life.events._waiting) == 100
    with capture_logs() as logged:
        life.logs.stuck = False
        await until(path.exists)
    assert [line["seq"] for line in lines(path)] == list(range(402, 502))
    assert [(line["event"], line["events"]) for line in logged] == [("events are missing in their log", 401)]
    life.events.close()


@in_loop
async def test_the_end_is_handed_over_before_the_daemon_goes(tmp_path: Path) -> None:
    """All that waits; and if the logger is stuck, that is told, and no reason to stay."""
    path = tmp_path / "events.log"
    life = await Life(path).begin()
    for number in range(2000):
        life.journal.note("says", "web", number=number, text="x" * 100)
    life.events.close()
    assert [line["seq"] for line in lines(path)] == list(range(1, 2003))
    assert lines(path)[-1]["type"] == ENDED
    stuck = await Life(tmp_path / "other").begin()
    await until((tmp_path / "other").exists)
    stuck.logs.stuck = True
    stuck.journal.note("says", "web")
    with capture_logs() as logged:
        stuck.events.close()
    assert [(line["event"], line["events"]) for line in logged] == [("events are missing in their log", 2)]
    after = await Life(tmp_path / "other").begin()
    await until(lambda: len(lines(tmp_path / "other")) == 2)
    assert [line["seq"] for line in lines(tmp_path / "other")] == [1, JUMP + 2]
    after.events.close()
    unborn = Life(tmp_path / "third")
    unborn.events.close()
    assert unborn.journal.last == 0


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda some: (
                st.lists(some) | st.dictionaries(st.sampled_from(["seq", "time", "type", "program", "x"]), some)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_stands_there_is_an_event_or_is_not(line: bytes) -> None:
    """Somebody may have written to the file; what is taken has the types that the wire has."""
    for record in event_log._records([line]):
        assert isinstance(record.seq, int)
        assert isinstance(record.time, float)
        assert isinstance(record.type, str)
        assert record.program is None or isinstance(record.program, str)
        assert record.to_wire()["seq"] == record.seq
