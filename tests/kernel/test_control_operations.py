"""Start, stop, restart, wait, status, signal: asked for on the socket, done to real children."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from procd.config.plan import Change as PlanChange
from procd.config.plan import Kind
from procd.config.spec import Backoff, Condition, Dependency, Restart
from procd.core import Desired, Shutdown, State
from procd.errors import ConfigurationError, Problem
from tests.kernel.children import in_loop, until
from tests.world import DEAF, TEST, WAITS, World


def result(answer: dict[str, Any], number: int = 0) -> tuple[str, bool, str]:
    """What became of one program: name, whether it went well, and its state."""
    row = answer["programs"][number]
    return row["name"], row["ok"], row["state"]


@in_loop
async def test_start_stop_and_restart_wait_until_it_is_done(tmp_path: Path) -> None:
    """Running, or empty; the reason names who asked, by uid and pid."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        client = await world.client()
        assert result(await client.call("start", programs=["web"])) == ("web", True, "RUNNING")
        first = world.program().pid
        answer = await client.call("restart", programs=["web"])
        assert result(answer) == ("web", True, "RUNNING")
        assert world.program().pid not in {None, first}
        answer = await client.call("stop", programs=["web"])
        assert result(answer) == ("web", True, "STOPPED")
        assert answer["programs"][0]["reason"] == f"stop requested (uid {os.getuid()}, pid {os.getpid()})"
        assert world.program().desired is Desired.DOWN


@in_loop
async def test_what_is_already_so_is_answered_at_once(tmp_path: Path) -> None:
    """No transition comes, and nobody waits for one."""
    async with World(tmp_path) as world:
        world.add(world.spec("up"), world.spec("up2"))
        world.add(world.spec("down"), start=False)
        client = await world.client()
        answer = await client.call("start", programs=["up", "up2"])
        assert [row["reason"] for row in answer["programs"]] == ["was running", "was running"]
        answer = await client.call("stop", programs=["down"])
        assert answer["programs"][0]["reason"] == "was stopped"


@in_loop
async def test_an_operation_on_nothing_is_done_at_once(tmp_path: Path) -> None:
    """A procd without programs: "all of them" is no mistake; one of them is."""
    async with World(tmp_path) as world:
        client = await world.client()
        for method in ("start", "stop", "restart"):
            assert await client.call(method, programs=["*"]) == {"programs": []}
        assert await client.call("status") == {"programs": []}
        assert (await client.refusal("start", programs=["web"]))["code"] == "NO_SUCH_PROGRAM"
        assert (await client.refusal("write", program="*", data=b"x"))["message"] == "there are no programs"


@in_loop
async def test_without_waiting_the_answer_is_where_it_is_now(tmp_path: Path) -> None:
    """A stop that takes long is on its way when the answer comes."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=DEAF))
        await world.until_logged(b"deaf\n")
        client = await world.client()
        assert result(await client.call("stop", programs=["web"], wait=False)) == ("web", True, "STOPPING")


@in_loop
async def test_a_program_that_cannot_start_is_told_at_its_first_failure(tmp_path: Path) -> None:
    """It is tried again, but whoever waits wants to know now; each program has its own result."""
    async with World(tmp_path) as world:
        slow = Backoff(initial_s=1000, max_s=1000)
        world.add(world.spec("bad", ["/nowhere"], backoff=slow), world.spec("good"), start=False)
        world.add(world.spec("never", ["/nowhere"], restart=Restart.NEVER), start=False)
        world.add(world.spec("brief", "exit 3", backoff=slow, min_uptime_s=1.0), start=False)
        client = await world.client()
        answer = await client.call("start", programs=["*"])
        assert result(answer, 0) == ("bad", False, "BACKOFF")
        assert "/nowhere" in answer["programs"][0]["reason"]
        assert result(answer, 1) == ("good", True, "RUNNING")
        assert result(answer, 2) == ("never", False, "FATAL")
        assert result(answer, 3) == ("brief", False, "BACKOFF")
        assert "exited with status 3" in answer["programs"][3]["reason"]


@pytest.mark.parametrize(("status", "good"), [(0, True), (1, False)])
@in_loop
async def test_a_program_that_ended_and_should_have_was_up(tmp_path: Path, status: int, good: bool) -> None:
    """Before it was ready: what counts is how it ended."""
    async with World(tmp_path) as world:
        spec = world.spec(command=f"exit {status}", restart=Restart.NEVER, min_uptime_s=1000.0)
        world.add(spec, start=False)
        client = await world.client()
        assert result(await client.call("start", programs=["web"]))[1:] == (good, "EXITED")


@in_loop
async def test_a_stop_overtakes_a_start(tmp_path: Path) -> None:
    """Who waited for the start learns that it will not come; who asked for the stop, that it is done."""
    async with World(tmp_path) as world:
        world.add(world.spec(min_uptime_s=1000.0), start=False)
        starter, stopper = await world.client(), await world.client()
        start = starter.ask("start", programs=["web"])
        await world.until_state(State.STARTING)
        assert result(await stopper.call("stop", programs=["web"])) == ("web", True, "STOPPED")
        answer = await starter.answer(start)
        assert result(answer) == ("web", False, "STOPPED")
        assert answer["programs"][0]["reason"].startswith("stop requested")


@in_loop
async def test_a_timeout_tells_what_is_late_and_stops_nothing(tmp_path: Path) -> None:
    """With the results so far; the stop goes on and is done later."""
    async with World(tmp_path) as world:
        world.add(world.spec("deaf", DEAF), world.spec("quick"))
        await world.until_logged(b"deaf\n", "deaf")
        client = await world.client()
        refusal = await client.refusal("stop", programs=["*"], timeout=0.2)
        assert refusal["code"] == "TIMED_OUT"
        assert refusal["message"] == "stop of deaf took longer than 0.2 s"
        rows = {row["name"]: row for row in refusal["data"]["programs"]}
        assert rows["deaf"]["ok"] is False
        assert rows["deaf"]["reason"].startswith("not there yet: stop requested")
        assert rows["quick"]["ok"] is True
        world.runtime.hurry("deaf")
        await world.until_state(State.STOPPED, "deaf")
        assert world.runtime.watches._by_name == {}


@in_loop
async def test_a_program_that_is_removed_while_somebody_waits_is_told(tmp_path: Path) -> None:
    """For a start, a stop, and for a state that it will never reach; nobody is left waiting."""
    async with World(tmp_path) as world:
        world.add(world.spec(min_uptime_s=1000.0))
        world.add(world.spec("idle"), start=False)
        starter, stopper, waiter = [await world.client() for _ in range(3)]
        start = starter.ask("start", programs=["web"])
        await until(lambda: world.runtime.watches._by_name)
        wait = waiter.ask("wait", program="idle", **{"for": "running"})
        await until(lambda: "idle" in world.runtime.watches._by_name)
        world.remove("web")
        stop = stopper.ask("stop", programs=["web"])
        world.remove("idle")
        assert result(await starter.answer(start)) == ("web", False, "STOPPED")
        try:
            assert result(await stopper.answer(stop)) == ("web", True, "STOPPED")
        except Exception as error:  # noqa: BLE001 - it may be gone already
            assert "NO_SUCH_PROGRAM" in str(getattr(error, "code", ""))  # noqa: PT017
        message = await waiter.next()
        assert message.id == wait
        assert message.error["message"] == "idle was removed meanwhile"
        assert world.runtime.watches._by_name == {}


@in_loop
async def test_many_who_wait_are_all_answered(tmp_path: Path) -> None:
    """And nobody is left in a list."""
    async with World(tmp_path) as world:
        world.add(world.spec(min_uptime_s=0.05), start=False)
        clients = [await world.client() for _ in range(10)]
        numbers = [client.ask("start", programs=["web"]) for client in clients]
        for client, number in zip(clients, numbers, strict=True):
            assert result(await client.answer(number)) == ("web", True, "RUNNING")
        assert world.runtime.watches._by_name == {}


@in_loop
async def test_a_waiter_that_leaves_is_forgotten_and_what_it_asked_for_goes_on(tmp_path: Path) -> None:
    """A lost connection takes nothing back."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=DEAF))
        await world.until_logged(b"deaf\n")
        client = await world.client()
        client.ask("stop", programs=["web"])
        await world.until_state(State.STOPPING)
        client.close()
        await until(lambda: not world.runtime.watches._by_name)
        assert world.program().state is State.STOPPING
        assert world.program().desired is Desired.DOWN


@in_loop
async def test_wait_is_for_a_state(tmp_path: Path) -> None:
    """There already, reached later, or not in time; the answer is the record."""
    async with World(tmp_path) as world:
        world.add(
            world.spec(command="read x; exit 4", stdin=world.spec().stdin, restart=Restart.NEVER), start=False
        )
        client, other = await world.client(), await world.client()
        assert (await client.call("wait", program="web", **{"for": "stopped"}))["state"] == "STOPPED"
        refusal = await client.refusal("wait", program="web", timeout=0.01, **{"for": "running"})
        assert refusal["code"] == "TIMED_OUT"
        assert refusal["message"] == "web is STOPPED, and was not running within 0.01 s"
        assert refusal["data"]["record"]["name"] == "web"
        wait = client.ask("wait", program="web", **{"for": "exited"})
        await other.call("start", programs=["web"], wait=False)
        record = await client.answer(wait)
        assert record["state"] == "EXITED"
        assert record["exit"] == {"code": 4}
        refusal = await client.refusal("wait", program="web", **{"for": "lunch"})
        assert refusal["code"] == "BAD_REQUEST"


@in_loop
async def test_a_daemon_that_goes_down_starts_nothing_and_stops_what_is_asked(tmp_path: Path) -> None:
    """`start`, `restart` and `reload` are refused; who waits for a start learns that it will not be."""
    async with World(tmp_path) as world:
        world.add(world.spec("deaf", DEAF))
        await world.until_logged(b"deaf\n", "deaf")
        world.add(world.spec("slow", min_uptime_s=1000.0), start=False)
        client, other = await world.client(), await world.client()
        start = other.ask("start", programs=["slow"])
        await world.until_state(State.STARTING, "slow")
        assert await client.call("shutdown") == {}
        for method in ("start", "restart"):
            assert (await client.refusal(method, programs=["deaf"]))["code"] == "SHUTTING_DOWN"
            assert (await client.refusal(method, programs=["deaf"], wait=False))["code"] == "SHUTTING_DOWN"
        assert (await client.refusal("restart", programs=["deaf"], rolling=True))["code"] == "SHUTTING_DOWN"
        assert (await client.refusal("reload"))["code"] == "SHUTTING_DOWN"
        assert result(await other.answer(start)) == ("slow", False, "STOPPED")
        assert result(await client.call("stop", programs=["slow"])) == ("slow", True, "STOPPED")
        assert world.asked[0].startswith("shutdown by uid")


@in_loop
async def test_status_is_the_record_of_each_program(tmp_path: Path) -> None:
    """In the order of the configuration; what a process has used is read from the kernel."""
    async with World(tmp_path) as world:
        spec = world.spec(command=f"echo out; {WAITS}", description="says one thing")
        world.add(spec, world.spec("bad", ["/nowhere"], backoff=Backoff(initial_s=50, max_s=50, jitter=0)))
        world.add(world.spec("idle"), start=False)
        client = await world.client()
        await world.until_logged(b"out\n")
        web, bad, idle = (await client.call("status"))["programs"]
        assert (web["name"], web["state"], web["desired"], web["ready"]) == ("web", "RUNNING", "up", True)
        assert web["description"] == "says one thing"
        assert web["pid"] == world.program().pid
        assert 0 <= web["uptime_s"] < 100
        assert web["rss_bytes"] > 100_000
        assert web["cpu_s"] >= 0
        assert (web["uid"], web["gid"]) == (os.getuid(), os.getgid())
        path = str(world.log_of("web"))
        kept = {"path": path, "offset": 4, "dropped": 0, "trouble": ""}
        assert web["streams"] == {"stdout": kept, "stderr": {**kept, "merged": True}}
        assert (bad["state"], bad["pid"], bad["uptime_s"], bad["cpu_s"]) == ("BACKOFF", None, None, None)
        assert bad["next"]["action"] == "restart"
        assert 0 < bad["next"]["in_s"] <= 50
        assert (idle["state"], idle["desired"], idle["exit"], idle["next"]) == ("STOPPED", "down", None, None)
        assert idle["started_at"] is None


@in_loop
async def test_a_pattern_means_what_it_says(tmp_path: Path) -> None:
    """A name is all its instances; an instance, a glob, a label, a star; a mistake is refused with a hint."""
    async with World(tmp_path) as world:
        specs = [world.spec(f"web@{number}", instance=number, groups=("app",)) for number in range(3)]
        world.add(*specs, world.spec("worker", groups=("app",)), world.spec("db"), start=False)
        client = await world.client()

        async def meant(*patterns: str) -> list[str]:
            answer = await client.call("status", programs=list(patterns))
            return [record["name"] for record in answer["programs"]]

        webs = ["web@0", "web@1", "web@2"]
        assert await meant("web") == webs
        assert await meant("web@1") == ["web@1"]
        assert await meant("w*") == [*webs, "worker"]
        assert await meant("web@[02]") == ["web@0", "web@2"]
        assert await meant("app:") == [*webs, "worker"]
        assert await meant("*") == [*webs, "worker", "db"]
        assert await meant("db", "web@1", "web") == [*webs, "db"]
        refusal = await client.refusal("status", programs=["web", "wrker"])
        assert refusal["code"] == "NO_SUCH_PROGRAM"
        assert refusal["hint"] == "did you mean 'worker'?"
        assert refusal["data"] == {"pattern": "wrker"}
        refusal = await client.refusal("wait", program="web", **{"for": "running"})
        assert refusal["code"] == "BAD_REQUEST"
        assert refusal["hint"] == "name one of them: web@0, web@1, web@2"


@in_loop
async def test_a_signal_reaches_who_runs(tmp_path: Path) -> None:
    """One process or its group; of several programs those that run; of none, a refusal."""
    script = (
        'trap "echo main" USR1; sh -c \'trap "echo child" USR1; echo ready; while :; do sleep 0.01; done\' & '
    )
    async with World(tmp_path) as world:
        world.add(world.spec(command=script + "while :; do sleep 0.01; done"))
        world.add(world.spec("idle"), start=False)
        client = await world.client()
        await world.until_logged(b"ready\n")
        assert await client.call("signal", programs=["*"], signal="USR1") == {"signalled": ["web"]}
        await world.until_logged(b"main\n")
        assert b"child" not in world.log_of("web").read_bytes()
        assert await client.call("signal", programs=["web"], signal=10, group=True) == {"signalled": ["web"]}
        await world.until_logged(b"child\n")
        refusal = await client.refusal("signal", programs=["idle"], signal="HUP")
        assert refusal["code"] == "WRONG_STATE"
        assert "idle: not running" in refusal["message"]


@in_loop
async def test_a_signal_that_is_not_permitted_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the PID; a program that has become another user is none of ours to signal."""
    async with World(tmp_path) as world:
        world.add(world.spec())
        client = await world.client()
        pid = world.program().pid

        def refuse(number: int, _: int) -> None:
            raise PermissionError(1, "Operation not permitted", str(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", refuse)
            refusal = await client.refusal("signal", programs=["web"], signal="HUP")
        assert refusal["code"] == "FAILED"
        assert refusal["message"] == f"web (pid {pid}) cannot be signalled: Operation not permitted"


@in_loop
async def test_a_program_that_is_killed_from_outside_comes_back(tmp_path: Path) -> None:
    """And its record says how it ended."""
    async with World(tmp_path) as world:
        world.add(world.spec())
        client = await world.client()
        await client.call("signal", programs=["web"], signal="KILL")
        await until(lambda: world.program().restarts == 1)
        (record,) = (await client.call("status", programs=["web"]))["programs"]
        assert record["exit"] == {"signal": signal.SIGKILL, "core_dumped": False}
        assert record["restarts"] == 1


@in_loop
async def test_plan_and_reload_give_the_changes_or_all_mistakes(tmp_path: Path) -> None:
    """What is wrong is told whole, and nothing was changed."""
    async with World(tmp_path) as world:
        client = await world.client()
        world.changes = (PlanChange("web", Kind.RESTART, ("command", "user")),)
        expected = {"changes": [{"name": "web", "kind": "restart", "keys": ["command", "user"]}]}
        assert await client.call("plan") == expected
        assert world.asked == []
        assert await client.call("reload") == expected
        assert world.asked == [f"reload by uid {os.getuid()}, pid {os.getpid()}"]
        mistakes = tuple(Problem("f.toml", line, "key", "is wrong", "mend it") for line in (1, 2))
        world.mistakes = ConfigurationError(mistakes)
        for method in ("plan", "reload"):
            refusal = await client.refusal(method)
            assert refusal["code"] == "FAILED"
            assert refusal["message"] == "the configuration has 2 problems; nothing was changed"
            assert refusal["data"]["problems"] == [str(mistake) for mistake in mistakes]


@in_loop
async def test_a_shutdown_stops_everything_and_a_restart_in_between_is_none(tmp_path: Path) -> None:
    """A program that dies while procd goes down is not started again."""
    async with World(tmp_path) as world:
        world.add(world.spec("quick"), world.spec("deaf", DEAF))
        await world.until_logged(b"deaf\n", "deaf")
        world.runtime.submit(Shutdown(TEST))
        await world.until_state(State.STOPPED, "quick")
        assert not world.runtime.machine.at_rest()
        world.runtime.hurry("deaf")
        await until(world.runtime.machine.at_rest)
        assert world.program("quick").restarts == 0
        await asyncio.sleep(0)
        assert world.program("quick").pid is None


@in_loop
async def test_metrics_are_flat_numbers_that_the_page_names(tmp_path: Path) -> None:
    """They count what happened; a dashboard may rely on every one."""
    async with World(tmp_path) as world:
        world.add(world.spec("web", "echo hello; exec sleep 1000"), world.spec("off"), start=False)
        client = await world.client()
        await client.call("start", programs=["web"])
        await world.until_logged(b"hello")
        world.add(world.spec("broken", ["/no/such/command"], restart=Restart.NEVER))
        await client.refusal("status", programs=["nothing"])
        found = await client.call("metrics")
        assert all(type(value) in {int, float} for value in found.values())
        expected = {
            "programs": 3, "programs_running": 1, "programs_stopped": 1, "programs_fatal": 1, "log_bytes": 6,
            "spawns": 1, "spawns_failed": 1, "connections": 1, "connections_accepted": 1, "requests": 3,
            "requests_refused": 1, "restarts": 0, "connections_refused": 0,
        }  # fmt: skip
        assert {name: found[name] for name in expected} == expected
        assert found["rss_bytes"] > 1_000_000
        assert found["uptime_s"] > 0
        page = (Path(__file__).parents[2] / "docs/reference/protocol.md").read_text()
        words = set(re.findall(r"`([a-z_]+)`", page.split("### Metrics")[1].split("###")[0]))
        assert {name for name in found if not name.startswith("programs_")} | {"programs_stopped"} == words


@in_loop
async def test_what_does_not_die_is_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was killed in vain, as one that hangs in the kernel: nobody waits for it without end."""
    monkeypatch.setattr("procd.core.lives.KILL_GRACE_S", 0.05)
    async with World(tmp_path) as world:
        world.add(world.spec(command=DEAF, stop_timeout_s=0.05))
        await world.until_logged(b"deaf\n")
        pid = world.program().pid
        assert pid is not None
        client = await world.client()
        with monkeypatch.context() as in_vain:
            in_vain.setattr(world.runtime.emptiness, "kill", lambda _: None)
            first = await client.call("stop", programs=["web"])
            assert result(first) == ("web", False, "FATAL")
            for verb in ("stop", "start", "restart", "stop"):
                answer = await client.call(verb, programs=["web"])
                assert result(answer) == ("web", False, "FATAL")
                assert f"process {pid} does not die" in answer["programs"][0]["reason"]
            rolled = await client.call("restart", programs=["web"], rolling=True)
            assert result(rolled) == ("web", False, "FATAL")
            world.add(world.spec("app", depends_on=(Dependency("web", Condition.READY),)), start=False)
            waits = await client.call("start", programs=["app"])
            assert result(waits) == ("app", False, "WAITING")
            assert "waits for web, which is FATAL" in waits["programs"][0]["reason"]
            for name in ("app", "web"):
                await client.call("stop", programs=[name])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: world.program().state is State.STOPPED)
