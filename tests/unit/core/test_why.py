"""Why a program is where it is, told from what the machine remembers."""

from __future__ import annotations

import pytest
from msgspec import to_builtins

from procd.config.spec import Check, CheckKind, Health, Hooks, Restart, StartLimit, StopStep
from procd.core import CheckFailed, Desired, Exit, Hook, Remove, SpawnFailed, State
from procd.core.lives import KILL_GRACE_S
from procd.core.why import MAX_DEPTH, Explanation, explain
from tests.unit.core.test_stops import stuck
from tests.unit.core.world import ANA, ASKED, World, oneshot, spec

NOTIFY = Check(kind=CheckKind.NOTIFY)


def why(world: World, name: str = "web") -> Explanation:
    """Explain a program now."""
    return explain(world.machine, name, world.now)


def next_of(world: World, name: str = "web") -> tuple[str, float]:
    """What happens next, and in how many seconds."""
    following = why(world, name).next
    assert following is not None
    return following.action, following.in_s


def test_the_cause_and_the_wish_are_told_apart() -> None:
    """It is STOPPING for one reason and wanted down for another, each with who asked."""
    world = World(spec(max_runtime_s=5)).run()
    world.pass_time(7)
    told = why(world)
    assert (told.state, told.desired, told.for_s) == (State.STOPPING, Desired.UP, 3)
    assert told.cause.text == "ran for 5s, longer than its max_runtime"
    assert (told.then, told.wish.text) == ("start again", "started with procd")
    world.stop()
    told = why(world)
    assert (told.wish.actor, told.then) == (ANA, "stay stopped")


def test_each_blocker_is_explained_itself_with_its_condition() -> None:
    """Down the chain to the one that somebody stopped."""
    world = World(spec("front", needs=["app"]), spec("app", needs=["db"]), spec("db"))
    world.stop("db")
    world.take(SpawnFailed("db", "too late"))
    (app,) = why(world, "front").waits_for
    assert (app.condition, app.explanation.name, app.explanation.state) == ("ready", "app", State.WAITING)
    (db,) = app.explanation.waits_for
    assert (db.condition, db.explanation.name, db.explanation.state) == ("ready", "db", State.STOPPED)
    assert db.explanation.wish == ASKED
    assert db.explanation.waits_for == ()
    assert why(world, "front").obstacles == ()


def test_a_program_is_explained_once_and_mentioned_elsewhere() -> None:
    """A diamond is not told twice."""
    world = World(spec("top", needs=["a", "b"]), spec("a", needs=["db"]), spec("b", needs=["db"]), spec("db"))
    a, b = why(world, "top").waits_for
    assert [blocker.explanation.name for blocker in a.explanation.waits_for] == ["db"]
    assert b.explanation.waits_for == ()
    assert b.explanation.obstacles == ("db to be ready (it is STARTING)",)


def test_a_long_chain_is_followed_so_far_and_no_further() -> None:
    """The rest is said in a few words."""
    names = [f"p{number}" for number in range(20)]
    world = World(*(spec(name, needs=names[index + 1 : index + 2]) for index, name in enumerate(names)))
    told, depth = why(world, "p0"), 0
    while told.waits_for:
        told, depth = told.waits_for[0].explanation, depth + 1
    assert depth == MAX_DEPTH
    assert told.obstacles == (f"p{depth + 1} to be ready (it is WAITING)",)


def test_other_obstacles_are_said_in_words() -> None:
    """A name that nobody has, a slot, a hook."""
    world = World(spec("first"), spec(needs=["ghost"]), spec("second"), slots=1)
    assert why(world).obstacles == ("ghost does not exist",)
    assert why(world, "second").obstacles == ("a start slot (1 of 1 programs are starting)",)
    assert why(world, "first").obstacles == ()
    hooked = World(spec(hooks=Hooks(after_ready=("x",)))).run()
    hooked.exited()
    assert why(hooked).obstacles == ("the end of its hook after_ready",)


def test_who_holds_a_stop_back_is_named() -> None:
    """On the way down, on both sides."""
    world = World(spec("front", needs=["app"]), spec("app", needs=["db"]), spec("db")).run("db", "app", "front")
    assert why(world, "db").holders == ()
    world.stop("db")
    assert (why(world, "db").holders, why(world, "db").stops_for) == (("app",), "")
    assert (why(world, "app").holders, why(world, "app").stops_for) == (("front",), "db")
    assert (why(world, "front").holders, why(world, "front").stops_for) == ((), "")


def test_the_start_limit_is_told_with_how_much_of_it_is_used() -> None:
    """Failures that are too old are not counted any more; those in a row are."""
    world = World(spec(start_limit=StartLimit(5, 60)))
    assert (why(world).recent_failures, why(world).start_limit) == (0, StartLimit(5, 60))
    world.spawned()
    world.exited()
    world.take_deadline("web")
    world.spawned()
    world.exited()
    assert (why(world).recent_failures, why(world).failures) == (2, 2)
    world["web"].failed_at_s = (world.now - 61, world.now)
    assert why(world).recent_failures == 1
    assert why(World(spec())).recent_failures == 0


def test_the_last_end_the_health_and_the_history_are_told() -> None:
    """As the record has them."""
    world = World(spec(health=Health(check=NOTIFY, failures=1, restart=False))).run()
    world.exited("web", 3)
    world.run()
    world.take(CheckFailed("web", "refused"))
    told = why(world)
    assert (told.exit, told.health_reason) == (Exit(code=3), "refused")
    assert told.history == world["web"].history


def test_what_comes_next_on_the_way_up() -> None:
    """In words, with the seconds that are left; nothing, where nothing comes by itself."""
    world = World(spec(hooks=Hooks(before_start=("x",), timeout_s=30)))
    assert next_of(world) == ("kill its hook before_start", 30 + KILL_GRACE_S)
    world.ended("web", Hook.BEFORE_START)
    assert why(world).next is None
    world.spawned()
    assert next_of(world) == ("count as ready", 1)
    world.pass_time(1)
    assert why(world).next is None
    slow = World(spec(ready=NOTIFY, start_timeout_s=20, max_runtime_s=50))
    slow.spawned()
    slow.pass_time(5)
    assert next_of(slow) == ("stop, it was not ready in time", 15)
    failed = World(spec())
    failed.spawned()
    failed.exited()
    action, in_s = next_of(failed)
    assert (action, round(in_s, 3)) == ("start again", 0.1)


def test_what_comes_next_on_the_way_down() -> None:
    """Each step by its signal, then the kill, then the end of patience."""
    steps = (StopStep(2, 5.0), StopStep(15, 7.0))
    hooks = Hooks(before_stop=("x",), timeout_s=30)
    world = World(spec(stop_steps=steps, hooks=hooks, max_runtime_s=50)).run()
    assert next_of(world) == ("stop, its max_runtime is over", 49)
    world.stop()
    assert next_of(world) == ("kill its hook before_stop", 30 + KILL_GRACE_S)
    world.take_deadline("web")
    assert next_of(world) == ("send SIGINT", KILL_GRACE_S)
    world.ended("web", Hook.BEFORE_STOP, "killed by SIGKILL")
    assert next_of(world) == ("send SIGTERM", 5)
    world.take_deadline("web")
    assert next_of(world) == ("kill everything of it", 7)
    world.take_deadline("web")
    assert next_of(world) == ("give up, it does not die", KILL_GRACE_S)


@pytest.mark.parametrize(
    ("restart", "then"), [(Restart.ALWAYS, "count a failed start"), (Restart.NEVER, "give up")]
)
def test_what_follows_a_stop_of_procds_own_is_told(restart: Restart, then: str) -> None:
    """The verdict waits for it to be empty."""
    world = World(oneshot(max_runtime_s=5, restart=restart)).run("job")
    assert why(world, "job").then == ""
    world.pass_time(5)
    assert why(world, "job").then == then


def test_what_follows_when_something_that_does_not_die_is_gone_is_told() -> None:
    """Forgotten, stopped, or started again."""
    world = stuck()
    assert why(world).then == "stay stopped"
    world.start()
    assert why(world).then == "start again"
    world.take(Remove("web", ASKED))
    assert why(world).then == "be forgotten"


def test_an_explanation_is_easily_a_dict_and_a_stranger_has_none() -> None:
    """Frozen records of plain things."""
    world = World(spec("db"), spec(needs=["db"]))
    told = to_builtins(why(world))
    assert told["waits_for"][0]["explanation"]["name"] == "db"
    with pytest.raises(KeyError):
        why(world, "ghost")
