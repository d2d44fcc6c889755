"""systemd/procd.service under a real systemd: start, reload, restart, stop, watchdog, and what it shows."""

from __future__ import annotations

import json
import os
import shlex
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system import machine
from tests.system.daemon import PROCCTL, PROCD, ROOT, marked, python, until
from tests.system.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(bool(machine.missing()), reason=machine.missing())

MARK = f"systemd-{os.getpid()}"

HEAD = f"""
[defaults]
min_uptime = "50ms"
environment = {{ PROCD_TEST_MARK = "{MARK}" }}

[programs.quiet]
command = ["sleep", "infinity"]
"""

#: One that ignores SIGTERM, and one that leaves its session.
STUBBORN = f"""
[programs.deaf]
command = "trap '' TERM; exec sleep infinity"
shell = true
stop_timeout = "3s"

[programs.daemon]
command = {python("daemonize.py", "keep", "stay")}
stdin = "pipe"
"""


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    """A systemd that knows procd.service, with the commands of this installation in it."""
    made = Machine()
    try:
        made.boot()
        made.write("/run/systemd/system/procd.service", (ROOT / "systemd/procd.service").read_text())
        made.write(
            "/run/systemd/system/procd.service.d/installation.conf",
            f"""
            [Service]
            Environment=PROCD_CONFIG=/run/procd-test/procd.toml
            ExecStart=
            ExecStart={shlex.join(PROCD)} run
            ExecReload=
            ExecReload={shlex.join(PROCCTL)} reload
            """,
        )
        yield made
    finally:
        made.end()


@pytest.fixture
def system(booted: Machine) -> Iterator[Machine]:
    """The same, with nothing started, the configuration as it was, and no other drop-in."""
    configure(booted, HEAD)
    yield booted
    booted.run("systemctl", "kill", "--signal=KILL", "procd")
    booted.run("systemctl", "stop", "procd")
    booted.run("systemctl", "reset-failed", "procd")
    until(lambda: not marked(MARK), "everything to be gone")
    booted.run("rm", "-f", "/run/systemd/system/procd.service.d/test.conf")
    booted.does("systemctl", "daemon-reload")


def configure(system: Machine, text: str) -> None:
    """Write the configuration of procd."""
    system.write("/run/procd-test/procd.toml", text)


def drop_in(system: Machine, lines: str) -> None:
    """Change the unit, as `systemctl edit` does."""
    system.write("/run/systemd/system/procd.service.d/test.conf", f"[Service]\n{lines}\n")
    system.does("systemctl", "daemon-reload")


def procctl(system: Machine, *words: str) -> str:
    """Run procctl inside, against the default socket."""
    return system.does(*PROCCTL, *words)


def pid(system: Machine, program: str) -> int:
    """The PID of a program that runs, as the machine counts."""
    procctl(system, "wait", program, "--for", "running", "--timeout", "60s")
    number = json.loads(procctl(system, "--json", "status", program))["programs"][0]["pid"]
    assert isinstance(number, int)
    return number


def supervisor(system: Machine) -> int:
    """The PID of the supervisor, as the machine counts; 0 while there is none."""
    main = system.property("procd", "MainPID")
    done = system.run("pgrep", "--parent", main, "--full", "procd/__main__.py supervise")
    return int(done.out or "0")


def until_another_main(system: Machine, before: str) -> None:
    """Wait until systemd has another keeper, and that a supervisor that is ready."""

    def changed() -> bool:
        now = system.property("procd", "MainPID"), system.property("procd", "ActiveState")
        return now[0] not in {"0", before} and now[1] == "active"

    until(changed, "another procd")


def journal(system: Machine) -> str:
    """What the unit has said, and what systemd said of it."""
    return system.does("journalctl", "--unit=procd", "--output=cat")


def until_status(system: Machine, text: str) -> None:
    """Wait until systemd has been told a status."""
    until(lambda: system.property("procd", "StatusText") == text, f"STATUS={text}")


def test_systemd_finds_no_fault_with_the_unit(system: Machine) -> None:
    """No unknown key, nothing that this version ignores."""
    done = system.run("systemd-analyze", "verify", "/run/systemd/system/procd.service")
    assert (done.code, done.err) == (0, "")


def test_start_returns_when_procd_is_ready_and_status_shows_how_it_is(system: Machine) -> None:
    """At once procctl works, without -s; the line under Status: counts the programs by state."""
    system.does("systemctl", "start", "procd")
    procctl(system, "status")
    until_status(system, "1 RUNNING")
    shown = system.does("systemctl", "status", "procd")
    assert "Active: active (running)" in shown
    assert 'Status: "1 RUNNING"' in shown
    procctl(system, "stop", "quiet")
    until_status(system, "1 STOPPED")


def test_its_log_is_in_the_journal(system: Machine) -> None:
    """With a program's transitions; a program's output is in its own log instead."""
    system.does("systemctl", "start", "procd")
    until_status(system, "1 RUNNING")
    until(
        lambda: "program runs" in journal(system),
        "the line in the journal",
    )
    assert (system.root / "var/log/procd/quiet.log").exists()


def test_output_that_goes_to_the_journal_is_found_under_the_name_of_its_program(system: Machine) -> None:
    """With its own PID, the unit, and the priority that a line asks for."""
    script = "echo '<3>this went wrong'; echo hello from stderr >&2; exec sleep 1000"
    configure(
        system,
        f"{HEAD}\n[programs.speaker]\nshell = true\nstdout = 'journal'\ncommand = {json.dumps(script)}\n",
    )
    system.does("systemctl", "start", "procd")
    number = pid(system, "speaker")

    def lines() -> dict[str, dict[str, str]]:
        said = system.does("journalctl", "--identifier=speaker", "--output=json").splitlines()
        return {entry["MESSAGE"]: entry for entry in map(json.loads, said)}

    until(lambda: len(lines()) == 2, "both lines in the journal")
    wrong, other = lines()["this went wrong"], lines()["hello from stderr"]
    assert (wrong["PRIORITY"], other["PRIORITY"]) == ("3", "6")
    assert wrong["_PID"] == other["_PID"] == str(number)
    assert wrong["_SYSTEMD_UNIT"] == "procd.service"


def test_reload_applies_the_difference(system: Machine) -> None:
    """It returns when it is done; the daemon and the other programs keep their processes."""
    system.does("systemctl", "start", "procd")
    before = (system.property("procd", "MainPID"), pid(system, "quiet"))
    configure(system, HEAD + "[programs.more]\ncommand = ['sleep', 'infinity']\n")
    system.does("systemctl", "reload", "procd")
    until_status(system, "2 RUNNING")
    assert (system.property("procd", "MainPID"), pid(system, "quiet")) == before


def test_a_reload_of_a_bad_configuration_fails_and_hurts_nobody(system: Machine) -> None:
    """`systemctl reload` says so, and the journal why; procd is still active."""
    system.does("systemctl", "start", "procd")
    before = pid(system, "quiet")
    configure(system, HEAD + "colour = 'blue'\n")
    assert system.run("systemctl", "reload", "procd").code == 1
    assert system.property("procd", "ActiveState") == "active"
    assert pid(system, "quiet") == before
    until(
        lambda: "programs.quiet.colour: " in journal(system),
        "the reason in the journal",
    )


def test_a_signal_reloads_too(system: Machine) -> None:
    """`systemctl kill --signal=HUP` is what some scripts do."""
    system.does("systemctl", "start", "procd")
    configure(system, HEAD + "[programs.more]\ncommand = ['sleep', 'infinity']\n")
    system.does("systemctl", "kill", "--signal=HUP", "--kill-whom=main", "procd")
    until_status(system, "2 RUNNING")


def test_restart_gives_another_daemon_with_its_programs(system: Machine) -> None:
    """Nothing of the first is left."""
    system.does("systemctl", "start", "procd")
    before = (system.property("procd", "MainPID"), pid(system, "quiet"))
    system.does("systemctl", "restart", "procd")
    after = (system.property("procd", "MainPID"), pid(system, "quiet"))
    assert not set(before) & set(after)
    assert len(marked(MARK)) == 1


def test_stop_empties_everything_and_is_a_success(system: Machine) -> None:
    """It stops its programs itself, within their stop_timeout, although that is longer than systemd's."""
    drop_in(system, "TimeoutStopSec=1")
    configure(system, HEAD + STUBBORN)
    system.does("systemctl", "start", "procd")
    until_status(system, "3 RUNNING")
    until(lambda: len(marked(MARK)) == 4, "the daemon of a program")
    system.does("systemctl", "stop", "procd")
    assert marked(MARK) == {}
    assert (system.property("procd", "ActiveState"), system.property("procd", "Result")) == (
        "inactive",
        "success",
    )
    assert not (system.root / "run/procd").exists()


def test_a_stop_that_takes_too_long_leaves_nothing_either(system: Machine) -> None:
    """The supervisor is frozen and asks for no more time: systemd kills its way through, as the unit says."""
    drop_in(system, "TimeoutStopSec=1")
    configure(system, HEAD + STUBBORN)
    system.does("systemctl", "start", "procd")
    until_status(system, "3 RUNNING")
    until(lambda: len(marked(MARK)) == 4, "the daemon of a program")
    system.does("kill", "-STOP", str(supervisor(system)))
    system.does("systemctl", "stop", "procd")
    until(lambda: not marked(MARK), "what was killed to be gone")
    assert (system.property("procd", "ActiveState"), system.property("procd", "Result")) == (
        "failed",
        "timeout",
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_supervisor_that_dies_is_nothing_that_systemd_notices(system: Machine, number: int) -> None:
    """Another one goes on with the same programs, and speaks to systemd as the first did."""
    configure(system, HEAD + STUBBORN)
    system.does("systemctl", "start", "procd")
    until_status(system, "3 RUNNING")
    before, main, programs = supervisor(system), system.property("procd", "MainPID"), set(marked(MARK))
    system.does("kill", f"-{number}", str(before))
    until(lambda: supervisor(system) not in {0, before}, "another supervisor")
    procctl(system, "status")
    assert set(marked(MARK)) == programs
    procctl(system, "stop", "quiet")
    until_status(system, "1 STOPPED, 2 RUNNING")
    assert (system.property("procd", "MainPID"), system.property("procd", "NRestarts")) == (main, "0")


def test_a_supervisor_that_hangs_is_replaced_within_the_same_unit(system: Machine) -> None:
    """By the keeper, which is well meanwhile: the watchdog of systemd has nothing to say."""
    drop_in(system, "WatchdogSec=5\nEnvironment='PROCD_KEEPER_PACE=beat=0.5 patience=1 grace=0.5'")
    system.does("systemctl", "start", "procd")
    until_status(system, "1 RUNNING")
    before, main, programs = supervisor(system), system.property("procd", "MainPID"), set(marked(MARK))
    system.does("kill", "-STOP", str(before))
    until(lambda: supervisor(system) not in {0, before}, "another supervisor")
    until_status(system, "1 RUNNING")
    assert set(marked(MARK)) == programs
    assert (system.property("procd", "MainPID"), system.property("procd", "NRestarts")) == (main, "0")
    assert f"supervisor (PID {before}) does not answer" in journal(system)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_keeper_that_dies_is_started_again_and_its_programs_go_on(system: Machine, number: int) -> None:
    """The next one takes over from the supervisor; a stop empties everything then, too."""
    configure(system, HEAD + STUBBORN)
    system.does("systemctl", "start", "procd")
    until_status(system, "3 RUNNING")
    before, programs = system.property("procd", "MainPID"), set(marked(MARK))
    system.does("systemctl", "kill", f"--signal={number}", "--kill-whom=main", "procd")
    until_another_main(system, before)
    procctl(system, "status")
    assert set(marked(MARK)) == programs
    assert system.property("procd", "NRestarts") == "1"
    system.does("systemctl", "stop", "procd")
    assert marked(MARK) == {}
    assert system.property("procd", "Result") == "success"
    assert not (system.root / "run/procd").exists()


def test_when_nobody_of_procd_is_left_no_program_runs_twice(system: Machine) -> None:
    """There is nobody to take over from; what runs is killed before it is started again."""
    configure(system, HEAD + STUBBORN)
    system.does("systemctl", "start", "procd")
    until_status(system, "3 RUNNING")
    until(lambda: len(marked(MARK)) == 4, "the daemon of a program")
    before, programs = system.property("procd", "MainPID"), set(marked(MARK))
    system.does("kill", "-KILL", before, str(supervisor(system)))
    until_another_main(system, before)
    until_status(system, "3 RUNNING")
    until(lambda: len(marked(MARK)) == 4, "the daemon of a program")
    assert not programs & set(marked(MARK))


def test_a_stop_finds_what_hid_while_there_was_no_keeper(system: Machine) -> None:
    """A daemon with nothing of its program's environment, whose ancestors are dead: its cgroup tells."""
    command = python("daemonize.py", "clean", "stay")
    configure(system, f"{HEAD}\n[programs.hides]\ncommand = {command}\nstdin = 'pipe'\n")
    system.does("systemctl", "start", "procd")
    until_status(system, "2 RUNNING")
    log = system.root / "var/log/procd/hides.log"
    hidden = until(lambda: log.exists() and log.read_text().strip(), "the PID of the daemon")
    before = system.property("procd", "MainPID")
    system.does("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "procd")
    until_another_main(system, before)
    system.does("systemctl", "stop", "procd")
    until(lambda: system.run("kill", "-0", hidden).code != 0, "the daemon to be gone")
    assert system.property("procd", "Result") == "success"


def test_restart_keeps_the_programs_where_a_drop_in_says_so(system: Machine) -> None:
    """Another keeper, supervisor and configuration; the same programs, as often as one likes."""
    drop_in(system, "RestartKillSignal=SIGKILL")
    configure(system, HEAD + STUBBORN)
    system.does("systemctl", "start", "procd")
    until_status(system, "3 RUNNING")
    programs = set(marked(MARK))
    for number in range(3):
        before = system.property("procd", "MainPID"), supervisor(system)
        configure(system, HEAD + STUBBORN + f"[programs.new{number}]\ncommand = ['sleep', 'infinity']\n")
        system.does("systemctl", "restart", "procd")
        after = system.property("procd", "MainPID"), supervisor(system)
        assert not set(before) & set(after)
        pid(system, f"new{number}")
        assert programs < set(marked(MARK))
        until_status(system, "4 RUNNING")
    system.does("systemctl", "stop", "procd")
    assert marked(MARK) == {}
    assert system.property("procd", "Result") == "success"


def test_the_watchdog_ends_a_keeper_that_hangs_and_its_programs_go_on(system: Machine) -> None:
    """It is frozen; systemd notices, aborts it, and starts the next."""
    drop_in(system, "WatchdogSec=1")
    system.does("systemctl", "start", "procd")
    until_status(system, "1 RUNNING")
    before, programs = system.property("procd", "MainPID"), set(marked(MARK))
    system.does("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "procd")
    until_another_main(system, before)
    procctl(system, "status")
    assert set(marked(MARK)) == programs
    assert "Watchdog timeout" in journal(system)


def test_the_watchdog_leaves_a_daemon_alone_that_only_waits(system: Machine) -> None:
    """Three intervals long."""
    drop_in(system, "WatchdogSec=200ms")
    system.does("systemctl", "start", "procd")
    before = system.property("procd", "MainPID")
    assert system.run(*PROCCTL, "--timeout", "600ms", "wait", "quiet", "--for", "stopped").code == 7
    assert (system.property("procd", "MainPID"), system.property("procd", "NRestarts")) == (before, "0")


def test_a_bad_configuration_is_not_tried_again(system: Machine) -> None:
    """`systemctl start` fails with the reason in the journal, once."""
    configure(system, "[programs.bad]\ncommand = ['/no/such/program']\n")
    assert system.run("systemctl", "start", "procd").code == 1
    assert system.property("procd", "ExecMainStatus") == "78"
    assert (system.property("procd", "ActiveState"), system.property("procd", "NRestarts")) == ("failed", "0")
    assert "/no/such/program does not exist" in journal(system)


def test_a_program_gets_the_limits_and_none_of_the_managers_variables(system: Machine) -> None:
    """The soft limit that select(2) allows; and its own user, all of it."""
    configure(system, HEAD + "[programs.other]\ncommand = ['sleep', 'infinity']\nuser = 'nobody'\n")
    system.does("systemctl", "start", "procd")
    place = f"/proc/{pid(system, 'other')}"
    limits = system.does("cat", f"{place}/limits").splitlines()
    assert next(line.split() for line in limits if "open files" in line)[3] == "1024"
    environment = system.does("cat", f"{place}/environ").split("\0")
    names = {entry.partition("=")[0] for entry in environment}
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"}
    status = dict(
        line.split(":\t", 1) for line in system.does("cat", f"{place}/status").splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == ["65534"] * 4
    assert int(status["CapEff"], 16) == 0


def test_a_program_that_runs_out_of_memory_does_not_take_the_others_with_it(system: Machine) -> None:
    """The default of systemd would stop all of it."""
    assert system.property("procd", "OOMPolicy") == "continue"
    assert system.property("procd", "TasksMax") == "infinity"


def test_the_keeper_is_the_last_that_the_oom_killer_takes(system: Machine) -> None:
    """The keeper alone: supervisor and programs have what the unit says, and a new supervisor has it, too."""
    drop_in(system, "OOMScoreAdjust=10")
    system.does("systemctl", "start", "procd")

    def score(number: int | str) -> int:
        return int(system.does("cat", f"/proc/{number}/oom_score_adj"))

    # Whoever runs the tests may lack the right (CAP_SYS_RESOURCE); then the keeper is as the others.
    may = system.run("sh", "-c", "echo -900 > /proc/self/oom_score_adj").code == 0
    first = supervisor(system)
    assert score(system.property("procd", "MainPID")) == (-900 if may else 10)
    assert (score(first), score(pid(system, "quiet"))) == (10, 10)
    system.does("kill", "-KILL", str(first))
    until(lambda: supervisor(system) not in {0, first}, "another supervisor")
    procctl(system, "restart", "quiet")
    assert (score(supervisor(system)), score(pid(system, "quiet"))) == (10, 10)


def test_a_socket_of_systemd_outlives_the_supervisor_and_the_unit(system: Machine) -> None:
    """Whoever connects first starts procd; the keeper holds the socket for the next supervisor."""
    system.write(
        "/run/systemd/system/procd.socket",
        """
        [Socket]
        ListenStream=/run/procd/procd.sock
        SocketMode=0600
        FileDescriptorName=control
        Service=procd.service
        """,
    )
    system.write(
        "/run/systemd/system/procd.service.d/test.conf",
        "[Unit]\nRequires=procd.socket\nAfter=procd.socket\n[Service]\nRuntimeDirectoryPreserve=yes\n",
    )
    system.does("systemctl", "daemon-reload")
    system.does("systemctl", "start", "procd.socket")
    try:
        first = pid(system, "quiet")
        before, inode = supervisor(system), (system.root / "run/procd/procd.sock").stat().st_ino
        system.does("kill", "-KILL", str(before))
        procctl(system, "status")
        assert supervisor(system) not in {0, before}
        assert pid(system, "quiet") == first
        system.does("systemctl", "restart", "procd")
        assert pid(system, "quiet") != first
        assert (system.root / "run/procd/procd.sock").stat().st_ino == inode
    finally:
        system.does("systemctl", "stop", "procd.socket", "procd.service")
        system.does("rm", "/run/systemd/system/procd.socket")


def test_the_cgroup_is_procds_to_divide(system: Machine) -> None:
    """Without that, the limits of a program's cgroup would be refused."""
    system.does("systemctl", "start", "procd")
    assert system.property("procd", "Delegate") == "yes"
