"""Hooks: one at a time for each program, and none of them can hold a life up for ever."""

from __future__ import annotations

from procd.config.spec import Backoff, Hooks, Restart
from procd.core import CancelHook, Exit, Forget, Hook, KillTree, Remove, RunHook, State, TimeoutExtended
from procd.core.lives import KILL_GRACE_S
from tests.unit.core.world import ASKED, World, spec

BEFORE_START = Hooks(before_start=("x",), timeout_s=30)
AFTER_READY = Hooks(after_ready=("x",), timeout_s=30)
BEFORE_STOP = Hooks(before_stop=("x",), timeout_s=30)
AFTER_STOP = Hooks(after_stop=("x",), timeout_s=30)
OVERDUE_S = 30 + KILL_GRACE_S


# before_start


def test_before_start_comes_before_the_program() -> None:
    """Which is executed when it has succeeded."""
    world = World(spec(hooks=BEFORE_START))
    assert world.of(RunHook) == [RunHook("web", Hook.BEFORE_START)]
    assert world.spawns() == []
    world.ended("web", Hook.BEFORE_START)
    assert world.spawns() == ["web"]
    world.run()


def test_a_before_start_that_fails_is_a_failed_start() -> None:
    """Counted, with the reason; the program is not executed."""
    world = World(spec(hooks=BEFORE_START))
    world.ended("web", Hook.BEFORE_START, "exited with status 2")
    assert world.state() is State.BACKOFF
    assert world.why() == "hook before_start: exited with status 2"
    assert world["web"].failures == 1
    world.take_deadline("web")
    assert world.of(RunHook) == [RunHook("web", Hook.BEFORE_START)]


def test_a_before_start_that_fails_is_no_exit_of_the_program() -> None:
    """The last life's status is not that of this start."""
    world = World(spec(hooks=BEFORE_START))
    world.ended("web", Hook.BEFORE_START)
    world.run()
    world.exited("web", 7)
    world.ended("web", Hook.BEFORE_START, "exited with status 2")
    assert world["web"].exit is None


def test_with_restart_never_a_failed_before_start_is_fatal() -> None:
    """As any start that fails without an exit."""
    world = World(spec(hooks=BEFORE_START, restart=Restart.NEVER))
    world.ended("web", Hook.BEFORE_START, "x")
    assert world.state() is State.FATAL


def test_a_stop_cancels_before_start_and_waits_for_its_end() -> None:
    """The program is never executed; there is nothing to signal, and no after_stop of what never ran."""
    world = World(spec(hooks=Hooks(before_start=("x",), after_stop=("y",))))
    world.stop()
    assert world.of(CancelHook) == [CancelHook("web")]
    assert world.signals() == []
    assert world.state() is State.STOPPING
    world.ended("web", Hook.BEFORE_START, "killed by SIGKILL")
    assert (world.state(), world.spawns(), world.of(RunHook)) == (State.STOPPED, [], [])


def test_a_before_start_that_succeeds_while_it_is_cancelled_starts_nothing() -> None:
    """The stop was first."""
    world = World(spec(hooks=BEFORE_START))
    world.stop()
    world.ended("web", Hook.BEFORE_START)
    assert (world.state(), world.spawns()) == (State.STOPPED, [])


def test_a_before_start_that_does_not_end_fails_the_start_and_then_is_stuck() -> None:
    """Somebody else keeps its timeout; this is for when that has failed."""
    world = World(spec(hooks=BEFORE_START))
    world.pass_time(OVERDUE_S)
    assert world.state() is State.STOPPING
    assert world.of(CancelHook) == [CancelHook("web")]
    world.pass_time(KILL_GRACE_S)
    assert world.state() is State.FATAL
    assert world.why() == "hook before_start does not end, but its hook before_start does not die"
    world.ended("web", Hook.BEFORE_START, "killed by SIGKILL")
    assert world.state() is State.BACKOFF


def test_a_hook_cannot_be_extended_by_the_program() -> None:
    """EXTEND_TIMEOUT_USEC is about the program's own start and stop."""
    world = World(spec(hooks=BEFORE_START))
    due = world["web"].deadline_s
    world.take(TimeoutExtended("web", 1000))
    assert world["web"].deadline_s == due


# after_ready


def test_after_ready_runs_beside_the_program_and_nobody_waits_for_it() -> None:
    """Its failure changes nothing."""
    world = World(spec(hooks=AFTER_READY, max_runtime_s=50)).run()
    assert world.of(RunHook) == [RunHook("web", Hook.AFTER_READY)]
    due = world["web"].deadline_s
    world.ended("web", Hook.AFTER_READY, "exited with status 2")
    assert world.state() is State.RUNNING
    assert world["web"].deadline_s == due


def test_a_stop_ends_after_ready_before_it_begins() -> None:
    """So that it is not mistaken for the hook that comes next."""
    hooks = Hooks(after_ready=("x",), before_stop=("y",))
    world = World(spec(hooks=hooks)).run()
    world.stop()
    assert world.of(CancelHook) == [CancelHook("web")]
    assert (world.of(RunHook), world.signals()) == ([], [])
    world.ended("web", Hook.AFTER_READY, "killed by SIGKILL")
    assert world.of(RunHook) == [RunHook("web", Hook.BEFORE_STOP)]
    world.ended("web", Hook.BEFORE_STOP)
    assert world.signals() == [("web", 15)]


def test_the_next_life_waits_for_the_after_ready_of_the_last() -> None:
    """Which is cancelled when its program ends."""
    world = World(spec(hooks=AFTER_READY)).run()
    world.exited()
    assert world.of(CancelHook) == [CancelHook("web")]
    assert (world.state(), world.spawns()) == (State.WAITING, [])
    assert world.machine.waits_for(world["web"]) == ["the end of its hook after_ready"]
    world.ended("web", Hook.AFTER_READY, "killed by SIGKILL")
    assert world.spawns() == ["web"]


def test_a_program_is_not_forgotten_before_its_hook_has_ended() -> None:
    """Its end would be news of nobody."""
    world = World(spec(hooks=AFTER_READY)).run()
    world.exited()
    world.take(Remove("web", ASKED))
    assert (world.state(), world.of(Forget)) == (State.STOPPED, [])
    world.ended("web", Hook.AFTER_READY, "killed by SIGKILL")
    assert world.of(Forget) == [Forget("web")]


def test_an_after_ready_that_does_not_die_does_not_keep_the_program_from_being_stopped() -> None:
    """The signals come, only later; and it is not called empty while the hook lives."""
    world = World(spec(hooks=AFTER_READY)).run()
    world.stop()
    world.pass_time(KILL_GRACE_S)
    assert world.signals() == [("web", 15)]
    world.exited("web", 0)
    world.emptied()
    assert world.state() is State.STOPPING
    world.ended("web", Hook.AFTER_READY, "killed by SIGKILL")
    assert world.state() is State.STOPPED


def test_a_late_end_of_after_ready_repeats_no_signal() -> None:
    """The stop has gone on without it."""
    world = World(spec(hooks=AFTER_READY)).run()
    world.stop()
    world.pass_time(KILL_GRACE_S)
    world.ended("web", Hook.AFTER_READY, "killed by SIGKILL")
    assert world.signals() == []
    assert world.state() is State.STOPPING


# before_stop


def test_before_stop_comes_before_the_signal() -> None:
    """Also if it fails: a program is not kept alive by its hook."""
    for failure in ("", "exited with status 1"):
        world = World(spec(hooks=BEFORE_STOP)).run()
        world.stop()
        assert world.of(RunHook) == [RunHook("web", Hook.BEFORE_STOP)]
        assert world.signals() == []
        world.ended("web", Hook.BEFORE_STOP, failure)
        assert world.signals() == [("web", 15)]
        assert world["web"].deadline_s == world.now + 10
        world.gone()


def test_a_program_that_was_never_executed_needs_no_before_stop() -> None:
    """There is nothing to take leave of."""
    world = World(spec(hooks=Hooks(before_start=("x",), before_stop=("y",))))
    world.stop()
    world.ended("web", Hook.BEFORE_START)
    assert world.of(RunHook) == []
    assert world.state() is State.STOPPED


def test_a_stop_that_overtook_the_spawn_runs_before_stop_when_there_is_a_program() -> None:
    """Every life that is stopped has it."""
    world = World(spec(hooks=BEFORE_STOP))
    world.stop()
    world.spawned()
    assert world.of(RunHook) == [RunHook("web", Hook.BEFORE_STOP)]


def test_before_stop_is_cancelled_when_the_program_exits_meanwhile() -> None:
    """What the program leaves behind is stopped under a deadline all the same."""
    world = World(spec(hooks=BEFORE_STOP)).run()
    world.stop()
    world.exited("web", 0)
    assert world.of(CancelHook) == [CancelHook("web")]
    world.ended("web", Hook.BEFORE_STOP, "killed by SIGKILL")
    assert world.state() is State.STOPPING
    world.pass_time(10)
    assert world.of(KillTree) == [KillTree("web")]
    world.emptied("web", "sleep (pid 7)")
    assert world.state() is State.STOPPED


def test_a_hook_that_was_cancelled_ends_before_the_program_is_empty() -> None:
    """Its late end must not be taken for a signal to the next life."""
    world = World(spec(hooks=BEFORE_STOP)).run()
    world.restart()
    world.exited("web", 0)
    world.emptied()
    assert (world.state(), world.spawns()) == (State.STOPPING, [])
    world.ended("web", Hook.BEFORE_STOP, "killed by SIGKILL")
    assert world.spawns() == ["web"]
    world.run()
    world.ended("web", Hook.BEFORE_STOP, "killed by SIGKILL")
    assert (world.state(), world.actions) == (State.RUNNING, [])


def test_a_program_that_is_empty_without_an_exit_ends_its_before_stop() -> None:
    """Whoever says that nothing is left is believed."""
    world = World(spec(hooks=BEFORE_STOP)).run()
    world.stop()
    world.emptied()
    assert world.of(CancelHook) == [CancelHook("web")]
    world.ended("web", Hook.BEFORE_STOP, "killed by SIGKILL")
    assert world.state() is State.STOPPED


def test_a_before_stop_that_does_not_end_is_cancelled_then_the_signals_come() -> None:
    """The stop goes on, and is killed in the end."""
    world = World(spec(hooks=BEFORE_STOP)).run()
    world.stop()
    world.pass_time(OVERDUE_S)
    assert world.of(CancelHook) == [CancelHook("web")]
    world.pass_time(KILL_GRACE_S)
    assert world.signals() == [("web", 15)]
    world.pass_time(10)
    assert world.of(KillTree) == [KillTree("web")]
    world.exited("web", None, 9)
    world.emptied()
    world.pass_time(KILL_GRACE_S)
    assert world.state() is State.FATAL
    assert world.why().endswith("killed, but its hook before_stop does not die")
    world.ended("web", Hook.BEFORE_STOP, "killed by SIGKILL")
    assert world.state() is State.STOPPED


def test_a_stuck_program_whose_hook_ends_is_still_stuck() -> None:
    """The process is what matters."""
    world = World(spec(hooks=BEFORE_STOP)).run()
    world.stop()
    world.pass_time(OVERDUE_S + KILL_GRACE_S + 10 + KILL_GRACE_S)
    assert world.state() is State.FATAL
    world.ended("web", Hook.BEFORE_STOP, "killed by SIGKILL")
    assert (world.state(), world["web"].stuck) == (State.FATAL, True)
    world.exited("web", None, 9)
    world.emptied()
    assert world.state() is State.STOPPED


# after_stop


def test_after_stop_comes_when_it_is_empty_and_stopped_comes_after_it() -> None:
    """Whether it fails or not."""
    for failure in ("", "exited with status 1"):
        world = World(spec(hooks=AFTER_STOP)).run()
        world.stop()
        world.gone()
        assert world.of(RunHook) == [RunHook("web", Hook.AFTER_STOP)]
        assert world.state() is State.STOPPING
        world.start()
        assert world.spawns() == []
        world.ended("web", Hook.AFTER_STOP, failure)
        assert world.spawns() == ["web"]


def test_after_stop_belongs_to_stops_not_to_crashes() -> None:
    """A restart after a crash is immediate."""
    world = World(spec(hooks=AFTER_STOP)).run()
    world.exited()
    assert world.of(RunHook) == []
    assert world.spawns() == ["web"]


def test_survivors_are_named_also_when_a_hook_follows() -> None:
    """The reason is not lost on the way."""
    world = World(spec(hooks=AFTER_STOP)).run()
    world.stop()
    world.exited("web", 0)
    world.emptied("web", "sleep (pid 7)")
    world.ended("web", Hook.AFTER_STOP)
    assert world.why() == "asked; killed what was left: sleep (pid 7)"


def test_an_after_stop_that_does_not_end_is_stuck_and_recovers() -> None:
    """It was killed, and does not die of that."""
    world = World(spec(hooks=AFTER_STOP)).run()
    world.stop()
    world.gone()
    world.pass_time(OVERDUE_S)
    assert world.of(CancelHook) == [CancelHook("web")]
    world.pass_time(KILL_GRACE_S)
    assert world.state() is State.FATAL
    assert world.why() == "asked, but its hook after_stop does not die"
    world.ended("web", Hook.AFTER_STOP, "killed by SIGKILL")
    assert world.state() is State.STOPPED


def test_the_end_of_a_hook_that_nobody_waits_for_is_no_news() -> None:
    """Answers may come late, or twice."""
    world = World(spec(hooks=BEFORE_START, backoff=Backoff(1, 1, 1, 0)))
    for hook in (Hook.AFTER_READY, Hook.BEFORE_STOP, Hook.AFTER_STOP):
        world.ended("web", hook, "x")
        assert (world.state(), world.actions) == (State.STARTING, [])
    world.ended("web", Hook.BEFORE_START)
    world.ended("web", Hook.BEFORE_START, "x")
    assert (world.state(), world.actions) == (State.STARTING, [])
    world.spawned()
    world.exited("web", 3)
    assert world["web"].exit == Exit(code=3)
