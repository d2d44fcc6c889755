"""The keeper becomes its next program in place: nobody notices."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.keeper_world import World, installed, until, world

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kept() -> Iterator[World]:
    """A world in which a keeper can be started."""
    with world() as made:
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The keeper's program where a test may replace it."""
    return installed(tmp_path)


def started(pid: int) -> tuple[str, str]:
    """What makes a process the same: when it began; and what its program is now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[19], Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def test_records_children_and_channels_are_the_same_afterwards(kept: World) -> None:
    """The same PID, the same descriptors behind every key, no restart, and conversations go on."""
    kept.start({name: kept.scripted(name) for name in ("supervisor", "logger")}, beat=60.0)
    supervisor, logger = kept.up(), kept.up("logger")
    supervisor("pipes = [os.pipe() for _ in range(100)]")
    supervisor("[line.put(f'p{i}', bytes([i]) * i * 300, fds) for i, fds in enumerate(pipes)]")
    supervisor("identities = [[os.fstat(fd).st_ino for fd in fds] for fds in pipes]")
    expected = supervisor("identities")
    logger("line.put('mine', b'log')")
    logger("sync()")
    supervisor("sync()")
    before, descriptors = started(kept.pid), kept.descriptors()
    supervisor("line.upgrade()")
    supervisor("until(lambda: events == ['upgraded'] or refused)")
    assert supervisor("refused") == []
    after = started(kept.pid)
    assert after[0] == before[0]
    assert "resume=" in after[1]
    assert kept.descriptors() == descriptors
    for life in (supervisor, logger):
        assert life("sync()") is None
    # Twice, as every upgrade after the first is.
    supervisor("line.upgrade()")
    supervisor("until(lambda: events == ['upgraded'] * 2 or refused)")
    assert kept.descriptors() == descriptors
    supervisor.kill()
    second = kept.up()
    assert second("fields(records['keeper'][0])['starts'], fields(records['keeper'][0])['last_end']") == (
        "2",
        "was killed by SIGKILL",
    )
    assert second("[[os.fstat(fd).st_ino for fd in records[f'p{i}'][1]] for i in range(100)]") == expected
    assert second("all(records[f'p{i}'][0] == bytes([i]) * i * 300 for i in range(100))")
    assert second("len([key for key in records if key.startswith('p')])") == 100
    assert second("sorted(int(fd) for fd in os.listdir('/proc/self/fd') if int(fd) < 4)") == [0, 1, 2, 3]
    logger.kill()
    again = kept.up("logger")
    assert again("records['mine'][0]") == b"log"
    assert again("len(os.listdir('/proc/self/fd'))") == 6


def test_what_happens_meanwhile_is_not_missed(kept: World) -> None:
    """Deaths, puts and signals that fall between the two programs are handled by the second."""
    kept.start()
    supervisor = kept.up()
    supervisor("signal.signal(signal.SIGTERM, lambda n, _: signals.append(n))")
    supervisor("middle = os.fork() or (spawn(17, 0.3), os._exit(0))")
    supervisor("os.waitpid(middle, 0)")
    supervisor("line.upgrade()")
    supervisor("[line.put(f'p{i}', b'value') for i in range(100)]")
    for _ in range(20):
        # At any moment of the change: it is never lost, and never kills.
        kept.keeper.send_signal(signal.SIGTERM)
    supervisor("until(lambda: events and signals)")
    supervisor("sync()")
    assert supervisor("events, refused") == (["upgraded"], [])
    supervisor("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    supervisor.kill()
    second = kept.life()
    second("recall()")
    assert second("len([key for key in records if key.startswith('p')])") == 100
    second("until(lambda: [key for key in records if key.startswith('exit:')])")


def test_what_was_before_is_known_afterwards(kept: World, program: Path) -> None:
    """That somebody was up once, and how many there were; the next child is of the code that is there now."""
    code = program.parent.parent / "scripted.py"
    shutil.copy(kept.scripted("supervisor")[1], code)
    kept.start({"supervisor": [sys.executable, str(code), "supervisor"]}, program=program, beat=0)
    kept.up().kill()
    second = kept.up()
    new = code.read_text().replace("events = []", "events = ['of the new code']")
    code.write_text(new)
    second("line.upgrade()")
    second("until(lambda: events or refused)")
    assert second("events") == ["upgraded"]
    # Nothing is recorded, and 78 would end a keeper that had not seen anybody up.
    second.tell("os._exit(78)")
    third = kept.up()
    assert third("fields(records['keeper'][0])['starts'], fields(records['keeper'][0])['last_end']") == (
        "3",
        "exited with 78",
    )
    assert third("events") == ["of the new code"]
    assert b"beat=0" in Path(f"/proc/{kept.pid}/cmdline").read_bytes()


def test_a_signal_at_any_moment_of_the_change_arrives(kept: World) -> None:
    """Once for each, however it falls: before the file is written, after it, or between the programs."""
    kept.start()
    supervisor = kept.up()
    supervisor("signal.signal(signal.SIGHUP, lambda n, _: signals.append(n))")
    for turn in range(1, 13):
        supervisor("line.upgrade()")
        supervisor(f"time.sleep({turn} * 0.01)")
        assert kept.keeper is not None
        kept.keeper.send_signal(signal.SIGHUP)
        supervisor(f"until(lambda: len(events) == {turn} and len(signals) == {turn})")
    assert supervisor("refused") == []


def test_a_program_that_cannot_take_over_is_refused(kept: World, program: Path) -> None:
    """It was tried in another process first; the old program goes on, and knows everything."""
    kept.start(program=program)
    supervisor = kept.up()
    supervisor("line.put('key', b'value', os.pipe())")
    (program.parent / "keeper.py").write_text("this is no Python\n")
    supervisor("line.upgrade()")
    supervisor("until(lambda: refused or events)")
    [(key, reason)] = supervisor("refused")
    assert (key, reason) == ("upgrade", "the new keeper exited with 1")
    assert "resume=" not in started(kept.pid)[1]
    assert supervisor("sync()") is None
    supervisor.kill()
    second = kept.up()
    assert second("len(records['key'][1])") == 2
    until(lambda: "Z" not in kept.processes().values())


def test_a_program_that_does_not_know_our_form_is_refused(kept: World, program: Path) -> None:
    """The file says in which form it is."""
    kept.start(program=program)
    supervisor = kept.up()
    newer = program.parent / "succession.py"
    newer.write_text(newer.read_text().replace("FORM = 1", "FORM = 3"))
    supervisor("line.upgrade()")
    supervisor("until(lambda: refused or events)")
    assert supervisor("refused") == [("upgrade", "the new keeper exited with 1")]
    kept.until_said("the earlier keeper wrote form 1, this one reads 3")


def test_a_program_that_hangs_is_not_waited_for(kept: World, program: Path) -> None:
    """It is killed, and refused; a second try meanwhile is, too."""
    kept.start(program=program, start=1.5)
    supervisor = kept.up()
    (program.parent / "pace.py").write_text("while True: pass\n")
    supervisor("line.upgrade()")
    supervisor("line.upgrade()")
    supervisor("until(lambda: len(refused) == 2)")
    assert supervisor("refused") == [
        ("upgrade", "it is being tried already"),
        ("upgrade", "the new keeper was killed by SIGKILL"),
    ]
    until(lambda: len(os.listdir(f"/proc/{kept.pid}/fd")) <= 12)  # noqa: PTH208 - only how many
