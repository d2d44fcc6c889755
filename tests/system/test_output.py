"""Output through a real procd and its logger: every byte once and in order, whatever is killed or stuck."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import alive, python, rss_bytes, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

MIB = 1 << 20


def numbers(count: int) -> bytes:
    """What `counts.py` writes."""
    return b"".join(b"%010d\n" % number for number in range(count))


def whole_log(path: Path) -> bytes:
    """All files of a log as one, the oldest first."""
    old = sorted(
        (
            each
            for each in path.parent.glob(f"{path.name}.*")
            if each.name.removeprefix(path.name + ".")[0].isdigit()
        ),
        key=lambda each: -int(each.name.removeprefix(path.name + ".").partition(".")[0]),
    )
    return b"".join(
        gzip.decompress(each.read_bytes()) if each.suffix == ".gz" else each.read_bytes()
        for each in [*old, path]
    )


def assert_numbers(content: bytes, count: int) -> None:
    """Every line once and in order; says where it goes wrong, since the whole is too long to look at."""
    expected = numbers(count)
    if content != expected:
        lines, wanted = content.split(b"\n"), expected.split(b"\n")
        at = next(index for index, pair in enumerate(zip(lines, wanted, strict=False)) if pair[0] != pair[1])
        raise AssertionError(f"{len(lines)} lines for {len(wanted)}; at {at}: {lines[at - 1 : at + 3]}")


@pytest.mark.parametrize(
    "keys",
    [
        "",
        "log.max_size = '3MiB'\nlog.keep = 1000\n",
        "log.max_size = '3MiB'\nlog.keep = 1000\nlog.format = 'json'\n",
    ],
    ids=["one file", "rotated", "json"],
)
def test_a_logger_that_is_killed_again_and_again_loses_and_doubles_nothing(
    make_daemon: Callable[..., Daemon], tmp_path: Path, keys: str
) -> None:
    """Programs write at full speed meanwhile, with large and with small writes."""
    stop = tmp_path / "stop"
    programs = {"bulk": 5000, "lines": 1, "some": 37}
    daemon = make_daemon(
        "".join(
            f"[programs.{name}]\nrestart = 'never'\n{keys}"
            f"command = {python('counts.py', 10**9, together, f'{stop}.{name}')}\n"
            for name, together in programs.items()
        )
    )
    # The keeper would wait longer and longer.
    daemon.start(environment={"PROCD_KEEPER_PACE": "longest=0.1"})
    for _ in range(6):
        pid = daemon.logger
        reached = {name: daemon.record(name)["streams"]["stdout"]["offset"] for name in programs}
        until(
            lambda reached=reached: all(
                daemon.record(name)["streams"]["stdout"]["offset"] > reached[name] for name in programs
            ),
            "all logs to grow",
        )
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: daemon.logger_now not in {pid, None}, "another logger")
    for name in programs:
        Path(f"{stop}.{name}").touch()
        daemon.until_state(name, "EXITED")
    daemon.does("stop", "--all")
    assert daemon.stop() == 0
    for name in programs:
        count = int(Path(f"{stop}.{name}.done").read_text())
        content = whole_log(daemon.directory / f"log/{name}.log")
        if "json" in keys:
            content = b"".join(json.loads(line)["message"].encode() + b"\n" for line in content.splitlines())
        assert_numbers(content, count)
    said = "logger has ended and is started again"
    until(lambda: daemon.said.read_text().count(said) >= 6, "the last of them to be told")
    assert daemon.said.read_text().count(said) == 6


def test_a_gigabyte_goes_through_once(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """With rotation, checked by its hash; neither process becomes large by it."""
    size = 1024
    said = tmp_path / "hash"
    daemon = start_daemon(
        f"[programs.big]\nrestart = 'never'\nlog.max_size = '100MiB'\nlog.keep = 100\n"
        f"command = {python('gigabyte.py', size, said)}\n"
    )
    logger = daemon.logger
    until(lambda: daemon.record("big")["streams"]["stdout"]["offset"] > 10 * MIB)
    before = rss_bytes(daemon.supervisor, "VmHWM")
    deadline_s = time.monotonic() + 120
    while daemon.record("big")["state"] != "EXITED":
        assert time.monotonic() < deadline_s, daemon.record("big")
        time.sleep(0.1)
    assert rss_bytes(daemon.supervisor, "VmHWM") - before < 8 * MIB
    assert rss_bytes(logger, "VmHWM") < 40 * MIB
    assert daemon.stop() == 0
    path = daemon.directory / "log/big.log"
    found = hashlib.sha256()
    old = sorted(path.parent.glob("big.log.*"), key=lambda each: -int(each.suffix[1:]))
    assert len(old) >= 9
    for each in [*old, path]:
        with each.open("rb") as file:
            while piece := file.read(MIB):
                found.update(piece)
        each.unlink()
    assert found.hexdigest() == said.read_text()


def test_what_a_program_says_last_is_logged_when_procd_ends(start_daemon: Callable[..., Daemon]) -> None:
    """A burst in answer to SIGTERM, larger than a pipe; then procd ends in order, and the logger too."""
    script = "trap 'seq -w 0 99999; exit' TERM; echo ready; while :; do sleep 0.05; done"
    daemon = start_daemon(
        f"[programs.talks]\nshell = true\nstop_scope = 'process'\ncommand = {json.dumps(script)}\n"
    )
    daemon.until_output("talks", b"ready")
    logger = daemon.logger
    assert daemon.stop() == 0
    assert daemon.output("talks") == b"ready\n" + b"".join(b"%05d\n" % number for number in range(100_000))
    assert not alive(logger)
    assert "procd has ended" in daemon.said.read_text()


def test_logs_shows_the_last_words_of_what_was_just_stopped(start_daemon: Callable[..., Daemon]) -> None:
    """Whoever asks after a stop sees what came before it, every time."""
    script = "trap 'seq 1000; echo last words; exit' TERM; echo ready; while :; do sleep 0.02; done"
    daemon = start_daemon(
        f"[programs.talks]\nshell = true\nstop_scope = 'process'\ncommand = {json.dumps(script)}\n"
    )
    for count in range(1, 6):
        until(lambda count=count: daemon.output("talks").count(b"ready") == count)
        daemon.does("stop", "talks")
        assert daemon.does("logs", "talks", "-n", "1") == "last words\n"
        daemon.does("start", "talks")


def test_a_grandchild_that_keeps_the_pipe_open_delays_no_restart(
    start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """It has a session and an environment of its own, and goes on writing; nothing of both is lost."""
    child = "while [ ! -e {0}/end ]; do echo child; sleep 0.02; done; echo child ends"
    script = (
        f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; env -i setsid sh -c "
        f"'{child.format(tmp_path)}' & sleep 0.2; echo first ends; exit 1; }}; echo second; exec sleep 1000"
    )
    daemon = start_daemon(
        f"[programs.forks]\nshell = true\ncommand = {json.dumps(script)}\nbackoff.initial = '0s'\n"
    )
    began_s = time.monotonic()
    daemon.until_output("forks", b"second\n")
    assert time.monotonic() - began_s < 10
    seen = daemon.output("forks").count(b"child\n")
    until(lambda: daemon.output("forks").count(b"child\n") > seen, "the child to go on")
    (tmp_path / "end").touch()
    lines = daemon.until_output("forks", b"child ends\n").splitlines()
    assert lines.index(b"first ends") < lines.index(b"second") < lines.index(b"child ends")
    assert set(lines) == {b"child", b"first ends", b"second", b"child ends"}


def test_procds_own_output_is_the_log_of_a_program_in_a_container(start_daemon: Callable[..., Daemon]) -> None:
    """`/dev/stdout` as path, for both streams, and for many programs."""
    daemon = start_daemon(
        "log.path = '/dev/stdout'\nrestart = 'never'\nstderr = 'log'\n"
        "[programs.one]\nshell = true\ncommand = 'echo one says this; echo and that >&2; exec sleep 1000'\n"
        "[programs.two]\nshell = true\ncommand = 'echo two says this; exec sleep 1000'\n"
    )
    for text in ("one says this\n", "and that\n", "two says this\n"):
        until(lambda text=text: text in daemon.said.read_text(), text)
    assert daemon.procctl("logs", "one").code == 1
    assert daemon.record("one")["reason"] == "ready"


def test_settings_of_a_log_change_while_its_program_runs(
    start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Another format, another path: at a reload, with nothing lost and nothing restarted."""
    script = (
        f"i=0; while [ ! -e {tmp_path}/end ]; do echo line $i; i=$((i+1)); sleep 0.002; done; exec sleep 1000"
    )
    program = f"[programs.web]\nshell = true\ncommand = {json.dumps(script)}\n"
    daemon = start_daemon(program)
    daemon.until_output("web", b"line 10\n")
    pid = daemon.process("web")
    daemon.write(program + "log.format = 'json'\n")
    assert "change in place" in daemon.does("reload") or daemon.process("web") == pid
    daemon.until_output("web", b'"message":"line ')
    daemon.write(program + f"log.format = 'timestamp'\nlog.path = '{tmp_path}/moved.log'\n")
    daemon.does("reload")
    moved = tmp_path / "moved.log"
    until(lambda: moved.exists() and moved.read_bytes().count(b"Z line ") > 3, "lines in the new file")
    (tmp_path / "end").touch()
    assert daemon.process("web") == pid
    daemon.does("stop", "web")
    assert daemon.stop() == 0
    said = []
    for line in (daemon.output("web") + moved.read_bytes()).splitlines():
        if line.startswith(b"{"):
            entry = json.loads(line)
            assert (entry["program"], entry["stream"], entry["pid"]) == ("web", "stdout", pid)
            said.append(entry["message"])
        else:
            said.append(line.decode().partition("Z ")[2] or line.decode())
    assert said == [f"line {number}" for number in range(len(said))]


def test_too_few_descriptors_for_all_logs_leave_those_that_there_is_room_for(
    start_daemon: Callable[..., Daemon],
) -> None:
    """All programs run, most are logged, and the others say why they are not; nothing crashes."""
    daemon = start_daemon(
        "[programs.many]\ninstances = 110\nshell = true\ncommand = 'echo hello; exec sleep 1000'\n",
        prefix=["prlimit", "--nofile=192:192"],
    )
    logger = daemon.logger
    until(lambda: {record["state"] for record in daemon.records().values()} == {"RUNNING"}, "all to run")
    logged = until(
        lambda: [name for name in daemon.records() if daemon.output(name) == b"hello\n"][59:], "logs"
    )
    until(lambda: sum("log: " in record["reason"] for record in daemon.records().values()) >= 10, "no room")
    assert not any(daemon.records()[name]["streams"]["stdout"]["trouble"] for name in logged)
    assert daemon.logger == logger
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.said.read_text()


def test_ready_by_a_line_of_a_log_that_has_a_format(start_daemon: Callable[..., Daemon]) -> None:
    """The expression sees what the program wrote, in this life only, and not what the format puts around it."""
    daemon = start_daemon(
        "".join(
            f"[programs.{kind}]\nlog.format = '{kind}'\nready.log = '^say \"yes\", \\xff?now$'\nshell = true\n"
            f"command = '''echo x; sleep 0.1; echo 'say \"yes\", now'; exec sleep 1000'''\n"
            for kind in ("raw", "timestamp", "json")
        )
        + "[programs.never]\nlog.format = 'json'\nready.log = 'never|message'\nstart_timeout = '1s'\n"
        "restart = 'never'\nshell = true\ncommand = 'echo x; exec sleep 1000'\n"
    )
    for kind in ("raw", "timestamp", "json"):
        daemon.until_state(kind, "RUNNING")
        assert daemon.does("restart", kind)
    assert daemon.until_state("never", "FATAL")["restarts"] == 0
