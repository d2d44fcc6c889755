"""What is remembered of the logs, and how another daemon goes on with it."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from procd.config.spec import LogSpec
from procd.errors import UnreadableRecord
from procd.keeper.line import Record
from procd.output import messages
from procd.output.logs import Logs
from procd.output.remembered import VERSION
from procd.output.slot import MOST_UNSENT
from procd.output.streams import StreamKey
from tests.kernel.children import in_loop, open_descriptors, until
from tests.unit.output.fake_logger import WEB, FakeLogger, FakeStart

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ERR = StreamKey("web", "stderr")
OTHER = StreamKey("other", "stdout")
SPEC = LogSpec("/nowhere/web.log")


class FakeMemory:
    """Keeps records as the keeper does, with descriptors of its own."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.puts: list[str] = []

    def put(self, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Keep this."""
        self.drop(key)
        self.records[key] = Record(key, value, tuple(map(os.dup, fds)))
        self.puts.append(key)
        return True

    def drop(self, key: str) -> bool:
        """Keep nothing."""
        if key in self.records:
            self.records.pop(key).close()
        return True

    def left(self) -> dict[str, Record]:
        """What another daemon is given."""
        return {
            key.partition(":")[2]: Record(key, record.value, tuple(map(os.dup, record.fds)))
            for key, record in self.records.items()
        }

    def content(self, number: int) -> list[Any]:
        """What is recorded of a log, but for the version."""
        content: list[Any]
        version, *content = msgpack.unpackb(self.records[f"log:{number}"].value)
        assert version == VERSION
        return content


class Daemons:
    """One daemon after the other, with what each leaves."""

    def __init__(self) -> None:
        self.memory = FakeMemory()
        self.start = FakeStart()
        self.logs: Logs

    @property
    def logger(self) -> FakeLogger:
        """The logger of the present one, told all that is to be said."""
        self.logs._channel.flush()
        return self.start.last

    def next(self, *, begin: bool = True) -> Logs:
        """The next one, after it has adopted what the last one left."""
        self.logs = Logs(asyncio.get_running_loop(), self.start, self.memory)
        self.logs.adopt(self.memory.left())
        if begin:
            self.logs.begin()
        return self.logs

    def die(self) -> None:
        """The present one dies, and its logger, too."""
        self.logs.release()
        for logger in self.start.started:
            if logger.channel.fileno() >= 0:
                logger.hear()
                logger.end()


@contextmanager
def daemons() -> Iterator[Daemons]:
    """Daemons for a test, which leave no descriptor behind."""
    before = open_descriptors()
    made = Daemons()
    yield made
    made.die()
    for key in tuple(made.memory.records):
        made.memory.drop(key)
    assert open_descriptors() == before


def pipe() -> tuple[int, int]:
    """A pipe whose read end does not block."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    return read_end, write_end


@in_loop
async def test_another_daemon_says_all_that_the_last_one_had_said() -> None:
    """The same numbers, settings and pipes, in their order; what was detached is, and the offsets stay."""
    with daemons() as here:
        logs = here.next()
        ends = [pipe() for _ in range(4)]
        logs.open(OTHER, LogSpec("/nowhere/other.log", 1000))
        logs.open(WEB, SPEC, "web", 3)
        for read_end, _ in ends[:2]:
            logs.attach(WEB, read_end, 17)
        assert logs.detach(WEB)
        logs.attach(WEB, ends[2][0], 18)
        said = here.logger.hear()
        here.logger.board.set_extent(2, 100, 250)
        here.die()
        logs = here.next()
        again = here.logger.hear()
        assert [each for each in again if each != [messages.DETACH, 2]] == [
            each for each in said if each != [messages.DETACH, 2]
        ]
        assert again[-2:] == [[messages.DETACH, 2], [messages.ATTACH, 2, 3, 18, False]]
        assert (logs.starts(WEB), logs.reaches(WEB)) == (100, 250)
        logs.attach(OTHER, ends[3][0], 19)
        assert here.logger.hear() == [[messages.ATTACH, 1, 4, 19, False]]
        for number, (_, write_end) in enumerate(ends, 1):
            os.write(write_end, b"%d" % number)
            assert os.read(here.logger.pipes[number], 10) == b"%d" % number
            os.close(write_end)


@in_loop
async def test_a_pipe_is_recorded_when_attach_returns_and_until_it_has_ended() -> None:
    """With one put for each: what has not changed is not put again."""
    with daemons() as here:
        logs = here.next()
        logs.open(WEB, SPEC)
        read_end, write_end = pipe()
        here.memory.puts.clear()
        logs.attach(WEB, read_end, 17)
        assert here.memory.puts == ["log:1"]
        assert os.path.samestat(os.fstat(here.memory.records["log:1"].fds[0]), os.fstat(read_end))
        logs.finish("web")
        logs.open(WEB, SPEC)
        assert here.memory.puts == ["log:1"]
        here.logger.hear()
        here.logger.say(messages.ENDED, 1, 1)
        await until(lambda: here.memory.records["log:1"].fds == ())
        assert here.memory.puts == ["log:1"] * 2
        os.close(write_end)


@in_loop
async def test_a_log_that_is_being_forgotten_is_forgotten_by_the_next_daemon() -> None:
    """It is told to close it, after what is left in its pipe; then nothing is kept of it."""
    with daemons() as here:
        logs = here.next()
        logs.open(WEB, SPEC)
        read_end, write_end = pipe()
        logs.attach(WEB, read_end, 17)
        logs.forget("web")
        here.die()
        logs = here.next()
        assert not logs.keeps(WEB)
        assert [each[0] for each in here.logger.hear()] == [
            messages.BEGIN, messages.OPEN, messages.ATTACH, messages.FORGET,
        ]  # fmt: skip
        here.logger.say(messages.FORGOTTEN, 1)
        await until(lambda: "log:1" not in here.memory.records)
        os.close(write_end)


@in_loop
async def test_a_new_log_does_not_begin_where_a_forgotten_one_has_ended() -> None:
    """Its number is free, and its place on the board is not its own yet."""
    with daemons() as here:
        logs = here.next()
        logs.open(OTHER, LogSpec("/nowhere/other.log"))
        logs.open(WEB, SPEC)
        here.logger.hear()
        here.logger.board.set_extent(2, 100, 250)
        here.logger.board.count(2, dropped=7)
        logs.forget("web")
        here.logger.hear()
        here.logger.say(messages.FORGOTTEN, 2)
        await until(lambda: "log:2" not in here.memory.records)
        here.die()
        logs = here.next()
        logs.open(ERR, LogSpec("/nowhere/err.log"))
        assert (logs.starts(ERR), logs.reaches(ERR), logs.dropped(ERR)) == (0, 0, 0)
        assert [each[1] for each in here.logger.hear() if each[0] == messages.OPEN] == [1, 2]


@in_loop
async def test_numbers_between_those_that_are_left_are_given_out_again() -> None:
    """No two logs have one number."""
    with daemons() as here:
        logs = here.next()
        for number in range(1, 5):
            logs.open(StreamKey(f"p{number}", "stdout"), LogSpec(f"/nowhere/{number}"))
        for number in (1, 3):
            logs.forget(f"p{number}")
            here.logger.hear()
            here.logger.say(messages.FORGOTTEN, number)
        await until(lambda: sorted(here.memory.records) == ["log:2", "log:4", "log:board"])
        here.die()
        logs = here.next()
        for number in range(5, 9):
            logs.open(StreamKey(f"p{number}", "stdout"), LogSpec(f"/nowhere/{number}"))
        opened = [each[1] for each in here.logger.hear() if each[0] == messages.OPEN]
        assert opened[:2] == [2, 4]
        assert sorted(opened) == [1, 2, 3, 4, 5, 6]


@in_loop
async def test_what_was_given_up_is_told_by_the_next_daemon_once() -> None:
    """A logger that is stuck, and a program that is restarted meanwhile: what is lost is counted."""
    with daemons() as here:
        # A logger that hears nothing: the first messages fill its queue, and there is no other.
        logs = here.next()
        logs.open(WEB, SPEC)
        ends = []
        while not logs._slots._by_key[WEB].gave_up:
            read_end, write_end = pipe()
            os.write(write_end, b"0123456789")
            os.close(write_end)
            logs.attach(WEB, read_end, 17)
            ends.append(read_end)
            assert len(ends) < 2000
        lost = logs._slots._by_key[WEB].gave_up
        assert here.memory.content(1)[5] == lost
        here.die()
        logs = here.next()
        assert [messages.GAVE_UP, 1, lost] in here.logger.hear()
        await until(lambda: here.memory.content(1)[5] == 0)
        here.die()
        here.next()
        assert messages.GAVE_UP not in [each[0] for each in here.logger.hear()]
        assert len(ends) > MOST_UNSENT


@in_loop
async def test_where_adopted_output_begins_is_asked_again() -> None:
    """Of who it is about, and answered once."""
    with daemons() as here:
        logs = here.next()
        logs.open(WEB, SPEC)
        read_end, write_end = pipe()
        logs.attach(WEB, read_end, 17, lambda _: None)
        here.die()
        logs = here.next(begin=False)
        begun: list[int] = []
        logs.ask_begun(WEB, 18, lambda _: begun.append(-1))
        logs.ask_begun(WEB, 17, begun.append)
        logs.ask_begun(ERR, 17, lambda _: begun.append(-1))
        logs.begin()
        assert [messages.ATTACH, 1, 1, 17, True] in here.logger.hear()
        here.logger.say(messages.BEGUN, 1, 1, 42)
        await until(lambda: begun == [42])
        os.close(write_end)


@in_loop
async def test_without_a_board_the_pipes_are_taken_all_the_same() -> None:
    """Nobody else would read them; how far a log reaches is known of its file."""
    with daemons() as here:
        logs = here.next()
        logs.open(WEB, SPEC)
        read_end, write_end = pipe()
        logs.attach(WEB, read_end, 17)
        here.die()
        here.memory.drop("log:board")
        here.next()
        assert [messages.ATTACH, 1, 1, 17, False] in here.logger.hear()
        os.close(write_end)


@in_loop
async def test_another_keeper_is_told_everything_again() -> None:
    """A daemon whose keeper was killed has another one know all that the first one knew."""
    with daemons() as here:
        logs = here.next()
        logs.open(WEB, SPEC)
        read_end, write_end = pipe()
        logs.attach(WEB, read_end, 17)
        before = {key: record.value for key, record in here.memory.records.items()}
        for key in before:
            here.memory.drop(key)
        logs.bequeath()
        assert {key: record.value for key, record in here.memory.records.items()} == before
        assert os.path.samestat(os.fstat(here.memory.records["log:1"].fds[0]), os.fstat(read_end))
        os.close(write_end)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        msgpack.packb(7),
        msgpack.packb([]),
        msgpack.packb([VERSION + 1]),
        msgpack.packb([VERSION]),
        msgpack.packb([VERSION, 1, "web", "stdout", {}, False, 0, [[1, 17, False]]]),
    ],
    ids=["empty", "no msgpack", "a number", "no version", "another version", "too few", "no descriptor"],
)
def test_a_record_that_cannot_be_read_is_refused_with_its_name(value: bytes) -> None:
    """Before anything of it is taken."""

    async def refuse() -> None:
        with daemons() as here:
            logs = here.next()
            board = logs._board
            with pytest.raises(UnreadableRecord, match="log 1"):
                logs.adopt({"1": Record("log:1", value, ())})
            assert logs._board is board
            assert not logs.keeps(WEB)

    asyncio.run(refuse())


@in_loop
async def test_a_board_of_another_size_is_refused() -> None:
    """It is another version's, whatever its record says."""
    with daemons() as here:
        logs = here.next()
        file = os.memfd_create("small")
        with pytest.raises(UnreadableRecord, match="log board"):
            logs.adopt({"board": Record("log:board", msgpack.packb([VERSION]), (file, file, file))})
        os.close(file)
