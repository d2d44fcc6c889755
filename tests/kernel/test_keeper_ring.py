"""What a supervisor says in its ring is known as well as what it says in datagrams, and in the same order."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from procd.keeper.ring import SIZE
from tests.kernel.keeper_world import World, installed, until, world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.keeper_world import Life


@pytest.fixture
def kept() -> Iterator[World]:
    """A keeper and its supervisor."""
    with world() as made:
        made.start(beat=3600.0)
        yield made


def up(kept: World) -> Life:
    """The next life of the supervisor, with a ring."""
    life = kept.up()
    life("line.share_ring()")
    life("sync()")
    return life


def woken(kept: World) -> int:
    """How often the keeper has waited for something that came, as soon as it waits again."""

    def waits() -> int:
        status = Path(f"/proc/{kept.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    before, now = -1, waits()
    while now != before:
        time.sleep(0.1)
        before, now = now, waits()
    return now


def test_a_record_wakes_nobody_and_outlives_who_put_it(kept: World) -> None:
    """However fast it dies, nobody has read the ring before."""
    first = up(kept)
    before = woken(kept)
    assert first("[line.put(f'p{i}', bytes([i])) for i in range(100)] == [True] * 100") is True
    assert first("[line.drop(f'p{i}') for i in range(50)] == [True] * 50") is True
    assert first("line.settled") is True
    assert woken(kept) == before
    first.kill()
    assert kept.up()("sorted(records)") == ["keeper", *sorted(f"p{i}" for i in range(50, 100))]


def test_one_ring_is_enough(kept: World) -> None:
    """Who recalls twice, as when somebody was taken over, goes on with it."""
    first = up(kept)
    descriptors = kept.descriptors(), first("len(os.listdir('/proc/self/fd'))")
    first("line.put('before', b'1')")
    first("(line.share_ring(), sync())")
    assert (kept.descriptors(), first("len(os.listdir('/proc/self/fd'))")) == descriptors
    first("line.put('after', b'2')")
    first.kill()
    assert kept.up()("sorted(records)") == ["after", "before", "keeper"]


def test_a_batch_that_wakes_nobody_is_one_that_is_whole(kept: World) -> None:
    """What is collected goes into the ring when it is sent; what has a descriptor takes all with it."""
    first = up(kept)
    first("r, w = os.pipe()")
    before = woken(kept)
    first("b = line.collect()")
    first("(b.__enter__(), line.put('a', b'1'), line.put('b', b'2'), line.drop('a'), b.__exit__()) and None")
    assert woken(kept) == before
    first("b = line.batch()")
    first("(b.__enter__(), line.put('c', b'3'), line.put('d', b'4', (r,)), b.__exit__()) and None")
    first.kill()
    second = kept.up()
    found = second("{key: (value, len(fds)) for key, (value, fds) in records.items()}")
    del found["keeper"]
    assert found == {"b": (b"2", 0), "c": (b"3", 0), "d": (b"4", 1)}


def test_what_closes_a_descriptor_is_said_at_once(kept: World) -> None:
    """Whoever waits for the end of a pipe gets it: dropped, replaced, and by who has only heard of it."""
    first = up(kept)
    for end in ("line.drop('pipe')", "line.put('pipe', b'another')"):
        first("r, w = os.pipe()")
        first("line.put('pipe', b'', (w,))")
        first(f"({end}, os.close(w))")
        assert first("select.select([r], [], [], 10)[0] == [r] and os.read(r, 1)") == b""
    first("r, w = os.pipe()")
    first("line.put('pipe', b'', (r, w))")
    first.kill()
    second = up(kept)
    second("r, w = records['pipe'][1]")
    second("(line.drop('pipe'), os.close(w))")
    assert second("select.select([r], [], [], 10)[0] == [r] and os.read(r, 1)") == b""


def test_what_replaces_a_change_that_waits_is_said_at_once_if_that_was_to_be(kept: World) -> None:
    """It was to close a descriptor, and still is."""
    first = up(kept)
    for second in ("line.put('pipe', b'')", "line.drop('pipe')"):
        first("r, w = os.pipe()")
        first("line.put('pipe', b'', (w,))")
        first("b = line.collect()")
        first(f"(b.__enter__(), line.drop('pipe'), {second}, b.__exit__(), os.close(w)) and None")
        assert first("select.select([r], [], [], 10)[0] == [r] and os.read(r, 1)") == b""


@pytest.mark.parametrize("seed", range(4))
def test_the_order_is_that_in_which_things_were_said(kept: World, seed: int) -> None:
    """A few keys, put and dropped with descriptors and without, far more often than a ring has room for."""
    chance = random.Random(seed)  # noqa: S311 - of a test
    first = up(kept)
    first("r, w = os.pipe()")
    for _ in range(3):
        model: dict[str, tuple[int, int]] = {}
        said = []
        for number in range(6000):
            key, fds = f"k{chance.randrange(30)}", chance.random() < 0.03
            if chance.random() < 0.2:
                model.pop(key, None)
                said.append((key, -1, False))
            else:
                model[key] = number, int(fds)
                said.append((key, number, fds))
        stops = chance.random() < 0.5
        if stops:
            os.kill(kept.pid, signal.SIGSTOP)
        first("[line.drop(f'k{i}') for i in range(30)] and None")
        first.tell(
            f"[line.drop(key) if number < 0 else line.put(key, b'%d' % number * 50, (r,) if fds else ())"
            f" for key, number, fds in {said}] and os.kill(os.getpid(), 9)"
        )
        until(lambda pid=first.pid: kept.processes().get(pid) in {"Z", None})
        os.kill(kept.pid, signal.SIGCONT)
        first = kept.up()
        found = first("{key: (value, len(fds)) for key, (value, fds) in records.items() if key[0] == 'k'}")
        found.pop("keeper")
        assert found == {key: (b"%d" % number * 50, fds) for key, (number, fds) in model.items()}
        first("(line.share_ring(), sync())")
        first("r, w = os.pipe()")


def test_a_keeper_that_stands_still_is_told_the_rest_in_datagrams(kept: World) -> None:
    """When the ring is full; nobody is blocked, and nothing is lost."""
    first = up(kept)
    os.kill(kept.pid, signal.SIGSTOP)
    count = 2 * SIZE // 1000
    assert first(f"all([line.put(f'p{{i}}', bytes(1000)) for i in range({count})])") is True
    os.kill(kept.pid, signal.SIGCONT)
    first("sync()")
    first("line.put('last', b'')")
    first.kill()
    assert kept.up()("len(records)") == count + 2


def test_a_keeper_becomes_another_program_and_nothing_is_lost(kept: World) -> None:
    """Neither what was in the ring before, nor what is said after that."""
    first = up(kept)
    first("line.put('before', b'1')")
    first("line.upgrade()")
    first("line.put('meanwhile', b'2')")
    first("until(lambda: events == ['upgraded'] or refused)")
    assert first("refused") == []
    first("line.put('after', b'3')")
    first.kill()
    assert kept.up()("sorted(records)") == ["after", "before", "keeper", "meanwhile"]


def test_a_refused_upgrade_changes_nothing(tmp_path: Path) -> None:
    """The ring is used again."""
    with world() as kept:
        kept.start(program=installed(tmp_path))
        first = up(kept)
        first("line.put('before', b'1')")
        (tmp_path / "procd/keeper/table.py").write_text("nonsense!")
        first("line.upgrade()")
        first("line.put('meanwhile', b'2')")
        first("until(lambda: events or refused)")
        assert first("len(refused)") == 1
        before = woken(kept)
        first("line.put('after', b'3')")
        assert woken(kept) == before
        first.kill()
        assert kept.up()("sorted(records)") == ["after", "before", "keeper", "meanwhile"]


def test_of_two_upgrades_at_once_one_is_refused(kept: World) -> None:
    """And the other is carried out; what is said after that is not lost."""
    first = up(kept)
    first("line.put('before', b'1')")
    first("(line.upgrade(), line.upgrade())")
    first("until(lambda: refused and events)")
    first("line.put('after', b'2')")
    first.kill()
    assert kept.up()("sorted(records)") == ["after", "before", "keeper"]


@pytest.mark.parametrize(
    "noise", [b"\xff" * 100, b"\x0b\0\0\0\x01\0\0\0" + b"9", b"\x03\x01\0\0\0\0\0\0", b"\x09\0\0\0\0\0\0\0"]
)
def test_noise_in_a_ring_is_no_harm(kept: World, noise: bytes) -> None:
    """Not a message, one about rings, one with descriptors, one that would end everything."""
    first = up(kept)
    first("line.put('before', b'1')")
    first(f"line._ring.write({noise!r})")
    first.kill()
    second = kept.up()
    assert second("sorted(records)") == ["before", "keeper"]
    assert kept.descriptors() < 20
