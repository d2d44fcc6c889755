"""The supervisor is killed: every program stays where it was, and goes on from there, in the same life."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import PROGRAMS, alive, free_port, marked, until
from tests.system.survival import DEAF, SLEEP

if TYPE_CHECKING:
    from tests.system.survival import Stage

#: Who says it is there when it is read: a sender who is gone is nobody's process.
NOTIFY = (
    "import os, signal, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
    "s.sendto(b'READY=1\\nSTATUS=well', os.environ['NOTIFY_SOCKET']); open(sys.argv[1], 'w'); signal.pause()"
)
#: How a program says that it is ready, and what the configuration says of it.
READY = {
    "notify": (f'exec {sys.executable} -I -c "{NOTIFY}" PLACE/said', "notify = true"),
    "fd": ("echo >&5", "fd = 5"),
    "log": ("echo here I am", 'log = "^here"'),
    "http": (
        f"exec {sys.executable} -I -m http.server --bind 127.0.0.1 --directory PLACE PORT",
        'http = "http://127.0.0.1:PORT/", interval = "50ms"',
    ),
    "command": ("touch PLACE/is-ready", 'command = ["test", "-e", "PLACE/is-ready"], interval = "50ms"'),
}


# RUNNING


def test_running_programs_notice_nothing(stage: Stage) -> None:
    """Two deaths one after the other: the same processes, the same record, the same history."""
    daemon = stage.start(stage.program("one"), stage.program("many", keys="instances = 3"))
    for name in ("one", "many@0", "many@1", "many@2"):
        daemon.until_state(name, "RUNNING")
    before = {name: stage.looks(name) for name in daemon.records()}
    history = daemon.json("why", "one")["history"]
    for _ in range(2):
        daemon.kill_supervisor()
        assert {name: stage.looks(name) for name in daemon.records()} == before
    after = daemon.json("why", "one")["history"]
    assert [step["new"] for step in after] == [step["new"] for step in history]
    assert (len(stage.lines("one")), len(stage.lines("many"))) == (1, 3)


def test_a_supervisor_that_dies_while_it_takes_over_is_followed_by_one_that_does(stage: Stage) -> None:
    """Each is killed as soon as it is there."""
    daemon = stage.start(stage.program("one"))
    before = daemon.until_state("one", "RUNNING")["pid"]
    for _ in range(5):
        daemon.kill_supervisor()
    assert daemon.process("one") == before
    assert stage.births() == {"one": 1}


def test_restarts_are_counted_on(stage: Stage) -> None:
    """And an end that came later is known as what it was."""
    daemon = stage.start(stage.program("one"))
    for count in (1, 2):
        daemon.until_state("one", "RUNNING")
        daemon.does("signal", "KILL", "one")
        until(lambda count=count: daemon.record("one")["restarts"] == count, "a restart")
    daemon.until_state("one", "RUNNING")
    daemon.kill_supervisor()
    assert daemon.record("one")["restarts"] == 2
    daemon.does("signal", "KILL", "one")
    until(lambda: daemon.record("one")["restarts"] == 3, "another restart")
    assert daemon.until_state("one", "RUNNING")["exit"] == {"signal": 9, "core_dumped": False}
    assert stage.births() == {"one": 4}


@pytest.mark.parametrize(("how", "ended"), [
    ("exit 0", {"code": 0}), ("exit 3", {"code": 3}), ("kill -USR1 $$", {"signal": 10, "core_dumped": False}),
])  # fmt: skip
def test_an_end_while_nobody_supervised_is_known(stage: Stage, how: str, ended: dict[str, object]) -> None:
    """The keeper reaps; the program is started again, once."""
    second = f"{stage.place}/second"
    script = f"if [ -e {second} ]; then {SLEEP}; fi; {stage.when('go')}; touch {second}; {how}"
    daemon = stage.start(stage.program("ends", script))
    pid = daemon.until_state("ends", "RUNNING")["pid"]
    with daemon.unsupervised():
        stage.become("go")
        until(lambda: not alive(pid), "its end")
    until(lambda: daemon.record("ends")["restarts"] == 1, "a restart")
    assert daemon.until_state("ends", "RUNNING")["exit"] == ended
    assert stage.births() == {"ends": 2}


# STARTING


@pytest.mark.parametrize("meanwhile", [True, False], ids=["while nobody supervises", "afterwards"])
@pytest.mark.parametrize("kind", READY)
def test_a_readiness_that_comes_late_is_seen(stage: Stage, kind: str, *, meanwhile: bool) -> None:
    """However it is said: it was STARTING, and becomes RUNNING in the same life."""
    port = str(free_port())
    says, ready = (text.replace("PLACE", str(stage.place)).replace("PORT", port) for text in READY[kind])
    script = f"{stage.when('go')}; {says}; touch {stage.place}/said; {SLEEP}"
    daemon = stage.start(stage.program("slow", script, f"ready = {{ {ready} }}"))
    stage.until_born("slow")
    assert daemon.record("slow")["state"] == "STARTING"
    with daemon.unsupervised():
        if meanwhile:
            stage.become("go")
            until(lambda: kind == "http" or (stage.place / "said").exists(), "it to be said")
    if not meanwhile:
        assert daemon.record("slow")["state"] == "STARTING"
        stage.become("go")
    record = daemon.until_state("slow", "RUNNING")
    assert kind != "notify" or record["status_text"] == "well"
    assert (stage.births(), record["restarts"]) == ({"slow": 1}, 0)


def test_a_start_that_takes_too_long_has_begun_when_it_did(stage: Stage) -> None:
    """The time that it has is not given anew."""
    daemon = stage.start(stage.program("slow", keys='ready = { notify = true }\nstart_timeout = "1h"'))
    stage.until_born("slow")
    before_s = stage.next_s("slow", "give up")
    daemon.kill_supervisor()
    assert 3000 < stage.next_s("slow", "give up") < before_s


# STOPPING


def test_a_stop_goes_on(stage: Stage) -> None:
    """With the time that it had left, and no signal a second time; its end is its end."""
    noted = f"trap 'echo TERM >> {stage.place}/signals' TERM; touch {stage.place}/trapped"
    script = f"{noted}; {stage.when('go')}; exit 5"
    daemon = stage.start(stage.program("slow", script, 'stop_timeout = "1h"'))
    until((stage.place / "trapped").exists, "its trap")
    daemon.does("stop", "slow", "--no-wait")
    until(lambda: stage.lines("signals"), "the signal")
    before_s = stage.next_s("slow", "kill")
    daemon.kill_supervisor()
    assert daemon.record("slow")["state"] == "STOPPING"
    assert 3000 < stage.next_s("slow", "kill") < before_s
    stage.become("go")
    assert daemon.until_state("slow", "STOPPED")["exit"] == {"code": 5}
    assert (stage.births(), stage.lines("signals")) == ({"slow": 1}, ["TERM"])


def test_the_steps_of_a_stop_are_taken_each_once(stage: Stage) -> None:
    """The first one before the death, the second one after it, then SIGKILL."""
    traps = " ".join(f"trap 'echo {name} >> {stage.place}/signals' {name};" for name in ("INT", "USR1"))
    keys = 'stop = [["INT", "500ms"], ["USR1", "500ms"]]'
    daemon = stage.start(
        stage.program("deaf", f"{traps} touch {stage.place}/trapped; while :; do sleep 0.05; done", keys)
    )
    until((stage.place / "trapped").exists, "its traps")
    daemon.does("stop", "deaf", "--no-wait")
    until(lambda: stage.lines("signals"), "the first signal")
    daemon.kill_supervisor()
    record = daemon.until_state("deaf", "STOPPED")
    assert (stage.lines("signals"), record["exit"]["signal"]) == (["INT", "USR1"], signal.SIGKILL)
    assert stage.births() == {"deaf": 1}


def test_a_stop_by_hand_holds(stage: Stage) -> None:
    """The wish and who had it are known, whether it had come to its end or not."""
    daemon = stage.start(stage.program("done"), stage.program("deaf", DEAF, 'stop_timeout = "1h"'))
    daemon.until_state("done", "RUNNING")
    daemon.until_output("deaf", b"deaf")
    daemon.does("stop", "done")
    daemon.does("stop", "deaf", "--no-wait")
    before = {name: daemon.json("why", name)["wish"] for name in ("done", "deaf")}
    daemon.kill_supervisor()
    assert daemon.record("done")["state"] == "STOPPED"
    assert {name: daemon.json("why", name)["wish"] for name in ("done", "deaf")} == before
    daemon.does("signal", "KILL", "deaf")
    daemon.until_state("deaf", "STOPPED")
    assert stage.births() == {"done": 1, "deaf": 1}


def test_a_restart_that_had_begun_comes_to_its_end(stage: Stage) -> None:
    """It was asked for, and is told to stop; another life follows, one."""
    first_is_deaf = f"if [ $(wc -l < {stage.place}/deaf) = 1 ]; then {DEAF}; fi; {SLEEP}"
    daemon = stage.start(stage.program("deaf", first_is_deaf, 'stop_timeout = "1h"'))
    daemon.until_output("deaf", b"deaf")
    daemon.does("restart", "deaf", "--no-wait")
    with daemon.unsupervised():
        os.kill(int(stage.lines("deaf")[0]), signal.SIGKILL)
    until(lambda: len(stage.lines("deaf")) == 2, "another life")
    daemon.until_state("deaf", "RUNNING")
    assert stage.births() == {"deaf": 2}


def test_who_is_removed_while_it_stops_is_gone_when_it_has(stage: Stage) -> None:
    """The file does not have it any more, and the record of it goes with it."""
    rest = stage.program("rest")
    daemon = stage.start(rest, stage.program("deaf", DEAF, 'stop_timeout = "1h"'))
    daemon.until_output("deaf", b"deaf")
    daemon.write(rest)
    daemon.does("reload")
    assert daemon.record("deaf")["state"] == "STOPPING"
    daemon.kill_supervisor()
    assert daemon.record("deaf")["state"] == "STOPPING"
    os.kill(int(stage.lines("deaf")[0]), signal.SIGKILL)
    until(lambda: set(daemon.records()) == {"rest"}, "it to be gone")
    daemon.kill_supervisor()
    assert stage.births() == {"rest": 1}
    assert len(stage.lines("deaf")) == 1


def test_stopped_is_empty_whoever_started_it(stage: Stage) -> None:
    """A family that replaces its dead, half of it in sessions of its own."""
    daemon = stage.start(stage.program("family", f"exec {sys.executable} -I {PROGRAMS}/forks.py 6"))
    daemon.until_output("family", b"ready")
    until(lambda: len(marked(daemon.mark)) >= 3 + 7, "the family")
    daemon.kill_supervisor()
    daemon.does("stop", "family")
    assert set(marked(daemon.mark)) == {daemon.pid, daemon.supervisor, daemon.logger}


@pytest.mark.parametrize("meanwhile", [True, False], ids=["while nobody supervises", "afterwards"])
def test_what_a_program_leaves_behind_is_found(stage: Stage, *, meanwhile: bool) -> None:
    """It put itself into the background and ends; nothing of it lives on."""
    words = f"{sys.executable} -I {PROGRAMS}/daemonize.py keep leave; {stage.when('go')}"
    daemon = stage.start(stage.program("leaves", words, 'restart = "never"'))
    left = int(until(lambda: daemon.output("leaves"), "the one in the background"))
    main = daemon.process("leaves")
    with daemon.unsupervised():
        if meanwhile:
            stage.become("go")
            until(lambda: not alive(main), "its end")
    stage.become("go")
    daemon.until_state("leaves", "EXITED")
    until(lambda: not alive(left), "its end")
    assert stage.births() == {"leaves": 1}


# Those that do not run


def test_a_backoff_does_not_begin_anew(stage: Stage) -> None:
    """What is left of it is waited for; and a start by hand still does not wait."""
    keys = 'backoff = { initial = "1h", max = "1h", jitter = 0 }'
    daemon = stage.start(stage.program("dies", f"[ -e {stage.place}/well ] || exit 7; {SLEEP}", keys))
    daemon.until_state("dies", "BACKOFF")
    before, before_s = stage.looks("dies"), stage.next_s("dies", "restart")
    daemon.kill_supervisor()
    assert stage.looks("dies") == before
    assert 3000 < stage.next_s("dies", "restart") < before_s
    assert stage.births() == {"dies": 1}
    stage.become("well")
    daemon.does("start", "dies")
    assert stage.births() == {"dies": 2}


def test_a_backoff_that_is_over_while_nobody_supervises_is_over(stage: Stage) -> None:
    """It is started at once then; one that goes on failing waits longer each time, as before."""
    keys = 'backoff = { initial = "200ms", factor = 100, max = "1h", jitter = 0 }'
    daemon = stage.start(stage.program("dies", "exit 7", keys))
    daemon.until_state("dies", "BACKOFF")
    daemon.kill_supervisor()
    until(lambda: len(stage.lines("dies")) == 2, "the next start")
    daemon.until_state("dies", "BACKOFF")
    until(lambda: stage.next_s("dies", "restart") > 15, "twenty seconds, or a little less")
    assert daemon.json("why", "dies")["exit"] == {"code": 7}


def test_what_waits_goes_on_waiting(stage: Stage) -> None:
    """For a dependency that is not ready; it starts when that is, and not before."""
    keys = f'ready = {{ command = ["test", "-e", "{stage.place}/go"], interval = "50ms" }}'
    daemon = stage.start(stage.program("base", keys=keys), stage.program("needs", keys='depends_on = ["base"]'))
    stage.until_born("base")
    assert daemon.record("needs")["state"] == "WAITING"
    before = stage.looks("needs")
    daemon.kill_supervisor()
    assert stage.looks("needs") == before
    assert stage.births() == {"base": 1, "needs": 0}
    stage.become("go")
    daemon.until_state("needs", "RUNNING")
    assert stage.births() == {"base": 1, "needs": 1}


def test_what_has_ended_stays_so(stage: Stage) -> None:
    """EXITED, FATAL and STOPPED are no states of a process, and nothing starts them again."""
    daemon = stage.start(
        stage.program("exited", "exit 4", 'restart = "never"'),
        stage.program("done", "exit 0", 'type = "oneshot"'),
        stage.program("fatal", "exit 6", 'start_limit = { count = 1, within = "1h" }\nbackoff.initial = 0'),
        stage.program("idle", keys="autostart = false"),
    )
    for name, state in (("exited", "EXITED"), ("done", "EXITED"), ("fatal", "FATAL"), ("idle", "STOPPED")):
        daemon.until_state(name, state)
    before, births = {name: stage.looks(name) for name in daemon.records()}, stage.births()
    for _ in range(2):
        daemon.kill_supervisor()
        assert {name: stage.looks(name) for name in daemon.records()} == before
    assert stage.births() == births


@pytest.mark.parametrize(("status", "state"), [(0, "RUNNING"), (3, "WAITING")])
def test_a_oneshot_that_ended_meanwhile_has_its_status(stage: Stage, status: int, state: str) -> None:
    """Who depends on it starts when it has succeeded, and not when it has failed."""
    daemon = stage.start(
        stage.program(
            "once",
            f"{stage.when('go')}; exit {status}",
            'type = "oneshot"\nbackoff.initial = "1h"\nbackoff.max = "1h"',
        ),
        stage.program("after", keys='depends_on = { once = "completed" }'),
    )
    stage.until_born("once")
    pid = int(stage.lines("once")[0])
    with daemon.unsupervised():
        stage.become("go")
        until(lambda: not alive(pid), "its end")
    until(lambda: daemon.record("once")["exit"] == {"code": status}, "its status")
    daemon.until_state("after", state)
    assert stage.births() == {"once": 1, "after": int(status == 0)}


def test_a_schedule_goes_on(stage: Stage) -> None:
    """A run that has begun is not begun again, and the next is due when it was."""
    keys = 'type = "oneshot"\nschedule = "0 0 1 1 *"'
    daemon = stage.start(stage.program("yearly", stage.when("go"), keys))
    due_s = stage.next_s("yearly", "start")
    daemon.kill_supervisor()
    assert due_s - 3600 < stage.next_s("yearly", "start") < due_s
    daemon.does("start", "yearly", "--no-wait")
    stage.until_born("yearly")
    daemon.kill_supervisor()
    stage.become("go")
    daemon.until_state("yearly", "EXITED")
    daemon.kill_supervisor()
    assert due_s - 3600 < stage.next_s("yearly", "start") < due_s
    assert stage.births() == {"yearly": 1}


# Hooks


@pytest.mark.parametrize("meanwhile", [True, False], ids=["while nobody supervises", "afterwards"])
@pytest.mark.parametrize("status", [0, 9])
def test_a_hook_that_runs_is_waited_for(stage: Stage, status: int, *, meanwhile: bool) -> None:
    """It runs once, and what follows from its status does."""
    hook = ["/bin/sh", "-c", f"echo $$$$ >> {stage.place}/hook; {stage.when('go')}; exit {status}"]
    keys = f'hooks = {{ before_start = {json.dumps(hook)} }}\nbackoff = {{ initial = "1h", max = "1h" }}'
    daemon = stage.start(stage.program("hooked", keys=keys))
    until(lambda: stage.lines("hook"), "the hook")
    pid = int(stage.lines("hook")[0])
    with daemon.unsupervised():
        if meanwhile:
            stage.become("go")
            until(lambda: not alive(pid), "its end")
    stage.become("go")
    daemon.until_state("hooked", "RUNNING" if status == 0 else "BACKOFF")
    assert (stage.births(), len(stage.lines("hook"))) == ({"hooked": int(status == 0)}, 1)


def test_the_hooks_of_a_stop_run_once(stage: Stage) -> None:
    """Killed in the one before it, and in the one after it."""
    hooks = {
        name: ["/bin/sh", "-c", f"echo >> {stage.place}/{name}; {stage.when(name + '-may-end')}"]
        for name in ("before_stop", "after_stop")
    }
    table = ", ".join(f"{name} = {json.dumps(words)}" for name, words in hooks.items())
    daemon = stage.start(stage.program("hooked", keys=f"hooks = {{ {table} }}"))
    daemon.until_state("hooked", "RUNNING")
    daemon.does("stop", "hooked", "--no-wait")
    for name in hooks:
        until(lambda name=name: stage.lines(name), name)
        daemon.kill_supervisor()
        assert daemon.record("hooked")["state"] == "STOPPING"
        stage.become(f"{name}-may-end")
    daemon.until_state("hooked", "STOPPED")
    assert (stage.births(), {name: len(stage.lines(name)) for name in hooks}) == (
        {"hooked": 1}, {"before_stop": 1, "after_stop": 1}
    )  # fmt: skip


# Health


def test_failed_checks_in_a_row_are_counted_on(stage: Stage) -> None:
    """Two before the death and one after it are three; and the check that ran has gone with the supervisor."""
    waits = f"while ! rm {stage.place}/fails 2>/dev/null; do sleep 0.01; done"
    check = json.dumps(["/bin/sh", "-c", f"echo $$$$ >> {stage.place}/checks; {waits}; exit 1"])
    keys = f'health = {{ command = {check}, interval = "10ms", timeout = "1h", failures = 3 }}'
    daemon = stage.start(stage.program("ill", keys=keys))
    for count in (1, 2):
        until(lambda count=count: len(stage.lines("checks")) == count, "a check")
        stage.become("fails")
    until(lambda: len(stage.lines("checks")) == 3, "the third check")
    # Who answers now has come to the end of the turn in which that was started, and has recorded it.
    assert daemon.record("ill")["health"] == "unknown"
    daemon.kill_supervisor()
    assert daemon.record("ill")["restarts"] == 0
    until(lambda: not alive(int(stage.lines("checks")[2])), "the end of the check that nobody waits for")
    until(lambda: len(stage.lines("checks")) == 4, "the third check again")
    stage.become("fails")
    until(lambda: len(stage.lines("ill")) == 2, "a restart")


def test_health_is_asked_on(stage: Stage) -> None:
    """The supervisor that comes asks, and acts."""
    keys = f'health = {{ command = ["test", "!", "-e", "{stage.place}/ill"], interval = "50ms", failures = 2 }}'
    daemon = stage.start(stage.program("well", keys=keys))
    until(lambda: daemon.record("well")["health"] == "healthy", "its health")
    daemon.kill_supervisor()
    assert daemon.record("well")["health"] == "healthy"
    stage.become("ill")
    until(lambda: len(stage.lines("well")) == 2, "a restart")
    (stage.place / "ill").unlink()
    until(lambda: daemon.record("well")["health"] == "healthy", "its health")
