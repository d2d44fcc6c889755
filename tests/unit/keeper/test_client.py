"""The supervisor's end of the channel; the test is the keeper."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from typing import TYPE_CHECKING

import pytest

from procd.keeper import launch, messages
from procd.keeper.client import KeptExit, Memory
from procd.keeper.line import Line
from procd.keeper.messages import EXIT, HERE, IN_A_FILE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine


class Peer:
    """The keeper's end."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        end.setblocking(False)

    def heard(self) -> list[tuple[int, bytes, bytes, int]]:
        """All messages that have come; their descriptors are closed."""
        found: list[tuple[int, bytes, bytes, int]] = []
        with contextlib.suppress(BlockingIOError):
            while received := messages.receive(self.end):
                found += messages.decode(received[0])
                messages.close_all(received[1])
        return found

    def say(self, *said: tuple[int, bytes, bytes], fds: tuple[int, ...] = (), count: int | None = None) -> None:
        """Messages in one datagram; the descriptors belong to the first."""
        counts = [len(fds) if count is None else count] + [0] * len(said)
        data = b"".join(messages.encode(*each, counts[number]) for number, each in enumerate(said))
        assert messages.send(self.end, data, fds) == messages.SENT


def on_a_loop(test: Callable[[Memory, Peer], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test with a memory on a loop of its own, which leaves no descriptor."""

    async def run() -> None:
        ours, theirs = messages.channel()
        memory = Memory(asyncio.get_running_loop(), ours)
        with theirs:
            async with asyncio.timeout(30):
                await test(memory, Peer(theirs))
        memory.close()

    def wrapped() -> None:
        before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers
        asyncio.run(run())
        assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - the same

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


async def turns() -> None:
    """Let the loop see what is readable."""
    for _ in range(5):
        await asyncio.sleep(0)


@on_a_loop
async def test_a_put_is_with_the_keeper_when_it_returns(memory: Memory, peer: Peer) -> None:
    """It says so; nothing has to be waited for."""
    assert memory.put("program:web", b"value", (0, 1)) is True
    assert memory.drop("intent:1") is True
    assert memory.settled
    assert peer.heard() == [
        (messages.PUT, b"program:web", HERE + b"value", 2),
        (messages.DROP, b"intent:1", b"", 0),
    ]


@on_a_loop
async def test_a_batch_is_one_datagram(memory: Memory, peer: Peer) -> None:
    """Whoever dies afterwards, both parts are known or neither is."""
    with memory.batch():
        memory.put("program:web", b"value", (0,))
        memory.drop("intent:1")
        assert peer.heard() == []
    datagram, fds = messages.receive(peer.end) or (b"", [])
    assert [verb for verb, *_ in messages.decode(datagram)] == [messages.PUT, messages.DROP]
    messages.close_all(fds)
    with pytest.raises(BlockingIOError):
        messages.receive(peer.end)


@on_a_loop
async def test_what_is_collected_waits(memory: Memory, peer: Peer) -> None:
    """For `send`, and for the end of the outermost; descriptors may be closed meanwhile."""
    with memory.collect():
        assert memory.put("life:web", b"") is False
        with memory.batch():
            memory.drop("intent:web")
        assert peer.heard() == []
        memory.send()
        assert [key for _, key, _, _ in peer.heard()] == [b"life:web", b"intent:web"]
        memory.put("program:web", b"")
        ours = os.dup(0)
        memory.put("log:1", b"", (ours, 1))
        os.close(ours)
    assert memory.settled
    assert [(key, fds) for _, key, _, fds in peer.heard()] == [(b"program:web", 0), (b"log:1", 2)]


@on_a_loop
async def test_what_is_collected_does_not_wait_where_there_is_no_room_for_copies(
    memory: Memory, peer: Peer
) -> None:
    """It is sent at once, after what waits."""

    def full(_: int) -> int:
        raise OSError(errno.EMFILE, "full")

    with memory.collect():
        memory.put("program:web", b"")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "dup", full)
            assert memory.put("log:1", b"", (0, 1)) is True
        assert [(key, fds) for _, key, _, fds in peer.heard()] == [(b"program:web", 0), (b"log:1", 2)]


@on_a_loop
async def test_everything_is_recalled_with_its_descriptors(memory: Memory, peer: Peer) -> None:
    """Long values come out of their files; exits go where exits go."""
    exits: list[KeptExit] = []
    memory.on_exit = exits.append
    recalled = asyncio.create_task(memory.recall())
    await turns()
    assert peer.heard() == [(messages.HELLO, b"", b"1", 0)]
    file = os.memfd_create("long")
    os.write(file, b"long" * 50000)
    peer.say((messages.RECORD, b"short", HERE + b"value"), fds=(0, 1))
    peer.say((messages.RECORD, b"long", IN_A_FILE), fds=(2, file))
    os.close(file)
    end = EXIT.pack(77, 9, 5_000_000_000, 1234, 2_000_000, 500_000, 10, True)
    peer.say((messages.RECORD, b"exit:1", HERE + end), (messages.END, b"", b""))
    short, long = await recalled
    assert (short.key, short.value, len(short.fds)) == ("short", b"value", 2)
    assert (long.key, long.value, len(long.fds)) == ("long", b"long" * 50000, 1)
    assert exits == [KeptExit("exit:1", 77, 9, 5.0, 1234, 2.0, 0.5, 10240, led_session=True)]
    memory.taken(exits[0])
    assert peer.heard() == [(messages.DROP, b"exit:1", b"", 0)]
    for record in (short, long):
        record.close()


@on_a_loop
async def test_a_recall_without_room_says_so_and_keeps_nothing_open(memory: Memory, peer: Peer) -> None:
    """The keeper has it still: raise the limit, ask again."""
    recalled = asyncio.create_task(memory.recall())
    await turns()
    peer.say((messages.RECORD, b"whole", HERE), fds=(0,))
    peer.say((messages.RECORD, b"half", HERE), fds=(0, 1), count=3)
    peer.say((messages.END, b"", b""))
    with pytest.raises(OSError, match="half") as caught:
        await recalled
    assert caught.value.errno == errno.EMFILE


@on_a_loop
async def test_pings_are_answered_by_the_loop(memory: Memory, peer: Peer) -> None:
    """So they are not while the loop stands still."""
    assert not memory.lost
    peer.say((messages.PING, b"", b""))
    assert peer.heard() == []
    await turns()
    assert peer.heard() == [(messages.PONG, b"", b"", 0)]


@on_a_loop
async def test_a_keeper_that_is_behind_is_caught_up_with_in_order(memory: Memory, peer: Peer) -> None:
    """What waits is one change for each key, in the place of its first; `settle` waits for all of it."""
    number = 0
    while memory.put(f"fill:{number}", bytes(50000)):
        number += 1
    read_end, write_end = os.pipe()
    memory.put("a", b"1", (read_end,))
    memory.put("b", b"1")
    memory.put("a", b"2", (read_end,))
    memory.drop("b")
    memory.notify("STATUS=late")
    memory.put("c", b"1")
    os.close(read_end)
    os.close(write_end)
    settled = asyncio.create_task(memory.settle())
    await turns()
    assert not settled.done()
    heard = peer.heard()
    while not settled.done():
        await asyncio.sleep(0)
        heard += peer.heard()
    heard += peer.heard()
    assert heard[number + 1 :] == [
        (messages.PUT, b"a", HERE + b"2", 1),
        (messages.DROP, b"b", b"", 0),
        (messages.NOTIFY, b"", b"STATUS=late", 0),
        (messages.PUT, b"c", HERE + b"1", 0),
    ]
    assert memory.settled
    assert memory.put("d", b"") is True


@on_a_loop
async def test_too_many_descriptors_on_their_way_are_tried_again(memory: Memory, peer: Peer) -> None:
    """The kernel does not tell when there are fewer (ETOOMANYREFS): time does."""
    real, refusals = memory._channel, 2

    class Refusing:
        """A channel that refuses twice."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def sendmsg(self, *said: object) -> int:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise OSError(errno.ETOOMANYREFS, "too many references")
            return real.sendmsg(*said)  # type: ignore[arg-type]

    memory._channel = Refusing()  # type: ignore[assignment]
    assert memory.put("a", b"1", (0,)) is False
    await memory.settle()
    assert refusals == 0
    assert peer.heard() == [(messages.PUT, b"a", HERE + b"1", 1)]
    memory._channel = real


@on_a_loop
async def test_losing_the_keeper_wakes_everybody(memory: Memory, peer: Peer) -> None:
    """Who waits for it goes on without it, and is told."""
    lost: list[bool] = []
    memory.on_lost = lambda: lost.append(True)
    while memory.put("fill", bytes(50000)):
        pass
    settled = asyncio.create_task(memory.settle())
    recalled = asyncio.create_task(memory.recall())
    await turns()
    peer.end.close()
    await settled
    with pytest.raises(ConnectionResetError):
        await recalled
    assert lost == [True]
    assert memory.put("after", b"") is False
    assert memory.settled
    await memory.settle()
    with pytest.raises(ConnectionResetError):
        await memory.recall()


@on_a_loop
async def test_answers_reach_their_callbacks(memory: Memory, peer: Peer) -> None:
    """Refusals, barriers, upgrades; and what a newer keeper says beyond that is no error."""
    told: list[object] = []
    memory.on_refused = lambda key, reason: told.append((key, reason))
    memory.on_synced = told.append
    memory.on_upgraded = lambda: told.append("upgraded")
    memory.on_record = lambda record: told.append(record.key)
    peer.say((messages.REFUSED, b"key", b"reason"), (messages.SYNCED, b"", b"token"))
    peer.say((messages.UPGRADED, b"", b""), (99, b"", b""), (messages.RECORD, b"live", HERE))
    await turns()
    assert told == [("key", "reason"), b"token", "upgraded", "live"]


def test_without_a_keeper_there_is_no_memory() -> None:
    """Nothing is taken for a channel that was not announced."""

    async def of() -> Memory | None:
        return Memory.of(asyncio.get_running_loop(), {})

    assert asyncio.run(of()) is None


def test_a_line_needs_no_loop() -> None:
    """It is what the logger has."""
    ours, theirs = messages.channel()
    line = Line(ours)
    with theirs:
        line.up()
        Peer(theirs).say((messages.PING, b"", b""))
        line.read()
        assert [verb for verb, *_ in Peer(theirs).heard()] == [messages.UP, messages.PONG]
    line.close()


def test_a_command_names_children_and_seconds() -> None:
    """What cannot be told apart is refused."""
    argv = launch.command({"supervisor": ["a", "-b"], "logger": ["c"]}, beat=1.5)
    assert argv[4:] == ["beat=1.5", "--", "supervisor", "a", "-b", "--", "logger", "c"]
    with pytest.raises(ValueError, match="cannot be told"):
        launch.command({"supervisor": ["a", "--"]})
