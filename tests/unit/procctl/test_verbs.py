"""The verbs: what each asks the daemon, prints, and exits with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from procctl.cli import run
from procd import __version__
from procd.errors import (
    Failed,
    NoSuchProgram,
    NotPermitted,
    Refusal,
    TimedOut,
    WrongState,
)
from tests.unit.procctl.fake_daemon import SILENCE, FakeDaemon, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    StartDaemon = Callable[..., FakeDaemon]
    Capture = pytest.CaptureFixture[str]

RUNNING = {"name": "web", "state": "RUNNING", "pid": 1}
STOPPED = {"name": "db", "state": "STOPPED", "pid": None}


def answering(result: object) -> Callable[[Peer, dict[str, Any]], object]:
    """A method that always gives this result."""
    return lambda _, __: result


def refusing(refusal: Refusal) -> Callable[[Peer, dict[str, Any]], object]:
    """A method that always refuses."""

    def refuse(_: Peer, __: dict[str, Any]) -> object:
        raise refusal

    return refuse


@pytest.mark.parametrize("words", [[], ["status"], ["status", "--all"]])
def test_status_shows_all_programs_and_succeeds(
    start_daemon: StartDaemon, capfd: Capture, words: list[str]
) -> None:
    """Also for procctl alone, and also when something is stopped: nobody asked whether it runs."""
    daemon = start_daemon(status=answering({"programs": [RUNNING, STOPPED]}))
    assert run(words) == 0
    assert [line.split()[:2] for line in capfd.readouterr().out.splitlines()] == [
        ["NAME", "STATE"],
        ["web", "RUNNING"],
        ["db", "STOPPED"],
    ]
    assert daemon.requests == [("status", {"programs": ["*"]})]


def test_status_of_programs_tells_whether_they_run(start_daemon: StartDaemon) -> None:
    """3 when any that was selected does not."""
    daemon = start_daemon(status=answering({"programs": [RUNNING]}))
    assert run(["status", "web"]) == 0
    daemon.methods["status"] = answering({"programs": [RUNNING, STOPPED]})
    assert run(["status", "web", "db"]) == 3
    assert [params["programs"] for _, params in daemon.requests] == [["web"], ["web", "db"]]


def test_json_is_the_answer_of_the_daemon(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Before the verb or behind it."""
    answer = {"programs": [RUNNING | {"reason": "wörd\x1b"}]}
    start_daemon(status=answering(answer))
    for words in (["--json", "status"], ["status", "--json"], ["--json"]):
        assert run(words) == 0
        assert json.loads(capfd.readouterr().out) == answer


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_a_change_of_state_waits_and_reports_each_program(
    start_daemon: StartDaemon, capfd: Capture, verb: str
) -> None:
    """A failure of one is a failure."""
    rows = [{"name": "web", "ok": True, "state": "RUNNING", "reason": ""}]
    daemon = start_daemon(**{verb: answering({"programs": rows})})
    assert run([verb, "web*", "app:", "--timeout", "90s"]) == 0
    assert capfd.readouterr().out == "web: RUNNING\n"
    rows.append({"name": "db", "ok": False, "state": "FATAL", "reason": "cannot exec"})
    assert run([verb, "--all", "--no-wait"]) == 1
    assert "db: failed: cannot exec (it is FATAL)" in capfd.readouterr().out
    assert daemon.requests == [
        (verb, {"programs": ["web*", "app:"], "wait": True, "timeout": 90.0}),
        (verb, {"programs": ["*"], "wait": False}),
    ]


def test_a_daemon_that_keeps_the_time_is_given_longer(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Its answer at the time limit says more than our own would."""
    start_daemon(start=refusing(TimedOut("db was not ready within 1ms", "look at `procctl logs db`")))
    assert run(["start", "db", "--timeout", "1ms"]) == 7
    assert capfd.readouterr().err == "procctl: db was not ready within 1ms\nlook at `procctl logs db`\n"


@pytest.mark.parametrize("word", ["HUP", "SIGHUP", "1", "hup"])
def test_a_signal_is_named_or_numbered(start_daemon: StartDaemon, capfd: Capture, word: str) -> None:
    """As in the configuration."""
    daemon = start_daemon(signal=answering({"signalled": ["web@0", "web@1"]}))
    assert run(["signal", word, "web", "--group"]) == 0
    assert capfd.readouterr().out == "SIGHUP sent to web@0, web@1\n"
    assert daemon.requests == [("signal", {"programs": ["web"], "signal": 1, "group": True})]


def test_a_signal_to_nobody_says_so(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Where all that was selected is stopped."""
    start_daemon(signal=answering({"signalled": []}))
    assert run(["signal", "TERM", "--all"]) == 0
    assert capfd.readouterr().out == "SIGTERM sent to nothing\n"


@pytest.mark.parametrize("state", ["running", "STOPPED", "Exited", "healthy"])
def test_a_state_can_be_waited_for(start_daemon: StartDaemon, capfd: Capture, state: str) -> None:
    """In whatever case it is written; --timeout is kept by the daemon."""
    daemon = start_daemon(wait=answering(RUNNING))
    assert run(["wait", "web", "--for", state, "--timeout", "2"]) == 0
    assert capfd.readouterr().out == "web: RUNNING\n"
    assert daemon.requests == [("wait", {"program": "web", "for": state.lower(), "timeout": 2.0})]


def test_one_stream_is_closed(start_daemon: StartDaemon, capfd: Capture) -> None:
    """And named in the answer."""
    daemon = start_daemon(close=answering({}))
    assert run(["close", "web", "stdout"]) == 0
    assert capfd.readouterr().out == "stdout of web is closed\n"
    assert daemon.requests == [("close", {"program": "web", "stream": "stdout"})]


def test_reload_and_its_dry_run_show_the_changes(start_daemon: StartDaemon, capfd: Capture) -> None:
    """With the same words; only the one carries them out."""
    daemon = start_daemon(
        plan=answering({"changes": [{"name": "web", "kind": "restart", "keys": ["command"]}]}),
        reload=answering({"changes": []}),
    )
    assert run(["reload", "--dry-run"]) == 0
    assert run(["reload"]) == 0
    assert capfd.readouterr().out == "web: restart (command)\nnothing changes\n"
    assert [method for method, _ in daemon.requests] == ["plan", "reload"]


def test_the_problems_of_a_configuration_are_shown_one_a_line(
    start_daemon: StartDaemon, capfd: Capture
) -> None:
    """Each with its place, below what they mean together."""
    problems = ["p.toml:3: usr: unknown key; did you mean user?", "p.toml:9: command: missing; write one"]
    start_daemon(reload=refusing(Failed("the configuration has 2 problems", "\n".join(problems))))
    assert run(["reload"]) == 1
    assert capfd.readouterr().err.splitlines() == ["procctl: the configuration has 2 problems", *problems]


def test_shutdown_waits_until_the_daemon_has_ended(start_daemon: StartDaemon, capfd: Capture) -> None:
    """That it was asked to is not yet that it did."""

    def shutdown(peer: Peer, _: dict[str, Any]) -> object:
        peer.send_bytes(b"\x94\x01\x01\xc0\x80")
        peer.hang_up()
        return SILENCE

    daemon = start_daemon(shutdown=shutdown)
    assert run(["shutdown"]) == 0
    assert capfd.readouterr().out == "procd has stopped every program and ended\n"
    daemon.methods["shutdown"] = answering({})
    assert run(["--timeout", "50ms", "shutdown"]) == 7
    assert "did not end within 50ms" in capfd.readouterr().err


def test_version_shows_both_sides(start_daemon: StartDaemon, capfd: Capture) -> None:
    """They may differ after an upgrade."""
    start_daemon(hello=answering({"protocol": 1, "version": "9.9", "pid": 77, "you": {}}))
    assert run(["version"]) == 0
    assert capfd.readouterr().out == f"procctl {__version__}\nprocd 9.9 (PID 77)\n"
    assert run(["version", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"procctl": __version__, "procd": "9.9", "pid": 77}


def test_version_without_a_daemon_shows_its_own(socket_path: Path, capfd: Capture) -> None:
    """And that nobody answers, as its exit status does."""
    assert run(["version"]) == 6
    out, err = capfd.readouterr()
    assert out == f"procctl {__version__}\n"
    assert err.startswith(f"procctl: no daemon answers on {socket_path}")


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Failed("it failed", "look"), 1),
        (WrongState("web is stopped", "start it"), 1),
        (NoSuchProgram("no program matches 'wob'", "did you mean web?"), 4),
        (NotPermitted("you may not", "ask root"), 5),
        (TimedOut("not in time", "wait"), 7),
    ],
)
def test_a_refusal_is_two_lines_and_an_exit_status(
    start_daemon: StartDaemon, capfd: Capture, refusal: Refusal, code: int
) -> None:
    """What is wrong, and what to do; nothing on standard output."""
    start_daemon(stop=refusing(refusal))
    assert run(["stop", "wob"]) == code
    assert capfd.readouterr() == ("", f"procctl: {refusal.message}\n{refusal.hint}\n")
    assert run(["stop", "wob", "--json"]) == code
    out, err = capfd.readouterr()
    assert (out, json.loads(err)) == ("", refusal.to_wire())


def test_a_refusal_without_words_is_an_error_still(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Whatever answered."""
    start_daemon(stop=refusing(Failed("")))
    assert run(["stop", "web"]) == 1
    assert capfd.readouterr().err == "procctl: it failed\n"


def test_an_error_cannot_write_to_the_terminal_but_words(start_daemon: StartDaemon, capfd: Capture) -> None:
    """A message may quote what a program said."""
    start_daemon(stop=refusing(Failed("\x1b[2Jboom\nsecond line")))
    assert run(["stop", "web"]) == 1
    assert capfd.readouterr().err == "procctl: \\x1b[2Jboom\nsecond line\n"


def test_nobody_there_is_unreachable_in_json_too(socket_path: Path, capfd: Capture) -> None:
    """With a code of its own, which no daemon sends."""
    assert run(["status"]) == 6
    assert capfd.readouterr().err.splitlines()[1].startswith("is procd running? start it with `procd run`")
    assert run(["status", "--json"]) == 6
    error = json.loads(capfd.readouterr().err)
    assert error["code"] == "UNREACHABLE"
    assert str(socket_path) in error["message"]


def test_the_socket_can_be_named(start_daemon: StartDaemon, socket_path: Path, capfd: Capture) -> None:
    """Before the verb or behind it, and it wins over the environment."""
    start_daemon(status=answering({"programs": []}))
    assert run(["-s", f"{socket_path}-no", "status", "-s", str(socket_path)]) == 0
    assert run(["-s", f"{socket_path}-no", "status"]) == 6
    assert f"{socket_path}-no" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint", "command"),
    [
        (["stop"], "which programs? name them, or say --all", "procctl stop"),
        (["restart", "web", "--all"], "name programs or say --all, not both", "procctl restart"),
        (["status", "web", "--all"], "name programs or say --all, not both", "procctl status"),
        (["stpo", "web"], "there is no verb 'stpo'; did you mean stop?", "procctl"),
        (["xyzzy"], "there is no verb 'xyzzy'", "procctl"),
        (["--frob"], "No such option", "procctl"),
        (["signal", "FOO", "web"], "'FOO' is not a signal", "procctl signal"),
        (["wait", "web"], "Missing option '--for'", "procctl wait"),
        (["wait", "web", "--for", "happy"], "'happy' is not one of", "procctl wait"),
        (["start", "web", "--timeout", "soon"], "'soon' is not a duration", "procctl start"),
        (["logs", "web", "-n", "-3"], "'-3' is not a number of lines", "procctl logs"),
        (["close", "web", "stdio"], "'stdio' is not one of", "procctl close"),
        (["send"], "Missing argument 'PROGRAM'", "procctl send"),
    ],
)
def test_a_usage_error_says_what_is_wrong_and_where_to_read(
    capfd: Capture, words: list[str], complaint: str, command: str
) -> None:
    """It exits with 2 and asks no daemon."""
    assert run(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("procctl: ")
    assert complaint in err
    assert err.endswith(f"see `{command} --help`\n")


def test_help_lists_every_verb(capfd: Capture) -> None:
    """With one sentence for each."""
    assert run(["--help"]) == 0
    text = capfd.readouterr().out
    for verb in "status start stop restart signal wait send close logs reload shutdown version".split():  # noqa: SIM905 - a list of words
        assert f"\n  {verb} " in text
