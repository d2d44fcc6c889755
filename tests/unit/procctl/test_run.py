"""`procctl run`: what it asks, and how it exits; and the verbs that are as short as their question."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from procctl.cli import run
from tests.unit.procctl.test_verbs import answering

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.procctl.fake_daemon import FakeDaemon, Peer

    StartDaemon = Callable[..., FakeDaemon]
    Capture = pytest.CaptureFixture[str]

RECORD: dict[str, Any] = {
    "name": "run-1", "state": "STARTING", "reason": "run requested",
    "streams": {"stdout": {"path": "/log", "offset": 100}},
}  # fmt: skip


def test_what_was_typed_is_what_is_run(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Options behind the command are its own, and a dollar is a dollar: the shell has expanded its own."""
    daemon = start_daemon(run=answering(RECORD))
    words = ["--name", "n", "--user", "u", "-e", "A=1=2", "-e", "B=$x", "--directory", "/$", "--stdin"]
    assert run(["run", *words, "--rm", "--", "sh", "-c", "echo $$", "--name"]) == 0
    assert capfd.readouterr().out == "run-1: STARTING, run requested\n"
    spec = {
        "command": ["sh", "-c", "echo $$$$", "--name"], "name": "n", "user": "u", "stdin": "pipe", "rm": True,
        "environment": {"A": "1=2", "B": "$$x"}, "directory": "/$$",
    }  # fmt: skip
    assert daemon.requests == [("run", {"spec": spec})]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run"], "Missing argument 'COMMAND...'"),
        (["run", "-e", "A", "--", "true"], "'A' is not NAME=VALUE"),
        (["run", "-e", "=1", "--", "true"], "'=1' is not NAME=VALUE"),
    ],
)
def test_wrong_usage_is_told(capfd: Capture, words: list[str], complaint: str) -> None:
    """Before anything is asked."""
    assert run(words) == 2
    assert complaint in capfd.readouterr().err


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ({"code": 0}, 0, ""),
        ({"code": 7}, 7, ""),
        ({"signal": 9, "core_dumped": False}, 137, ""),
        ({"unknown": True}, 1, "how run-1 ended is not known"),
        (None, 1, "run-1 did not start: no such file"),
    ],
)
def test_following_exits_as_the_program_did(
    start_daemon: StartDaemon, capfd: Capture, how: dict[str, Any] | None, code: int, said: str
) -> None:
    """Its output comes first, each byte once, from where its log was at its start."""
    ended = {**RECORD, "state": "EXITED", "exit": how, "reason": "no such file"}
    streams = iter([1, 2])

    def logs(peer: Peer, params: dict[str, Any]) -> dict[str, Any]:
        number = next(streams)
        if params.get("follow"):
            peer.notify_afterwards("stream.data", number, {"data": b"one\n", "offset": 100})
        else:
            peer.notify_afterwards("stream.data", number, {"data": b"two\n", "offset": params["offset"]})
            peer.notify_afterwards("stream.end", number, {"reason": "end of log"})
        return {"stream": number, "offset": params["offset"]}

    def wait(peer: Peer, _: dict[str, Any]) -> object:
        # The answer comes behind what the stream of the next request brings.
        return peer.answer_later(ended)

    daemon = start_daemon(
        run=answering(RECORD), wait=wait, logs=logs, cancel=answering({}), forget=answering({"forgotten": []})
    )
    assert run(["run", "-f", "--rm", "--", "x"]) == code
    out, err = capfd.readouterr()
    assert out == "one\ntwo\n"
    assert said in err
    assert [method for method, _ in daemon.requests] == ["run", "wait", "logs", "cancel", "logs", "forget"]
    assert "rm" not in daemon.requests[0][1]["spec"], "it is forgotten when its output has been read"
    assert daemon.requests[2][1]["offset"] == 100
    assert daemon.requests[4][1] == {"program": "run-1", "offset": 104}


def test_rotate_says_what_became_of_each(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Exit status 1 when any failed."""
    rows = [{"name": "web", "ok": True, "reason": ""}, {"name": "db", "ok": False, "reason": "disk full"}]
    daemon = start_daemon(rotate=answering({"programs": rows}))
    assert run(["rotate", "--all"]) == 1
    assert capfd.readouterr().out == "web: rotated\ndb: failed: disk full\n"
    assert daemon.requests == [("rotate", {"programs": ["*"]})]


def test_forget_says_what_is_gone(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Patterns, and a line for each name."""
    daemon = start_daemon(forget=answering({"forgotten": ["run-1", "run-2"]}))
    assert run(["forget", "run-*"]) == 0
    assert capfd.readouterr().out == "run-1: forgotten\nrun-2: forgotten\n"
    assert daemon.requests == [("forget", {"programs": ["run-*"]})]
    assert run(["forget"]) == 2


def test_metrics_are_one_a_line(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Aligned; in JSON as they came."""
    start_daemon(metrics=answering({"programs": 3, "uptime_s": 1.5}))
    assert run(["metrics"]) == 0
    assert capfd.readouterr().out == "programs  3\nuptime_s  1.5\n"
    assert run(["metrics", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"programs": 3, "uptime_s": 1.5}
