"""The keeper is killed: the supervisor goes on, and the supervisor of another keeper takes over from it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procd.keeper.inheritance import claim
from procd.keeper.messages import EXIT
from tests.kernel.children import BOUND_S, NOBODY, needs_root
from tests.kernel.keeper_world import Life, World, until, world

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds of random predecessors; more where somebody has the time.
FUZZ_S = float(os.environ.get("PROCD_FUZZ_S", "5"))
#: Descriptors that a keeper has more when its supervisor has recalled.
RING = 1

#: The two sides as a supervisor has them.  The predecessor stops half-way for so many successors: `stops`.
SIDES = """
import asyncio
import structlog
from procd.keeper import inheritance
from procd.keeper.bequest import Bequest
from procd.keeper.client import Memory

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
held, stops, told = {}, 0, 0

async def bequeath(memory):
    global stops, told, last
    told += 1
    last = memory
    memory.put('told', str(told).encode())
    for number, (key, (value, fds)) in enumerate(held.items()):
        if stops and number == len(held) // 2:
            stops -= 1
            open(f'{path}.half', 'w').close()
            await asyncio.sleep(1000)
        memory.put(key, value, fds)
    await memory.settle()

async def _wait(**options):
    await Bequest(asyncio.get_running_loop(), path, bequeath, starts=5, **options).done

def wait_for_successor(**options):
    asyncio.run(_wait(**options))

async def _take_over(**options):
    loop = asyncio.get_running_loop()
    memory = Memory(loop, channel)
    try:
        return await _take_over_with(loop, memory, **options)
    finally:
        # The channel is somebody else's after this, who does not know of the ring.
        await memory.catch_up()
        memory._leave_ring()

async def _take_over_with(loop, memory, **options):
    found = await memory.recall()
    how = 'stood'
    if not await inheritance.resume(loop, memory, found, **options):
        [record.close() for record in found]
        found = await memory.recall()
        how = 'resumed'
    if not any(record.key == 'told' for record in found):
        [record.close() for record in found]
        connection = inheritance.claim(path)
        if connection is None:
            return 'nobody'
        if not await inheritance.inherit(loop, connection, memory, **options):
            return 'failed'
        found = await memory.recall()
        how = 'inherited'
    records.update((record.key, (record.value, record.fds)) for record in found)
    return how

def take_over(**options):
    return asyncio.run(_take_over(**options))
"""


class Orphan:
    """A world whose keeper was killed; `life` is its supervisor, which waits for a successor."""

    def __init__(self, kept: World, pipes: int = 100, **options: float) -> None:
        self.kept = kept
        self.path = kept.stderr.parent / "keeper.sock"
        self.options = options
        kept.start()
        self.life = kept.up()
        self.prepare(self.life)
        self.life(f"held.update((f'p{{i}}', (bytes([i % 256]) * i, os.pipe())) for i in range({pipes}))")
        self.life("held.update(long=(bytes(300000), ()))")
        self.identities = self.life(
            "{key: [os.fstat(fd).st_ino for fd in fds] for key, (_, fds) in held.items()}"
        )
        assert kept.keeper is not None
        kept.keeper.kill()
        kept.keeper.wait(BOUND_S)

    def prepare(self, life: Life) -> None:
        """Teach a life both sides."""
        life(f"exec({SIDES!r}, globals())")
        life(f"path = {str(self.path)!r}")

    def wait(self) -> None:
        """Have it wait for a successor, and end then."""
        self.life.tell(f"(wait_for_successor(**{self.options}), os._exit(0))")
        until(self.path.exists)

    def keeper(self, **options: Any) -> None:  # noqa: ANN401 - those of World.start
        """Start another keeper."""
        self.kept.start({"heir": self.kept.scripted("heir")}, **options)

    def heir(self) -> Life:
        """The next life of its supervisor."""
        life = self.kept.life("heir")
        self.prepare(life)
        return life

    def lives(self) -> bool:
        """Whether the first supervisor goes on."""
        return self.kept.processes().get(self.life.pid, "Z") != "Z"

    def until_half(self) -> None:
        """Wait until it has stopped half-way."""
        half = self.path.with_name("keeper.sock.half")
        until(half.exists)
        half.unlink()

    def assert_inherited(self, heir: Life, told: int = 1) -> None:
        """Everything is there, and the first supervisor is not."""
        assert not self.lives()
        assert heir(
            "{k: [os.fstat(fd).st_ino for fd in fds] for k, (_, fds) in records.items() if k[0] in 'pl'}"
        ) == (self.identities)
        assert heir("[records[f'p{i}'][0] == bytes([i % 256]) * i for i in range(100)].count(True)") == 100
        assert heir("records['long'][0] == bytes(300000)") is True
        assert heir("records['told'][0]") == str(told).encode()


@pytest.fixture
def kept() -> Iterator[World]:
    """A world in which keepers can be started."""
    with world() as made:
        yield made


def test_everything_is_taken_over_and_the_predecessor_ends_first(kept: World) -> None:
    """The same descriptors, long values too; who comes then knows that it is not the first."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over()") == "inherited"
    orphan.assert_inherited(heir)
    assert not orphan.path.exists()
    assert heir("fields(records['keeper'][0])['starts']") == "6"
    heir.kill()
    second = orphan.heir()
    assert second("take_over()") == "stood"
    orphan.assert_inherited(second)
    assert second("fields(records['keeper'][0])['starts']") == "7"


def test_a_refusal_is_not_the_end_when_something_was_taken_over(kept: World) -> None:
    """Nobody was up under this keeper, but programs run."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over()") == "inherited"
    heir.tell("os._exit(78)")
    second = orphan.heir()
    assert second("take_over()") == "stood"
    orphan.assert_inherited(second)


def test_a_successor_that_dies_half_way_costs_nothing(kept: World) -> None:
    """The predecessor goes on and waits for the next, which drops what had come, and has it come again."""
    orphan = Orphan(kept)
    orphan.life("stops = 2")
    orphan.wait()
    orphan.keeper()
    for _ in range(2):
        heir = orphan.heir()
        heir.tell("take_over()")
        orphan.until_half()
        until(lambda: kept.descriptors() > 100)
        heir.kill()
    last = orphan.heir()
    assert orphan.lives()
    assert last("take_over()") == "inherited"
    orphan.assert_inherited(last, told=3)


def test_a_successor_that_dies_before_it_has_told_has_it_come_again(kept: World) -> None:
    """Its keeper has everything, but the predecessor goes on and may have changed: what came is stale."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    heir("inheritance._Inheritance._on_synced = lambda *_: os.kill(os.getpid(), 9)")
    heir.tell("take_over()")
    second = orphan.heir()
    assert second("take_over()") == "resumed"
    orphan.assert_inherited(second, told=2)


def test_a_successor_that_dies_after_it_has_told_has_everything(kept: World) -> None:
    """The predecessor is gone, or about to be; the next successor adopts."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    heir("inheritance._end = lambda *_: os.kill(os.getpid(), 9)")
    heir.tell("take_over()")
    second = orphan.heir()
    assert second("take_over()") == "stood"
    orphan.assert_inherited(second)


def test_a_predecessor_that_does_not_end_is_killed(kept: World) -> None:
    """Two must never supervise; also if the first successor was killed while it waited for that."""
    orphan = Orphan(kept)
    orphan.life.tell("(wait_for_successor(), time.sleep(1000))")
    until(orphan.path.exists)
    orphan.keeper()
    heir = orphan.heir()
    heir.tell("take_over()")
    until(lambda: not orphan.path.exists())
    heir.kill()
    second = orphan.heir()
    assert orphan.lives()
    assert second("take_over(patience_s=0.5)") == "stood"
    orphan.assert_inherited(second)


def test_a_predecessor_that_dies_half_way_leaves_nothing(kept: World) -> None:
    """Half of it is worth less than nothing."""
    orphan = Orphan(kept)
    orphan.life("stops = 1")
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    descriptors = kept.descriptors() + RING
    heir.tell("take_over()")
    orphan.until_half()
    orphan.life.kill()
    assert heir.answer() == "failed"
    assert heir("recall()") == ["keeper"]
    assert kept.descriptors() == descriptors
    heir.tell("os._exit(75)")
    assert kept.ended() == 75


def test_a_predecessor_that_dies_before_it_is_told_has_left_everything(kept: World) -> None:
    """It cannot be told any more, and need not be."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    heir("real = inheritance._Inheritance._on_synced")
    heir(
        "inheritance._Inheritance._on_synced = lambda *given: "
        f"(os.kill({orphan.life.pid}, 9), time.sleep(0.2), real(*given))"
    )
    assert heir("take_over()") == "inherited"
    orphan.assert_inherited(heir)


def test_a_predecessor_that_stands_still_is_not_taken_over_from(kept: World) -> None:
    """It is asked again when it moves."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.life.kill(signal.SIGSTOP)
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over(patience_s=0.2)") == "failed"
    assert heir("recall()") == ["keeper"]
    orphan.life.kill(signal.SIGCONT)
    assert heir("take_over()") == "inherited"
    orphan.assert_inherited(heir, told=heir("int(records['told'][0])"))


def test_a_successor_that_stands_still_is_not_waited_for(kept: World) -> None:
    """After a while the next gets its turn; what the first has then is worth nothing."""
    orphan = Orphan(kept, patience_s=0.5)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    descriptors = len([*Path(f"/proc/{orphan.life.pid}/fd").iterdir()])
    heir("inheritance._Inheritance._on_synced = lambda *_: os.kill(os.getpid(), signal.SIGSTOP)")
    heir.tell("take_over()")
    until(lambda: kept.processes().get(heir.pid) == "T")
    until(lambda: orphan.lives() and len([*Path(f"/proc/{orphan.life.pid}/fd").iterdir()]) <= descriptors)
    heir.kill()
    second = orphan.heir()
    assert second("take_over()") == "resumed"
    orphan.assert_inherited(second, told=2)


def test_a_confirmation_that_came_while_patience_ended_counts(kept: World) -> None:
    """Either both sides hold that all is handed over, or neither does."""
    orphan = Orphan(kept, patience_s=0.5)
    # It has no eyes for what is there when its patience is over.
    orphan.life("Memory._readable = lambda _: None")
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over()") == "inherited"
    orphan.assert_inherited(heir)


def test_a_confirmation_that_comes_too_late_does_not_count(kept: World) -> None:
    """The same, the other way round."""
    orphan = Orphan(kept, patience_s=0.5)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    heir("real = inheritance._Inheritance._on_synced")
    heir("stop = lambda: os.kill(os.getpid(), signal.SIGSTOP)")
    heir("inheritance._Inheritance._on_synced = lambda *given: (stop(), real(*given))")
    heir.tell("take_over(patience_s=0.2)")
    kept.until_said("NotTakenError: it has taken too long")
    heir.kill(signal.SIGCONT)
    assert heir.answer() == "failed"
    assert heir("recall()") == ["keeper"]
    assert orphan.lives()


def test_a_predecessor_that_dies_before_it_comes_again_has_left_what_came(kept: World) -> None:
    """The first successor died with everything, and the predecessor before the second could ask."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    heir("inheritance._Inheritance._on_synced = lambda *_: os.kill(os.getpid(), 9)")
    heir.tell("take_over()")
    second = orphan.heir()
    second("real = inheritance.claim")
    kill = f"os.kill({orphan.life.pid}, 9)"
    second(f"inheritance.claim = lambda path: (real(path), {kill}, time.sleep(0.2))[0]")
    assert second("take_over()") == "resumed"
    orphan.assert_inherited(second, told=1)


def test_what_is_said_until_the_end_is_taken_over_too(kept: World) -> None:
    """A program was started in the moment in which the answer came: it must not be started again."""
    orphan = Orphan(kept)
    orphan.life.tell("(wait_for_successor(), last.put('late', b'', (0,)), last.drop('p0'), os._exit(0))")
    until(orphan.path.exists)
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over()") == "inherited"
    assert heir("'p0' in records, 'p1' in records, len(records['late'][1])") == (False, True, 1)


def test_nonsense_after_the_end_changes_nothing(kept: World) -> None:
    """The predecessor was told that we have everything, and so we have."""
    orphan = Orphan(kept)
    orphan.life.tell(
        "(wait_for_successor(), last.put('exit:1', b''), last._channel.send(b'noise'), time.sleep(1000))"
    )
    until(orphan.path.exists)
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over(patience_s=0.5)") == "inherited"
    orphan.assert_inherited(heir)


def test_an_end_is_seen_though_a_child_has_the_connection(kept: World) -> None:
    """One that was forked, and does not execute anything."""
    orphan = Orphan(kept)
    orphan.life.tell("(wait_for_successor(), os.fork() and os._exit(0), time.sleep(1000))")
    until(orphan.path.exists)
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over(patience_s=3600)") == "inherited"
    orphan.assert_inherited(heir)


def test_a_keeper_without_room_takes_nothing(kept: World) -> None:
    """It says why on both sides; the predecessor goes on, and one with more room takes it."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.keeper(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150)))
    heir = orphan.heir()
    descriptors = kept.descriptors() + RING
    assert heir("take_over()") == "failed"
    assert heir("recall()") == ["keeper"]
    assert kept.descriptors() == descriptors
    kept.until_said("'p43' is refused: the records have 86 descriptors, of 86")
    heir.tell("os._exit(75)")
    assert kept.ended() == 75
    assert orphan.lives()
    orphan.keeper()
    second = orphan.heir()
    assert second("take_over()") == "inherited"
    orphan.assert_inherited(second, told=2)


def test_a_keepers_own_records_are_not_bequeathed(kept: World) -> None:
    """Another keeper has others under these keys."""
    orphan = Orphan(kept)
    orphan.life("held['exit:1'] = (b'', ())")
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over()") == "failed"
    kept.until_said("'exit:1' is refused: that is a keeper's own")
    assert heir("recall()") == ["keeper"]
    assert orphan.lives()


#: Says what one keeper only was to hear, and changes a record that was told already.
CHATTER = """
put_all = bequeath
async def bequeath(memory):
    await put_all(memory)
    memory.drop('exit:1')
    memory.drop('keeper')
    memory.drop('p0')
    memory.put('p0', *held['p0'])
    memory.notify('STATUS=well')
    memory.give('logger', 'channel', b'', (0,))
"""


def test_what_is_said_to_the_dead_keeper_meanwhile_does_no_harm(kept: World) -> None:
    """The predecessor goes on while it is taken over from: an exit is taken, systemd is told, the logger is."""
    orphan = Orphan(kept)
    orphan.life(f"exec({CHATTER!r}, globals())")
    orphan.wait()
    orphan.keeper()
    heir = orphan.heir()
    heir(f"line.put('exit:1', bytes({EXIT.size}))")
    assert heir("take_over()") == "inherited"
    orphan.assert_inherited(heir)
    assert "exit:1" in heir("recall()")
    assert heir("fields(records['keeper'][0])['starts']") == "6"


def test_successors_that_make_no_sense_do_no_harm(kept: World) -> None:
    """Noise, silence, a closed connection: the next is served, and no descriptor is lost."""
    orphan = Orphan(kept, patience_s=0.3)
    descriptors = orphan.life("len(os.listdir('/proc/self/fd'))")
    orphan.wait()
    for noise in (b"", b"noise", b"\x16\0\0\0\0\0\0\0" * 100, os.urandom(1000)):
        connection = claim(str(orphan.path))
        assert connection is not None
        connection.setblocking(True)
        with connection:
            if noise:
                connection.send(noise)
                with connection.dup() as same:
                    same.settimeout(BOUND_S)
                    while same.recv(70000):
                        pass  # until it has lost its patience
    orphan.keeper()
    heir = orphan.heir()
    assert len([*Path(f"/proc/{orphan.life.pid}/fd").iterdir()]) <= descriptors + 8
    assert heir("take_over()") == "inherited"
    orphan.assert_inherited(heir, told=heir("int(records['told'][0])"))


@needs_root
def test_only_root_and_the_same_user_may_succeed(kept: World) -> None:
    """The directory may be anybody's to look into."""
    orphan = Orphan(kept)
    orphan.wait()
    orphan.path.parent.chmod(0o755)
    orphan.path.chmod(0o666)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            other = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            other.connect(str(orphan.path))
            if other.recv(100) == b"" and claim(str(orphan.path)) is None:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    orphan.keeper()
    heir = orphan.heir()
    assert heir("take_over()") == "inherited"
    orphan.assert_inherited(heir)


def test_nobody_is_claimed_where_nobody_listens(tmp_path: Path) -> None:
    """No file, a file, a socket that nobody has any more."""
    assert claim(str(tmp_path / "none")) is None
    (tmp_path / "file").touch()
    assert claim(str(tmp_path / "file")) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(tmp_path / "left"))
    assert claim(str(tmp_path / "left")) is None


#: Listens, and tells whoever connects noise, or messages of any kind with any lengths; then ends, or hangs.
FUZZ = """
import random, struct
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(path)
listener.listen(1)
def fuzz(seed):
    chance = random.Random(seed)
    pipes = [fd for _ in range(4) for fd in os.pipe()]
    # Either it says that this is all, or it asks whether all is there: both would be its end.
    all_is_told = chance.choice((b'starts=1\\n', b'starts=x\\n', b'starts=1\\nmore=1\\n'))
    with listener.accept()[0] as peer:
        for _ in range(chance.randrange(60)):
            parts = []
            for _ in range(chance.choice((1, 1, 2, 30))):
                key = bytes(chance.choices(b'ab', k=chance.choice((1, 2, 9))))
                key = chance.choice((key,) * 20 + (b'exit:1', b'keeper', b'activated:a:0', b'bequest', b''))
                value = b'\\0' + chance.choice((all_is_told, chance.randbytes(20)))
                verb = chance.choice((3,) * 30 + (4, 4, 7, chance.randrange(30)))
                if verb == 7 and all_is_told == b'starts=1\\n':
                    verb = 3
                count = chance.choice((0, 0, 1, 2))
                lengths = len(key), len(value)
                if chance.random() < 0.005:
                    lengths = chance.randrange(999), chance.randrange(2**32)
                if chance.random() < 0.005:
                    count = 255
                parts.append((struct.pack('=BBHI', verb, count, *lengths) + key + value, count % 255))
            fds = chance.choices(pipes, k=sum(count for _, count in parts))
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f'{len(fds)}i', *fds))] if fds else []
            data = b''.join(part for part, _ in parts)
            try:
                peer.sendmsg([chance.choice((data,) * 50 + (chance.randbytes(50),))], rights)
            except OSError:
                break
        if chance.random() < 0.2:
            time.sleep(0.3)
    for fd in pipes:
        os.close(fd)
"""


def test_predecessors_that_make_no_sense_leave_nothing(kept: World) -> None:
    """Neither a record nor a descriptor, neither with the successor nor with its keeper."""
    orphan = Orphan(kept, pipes=1)
    orphan.life(f"exec({FUZZ!r}, globals())")
    orphan.keeper()
    heir = orphan.heir()
    heir("line.put('activated:web:0', b'', (0,))")
    heir("structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))")
    heir("sync()")
    descriptors = kept.descriptors() + RING
    counts = []
    seed = 0
    began = time.monotonic()
    while seed < 20 or time.monotonic() < began + FUZZ_S:
        seed += 1
        orphan.life.tell(f"fuzz({seed})")
        assert heir("take_over(patience_s=0.2)") == "failed", seed
        assert orphan.life.answer() is None
        assert heir("recall()") == ["activated:web:0", "keeper"]
        heir("[os.close(fd) for _, fds in records.values() for fd in fds]")
        heir("records.clear()")
        assert kept.descriptors() == descriptors
        counts.append(heir("len(os.listdir('/proc/self/fd'))"))
    assert len({*counts}) == 1, counts
