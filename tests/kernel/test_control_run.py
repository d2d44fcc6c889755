"""Programs that are in no file: run, forgotten, and with nothing that whoever asked has not."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from procd.config.access import Right, Rule
from procd.control import Access
from procd.control.access import Peer
from procd.control.methods import running
from procd.core import State
from tests.kernel.children import in_loop, needs_root, until
from tests.world import WAITS, World

if TYPE_CHECKING:
    from pathlib import Path

ANN = Peer(42, 65534, 65534, frozenset({65534, 4242}))


def allowing(*rights: Right, programs: tuple[str, ...] = ("*",)) -> Access:
    """Rules that give Ann these rights."""
    return Access([Rule(uids=frozenset({ANN.uid}), programs=programs, rights=frozenset(rights))])


def shell(script: str, **keys: Any) -> dict[str, Any]:  # noqa: ANN401 - what travels on the wire
    """The spec of a line of shell."""
    return {"command": script, "shell": True, **keys}


@in_loop
async def test_a_program_that_is_in_no_file_is_run(tmp_path: Path) -> None:
    """It is a program as any other: a record, a log, a state; and once, unless it says otherwise."""
    async with World(tmp_path) as world:
        client = await world.client()
        record = await client.call("run", spec=shell("echo hello from $WHO", environment={"WHO": "here"}))
        assert record["name"] == "run-1"
        assert record["pid"]
        await world.until_state(State.EXITED, "run-1")
        await world.until_moved("run-1")
        assert world.log_of("run-1").read_bytes() == b"hello from here\n"
        (found,) = (await client.call("status", programs=["run-1"]))["programs"]
        assert found["exit"] == {"code": 0}
        assert (await client.call("run", spec={"command": ["true"], "name": None}))["name"] == "run-2"


@in_loop
async def test_it_can_have_a_name_and_be_operated(tmp_path: Path) -> None:
    """Stopped, started again, forgotten."""
    async with World(tmp_path) as world:
        client = await world.client()
        await client.call("run", spec=shell(WAITS, name="job", groups=["batch"]))
        assert (await client.call("stop", programs=["batch:"]))["programs"][0]["ok"]
        await client.call("start", programs=["job"], wait=False)
        await until(lambda: world.program("job").pid)
        refusal = await client.refusal("forget", programs=["job"])
        assert (refusal["code"], refusal["hint"]) == ("WRONG_STATE", "stop it first")
        await client.call("stop", programs=["job"])
        assert await client.call("forget", programs=["job"]) == {"forgotten": ["job"]}
        assert world.runtime.machine.programs == {}
        assert len(world.runtime.transients) == 0
        assert (await client.call("run", spec=shell("true", name="job")))["name"] == "job"


@in_loop
async def test_what_is_in_the_file_is_not_forgotten(tmp_path: Path) -> None:
    """Nor is its name free."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        client = await world.client()
        assert (await client.refusal("forget", programs=["web"]))["code"] == "WRONG_STATE"
        assert (await client.refusal("run", spec=shell("true", name="web")))["code"] == "WRONG_STATE"
        assert world.program().state is State.STOPPED


@pytest.mark.parametrize("script", ["echo done", "exit 3", "kill -9 $$"])
@in_loop
async def test_with_rm_it_is_forgotten_when_it_has_ended(tmp_path: Path, script: str) -> None:
    """However it ended; a follower gets all of its output and is told; its log file stays."""
    os.mkfifo(tmp_path / "go")
    async with World(tmp_path) as world:
        client = await world.client()
        await client.call(
            "run", spec=shell(f"echo begin; read go < {tmp_path}/go; {script}", rm=True, name="once")
        )
        await world.until_logged(b"begin", "once")
        await client.call("logs", program="once", follow=True)
        # A restart is no end.
        await client.call("restart", programs=["once"], wait=False)
        await world.until_logged(b"begin\nbegin", "once")
        os.close(os.open(tmp_path / "go", os.O_WRONLY))
        await until(lambda: not world.runtime.machine.programs)
        said = b""
        while (note := await client.notification())[0] != "stream.end":
            said += note[1].get("data", b"")
        assert said == world.log_of("once").read_bytes()
        assert note[1]["reason"] == "the program was removed"


@in_loop
async def test_what_cannot_be_executed_is_answered_and_forgotten(tmp_path: Path) -> None:
    """The record says why; nothing is left of it with `rm`."""
    async with World(tmp_path) as world:
        client = await world.client()
        (tmp_path / "no-program").write_text("\0")
        (tmp_path / "no-program").chmod(0o755)
        record = await client.call("run", spec={"command": [f"{tmp_path}/no-program"], "rm": True})
        assert record["state"] in {"FATAL", "EXITED"}
        assert "no-program" in record["reason"]
        await until(lambda: world.runtime.machine.programs == {})


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({}, "BAD_REQUEST", "a map that is not empty"),
        ({"name": 5, "command": "x"}, "BAD_REQUEST", "name"),
        ({"rm": "yes", "command": "x"}, "BAD_REQUEST", "rm"),
        ({"rm": True}, "FAILED", "command"),
        ({"command": "true", "name": "a/b"}, "FAILED", "not the name of a program"),
        ({"command": "true", "name": ".."}, "FAILED", "not the name of a program"),
        ({"command": "true", "comand": 1}, "FAILED", "did you mean 'command'?"),
        ({"command": "true", "log": {"path": "/etc/passwd"}}, "FAILED", "in no file"),
        ({"command": "true", "environment_files": ["/etc/shadow"]}, "FAILED", "in no file"),
        ({"command": "true", "inherit_environment": True}, "FAILED", "in no file"),
        ({"command": "true", "capabilities": ["SYS_ADMIN"]}, "FAILED", "in no file"),
        ({"command": "true", "essential": True}, "FAILED", "in no file"),
        ({"command": "true", "instances": 2}, "FAILED", "in no file"),
        ({"command": "true", "user": "no-such-user"}, "FAILED", "no user"),
        ({"command": b"true"}, "FAILED", "command"),
        ({"command": ["true", 5]}, "FAILED", "command[1]"),
        ({"command": "no-such-command-anywhere"}, "FAILED", "no-such-command-anywhere"),
        ({"command": "true", "directory": "/no/such/place"}, "FAILED", "/no/such/place"),
    ],
)
@in_loop
async def test_mistakes_come_back_as_problems(
    tmp_path: Path, spec: dict[str, Any], code: str, words: str
) -> None:
    """In the words of `procd check`; nothing is started."""
    async with World(tmp_path) as world:
        client = await world.client()
        refusal = await client.refusal("run", spec=spec)
        assert refusal["code"] == code
        assert words in f"{refusal['message']} {refusal['hint']}"
        if code == "FAILED":
            assert refusal["data"]["problems"]
        assert world.runtime.machine.programs == {}


@in_loop
async def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    """As of a file."""
    async with World(tmp_path) as world:
        client = await world.client()
        spec = {"command": "", "umask": "9", "stop_signal": "NOSUCH", "limits": {}}
        assert len((await client.refusal("run", spec=spec))["data"]["problems"]) == 4


@in_loop
async def test_there_is_a_bound_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a loop in somebody's script would fill the daemon."""
    monkeypatch.setattr(running, "MAX_TRANSIENT", 2)
    async with World(tmp_path) as world:
        client = await world.client()
        for _ in range(2):
            await client.call("run", spec={"command": "true"})
        assert (await client.refusal("run", spec={"command": "true"}))["code"] == "TOO_LARGE"


# Who it runs as


@pytest.fixture
def as_ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every peer is Ann."""
    monkeypatch.setattr(Peer, "of", lambda _: ANN)


IDENTITY = "id -u; id -g; id -G | tr ' ' '\\n' | sort -n; env | grep -c '^SECRET=' || true"


@needs_root
@pytest.mark.usefixtures("as_ann")
@pytest.mark.parametrize("keys", [{}, {"user": 65534}])
@in_loop
async def test_a_program_of_an_ordinary_user_runs_as_that_user(tmp_path: Path, keys: dict[str, Any]) -> None:
    """User, group and all groups of the process that asked; nothing of procd's own environment."""
    async with World(tmp_path) as world:
        world.access = allowing(Right.RUN)
        client = await world.client()
        await client.call("run", spec=shell(IDENTITY, **keys))
        await world.until_state(State.EXITED, "run-1")
        await world.until_moved("run-1")
        assert world.log_of("run-1").read_text().split() == ["65534", "65534", "4242", "65534", "0"]


@needs_root
@pytest.mark.usefixtures("as_ann")
@pytest.mark.parametrize(
    "keys",
    [
        {"user": "root"},
        {"user": 0},
        {"user": 65534, "group": 0},
        {"user": 65534, "supplementary_groups": [0]},
        {"user": 65534, "group": 65534, "supplementary_groups": [4242, 4]},
        {"group": 4242},
        {"supplementary_groups": []},
        {"user": 1},
    ],
)
@in_loop
async def test_another_user_or_group_is_a_right_of_its_own(tmp_path: Path, keys: dict[str, Any]) -> None:
    """`group` alone would mean procd's user, who is root."""
    async with World(tmp_path) as world:
        world.access = allowing(Right.RUN)
        client = await world.client()
        refusal = await client.refusal("run", spec=shell(IDENTITY, **keys))
        assert (refusal["code"], refusal["data"]) == ("NOT_PERMITTED", {"right": "run-as"})
        assert world.runtime.machine.programs == {}
        world.access = allowing(Right.RUN, Right.RUN_AS)
        assert (await client.call("run", spec=shell(IDENTITY, **keys)))["name"].startswith("run-")


@needs_root
@pytest.mark.usefixtures("as_ann")
@in_loop
async def test_with_the_right_a_program_that_names_nobody_still_runs_as_its_caller(tmp_path: Path) -> None:
    """Root is never a default."""
    async with World(tmp_path) as world:
        world.access = allowing(Right.RUN, Right.RUN_AS)
        assert (await (await world.client()).call("run", spec=shell(IDENTITY)))["uid"] == 65534


@needs_root
@pytest.mark.usefixtures("as_ann")
@in_loop
async def test_a_rule_for_some_names_is_for_these(tmp_path: Path) -> None:
    """And a name that is made up is one of them or is refused."""
    async with World(tmp_path) as world:
        world.access = allowing(Right.RUN, Right.STATUS, programs=("job-*",))
        client = await world.client()
        for spec in ({"command": "true"}, {"command": "true", "name": "other"}):
            refusal = await client.refusal("run", spec=spec)
            assert (refusal["code"], refusal["data"]) == ("NOT_PERMITTED", {"right": "run"})
        await client.call("run", spec={"command": "true", "name": "job-1"})
        assert [each["name"] for each in (await client.call("status"))["programs"]] == ["job-1"]


@needs_root
@pytest.mark.usefixtures("as_ann")
@in_loop
async def test_nobody_learns_by_running_what_there_is(tmp_path: Path) -> None:
    """A path that the caller cannot look at is the same, be there something or not: it fails in the child."""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "there").write_text("#!/bin/sh\n")
    (secret / "there").chmod(0o755)
    async with World(tmp_path) as world:
        world.access = allowing(Right.RUN, Right.STATUS)
        client = await world.client()
        reasons = []
        for name in ("there", "away"):
            for key in ("command", "directory"):
                spec: dict[str, Any] = {"command": ["/bin/true"], key: f"{secret}/{name}"}
                spec["command"] = [spec["command"]] if key == "command" else spec["command"]
                record = await client.call("run", spec=spec)
                await until(
                    lambda name=record["name"]: world.program(name).state in {State.FATAL, State.EXITED}
                )
                reason = (await client.call("why", program=record["name"]))["reason"]
                reasons.append(reason.replace(name, "NAME"))
        assert reasons[:2] == reasons[2:]
        assert all("ermission denied" in reason for reason in reasons), reasons


@in_loop
async def test_it_is_noted_who_ran_what(tmp_path: Path) -> None:
    """In the history of the program, as every request that changes something."""
    async with World(tmp_path) as world:
        client = await world.client()
        before = time.time()
        await client.call("run", spec={"command": "true", "name": "noted"})
        records = [each for each in world.runtime.journal.since(0, 100) if each.type == "request"]
        assert [(each.program, each.to_wire()["method"], each.to_wire()["outcome"]) for each in records] == [
            ("noted", "run", "done")
        ]
        assert records[0].time >= before
        assert records[0].to_wire()["by"] == {"uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid()}


@in_loop
async def test_a_log_that_is_asked_for_while_its_program_is_forgotten_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logger is asked first whether all is written, and meanwhile the program may go (found by chance)."""
    async with World(tmp_path) as world:
        client = await world.client()
        await client.call("run", spec=shell(WAITS, name="brief"))

        async def sync(*_: object) -> bool:
            world.remove("brief")
            await until(lambda: not world.runtime.machine.programs)
            return True

        monkeypatch.setattr(world.runtime.around.logs, "sync", sync)
        refusal = await client.refusal("logs", program="brief")
        assert (refusal["code"], refusal["message"]) == ("NO_SUCH_PROGRAM", "brief was removed meanwhile")


@in_loop
async def test_a_rolling_restart_goes_on_when_one_of_the_programs_is_removed(tmp_path: Path) -> None:
    """It is told that it was; the one behind it is restarted (found by chance)."""
    async with World(tmp_path) as world:
        slow = world.spec("a", min_uptime_s=0.5)
        world.add(slow, world.spec("b"), world.spec("c"))
        client = await world.client()
        await world.until_state(State.RUNNING, "a")
        before = world.program("c").pid
        number = client.ask("restart", programs=["a", "b", "c"], rolling=True)
        await until(lambda: world.program("a").state is State.STARTING)
        world.remove("b")
        rows = (await client.answer(number))["programs"]
        assert [(row["name"], row["ok"]) for row in rows] == [("a", True), ("b", False), ("c", True)]
        assert rows[1]["reason"] == "removed meanwhile"
        assert world.program("c").pid != before
