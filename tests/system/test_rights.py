"""Rights, with real users: every right by itself against every method; groups; what is not there for whom."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from procd.control.methods import METHODS
from procd.wire import Connection, Notification, Request, Response
from tests.kernel.children import needs_root
from tests.system.daemon import BOUND_S, until
from tests.system.strangers import connecting_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.system.daemon import Daemon

pytestmark = needs_root

#: Which right each method needs; None: none.  Written down here once more, because it is a promise.
RIGHT_OF = {
    "hello": None, "cancel": None, "resize": None,
    "status": "status", "wait": "status", "why": "status", "metrics": "status",
    "logs": "logs", "events": "events",
    "start": "start", "stop": "stop", "restart": "restart", "signal": "signal", "rotate": "rotate",
    "write": "write", "close": "write", "attach": "attach",
    "run": "run", "forget": "run",
    "plan": "reload", "reload": "reload", "upgrade": "upgrade", "shutdown": "shutdown",
}  # fmt: skip

#: What each method is asked with; `NAME` becomes the name of a program.
PARAMS: dict[str, dict[str, Any]] = {
    "hello": {}, "cancel": {"stream": 1}, "resize": {"stream": 1, "rows": 1, "columns": 1},
    "status": {"programs": ["NAME"]}, "wait": {"program": "NAME", "for": "running", "timeout": 0},
    "why": {"program": "NAME"}, "metrics": {}, "logs": {"program": "NAME"}, "events": {},
    "start": {"programs": ["NAME"], "wait": False}, "stop": {"programs": ["NAME"], "wait": False},
    "restart": {"programs": ["NAME"], "wait": False}, "signal": {"programs": ["NAME"], "signal": "CONT"},
    "rotate": {"programs": ["NAME"]}, "write": {"program": "NAME", "data": b"x"},
    "close": {"program": "NAME", "stream": "stdin"}, "attach": {"program": "NAME"},
    "run": {"spec": {"command": "true", "name": "NAME"}}, "forget": {"programs": ["NAME"]},
    "plan": {}, "reload": {}, "upgrade": {}, "shutdown": {},
}  # fmt: skip

WHOLE = {"reload", "upgrade", "shutdown"}
RIGHTS = sorted({right for right in RIGHT_OF.values() if right})
#: One user for each right.
UID_OF = {right: 61000 + number for number, right in enumerate(RIGHTS)}
ANN, BOB, CARL, DORA = 60001, 60002, 60003, 60004
APP, OPS = 60100, 60101


def _rule(right: str) -> str:
    programs = "" if right in WHOLE else 'programs = ["web"]\n'
    return f'[[control.allow]]\nusers = [{UID_OF[right]}]\n{programs}actions = ["{right}"]\n'


CONFIGURATION = f"""
[control]
mode = "0666"

{"".join(map(_rule, RIGHTS))}

[[control.allow]]
users = [{ANN}]
programs = ["web", "job-*"]
actions = ["operate", "run"]

[[control.allow]]
groups = [{APP}]
programs = ["app:"]
actions = ["read"]

[[control.allow]]
groups = [{OPS}]
actions = ["all"]

[programs.web]
command = "echo hello from web; exec cat"
shell = true
stdin = "pipe"
groups = ["app"]
depends_on = ["secretbase"]
stop_timeout = "200ms"

[programs.secretbase]
command = ["sleep", "1000"]

[programs.worker]
command = ["sleep", "1000"]
groups = ["app"]
"""


class Peer:
    """A connection of some user."""

    def __init__(self, daemon: Daemon, uid: int, gid: int = 65534, groups: Iterable[int] = ()) -> None:
        self._wire = Connection.of_client()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(BOUND_S)
        self._messages: list[Any] = []
        self.heard: list[Notification] = []
        self._last = 0
        try:
            with connecting_as(daemon.socket, uid, gid, groups) as path:
                self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Peer:  # noqa: PYI034 - not for subclasses
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, **params: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:  # noqa: ANN401
        """Ask, and wait for the answer: its error and its result."""
        self._last += 1
        self._socket.sendall(self._wire.send(Request(self._last, method, params)))
        while True:
            message = self._next()
            if isinstance(message, Response):
                return message.error, message.result
            self.heard.append(message)

    def _next(self) -> Any:  # noqa: ANN401 - a message
        while not self._messages:
            data = self._socket.recv(65536)
            assert data, "procd has closed the connection"
            self._messages += self._wire.receive(data)
        return self._messages.pop(0)

    def stream(self) -> list[Any]:
        """What the stream that was begun last says until its end."""
        said = []
        while True:
            message = self.heard.pop(0) if self.heard else self._next()
            if message.method == "stream.end":
                return said
            said.append(message.params[1])

    def names(self) -> list[str]:
        """The programs that there are for this peer."""
        error, result = self.ask("status")
        assert error is None, error
        assert result is not None
        return [record["name"] for record in result["programs"]]


def asked_with(method: str, name: str) -> dict[str, Any]:
    """The parameters of a method, about a program."""

    def put(value: Any) -> Any:  # noqa: ANN401 - what travels on the wire
        if isinstance(value, dict):
            return {key: put(item) for key, item in value.items()}
        if isinstance(value, list):
            return [put(item) for item in value]
        return name if value == "NAME" else value

    asked: dict[str, Any] = put(PARAMS[method])
    return asked


@pytest.fixture(scope="module")
def daemon(shared: Daemon) -> Daemon:
    """A daemon that everybody can connect to."""
    shared.until_output("web", b"hello")
    return shared


def test_the_table_has_every_method() -> None:
    """A method that is added is added here, with the right that it needs."""
    assert set(METHODS) <= set(RIGHT_OF)
    assert set(RIGHT_OF) - set(METHODS) <= {"rotate", "upgrade"}
    assert {name: method.right.value for name, method in METHODS.items()} == {
        name: RIGHT_OF[name] or "none" for name in METHODS
    }


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"shutdown", "upgrade"}))
@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_allows_its_methods_and_no_other(daemon: Daemon, right: str, method: str) -> None:
    """Whoever lacks it is told which one it is, and nothing else: neither names nor states."""
    needed = RIGHT_OF[method]
    name = "web" if method != "run" else "job-x"
    with Peer(daemon, UID_OF[right]) as peer:
        error, _ = peer.ask(method, **asked_with(method, name))
        if needed is None or (needed == right and method != "run"):
            assert error is None or error["code"] != "NOT_PERMITTED", error
        else:
            assert error is not None
            assert error["code"] == "NOT_PERMITTED", error
            assert error["data"] == {"right": needed}
            assert set(error) == {"code", "message", "hint", "data"}
            assert error["message"] == f"uid {UID_OF[right]} lacks the right {needed!r}"
    daemon.does("start", "*")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_without_a_rule_nothing_is_allowed(daemon: Daemon, method: str) -> None:
    """Only to ask who answers."""
    with Peer(daemon, DORA) as peer:
        for name in ("web", "nothing"):
            error, result = peer.ask(method, **asked_with(method, name))
            if RIGHT_OF[method] is not None:
                assert error is not None
                assert (error["code"], error["data"]) == ("NOT_PERMITTED", {"right": RIGHT_OF[method]})
            elif method == "hello":
                assert result is not None
                assert result["you"]["rights"] == []


@pytest.mark.parametrize(
    "method", [name for name in sorted(METHODS) if "NAME" in str(PARAMS[name]) and name != "run"]
)
@pytest.mark.parametrize("pattern", ["{}", "{}*", "{}:"])
def test_what_may_not_be_seen_is_answered_as_what_is_not_there(
    daemon: Daemon, method: str, pattern: str
) -> None:
    """To the letter, with everything that comes with it."""
    with Peer(daemon, ANN) as peer:
        answers = []
        for name in ("secretbase", "fooooobarx"):
            error, result = peer.ask(method, **asked_with(method, pattern.format(name)))
            answers.append(repr((error, result)).replace(name, "NAME"))
    assert answers[0] == answers[1]


def test_patterns_mean_what_may_be_seen(daemon: Daemon) -> None:
    """Ann has the program `web`, members of the group `app` have its label, ops have everything, root too."""
    with Peer(daemon, ANN) as ann, Peer(daemon, BOB, groups=[APP]) as bob, Peer(daemon, CARL, gid=APP) as carl:
        assert ann.names() == ["web"]
        assert bob.names() == carl.names() == ["web", "worker"]
        _, hello = bob.ask("hello")
        assert hello is not None
        assert hello["you"] == {
            "uid": BOB, "gid": 65534, "groups": sorted([65534, APP]), "pid": os.getpid(),
            "rights": ["events", "logs", "status"],
            "rules": [{"programs": ["app:"], "rights": ["events", "logs", "status"]}],
        }  # fmt: skip
    with Peer(daemon, DORA, groups=[5, OPS, 7]) as ops, Peer(daemon, 0, 0) as root:
        assert sorted(ops.names()) == sorted(root.names()) == ["secretbase", "web", "worker"]


def test_a_group_that_was_left_before_connecting_counts_no_more(daemon: Daemon) -> None:
    """It is the process that counts, not the group database."""
    with Peer(daemon, BOB, groups=[]) as peer:
        error, _ = peer.ask("status")
        assert error is not None
        assert error["code"] == "NOT_PERMITTED"


def test_a_change_is_refused_as_a_whole_and_a_look_is_narrowed(daemon: Daemon) -> None:
    """`app:` means two programs to whoever is ann and in the group; one of them she may only read."""
    with Peer(daemon, ANN, groups=[APP]) as peer:
        assert peer.names() == ["web", "worker"]
        error, _ = peer.ask("restart", programs=["app:"])
        assert error is not None
        assert (error["code"], error["data"]) == ("NOT_PERMITTED", {"right": "restart"})
        error, result = peer.ask("restart", programs=["web"])
        assert error is None
        assert result is not None
        assert result["programs"][0]["ok"]


def test_reasons_and_causes_name_nobody_who_may_not_be_seen(daemon: Daemon) -> None:
    """`web` waits for a program that ann does not know; she learns that it waits, and not for whom."""
    daemon.does("stop", "web", "secretbase")
    with Peer(daemon, 0, 0) as root, Peer(daemon, ANN) as ann:
        root.ask("start", programs=["web"], wait=False)
        daemon.until_state("web", "RUNNING")
        _, _ = root.ask("stop", programs=["secretbase"], wait=False)
        for method in ("status", "why", "wait", "metrics", "start", "stop", "restart"):
            params = asked_with(method, "web")
            if method in {"start", "stop", "restart"}:
                params["wait"] = True
            answer = ann.ask(method, **params)
            assert "secretbase" not in repr(answer), method
        answer = ann.ask("events")
        assert answer[0] is None
        said = repr(ann.stream())
        assert "secretbase" not in said
        assert "'program': 'web'" in said
        assert "'worker'" not in said
    daemon.does("start", "*")


def test_events_of_procd_as_a_whole_are_for_those_who_see_everything(daemon: Daemon) -> None:
    """What a reload did, or who asked for several programs, would name others."""
    daemon.does("reload")
    daemon.does("restart", "web", "worker")
    with Peer(daemon, 0, 0) as root, Peer(daemon, BOB, groups=[APP]) as bob:
        root.ask("events")
        bob.ask("events")
        assert [event for batch in root.stream() for event in batch["events"] if event["program"] is None]
        assert not [event for batch in bob.stream() for event in batch["events"] if event["program"] is None]


def test_what_was_asked_for_stands_in_the_log_and_among_the_events(
    start_daemon: Callable[..., Daemon],
) -> None:
    """uid, gid, pid, verb, programs, outcome; of what was refused, too."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_state("web", "RUNNING")
    with Peer(daemon, ANN) as ann, Peer(daemon, 0, 0) as root:
        ann.ask("signal", programs=["web"], signal="CONT")
        ann.ask("shutdown")
        root.ask("events")
        requests = [
            event for batch in root.stream() for event in batch["events"]
            if event["type"] == "request" and event["by"]["uid"] == ANN
        ]  # fmt: skip
    by = {"uid": ANN, "gid": 65534, "pid": os.getpid()}
    assert [
        {key: event[key] for key in ("program", "method", "programs", "outcome", "by")} for event in requests
    ] == [
        {"program": "web", "method": "signal", "programs": ["web"], "outcome": "done", "by": by},
        {"program": None, "method": "shutdown", "programs": [], "outcome": "NOT_PERMITTED", "by": by},
    ]
    line = daemon.until_said("method=signal", f"uid={ANN}")
    for fact in ("gid=65534", f"peer_pid={os.getpid()}", "programs=['web']", "outcome=done"):
        assert fact in line


def test_refusals_of_a_stranger_cannot_fill_the_log(start_daemon: Callable[..., Daemon]) -> None:
    """A few a minute have lines of their own; the rest is counted, in one line, also at the end."""
    daemon = start_daemon(CONFIGURATION)
    with Peer(daemon, DORA) as peer:
        for _ in range(300):
            peer.ask("stop", programs=["web"])
    daemon.stop()
    said = daemon.said.read_text().splitlines()
    assert sum("outcome=NOT_PERMITTED" in line for line in said) == 20
    assert sum("requests refused" in line and "more=280" in line for line in said) == 1


def test_rules_of_a_reload_hold_at_the_next_request(start_daemon: Callable[..., Daemon]) -> None:
    """For connections that are open as well; nothing else of [control] changes."""
    daemon = start_daemon(CONFIGURATION)
    with Peer(daemon, ANN) as ann, Peer(daemon, DORA) as dora:
        assert ann.names() == ["web"]
        daemon.write(CONFIGURATION.replace(f"users = [{ANN}]", f"users = [{DORA}]"))
        plan = daemon.does("reload", "--dry-run")
        assert "allow" in plan
        assert ann.names() == ["web"]
        daemon.does("reload")
        error, _ = ann.ask("status")
        assert error is not None
        assert error["code"] == "NOT_PERMITTED"
        assert dora.names() == ["web"]


def test_a_program_of_an_ordinary_user_runs_as_that_user(daemon: Daemon) -> None:
    """All groups of the process that asked, and no other; and nobody else without the right."""
    with Peer(daemon, ANN, groups=[APP, 60109]) as ann:
        spec = {"command": "id -u; id -g; id -G", "shell": True, "name": "job-id"}
        error, _ = ann.ask("run", spec=spec)
        assert error is None
        ann.ask("wait", program="job-id", **{"for": "exited"})
        words = daemon.output("job-id").decode().split()
        assert words[:2] == [str(ANN), "65534"]
        assert {int(word) for word in words[2:]} == {65534, APP, 60109}
        for keys in ({"user": "root"}, {"user": ANN, "group": OPS}, {"user": DORA}):
            error, _ = ann.ask("run", spec={**spec, **keys, "name": "job-other"})
            assert error is not None
            assert error["code"] in {"NOT_PERMITTED", "FAILED"}, error
            if error["code"] == "NOT_PERMITTED":
                assert error["data"] == {"right": "run-as"}
        error, _ = ann.ask("run", spec={**spec, "name": "other"})
        assert error is not None
        assert error["data"] == {"right": "run"}


def test_a_reload_leaves_what_is_run_alone_until_the_file_names_it(start_daemon: Callable[..., Daemon]) -> None:
    """Then it is the file's, with the file's command."""
    daemon = start_daemon(CONFIGURATION)
    with Peer(daemon, 0, 0) as root:
        root.ask("run", spec={"command": ["sleep", "1000"], "name": "extra"})
        pid = daemon.process("extra")
        assert "extra" not in daemon.does("reload", "--dry-run")
        daemon.does("reload")
        assert daemon.process("extra") == pid
        assert daemon.record("extra")["transient"]
        daemon.write(CONFIGURATION + '[programs.extra]\ncommand = ["sleep", "2000"]\n')
        daemon.does("reload")
        until(lambda: daemon.record("extra")["pid"] not in {None, pid}, "the program of the file")
        assert not daemon.record("extra")["transient"]
        error, _ = root.ask("forget", programs=["extra"])
        assert error is not None
        daemon.write(CONFIGURATION)
        daemon.does("reload")
        until(lambda: "extra" not in daemon.records(), "it to be gone")
