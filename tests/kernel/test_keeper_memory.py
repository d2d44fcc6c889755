"""What the keeper remembers: records with their descriptors, over the death of whoever had them kept."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from tests.kernel.keeper_world import World, until, world

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kept() -> Iterator[World]:
    """A world in which a keeper can be started."""
    with world() as made:
        yield made


def test_a_record_and_its_pipe_outlive_who_put_it(kept: World) -> None:
    """The next supervisor reads from the same pipe what was written into it before."""
    kept.start()
    first = kept.up()
    first("r, w = os.pipe()")
    first("os.write(w, b'unread')")
    assert first("line.put('pipe', b'about it', (r, w))") is True
    first.kill()
    second = kept.up()
    assert second("records['pipe'][0]") == b"about it"
    assert second("os.read(records['pipe'][1][0], 100)") == b"unread"
    assert second("os.write(records['pipe'][1][1], b'more')") == 4
    assert second("[fcntl.fcntl(fd, fcntl.F_GETFD) for fd in records['pipe'][1]]") == [1, 1]


def test_what_was_said_is_known_however_fast_its_sender_dies(kept: World) -> None:
    """No acknowledgement is needed: the datagrams are the keeper's before the sender dies.

    What the keeper has said is unread meanwhile, so the kernel reports a reset connection before the datagrams;
    and there are more of them than the keeper takes in one turn.
    """
    kept.start()
    supervisor = kept.up()
    for life in range(3):
        stop = f"os.kill({kept.pid}, signal.SIGSTOP)"
        puts = "all([line.put(f'key{i}', b'value') for i in range(300)])"
        # The answer to the first question comes and stays unread.
        unread = "(line.sync(b'unread'), select.select([line], [], []))"
        supervisor(f"line.put('life', b'{life}')")
        supervisor.tell(f"({unread}, {stop}, {puts} and line.drop('key{life}') and os.kill(os.getpid(), 9))")
        until(lambda pid=supervisor.pid: kept.processes().get(pid) in {"Z", None})
        os.kill(kept.pid, signal.SIGCONT)
        supervisor = kept.up()
        expected = {"keeper", "life", *(f"key{i}" for i in range(300) if i != life)}
        assert {*supervisor("sorted(records)")} == expected


def test_a_record_is_replaced_and_dropped(kept: World) -> None:
    """And the descriptors that it had are closed."""
    kept.start()
    first = kept.up()
    before = kept.descriptors()
    first("line.put('a', b'1', os.pipe())")
    first("line.put('a', b'2', os.pipe())")
    first("line.put('b', b'3', os.pipe())")
    first("line.drop('b')")
    first("line.drop('never there')")
    first("sync()")
    assert kept.descriptors() == before + 2
    first.kill()
    second = kept.up()
    assert second("sorted(records)") == ["a", "keeper"]
    assert second("records['a'][0]") == b"2"


def test_a_thousand_records_with_three_descriptors_each_are_handed_over(kept: World) -> None:
    """All of them, each with its own descriptors in their order."""
    kept.start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384)))
    first = kept.up()
    identities = (
        "[[(os.fstat(fd).st_ino, fcntl.fcntl(fd, fcntl.F_GETFL) & 3) for fd in records[f'p{i}'][1]] "
        "for i in range(1000)]"
    )
    first("pipes = [(*os.pipe(), os.dup(2)) for _ in range(1000)]")
    first("records.update((f'p{i}', (b'', fds)) for i, fds in enumerate(pipes))")
    before = first(identities)
    first("[line.put(f'p{i}', b'record' * 100 + str(i).encode(), fds) for i, fds in enumerate(pipes)]")
    first("until(lambda: line.settled)")
    first.kill()
    second = kept.up()
    assert second("len(records)") == 1001
    assert second(identities) == before
    assert second("all(records[f'p{i}'][0] == b'record' * 100 + str(i).encode() for i in range(1000))")


def test_a_long_value_goes_in_a_file_in_memory(kept: World) -> None:
    """From just what a message cannot carry; nobody sees the difference."""
    kept.start()
    first = kept.up()
    first("line.put('long', bytes(range(256)) * 40000, os.pipe())")
    first("line.put('edge', b'x' * 65535)")
    first("line.put('over', b'x' * 65536)")
    first.kill()
    second = kept.up()
    assert second("records['long'][0] == bytes(range(256)) * 40000")
    assert second("len(records['long'][1])") == 2
    assert second("[(len(records[key][0]), records[key][1]) for key in ('edge', 'over')]") == [
        (65535, ()),
        (65536, ()),
    ]


def test_what_there_is_no_room_for_is_refused_and_what_there_was_stays(kept: World) -> None:
    """The bound leaves the keeper descriptors for itself."""
    kept.start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    first = kept.up()
    first("pipes = [os.pipe() for _ in range(40)]")
    first("line.put('p0', b'first', pipes[0])")
    first("[line.put(f'p{i}', b'', fds) for i, fds in enumerate(pipes)]")
    first("line.put('p0', b'too many', [*pipes[1], *pipes[2]])")
    first("sync()")
    refused = first("refused")
    assert [key for key, _ in refused] == [*(f"p{i}" for i in range(32, 40)), "p0"]
    assert "descriptors" in refused[0][1]
    first.kill()
    second = kept.up()
    assert second("len(records)") == 33
    assert second("records['p0'][0], len(records['p0'][1])") == (b"", 2)


def test_descriptors_that_cannot_be_received_are_refused_not_lost(kept: World) -> None:
    """The kernel gives what there is room for, and MSG_CTRUNC: nobody takes half a record for a whole one."""
    kept.start()
    first = kept.up()
    first("line.put('before', b'', os.pipe())")
    first("sync()")
    used = kept.descriptors()
    limits = resource.prlimit(kept.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(kept.pid, resource.RLIMIT_NOFILE, (used + 1, limits[1]))
    first("pipes = [os.pipe() for _ in range(3)]")
    first("with line.batch(): [line.put(f'p{i}', b'', fds) for i, fds in enumerate(pipes)]")
    first("line.put('after', b'')")
    first("sync()")
    assert {key for key, _ in first("refused")} == {"p0", "p1", "p2"}
    assert kept.descriptors() == used
    resource.prlimit(kept.pid, resource.RLIMIT_NOFILE, limits)
    first("line.put('p0', b'', pipes[0])")
    first("sync()")
    first.kill()
    assert kept.up()("sorted(records)") == ["after", "before", "keeper", "p0"]


def test_a_supervisor_without_room_is_told_and_may_ask_again(kept: World) -> None:
    """A record that arrives without all of its descriptors is none; the keeper has it still."""
    kept.start()
    first = kept.up()
    first("[line.put(f'p{i}', b'', os.pipe()) for i in range(50)]")
    first("sync()")
    first.kill()
    second = kept.life()
    second("limit = resource.getrlimit(resource.RLIMIT_NOFILE)")
    second("resource.setrlimit(resource.RLIMIT_NOFILE, (30, limit[1]))")
    second("recall()")
    assert second("len(incomplete)") > 0
    assert second("len(incomplete) + len(records)") == 51
    second("resource.setrlimit(resource.RLIMIT_NOFILE, limit)")
    second("[os.close(fd) for value, fds in records.values() for fd in fds]")
    second("incomplete.clear()")
    assert len(second("recall()")) == 51
    assert second("incomplete") == []


def test_a_keeper_that_stands_still_blocks_nobody(kept: World) -> None:
    """What it cannot be told now is queued, one change for each key, and told later."""
    kept.start()
    first = kept.up()
    os.kill(kept.pid, signal.SIGSTOP)
    first("r, w = os.pipe()")
    first("said = [line.put(f'p{i % 5000}', str(i).encode() * 200, (r,)) for i in range(20000)]")
    assert first("said[0], said[-1], line.settled") == (True, False, False)
    assert first("len(line._unsent)") <= 5000
    os.kill(kept.pid, signal.SIGCONT)
    first("until(lambda: line.settled)")
    first("sync()")
    # The copies that the queue had are closed.
    assert first("len(os.listdir('/proc/self/fd'))") < 20
    first.kill()
    second = kept.up()
    assert second("all(records[f'p{i}'][0] == str(i + 15000).encode() * 200 for i in range(5000))")


def test_memory_and_descriptors_are_after_100_000_changes_as_before(kept: World) -> None:
    """50,000 puts and as many drops, after some to warm up."""
    kept.start()
    first = kept.up()
    first("r, w = os.pipe()")
    changes = (
        "[(line.put(f'p{i % 1000}', b'x' * (i % 500), (r, w)), line.drop(f'p{(i + 500) % 1000}'), "
        "until(lambda: line.settled)) for i in range(COUNT)] and None"
    )
    drops = "[line.drop(f'p{i}') for i in range(1000)] and None"
    first(changes.replace("COUNT", "10000"))
    first(drops)
    first("sync()")
    descriptors, memory_kib = kept.descriptors(), kept.memory_kib()
    first(changes.replace("COUNT", "50000"))
    first(drops)
    first("sync()")
    assert kept.descriptors() == descriptors
    assert kept.memory_kib() <= memory_kib + 256


def test_another_child_is_given_a_record(kept: World) -> None:
    """At once if it runs, and again when it has been started again; and the supervisor is told of its lives."""
    kept.start({name: kept.scripted(name) for name in ("supervisor", "logger")})
    supervisor, logger = kept.up(), kept.up("logger")
    supervisor("r, w = os.pipe()")
    supervisor("os.write(w, b'for you')")
    supervisor("line.give('logger', 'channel', b'read this', (r,))")
    supervisor("line.give('nobody', 'channel', b'read this', (r,))")
    supervisor("sync()")
    logger("until(lambda: 'channel' in records)")
    assert logger("records['channel'][0]") == b"read this"
    assert [key for key, _ in supervisor("refused")] == ["nobody/channel"]
    logger.kill()
    again = kept.up("logger")
    assert again("sorted(records)") == ["channel"]
    assert again("os.read(records['channel'][1][0], 100)") == b"for you"
    supervisor(f"until(lambda: b'pid={again.pid}\\n' in records['child:logger'][0])")
    assert b"starts=2\nlast_end=was killed by SIGKILL\n" in supervisor("records['child:logger'][0]")


#: What a supervisor does with the keeper on its loop.
ON_A_LOOP = """
import asyncio
from procd.keeper.client import Memory
async def remember(pid):
    memory = Memory(asyncio.get_running_loop(), channel)
    exits, found = [], asyncio.Event()
    def on_exit(kept):
        exits.append(kept)
        if kept.pid == pid:
            found.set()
    memory.on_exit = on_exit
    recalled = await memory.recall()
    memory.up()
    if pid:
        await asyncio.wait_for(found.wait(), 20)
    for kept in exits:
        memory.put(f'ended:{kept.pid}', str(os.waitstatus_to_exitcode(kept.status)).encode(), recalled[0].fds)
        memory.taken(kept)
    await memory.settle()
    return sorted((record.key, record.value) for record in recalled if record.key != 'keeper')
"""


def test_a_supervisor_on_its_loop_takes_what_happened_meanwhile(kept: World) -> None:
    """It recalls, learns of an end that fell between two lives, records what follows, and lets the end go."""
    kept.start()
    first = kept.up()
    pid = first("spawn(33, 0.3)")
    first("line.put('program', b'record', os.pipe())")
    first.kill()
    second = kept.life()
    second(f"exec({ON_A_LOOP!r}, globals())")
    second(f"found = asyncio.run(remember({pid}))")
    recalled = second("found")
    assert ("program", b"record") in recalled
    second.kill()
    third = kept.life()
    third(f"exec({ON_A_LOOP!r}, globals())")
    third("found = asyncio.run(remember(0))")
    assert third("found") == [(f"ended:{pid}", b"33"), ("program", b"record")]


def test_whoever_loses_the_keeper_is_told(kept: World) -> None:
    """And what it says from then on is for nobody, and no error."""
    kept.start()
    first = kept.up()
    os.kill(kept.pid, signal.SIGKILL)
    first("until(lambda: line.lost)")
    assert first("events") == ["lost"]
    assert first("line.put('key', b'value', (0,)), line.settled") == (False, True)
