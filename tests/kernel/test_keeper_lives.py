"""How the keeper keeps its children running: restarts, the watchdog, signals, and the ends of orphans."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from procd.keeper.messages import EXIT
from tests.kernel.children import BOUND_S
from tests.kernel.keeper_world import World, until, world

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A keeper that loses its patience fast.
HASTY = {"beat": 0.05, "patience": 1.0, "grace": 0.5}


@pytest.fixture
def kept() -> Iterator[World]:
    """A world in which a keeper can be started."""
    with world() as made:
        yield made


# Restarts


def test_who_dies_is_started_again_at_once_and_then_with_growing_waits(kept: World) -> None:
    """Young deaths in a row wait 0.1 s, 0.2 s … up to a bound; a keeper does not give up."""
    kept.start({"supervisor": ["sh", "-c", "exit 3"]})
    kept.until_said("0.8 s")
    waits = re.findall(
        r"supervisor exited with 3 \((\d+) starts so far\); starts it again(?: in ([\d.]+) s)?", kept.said()
    )
    assert waits[:5] == [("1", ""), ("2", "0.1"), ("3", "0.2"), ("4", "0.4"), ("5", "0.8")]


def test_a_program_that_is_not_there_is_said_and_ends_a_first_start(kept: World) -> None:
    """There is nothing that another try could find."""
    kept.start({"supervisor": ["/nowhere/procd"]})
    assert kept.ended() == 127
    kept.close()
    assert "cannot start /nowhere/procd: " in kept.said()


@pytest.mark.parametrize("status", [64, 71, 75, 78])
def test_a_refusal_of_the_first_supervisor_is_the_keepers_own(kept: World, status: int) -> None:
    """Invalid configuration, a held runtime directory (sysexits.h): whoever started us is to know."""
    kept.start({"supervisor": ["sh", "-c", f"exit {status}"], "logger": ["sleep", "1000"]}, grace=0.2)
    assert kept.ended() == status


@pytest.mark.parametrize("status", [78, 71, 1, -signal.SIGSEGV])
def test_later_refusals_are_not_the_end(kept: World, status: int) -> None:
    """Programs run: a configuration that has become invalid, a full disk, must not cost them; however often."""
    kept.start(longest=0.2)
    kept.up().kill()
    for _ in range(6):
        life = kept.life()
        life.tell(f"os._exit({status})" if status >= 0 else f"os.kill(os.getpid(), {-status})")
    last = kept.life()
    last("recall()")
    said = last("fields(records['keeper'][0])")
    assert said["last_end"] == (f"exited with {status}" if status >= 0 else "was killed by SIGSEGV")
    assert said["starts"] == "8"
    kept.until_said(f"supervisor {said['last_end']} (7 starts so far); starts it again in 0.2 s")


def test_a_refusal_is_not_the_end_as_long_as_anything_is_recorded(kept: World) -> None:
    """Nobody was up here; but what a supervisor had recorded, perhaps of another keeper, may be a program."""
    kept.start({name: kept.scripted(name) for name in ("supervisor", "logger")})
    first = kept.life()
    first("line.put('life:web', b'')")
    first.tell("os._exit(71)")
    second = kept.life()
    second("recall()")
    assert second("sorted(records)") == ["child:logger", "keeper", "life:web"]
    second("line.drop('life:web')")
    second.tell("os._exit(71)")
    assert kept.ended() == 71


def test_a_death_by_signal_is_never_a_refusal(kept: World) -> None:
    """Also the first supervisor is started again when it crashes."""
    kept.start()
    kept.life().kill(signal.SIGSEGV)
    assert kept.up()("fields(records['keeper'][0])['starts']") == "2"


def test_a_child_finds_what_the_keeper_was_started_with(kept: World) -> None:
    """Descriptors 0 to 3, its session, the limits, default signals; nothing of the keeper's own."""
    kept.environ.update(NOTIFY_SOCKET="/nowhere", WATCHDOG_USEC="1000000")
    kept.start(
        {"supervisor": kept.scripted("supervisor"), "logger": ["sleep", "1000"]},
        before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (777, 1777)),
    )
    first = kept.up()
    first("line.put('pipe', b'', os.pipe())")
    first("sync()")
    first.kill()
    second = kept.life()
    # Its own connection to the test is the fourth.
    assert second("sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:6]") == [0, 1, 2, 3, 4, 5]
    assert second("len(os.listdir('/proc/self/fd'))") == 6
    assert second("resource.getrlimit(resource.RLIMIT_NOFILE)") == (777, 1777)
    assert second("os.getsid(0) == os.getpid()") is True
    assert (
        second("[name for name in ('NOTIFY_SOCKET', 'WATCHDOG_USEC', 'LISTEN_FDS') if name in os.environ]")
        == []
    )
    status = Path(f"/proc/{logger_of(kept)}/status").read_text()
    for name in ("SigBlk", "SigIgn", "SigCgt"):
        assert re.search(rf"{name}:\t0+\n", status), status


def logger_of(kept: World) -> int:
    """The PID of a logger that does not talk."""
    return next(pid for pid in kept.processes() if b"1000" in Path(f"/proc/{pid}/cmdline").read_bytes()[:12])


# The watchdog


def test_who_is_stopped_is_killed_and_replaced(kept: World) -> None:
    """A SIGSTOP is not answered; SIGABRT waits, SIGKILL does not."""
    kept.start({name: kept.scripted(name) for name in ("supervisor", "logger")}, **HASTY)
    for name in ("supervisor", "logger"):
        life = kept.up(name)
        life.kill(signal.SIGSTOP)
        assert kept.up(name).pid != life.pid
        kept.until_said(f"{name} (PID {life.pid}) does not answer: sends it SIGABRT")
        kept.until_said(f"{name} (PID {life.pid}) does not answer: sends it SIGKILL")
        kept.until_said(f"{name} was killed by SIGKILL")


def test_who_hangs_leaves_a_traceback(kept: World) -> None:
    """SIGABRT comes first, and faulthandler says where it was."""
    kept.start(**HASTY)
    life = kept.up()
    life("exec('def hangs_here():\\n while True: pass')")
    life.tell("hangs_here()")
    kept.up()
    said = kept.said()
    assert "Fatal Python error: Aborted" in said
    assert "in hangs_here" in said
    assert "supervisor was killed by SIGABRT" in said


def test_a_start_may_take_longer_than_an_answer(kept: World) -> None:
    """Until it says that it is up it has another bound; and that one holds, too."""
    kept.start({name: kept.scripted(name) for name in ("supervisor", "logger")}, **HASTY, start=4.0)
    slow = kept.life()
    hanging = kept.up("logger")
    hanging.kill(signal.SIGSTOP)
    kept.until_said(f"logger (PID {hanging.pid}) does not answer")
    assert f"supervisor (PID {slow.pid})" not in kept.said()
    kept.until_said(f"supervisor (PID {slow.pid}) does not answer")
    assert kept.life().pid != slow.pid


def test_who_closes_its_channel_is_replaced(kept: World) -> None:
    """Nobody can ask it anything any more."""
    kept.start(**HASTY)
    life = kept.up()
    life("line.close()")
    assert kept.up().pid != life.pid


def test_nobody_is_asked_when_there_is_no_beat(kept: World) -> None:
    """Who debugs a supervisor may stop it for as long as that takes."""
    kept.start(
        {name: kept.scripted(name) for name in ("supervisor", "logger")}, beat=0, patience=0.2, grace=0.1
    )
    supervisor, logger = kept.up(), kept.up("logger")
    supervisor.kill(signal.SIGSTOP)
    at = os.times().elapsed
    until(lambda: os.times().elapsed > at + 1.0)
    supervisor.kill(signal.SIGCONT)
    assert supervisor("1 + 1") == 2
    assert logger("1 + 1") == 2
    assert "does not answer" not in kept.said()


def test_a_keeper_that_was_stopped_itself_blames_nobody(kept: World) -> None:
    """Everybody's time stood still when the container was frozen."""
    kept.start(beat=0.02, patience=3.0)
    life = kept.up()
    life.kill(signal.SIGSTOP)
    os.kill(kept.pid, signal.SIGSTOP)
    started = os.times().elapsed
    until(lambda: os.times().elapsed > started + 4.0)
    os.kill(kept.pid, signal.SIGCONT)
    kept.until_said("was not running for")
    life.kill(signal.SIGCONT)
    assert life("1 + 1") == 2
    life("sync()")
    assert "does not answer" not in kept.said()


@pytest.mark.parametrize("beat", [0, 3600])
def test_idle_costs_nothing(kept: World, beat: int) -> None:
    """Between two beats the keeper does not wake up."""
    kept.start(beat=beat)
    kept.up()

    def switches() -> int:
        status = Path(f"/proc/{kept.pid}/status").read_text()
        return sum(int(each) for each in re.findall(r"ctxt_switches:\s+(\d+)", status))

    seen = [0, 1]

    def at_rest() -> bool:
        seen.append(switches())
        return seen[-1] == seen[-2]

    until(at_rest)
    at = os.times().elapsed
    until(lambda: os.times().elapsed > at + 1.0)
    assert switches() <= seen[-1] + 1  # one that was not voluntary


# The ends of orphans


def test_no_exit_status_is_forgotten(kept: World) -> None:
    """100 children with known ends, whose parent is killed while they die: the next one is told of each."""
    kept.start()
    first = kept.up()
    ends = [*range(94), -9, -15, -6, -11, -1, -10]
    first(f"pids = [spawn(end, delay) for delay, end in ((i % 5 * 0.05, end) for i, end in enumerate({ends}))]")
    pids = first("pids")
    expected = dict(zip(pids, ends, strict=True))
    first.kill()
    second = kept.up()
    found: dict[int, tuple[int, int]] = {}

    def all_found() -> bool:
        second("sync()")
        kept_exits = second("[value for key, (value, fds) in records.items() if key.startswith('exit:')]")
        found.update((exit_[0], exit_[1:]) for exit_ in map(EXIT.unpack, kept_exits))
        return set(found) >= set(expected)

    until(all_found)
    for pid, end in expected.items():
        assert os.waitstatus_to_exitcode(found[pid][0]) == end
        assert found[pid][2] > 0, "when it had started"
    # They are told again until somebody has taken them.
    second("taken = [key for key in records if key.startswith('exit:')]")
    second("[line.drop(key) for key in taken[1:]]")
    second.kill()
    third = kept.up()
    assert len(third("[key for key in records if key.startswith('exit:')]")) == 1
    assert "Z" not in kept.processes().values()


# Signals


def test_signals_are_passed_on_when_somebody_can_take_them(kept: World) -> None:
    """One that comes before the supervisor has handlers waits; SIGQUIT is a stop; others do no harm."""
    kept.start()
    life = kept.life()
    kept.keeper.send_signal(signal.SIGHUP)
    kept.keeper.send_signal(signal.SIGUSR1)
    kept.until_said("ignores SIGUSR1")
    life(
        "[signal.signal(n, lambda n, _: signals.append(n)) "
        "for n in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)] and None"
    )
    assert life("signals") == []
    life("line.up()")
    life("until(lambda: signals == [signal.SIGHUP])")
    for number, expected in ((signal.SIGTERM, 15), (signal.SIGINT, 2), (signal.SIGQUIT, 15)):
        life("signals.clear()")
        kept.keeper.send_signal(number)
        life(f"until(lambda: signals == [{expected}])")


def test_a_stop_is_asked_of_the_next_supervisor_too(kept: World) -> None:
    """The one that was asked died; what it had not stopped is the next one's to stop."""
    kept.start()
    first = kept.up()
    first("signal.signal(signal.SIGTERM, lambda n, _: os.kill(os.getpid(), 9))")
    kept.keeper.send_signal(signal.SIGTERM)
    second = kept.life()
    second("signal.signal(signal.SIGTERM, lambda n, _: signals.append(n))")
    second("line.up()")
    second("until(lambda: signals)")
    second("line.finish(0)")
    second.tell("os._exit(0)")
    assert kept.ended() == 0


def test_a_stop_that_no_supervisor_can_carry_out_is_carried_out_by_the_keeper(kept: World) -> None:
    """Programs are asked to end, then killed."""
    kept.start(grace=0.5)
    first = kept.up()
    program = first("spawn(0, 1000)")
    kept.keeper.send_signal(signal.SIGTERM)
    for _ in range(2):
        kept.life().kill()
    assert kept.ended() == 1
    assert program not in kept.processes()
    kept.until_said("ends everything")


# systemd


def test_the_service_manager_hears_the_supervisor_and_the_keeper(kept: World, tmp_path: Path) -> None:
    """What the supervisor says is passed on; WATCHDOG=1 is the keeper's, and so is the word about restarts."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(BOUND_S)
    manager.bind(str(tmp_path / "notify"))
    kept.environ.update(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
    kept.start(patience=1.0, grace=2.0)
    heard: list[bytes] = []

    def until_heard(text: bytes) -> None:
        while not heard or text not in heard[-1]:
            heard.append(manager.recv(4096))

    with manager:
        first = kept.up()
        assert first("fields(records['keeper'][0])['notify']") == "1"
        first("line.notify('READY=1\\nSTATUS=fine')")
        until_heard(b"READY=1\nSTATUS=fine")
        until_heard(b"WATCHDOG=1")
        until_heard(b"WATCHDOG=1")
        first.kill()
        until_heard(b"STATUS=supervisor was killed by SIGKILL (1 starts so far); starts it again")
        # It hangs: that is the keeper's to mend, and systemd shall not end the keeper over it.
        second = kept.up()
        second.kill(signal.SIGSTOP)
        kept.until_said("sends it SIGABRT")
        heard.clear()
        until_heard(b"STATUS=supervisor was killed by SIGKILL (2 starts so far); starts it again")
        assert set(heard[:-1]) == {b"WATCHDOG=1"}


def test_the_service_manager_does_not_wait_for_the_logger(kept: World, tmp_path: Path) -> None:
    """It hangs in front of a frozen disk: that is no reason to end everything."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(BOUND_S)
    manager.bind(str(tmp_path / "notify"))
    kept.environ.update(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
    # Between SIGABRT and SIGKILL it is as if it could not die.
    kept.start({n: kept.scripted(n) for n in ("supervisor", "logger")}, patience=1.0, grace=3600)
    with manager:
        kept.up()
        logger = kept.up("logger")
        logger.kill(signal.SIGSTOP)
        kept.until_said(f"logger (PID {logger.pid}) does not answer: sends it SIGABRT")
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                manager.recv(4096)
        manager.settimeout(BOUND_S)
        assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        logger.kill(signal.SIGCONT)


def test_sockets_of_systemd_are_records_of_the_supervisor(kept: World) -> None:
    """LISTEN_FDS is for the process that it names, which is the keeper."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        kept.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="web")
        # The PID is known after the fork only.
        prepare = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.close(int(sys.argv[1]))"
        become = "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
        kept.start(prefix=[sys.executable, "-I", "-c", f"{prepare}; {become}", str(fd)], pass_fds=(fd,))
        first = kept.up()
        assert first("sorted(records)") == ["activated:web:0", "keeper"]
        first("os.write(records['activated:web:0'][1][0], b'hello')")
        assert ours.recv(100) == b"hello"


# What must not make it wait


def test_a_standard_error_that_nobody_reads_makes_nobody_wait(kept: World) -> None:
    """A pipe that is full takes no line; supervision goes on."""
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write_end, b"x" * 65536)
        os.set_blocking(write_end, True)
        kept.start(stderr=write_end)
        kept.up().kill()
        kept.up().kill()
        assert kept.up()("1 + 1") == 2
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_standard_error_that_is_a_file_is_written_by_somebody_else(kept: World, tmp_path: Path) -> None:
    """A file system may stand still; whoever waits for it is not the keeper.  The line arrives."""
    with (tmp_path / "log").open("wb") as file:
        kept.start(stderr=file.fileno())
        kept.up().kill()
        kept.up()
        until(lambda: "supervisor was killed by SIGKILL" in (tmp_path / "log").read_text())
        until(lambda: "Z" not in kept.processes().values())


def test_the_keeper_imports_little() -> None:
    """Its memory is small because it is so; ctypes, asyncio, typing and the like would each be felt."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import procd.keeper.__main__; print(*sys.modules)"
    root = str(Path(__file__).parents[2])
    modules = subprocess.check_output([sys.executable, "-I", "-S", "-c", code, root], text=True).split()
    heavy = {
        "asyncio",
        "ctypes",
        "dataclasses",
        "typing",
        "re",
        "json",
        "logging",
        "subprocess",
        "pathlib",
        "ast",
    }
    assert "procd.keeper.keeper" in modules
    assert not heavy & {*modules}
    assert {name for name in modules if name.startswith("procd.")} == {
        "procd.keeper",
        *(
            f"procd.keeper.{name}"
            for name in (
                "__main__",
                "child",
                "keeper",
                "messages",
                "orphans",
                "outside",
                "pace",
                "requests",
                "ring",
            )
        ),
        "procd.keeper.succession",
        "procd.keeper.table",
    }
