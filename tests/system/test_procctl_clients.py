"""`procctl.Client` and `procctl.AsyncClient` against a real daemon, also while it is restarted."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from procctl import AsyncClient, Client, Event, Exit, LogGap, LogPiece
from procd.errors import Failed, NoSuchProgram, ShuttingDown, StdinClosed, TimedOut, Unreachable
from tests.system.daemon import BOUND_S, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.quiet]
command = ["sleep", "infinity"]

[programs.cat]
command = ["cat"]
stdin = "pipe"

[programs.other]
command = ["cat"]
stdin = "pipe"

[programs.later]
command = ["sleep", "infinity"]
autostart = false

[programs.hopeless]
command = "exit 3"
shell = true
autostart = false

[programs.numbers]
command = "seq 1 1000; exec sleep infinity"
shell = true
"""

COUNTS = """
[programs.counts]
command = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.002; done'
shell = true
"""


@pytest.fixture
def client(shared: Daemon) -> Client:
    """A blocking client of the shared daemon."""
    return Client(str(shared.socket), timeout_s=BOUND_S)


def test_each_method_has_typed_answers(shared: Daemon, client: Client) -> None:
    """The fields of the protocol, as attributes."""
    shared.until_state("quiet", "RUNNING")
    with client:
        hello = client.hello()
        assert (hello.pid, "stop" in hello.you.rights) == (shared.supervisor, True)
        (quiet,) = client.status("quiet")
        assert (quiet.state, quiet.pid, quiet.ready) == ("RUNNING", shared.process("quiet"), True)
        assert quiet.streams["stdout"].path.endswith("quiet.log")
        assert {record.name for record in client.status()} >= {"quiet", "later"}
        assert [(row.ok, row.state) for row in client.start("later")] == [(True, "RUNNING")]
        assert client.signal("CONT", "later") == ["later"]
        assert client.wait("later", "running").name == "later"
        (failed,) = client.start("hopeless")
        assert (failed.ok, "3" in failed.reason) == (False, True)
        assert [row.state for row in client.stop("later", "hopeless")] == ["STOPPED", "STOPPED"]
        assert client.why("later")["state"] == "STOPPED"
        assert (client.plan(), client.reload()) == ([], [])
        assert client.metrics()["programs"] >= 6
        record = client.run(["sh", "-c", "exit 5"], name="once")
        assert client.wait(record.name, "exited").exit == Exit(code=5)
        assert client.forget("once") == ["once"]


def test_refusals_are_errors_of_their_class(client: Client) -> None:
    """With what to do, and data for programs."""
    with client:
        with pytest.raises(NoSuchProgram) as refused:
            client.status("quit")
        assert (refused.value.hint, refused.value.data["pattern"]) == ("did you mean 'quiet'?", "quit")
        with pytest.raises(StdinClosed):
            client.write("quiet", b"x")
        with pytest.raises(TimedOut):
            client.wait("later", "running", timeout_s=0.05)
        with pytest.raises(Failed, match="1 problem"):
            client.run([], name="empty")


def test_more_than_a_request_may_hold_is_written_in_several(shared: Daemon, client: Client) -> None:
    """All of it, in order."""
    shared.until_state("cat", "RUNNING")
    data = bytes(range(256)) * 1024
    with client:
        assert client.write("cat", data) == len(data)
        client.close_stream("cat", "stdin")
    until(lambda: len(shared.output("cat")) == len(data), "all of it")
    assert shared.output("cat") == data


def test_a_log_is_an_iterator(shared: Daemon, client: Client) -> None:
    """Of all of it, or its end, or what follows an offset."""
    shared.until_output("numbers", b"\n1000\n")
    whole = "".join(f"{number}\n" for number in range(1, 1001)).encode()
    with client:
        assert _data(client.logs("numbers")) == whole
        assert _data(client.logs("numbers", lines=2)) == b"999\n1000\n"
        assert _data(client.logs("numbers", offset=len(whole) - 5)) == b"1000\n"
        assert [record.name for record in client.status("quiet")] == ["quiet"], "calls go on beside it"
        with pytest.raises(NoSuchProgram):
            next(client.logs("quit"))


def _data(pieces: Any) -> bytes:  # noqa: ANN401 - any iterator of pieces
    return b"".join(piece.data for piece in pieces)


def test_a_stream_is_opened_by_with(shared: Daemon, client: Client) -> None:
    """What is written after that is in it, and leaving ends it."""
    shared.until_state("other", "RUNNING")
    with client, client.logs("other", lines=0, follow=True) as log:
        client.write("other", b"one\n")
        assert next(log) == LogPiece(0, b"one\n")
        log.close()
        assert list(log) == []


def test_what_the_shared_connection_lost_is_opened_again(start_daemon: Callable[..., Daemon]) -> None:
    """A client outlives its daemon."""
    daemon = start_daemon("[programs.quiet]\ncommand = ['sleep', 'infinity']\n")
    with Client(str(daemon.socket), timeout_s=BOUND_S) as client:
        first = client.hello().pid
        daemon.stop()
        with pytest.raises((Unreachable, ShuttingDown)):
            client.hello()
        daemon.start()
        assert client.hello().pid != first


def test_a_followed_log_has_no_gap_and_no_repeat(start_daemon: Callable[..., Daemon]) -> None:
    """Across a restart of the daemon: what was read is what is in the file, from the first byte on."""
    daemon = start_daemon(COUNTS)
    read: list[LogPiece | LogGap] = []
    done = threading.Event()

    def follow() -> None:
        with Client(str(daemon.socket)) as client, client.logs("counts", offset=0, follow=True) as log:
            for piece in log:
                read.append(piece)
                if done.is_set():
                    return

    following = threading.Thread(target=follow)
    following.start()
    _restart_while_counting(daemon)
    done.set()
    following.join(BOUND_S)
    assert not following.is_alive()
    _is_the_file(daemon, read)


def _restart_while_counting(daemon: Daemon) -> None:
    daemon.until_output("counts", b"\n100\n")
    daemon.stop()
    daemon.start()
    before = len(daemon.output("counts"))
    until(lambda: len(daemon.output("counts")) > before + 1000, "more output")


def _is_the_file(daemon: Daemon, read: list[LogPiece | LogGap]) -> None:
    assert not [piece for piece in read if isinstance(piece, LogGap)]
    data = _data(read)
    assert data.count(b"\n1\n") == 1, "the output of both lives"
    assert daemon.output("counts").startswith(data)


async def _follow_log(daemon: Daemon, done: asyncio.Event) -> list[LogPiece | LogGap]:
    read = []
    async with AsyncClient(str(daemon.socket)) as client, client.logs("counts", offset=0, follow=True) as log:
        async for piece in log:
            read.append(piece)
            if done.is_set():
                break
    return read


def test_an_asyncio_log_has_no_gap_and_no_repeat(start_daemon: Callable[..., Daemon]) -> None:
    """The same for the other client."""
    daemon = start_daemon(COUNTS)

    async def scenario() -> list[LogPiece | LogGap]:
        done = asyncio.Event()
        async with asyncio.timeout(3 * BOUND_S), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(_follow_log(daemon, done))
            await asyncio.get_running_loop().run_in_executor(None, _restart_while_counting, daemon)
            done.set()
        return following.result()

    _is_the_file(daemon, asyncio.run(scenario()))


def test_events_are_numbered_without_a_gap(start_daemon: Callable[..., Daemon]) -> None:
    """Each once, in order; a follower that comes late begins where it wants."""
    daemon = start_daemon("[programs.quiet]\ncommand = ['sleep', 'infinity']\n")
    daemon.until_state("quiet", "RUNNING")
    with Client(str(daemon.socket), timeout_s=BOUND_S) as client:
        seen = [event.seq for event in client.events() if isinstance(event, Event)]
        assert seen == list(range(1, len(seen) + 1))
        with client.events(since=seen[-1], follow=True) as events:
            client.restart("quiet")
            states: list[Any] = []
            for event in events:
                assert isinstance(event, Event)
                if event.type == "transition" and event.program == "quiet":
                    states.append(event.facts["new"])
                    if event.facts["new"] == "RUNNING":
                        break
    assert states[0] == "STOPPING"


def test_a_daemon_that_does_not_come_back_is_given_up(start_daemon: Callable[..., Daemon]) -> None:
    """After reconnect_s, with why it was lost."""
    daemon = start_daemon("[programs.quiet]\ncommand = ['sleep', 'infinity']\n")
    with Client(str(daemon.socket), reconnect_s=0.2) as client, client.events(follow=True) as events:
        next(events)
        daemon.stop()
        with pytest.raises((Unreachable, ShuttingDown)):
            list(events)


async def _many(path: str) -> list[Any]:
    async with AsyncClient(path, timeout_s=BOUND_S) as client:
        return await asyncio.gather(
            client.hello(), *(client.status("quiet") for _ in range(100)), client.wait("quiet", "running")
        )


def test_calls_of_many_tasks_share_a_connection(shared: Daemon) -> None:
    """Each gets its own answer."""
    hello, *rest = asyncio.run(_many(str(shared.socket)))
    assert hello.pid == shared.supervisor
    assert {each[0].name if isinstance(each, list) else each.name for each in rest} == {"quiet"}


def test_an_asyncio_call_that_is_cancelled_leaves_the_connection_usable(shared: Daemon) -> None:
    """Its answer comes later, and is nobody's."""

    async def scenario() -> None:
        async with AsyncClient(str(shared.socket), timeout_s=BOUND_S) as client:
            pid = (await client.hello()).pid
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.wait("later", "running")
            await client.start("later")
            assert (await client.hello()).pid == pid
            await client.stop("later")

    asyncio.run(scenario())


def test_asyncio_errors_are_those_of_the_blocking_client(shared: Daemon) -> None:
    """A refusal, nobody there, no time, and a client that was closed under a call."""

    async def scenario() -> None:
        async with AsyncClient(str(shared.socket), timeout_s=BOUND_S) as client:
            with pytest.raises(NoSuchProgram):
                await client.status("quit")
            with pytest.raises(NoSuchProgram):
                await anext(client.logs("quit"))
            waiting = asyncio.ensure_future(client.wait("later", "running"))
            await client.hello()
            await client.aclose()
            with pytest.raises(Unreachable):
                await waiting
        with pytest.raises(Unreachable):
            await AsyncClient(str(shared.directory / "nobody")).hello()
        async with AsyncClient(str(shared.socket), timeout_s=0) as hurried:
            with pytest.raises(TimedOut):
                await hurried.hello()

    asyncio.run(scenario())


def test_a_number_that_was_never_given_begins_at_the_first(client: Client) -> None:
    """It is of a journal that is gone: all events of this one are news."""
    with client, client.events(since=1 << 40) as events, client.events() as others:
        assert next(events) == next(others)
