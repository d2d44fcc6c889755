"""The daemon's side of the channel: what a logger is told, told again, and what is made of its answers."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from procd.config.spec import LogFormat, LogSpec, OnError
from procd.output import channel, logs, messages
from procd.output.logs import Logs, Watcher
from procd.output.slot import MOST_UNSENT
from procd.output.streams import StreamKey
from tests.kernel.children import BOUND_S, in_loop, open_descriptors, until
from tests.unit.output.fake_logger import WEB, FakeLogger, FakeStart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

ERR = StreamKey("web", "stderr")
OTHER = StreamKey("other", "stdout")
SPEC = LogSpec("/nowhere/web.log")


class Kept(Logs):
    """Logs with a fake logger, and what is noted of them."""

    def __init__(self) -> None:
        self.start = FakeStart()
        super().__init__(asyncio.get_running_loop(), self.start)
        self.noted: list[tuple[str, str | None, dict[str, Any]]] = []
        self.notes.on_note = lambda kind, program, **facts: self.noted.append((kind, program, facts))

    @property
    def logger(self) -> FakeLogger:
        """The logger that runs, told all that is to be said."""
        self._channel.flush()
        return self.start.last


@asynccontextmanager
async def kept(*, began: bool = True) -> AsyncIterator[Kept]:
    """Logs for a test, which leave no descriptor behind."""
    before = open_descriptors()
    result = Kept()
    if began:
        result.begin()
    yield result
    for logger in result.start.started:
        if logger.channel.fileno() >= 0:
            logger.hear()
            logger.end()
    result.release()
    assert open_descriptors() == before


def pipe() -> tuple[int, int]:
    """A pipe whose read end does not block."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    return read_end, write_end


def has_readers(write_end: int) -> bool:
    """Whether somebody still holds the other end."""
    try:
        os.write(write_end, b"x")
    except BrokenPipeError:
        return False
    return True


@in_loop
async def test_a_log_is_opened_with_all_its_settings() -> None:
    """Once; and again when one of them has changed, also while programs write."""
    async with kept() as here:
        spec = LogSpec("/l", 1000, 3, 60.0, compress=True, format=LogFormat.JSON, on_error=OnError.BLOCK)
        here.open(WEB, spec, "web", 7)
        said = {
            "program": "web", "instance": "7", "stream": "stdout", "path": "/l", "max_size": 1000, "keep": 3,
            "max_age_s": 60.0, "compress": True, "format": "json", "on_error": "block",
        }  # fmt: skip
        begin, first = here.logger.hear()
        assert begin == [messages.BEGIN, os.getpid()]
        assert first == [messages.OPEN, 1, said]
        here.open(WEB, spec, "web", 7)
        assert here.logger.hear() == []
        here.open(WEB, LogSpec("/l"), "web", 7)
        assert here.logger.hear()[0][:2] == [messages.OPEN, 1]


@in_loop
async def test_a_read_end_is_held_until_all_of_it_was_moved() -> None:
    """By the daemon beside the logger: a program whose logger dies does not get EPIPE."""
    async with kept() as here:
        here.open(WEB, SPEC)
        read_end, write_end = pipe()
        begun: list[int] = []
        here.attach(WEB, read_end, 4711, begun.append)
        assert here.logger.hear()[2:] == [[messages.ATTACH, 1, 1, 4711, True]]
        here.logger.say(messages.BEGUN, 1, 1, 17)
        await until(lambda: begun == [17])
        here.logger.say(messages.BEGUN, 1, 1, 18)
        os.close(here.logger.pipes.pop(1))
        assert has_readers(write_end)
        here.logger.say(messages.ENDED, 1, 1)
        await until(lambda: not has_readers(write_end))
        assert begun == [17]
        here.logger.say(messages.ENDED, 1, 1)
        os.close(write_end)


@in_loop
async def test_another_logger_is_told_everything_in_order() -> None:
    """What the dead one had not finished: the oldest pipes first, each end before the next beginning."""
    async with kept() as here:
        here.open(WEB, SPEC)
        here.open(ERR, SPEC)
        ends = [pipe() for _ in range(4)]
        here.watch(WEB, Watcher(lambda: None, lambda _: None))
        here.attach(WEB, ends[0][0], 1)
        here.finish("web")
        here.attach(WEB, ends[1][0], 2)
        assert here.detach(WEB)
        here.attach(WEB, ends[2][0], 3, lambda _: None)
        here.attach(ERR, ends[3][0], 3)
        first = here.logger
        first.hear()
        first.say(messages.ENDED, 1, 2)
        await until(lambda: here._slots.pipe(1, 2) is None)
        first.end()
        await until(lambda: here.logger is not first)
        said = [
            message[:1] + message[2:] if message[0] == messages.OPEN else message
            for message in here.logger.hear()
        ]
        assert [message[0] for message in said] == [
            messages.BEGIN, messages.OPEN, messages.WATCH, messages.ATTACH, messages.DETACH, messages.ATTACH,
            messages.OPEN, messages.ATTACH,
        ]  # fmt: skip
        assert [message for message in said if message[0] == messages.ATTACH] == [
            [messages.ATTACH, 1, 1, 1, False],
            [messages.ATTACH, 1, 3, 3, True],
            [messages.ATTACH, 2, 4, 3, False],
        ]
        assert here.noted == [("logger ended", None, {"reason": "killed by SIGKILL"})]
        for _, write_end in ends:
            os.close(write_end)


@in_loop
async def test_one_that_dies_young_is_not_started_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once after the first time, then later and later; one that was at work, at once."""
    monkeypatch.setattr(channel, "YOUNG_S", 1000.0)
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    async with kept() as here:

        def at_once(delay: float, call: Any, *rest: Any) -> asyncio.TimerHandle:  # noqa: ANN401 - as the loop has it
            if call != here._channel.open:
                return call_later(delay, call, *rest)
            delays.append(delay)
            return call_later(0, call)

        monkeypatch.setattr(loop, "call_later", at_once)
        for count in range(1, 9):
            await until(lambda count=count: len(here.start.started) == count)
            if count == 8:
                monkeypatch.setattr(channel, "YOUNG_S", -1.0)
                here.logger.say(messages.READY)
            here.logger.end()
        await until(lambda: len(here.start.started) == 9)
    assert delays[:8] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 0.0]


@in_loop
async def test_a_logger_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it meanwhile, and it is told everything when it is there."""
    monkeypatch.setattr(channel, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(channel, "LONGEST_DELAY_S", 0.001)
    async with kept(began=False) as here:
        here.start.refuses = True
        with capture_logs() as logged:
            here.begin()
            here.open(WEB, SPEC)
            assert not await here.sync([WEB], 0.01) or here.pid is None
            await until(lambda: here.start.tries > 3)
        assert {line["event"] for line in logged} == {"logger cannot be started"}
        here.start.refuses = False
        await until(lambda: here.start.started)
        await here.logger.until_heard(messages.BEGIN, messages.OPEN)


@in_loop
async def test_a_channel_that_broke_ends_its_logger() -> None:
    """Nobody can speak to it any more: it is killed, and its death brings the next."""
    async with kept() as here:
        first = here.logger
        first.hear()
        first.channel.close()
        await until(lambda: first.killed)
        first.end()
        await until(lambda: here.logger is not first)


@in_loop
async def test_what_is_said_to_a_logger_that_does_not_listen_has_a_bound() -> None:
    """Pipes of lives that left nothing are let go; of others the oldest are given up, counted and noted."""
    async with kept() as here:
        here.open(WEB, SPEC)
        taken = 0

        def live(words: bytes) -> None:
            read_end, write_end = pipe()
            here.attach(WEB, read_end, 1)
            os.write(write_end, words)
            os.close(write_end)
            here.finish("web")
            here._channel.flush()

        slot = next(iter(here._slots.of("web")))
        while all(each.sent for each in slot.pipes):
            live(b"x" * 10)
            taken += 1
        assert taken > MOST_UNSENT
        had = len(open_descriptors())
        for _ in range(100):
            live(b"")
        assert len(open_descriptors()) <= had
        with capture_logs() as logged:
            for _ in range(3 * MOST_UNSENT):
                live(b"y" * 10)
        assert len(open_descriptors()) <= had + MOST_UNSENT
        lost = sum(line["bytes"] for line in logged if line["event"] == "output lost")
        assert lost == sum(facts["bytes"] for kind, _, facts in here.noted if kind == "output lost")
        assert lost >= 10 * MOST_UNSENT
        attached = 0
        logger = here.start.last

        def all_heard() -> bool:
            nonlocal attached
            logger.hear()
            attached = sum(message[0] == messages.ATTACH for message in logger.heard)
            return not here._channel._loop._selector.get_map()[here._channel._socket.fileno()].events & 2

        await until(all_heard)
        given_up = sum(message[2] for message in logger.heard if message[0] == messages.GAVE_UP)
        assert given_up == lost
        assert attached + lost // 10 == taken + 3 * MOST_UNSENT


@in_loop
async def test_what_an_old_life_wrote_while_the_logger_was_stuck_stands_in_the_log_of_its_time() -> None:
    """A path that changes meanwhile is that of what comes later; another logger is told of that one only."""
    async with kept() as here:
        here.open(WEB, SPEC)
        slot = next(iter(here._slots.of("web")))
        ends: list[int] = []

        def live() -> None:
            read_end, write_end = pipe()
            os.write(write_end, b"x")
            here.attach(WEB, read_end, len(ends) + 1)
            ends.append(write_end)

        while all(each.sent for each in slot.pipes):
            live()
        old = len(ends)
        here.open(WEB, LogSpec("/elsewhere/web.log"))
        live()
        said: list[list[Any]] = []

        def all_heard() -> bool:
            said.extend(here.logger.hear())
            return all(each.sent for each in slot.pipes)

        await until(all_heard)
        all_heard()
        told = [message for message in said if message[0] in {messages.OPEN, messages.ATTACH}]
        assert [message[2]["path"] for message in told if message[0] == messages.OPEN] == [
            "/nowhere/web.log", "/elsewhere/web.log",
        ]  # fmt: skip
        assert told[-3][:3] == [messages.ATTACH, 1, old]
        assert told[-2][0] == messages.OPEN
        assert told[-1][:3] == [messages.ATTACH, 1, old + 1]
        first = here.logger
        first.end()
        await until(lambda: here.logger is not first)
        again = here.logger.hear()
        opened = [message[2]["path"] for message in again if message[0] == messages.OPEN]
        assert opened == ["/elsewhere/web.log"]
        for write_end in ends:
            os.close(write_end)


@in_loop
async def test_a_pipe_that_the_logger_has_no_room_for_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came after it waits behind it; meanwhile that is shown as trouble of the log."""
    monkeypatch.setattr(logs, "NO_ROOM_S", 0.01)
    async with kept() as here:
        here.open(WEB, SPEC)
        ends = [pipe(), pipe()]
        here.attach(WEB, ends[0][0], 1)
        here.logger.hear()
        os.close(here.logger.pipes.pop(1))
        here.logger.say(messages.NO_ROOM, 1, 1)
        await until(lambda: here.trouble(WEB) == "the logger has no descriptor left for it")
        here.finish("web")
        here.attach(WEB, ends[1][0], 2)
        first, finish, second = await here.logger.until_heard(messages.ATTACH, messages.FINISH, messages.ATTACH)
        assert first == [messages.ATTACH, 1, 1, 1, True]
        assert second == [messages.ATTACH, 1, 2, 2, False]
        here.logger.say(messages.BEGUN, 1, 1, 0)
        await until(lambda: not here.trouble(WEB))
        assert [kind for kind, _, _ in here.noted] == ["log trouble", "log well"]
        assert finish == [messages.FINISH, 1]
        for _, write_end in ends:
            os.close(write_end)


@in_loop
async def test_a_message_whose_descriptors_find_no_room_is_not_lost() -> None:
    """It comes without them, and nothing of it stays open."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        read_end, write_end = pipe()
        messages.send(ours, [messages.ATTACH, 1, 1, 1, False], (read_end, write_end))
        before = open_descriptors()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(read_end)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            assert messages.receive(theirs) == ([messages.ATTACH, 1, 1, 1, False], [])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert open_descriptors() == before
        os.close(read_end)
        os.close(write_end)


@in_loop
async def test_a_pipe_is_shared_while_its_program_lives() -> None:
    """What both write comes in one order; a pipe of the dead, or that was detached, is nobody's."""
    async with kept() as here:
        assert here.share(WEB) is None
        here.open(WEB, SPEC)
        assert here.share(WEB) is None
        read_end, write_end = pipe()
        here.attach(WEB, read_end)
        shared = here.share(WEB)
        assert shared is not None
        os.write(write_end, b"one ")
        os.write(shared, b"two")
        assert os.read(read_end, 100) == b"one two"
        os.close(shared)
        here.finish("web")
        assert here.share(WEB) is None
        os.close(write_end)


@in_loop
async def test_nothing_is_asked_about_logs_that_have_no_pipes() -> None:
    """All of it is in the file, then; with pipes the answer is waited for, to a bound."""
    async with kept() as here:
        here.open(WEB, SPEC)
        assert await here.sync([WEB, OTHER], 0)
        read_end, write_end = pipe()
        here.attach(WEB, read_end)
        assert not await here.sync([WEB], 0.001)
        here.logger.hear()
        asked = asyncio.create_task(here.sync([WEB], BOUND_S))
        ((verb, token, slots),) = await here.logger.until_heard(messages.SYNC)
        assert (verb, slots) == (messages.SYNC, [1])
        here.logger.say(messages.SYNCED, token - 1)
        here.logger.say(messages.SYNCED, token)
        assert await asked
        os.close(write_end)


@in_loop
async def test_a_question_survives_the_logger_that_was_asked() -> None:
    """The next one is asked again, and its answer counts."""
    async with kept() as here:
        here.open(WEB, SPEC)
        asked = asyncio.create_task(here.rotate([WEB, OTHER], BOUND_S))
        first = here.logger
        await first.until_heard(messages.BEGIN, messages.OPEN, messages.ROTATE)
        first.end()
        await until(lambda: here.logger is not first)
        token = (await here.logger.until_heard(messages.BEGIN, messages.OPEN, messages.ROTATE))[2][1]
        here.logger.say(messages.ROTATED, token, [[1, "No space left on device"]])
        assert await asked == {
            WEB: "No space left on device",
            OTHER: "nothing was written to it since procd was started",
        }
        assert await here.rotate([WEB], 0.001) == {WEB: "the logger does not answer"}


@in_loop
async def test_a_log_without_room_is_noted_and_shown_until_it_is_well() -> None:
    """Trouble is one of the present: with a new logger nothing is known of it."""
    async with kept() as here:
        here.open(WEB, SPEC)
        here.logger.hear()
        with capture_logs() as logged:
            here.logger.say(messages.TROUBLE, 1, "No space left on device")
            await until(lambda: here.trouble(WEB) == "No space left on device")
            assert here.trouble_of("web") == "No space left on device"
            here.logger.say(messages.WELL, 1, 5000)
            await until(lambda: not here.trouble(WEB))
        assert [line["event"] for line in logged] == ["log cannot be written", "log is written again"]
        assert here.noted == [
            (
                "log trouble",
                "web",
                {"stream": "stdout", "path": SPEC.path, "reason": "No space left on device"},
            ),
            ("log well", "web", {"stream": "stdout", "path": SPEC.path, "dropped": 5000}),
        ]
        here.logger.say(messages.TROUBLE, 1, "Read-only file system")
        await until(lambda: here.trouble(WEB))
        first = here.logger
        first.end()
        await until(lambda: here.logger is not first)
        assert here.trouble_of("web") == ""


@in_loop
async def test_the_board_is_what_is_known_of_a_log() -> None:
    """How far it reaches, where its file starts, what was dropped; nothing of one that is not kept."""
    async with kept() as here:
        here.open(WEB, SPEC)
        here.logger.hear()
        here.logger.board.set_extent(1, 50, 70)
        here.logger.board.count(1, dropped=3, cut=2)
        assert (here.starts(WEB), here.reaches(WEB), here.dropped(WEB)) == (50, 70, 3)
        assert here.figures(WEB) == (70, 3, "")
        assert (here.starts(OTHER), here.reaches(OTHER), here.dropped(OTHER)) == (0, 0, 0)
        assert here.figures(OTHER) == (0, 0, "")
        assert (here.path(WEB), here.path(OTHER), here.keeps(WEB), here.keeps(OTHER)) == (
            SPEC.path,
            "",
            True,
            False,
        )


@in_loop
async def test_watchers_are_told_of_growth_and_of_the_end() -> None:
    """Of a log that does not exist yet, too; the logger is asked while there are some, and only then."""
    async with kept() as here:
        grown: list[str] = []
        over: list[str] = []
        first = here.watch(WEB, Watcher(lambda: grown.append("a"), over.append))
        second = here.watch(WEB, Watcher(lambda: grown.append("b"), over.append))
        here.open(WEB, SPEC)
        assert here.logger.hear()[2:] == [[messages.WATCH, 1, True]]
        here.logger.say(messages.GROWN, [1, 99])
        await until(lambda: grown == ["a", "b"])
        first()
        first()
        second()
        assert here.logger.hear() == [[messages.WATCH, 1, False]]
        here.watch(WEB, Watcher(lambda: grown.append("c"), over.append))
        here.forget("web")
        assert [message[0] for message in here.logger.hear()][-1] == messages.FORGET
        assert over == []
        here.logger.say(messages.FORGOTTEN, 1)
        await until(lambda: over == ["the program was removed"])
        here.watch(OTHER, Watcher(lambda: None, over.append))
        here.forget("other")
        assert over == ["the program was removed"] * 2
        assert grown == ["a", "b"]


@in_loop
async def test_followers_do_not_wait_for_ever_for_the_end_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when a program is removed nor when its log is moved; each is told once."""
    monkeypatch.setattr(logs, "LAST_WORDS_S", 0.01)
    async with kept() as here:
        over: list[str] = []
        here.open(WEB, SPEC)
        here.watch(WEB, Watcher(lambda: None, over.append))
        here.open(WEB, LogSpec("/nowhere/else.log"))
        await until(lambda: over == ["the log goes on in /nowhere/else.log"])
        here.watch(WEB, Watcher(lambda: None, over.append))
        here.forget("web")
        await until(lambda: over[1:] == ["the program was removed"])
        here.logger.hear()
        here.logger.say(messages.FORGOTTEN, 1)
        await until(lambda: not here._leaving)
        assert len(over) == 2


@in_loop
async def test_a_program_that_comes_back_has_another_log() -> None:
    """While the old one is closed; a number is given again when that is done, with a board that is empty."""
    async with kept() as here:
        here.open(WEB, SPEC)
        here.logger.hear()
        here.logger.board.set_extent(1, 10, 20)
        here.forget("web")
        assert here.reaches(WEB) == 0
        here.open(WEB, SPEC)
        verbs = [(message[0], message[1]) for message in here.logger.hear()]
        assert verbs == [(messages.FORGET, 1), (messages.OPEN, 2)]
        here.logger.say(messages.FORGOTTEN, 1)
        await until(lambda: not here._leaving)
        here.open(OTHER, SPEC)
        assert here.logger.hear()[0][:2] == [messages.OPEN, 1]
        assert here.reaches(OTHER) == 0


@in_loop
async def test_what_could_not_be_written_at_the_end_is_a_loss_that_is_known() -> None:
    """Of a log that is closed because its program was removed, and of all when procd ends."""
    async with kept() as here:
        here.open(WEB, SPEC)
        here.open(OTHER, SPEC)
        here.logger.hear()
        here.logger.board.count(1, dropped=5)
        here.forget("web")
        here.logger.board.count(1, dropped=7)
        with capture_logs() as logged:
            here.logger.say(messages.FORGOTTEN, 1)
            await until(lambda: here.noted)
            closing = asyncio.create_task(here.close(BOUND_S))
            await here.logger.until_heard(messages.FORGET, messages.CLOSE)
            here.logger.board.count(2, dropped=9)
            here.logger.say(messages.CLOSED)
            here.logger.end("exited with status 0")
            await closing
        assert [(line["event"], line["bytes"]) for line in logged] == [("output lost", 7), ("output lost", 9)]
        assert [(kind, program, facts["bytes"]) for kind, program, facts in here.noted] == [
            ("output lost", "web", 7)
        ]


@in_loop
async def test_the_end_waits_for_the_logger_but_not_for_ever() -> None:
    """It is told to end when everything else was said; bytes that stay in pipes are counted."""
    async with kept() as here:
        here.open(WEB, SPEC)
        read_end, write_end = pipe()
        here.attach(WEB, read_end)
        os.write(write_end, b"x" * 123)
        with capture_logs() as logged:
            await here.close(0.01)
        assert logged[0]["event"] == "logger has not ended in time, and is left alone"
        assert logged[0]["bytes_in_pipes"] == 123
        assert [message[0] for message in here.logger.hear()][-1] == messages.CLOSE
        os.close(write_end)


@in_loop
async def test_a_logger_that_dies_while_everything_ends_has_a_successor() -> None:
    """It is told everything, and then that it is over."""
    async with kept() as here:
        here.open(WEB, SPEC)
        read_end, write_end = pipe()
        here.attach(WEB, read_end)
        os.close(write_end)
        closing = asyncio.create_task(here.close(BOUND_S))
        first = here.logger
        await first.until_heard(messages.BEGIN, messages.OPEN, messages.ATTACH, messages.CLOSE)
        first.end()
        await until(lambda: here.logger is not first)
        await here.logger.until_heard(messages.BEGIN, messages.OPEN, messages.ATTACH, messages.CLOSE)
        here.logger.say(messages.ENDED, 1, 1)
        here.logger.say(messages.CLOSED)
        here.logger.end("exited with status 0")
        with capture_logs() as logged:
            await closing
        assert logged == []
        assert len(here.start.started) == 2


@in_loop
async def test_logs_that_never_began_end_at_once() -> None:
    """As when procd cannot listen."""
    async with kept(began=False) as here:
        await here.close(BOUND_S)


@in_loop
async def test_detaching_is_for_pipes_that_there_are() -> None:
    """A second time there is nothing to detach, nor of a stream that has none."""
    async with kept() as here:
        here.open(WEB, SPEC)
        assert not here.detach(WEB)
        assert not here.detach(OTHER)
        read_end, write_end = pipe()
        here.attach(WEB, read_end)
        assert here.detach(WEB)
        assert not here.detach(WEB)
        assert [message[0] for message in here.logger.hear()][2:] == [messages.ATTACH, messages.DETACH]
        os.close(write_end)


@in_loop
async def test_lines_of_our_own_go_through_a_pipe_of_their_own() -> None:
    """To a log that is kept, after what was attached before; when it is half full, no more are taken."""
    async with kept() as here:
        assert not here.write(WEB, b"nobody\n")
        here.open(WEB, SPEC)
        read_end, write_end = pipe()
        here.attach(WEB, read_end, 4711)
        assert here.write(WEB, b"one\n")
        assert here.write(WEB, b"two\n")
        assert here.logger.hear()[2:] == [
            [messages.ATTACH, 1, 1, 4711, False],
            [messages.ATTACH, 1, 2, os.getpid(), False],
        ]
        assert os.read(here.logger.pipes[2], 100) == b"one\ntwo\n"
        lines = [b"%d\n" % number for number in range(1_000_000)]
        taken = [line for line in lines if here.write(WEB, line)]
        assert lines[: len(taken)] == taken != lines
        assert here.unwritten(WEB) == b"".join(taken)
        os.close(write_end)


@in_loop
async def test_a_logger_that_dies_right_after_its_last_word_is_heard_out() -> None:
    """Its death is known before that word was read: no other is started, and nothing is read twice."""
    async with kept() as here:
        here.logger.stays = True
        closing = asyncio.ensure_future(here.close(BOUND_S))
        await here.logger.until_heard(messages.BEGIN, messages.CLOSE)
        here.logger.say(messages.CLOSED)
        here.logger.end()
        await closing
        assert here.start.tries == 1
