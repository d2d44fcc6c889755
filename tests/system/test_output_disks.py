"""Log disks that are stuck, full, read-only or gone: supervision goes on, and what is lost is known."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.system.daemon import HEAD, alive, python, rss_bytes, run, until
from tests.system.test_output import MIB, assert_numbers, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.daemon import Daemon

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")

#: How often restarts and `status` are measured.
TIMES = 15


class Disk(NamedTuple):
    """A file system of its own."""

    place: Path

    def freeze(self) -> None:
        """Let nobody write any more."""
        subprocess.run(["fsfreeze", "--freeze", self.place], check=True)

    def thaw(self) -> None:
        """Let everybody go on; harmless if nobody waited."""
        subprocess.run(["fsfreeze", "--unfreeze", self.place], check=False, stderr=subprocess.DEVNULL)


def mounted(place: Path, *options: str | Path) -> Iterator[Disk]:
    """Mount a file system, as long as the test runs."""
    place.mkdir()
    if run(["mount", *options, place]).code:
        pytest.skip("this machine does not let us mount")
    try:
        yield Disk(place)
    finally:
        Disk(place).thaw()
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """An ext4 of 300 MiB."""
    if not shutil.which("fsfreeze") or not shutil.which("mkfs.ext4"):
        pytest.skip("fsfreeze or mkfs.ext4 is not installed (apt-get install util-linux e2fsprogs)")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    yield from mounted(tmp_path / "disk", "-o", "loop", image)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A tmpfs of 8 MiB, 6 of which are taken."""
    for disk in mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        (disk.place / "ballast").write_bytes(bytes(6 * MIB))
        yield disk


def head_on(disk: Disk) -> str:
    """The head of a configuration whose logs are on a disk."""
    return HEAD.replace('log_dir = "log"', f'log_dir = "{disk.place}/log"')


def seconds_of(work: Callable[[], object]) -> float:
    """How long something usually takes."""
    took = []
    for _ in range(TIMES):
        began_s = time.monotonic()
        work()
        took.append(time.monotonic() - began_s)
    return statistics.median(took)


def restart(daemon: Daemon, name: str) -> None:
    """Restart a program, without the time of a procctl."""
    with daemon.client() as client:
        answer = client.call("restart", programs=[name])
    assert answer["programs"][0]["ok"], answer


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def lives_of(tmp_path: Path) -> str:
    """A program that says which of its lives this is, in the first line and the last, and when it is ready."""
    return f"[programs.quick]\nready.fd = 3\ncommand = {python('lives.py', tmp_path / 'lives')}\n"


def assert_lives(content: bytes, count: int) -> None:
    """All lives of such a program are in the log, in order."""
    lines = [line for line in content.splitlines() if line.startswith(b"life")]
    assert lines[: 2 * count] == [
        b"life %d %s" % (number, word) for number in range(1, count + 1) for word in (b"begins", b"ends")
    ]


@contextlib.contextmanager
def stuck(daemon: Daemon, disk: Disk | None) -> Iterator[None]:
    """A logger that does nothing: on a frozen disk, or because it was stopped."""
    logger = daemon.logger
    if disk is None:
        os.kill(logger, signal.SIGSTOP)
    else:
        disk.freeze()
    try:
        yield
    finally:
        if disk is None:
            os.kill(logger, signal.SIGCONT)
        else:
            disk.thaw()


def check_that_supervision_goes_on(daemon: Daemon, disk: Disk | None, tmp_path: Path, logs: Path) -> None:
    """While the logger is stuck, restarts and `status` are as quick as ever; then everything is in the logs."""
    logger = daemon.logger
    until(lambda: (logs / "writes.log").exists() and (logs / "writes.log").stat().st_size > 10_000)
    # A life that is stopped before it has begun says nothing, and is not counted.
    daemon.until_state("quick", "RUNNING")
    quiet_restart_s = seconds_of(lambda: restart(daemon, "quick"))
    quiet_status_s = seconds_of(daemon.records)
    had, rss = descriptors(daemon.supervisor), rss_bytes(daemon.supervisor)
    with stuck(daemon, disk):
        reached = daemon.record("writes")["streams"]["stdout"]["offset"]
        if disk is not None:
            until(
                lambda: " (disk sleep)" in Path(f"/proc/{logger}/status").read_text(), "the logger to be stuck"
            )
        restart_s = seconds_of(lambda: restart(daemon, "quick"))
        status_s = seconds_of(daemon.records)
        # A first restart can be one of the busy moments of the machine, and a slow machine is slow for both.
        assert restart_s < 3 * quiet_restart_s + 0.1
        assert status_s < 3 * quiet_status_s + 0.05
        assert daemon.record("writes")["streams"]["stdout"]["offset"] - reached < 4 * MIB
        assert descriptors(daemon.supervisor) - had <= TIMES + 4
        assert rss_bytes(daemon.supervisor) - rss < 4 * MIB
    (tmp_path / "stop").touch()
    until((tmp_path / "stop.done").exists)
    daemon.does("stop", "--all")
    until(lambda: descriptors(daemon.supervisor) <= had, "the descriptors to be closed")
    assert daemon.stop() == 0
    assert_numbers((logs / "writes.log").read_bytes(), int((tmp_path / "stop.done").read_text()))
    assert_lives((logs / "quick.log").read_bytes(), 2 * TIMES + 1)
    print(
        f"restart {quiet_restart_s:.4f} s, stuck {restart_s:.4f} s; status {quiet_status_s:.4f}, {status_s:.4f}"
    )


def writes(tmp_path: Path) -> str:
    """A program that writes numbered lines until there is a file `stop`."""
    return (
        "[programs.writes]\nrestart = 'never'\nlog.max_size = 0\n"
        f"command = {python('counts.py', 10**7, 100, tmp_path / 'stop', 0.0002)}\n"
    )


def test_a_logger_that_does_nothing_delays_nobody(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """It was stopped by a signal."""
    daemon = start_daemon(lives_of(tmp_path) + writes(tmp_path))
    check_that_supervision_goes_on(daemon, None, tmp_path, daemon.directory / "log")


@needs_root
@pytest.mark.parametrize("on_error", ["drop", "block"])
def test_a_frozen_file_system_delays_nobody(
    make_daemon: Callable[..., Daemon], tmp_path: Path, disk: Disk, on_error: str
) -> None:
    """The logger waits in the kernel, the programs in their pipes, and nothing is dropped."""
    daemon = make_daemon(
        f"log.on_error = '{on_error}'\n" + lives_of(tmp_path) + writes(tmp_path), head=head_on(disk)
    )
    # What procd says itself is on that disk, too.
    daemon.said = disk.place / "procd.err"
    daemon.start()
    check_that_supervision_goes_on(daemon, disk, tmp_path, disk.place / "log")


def test_nobody_reads_what_procd_says(make_daemon: Callable[..., Daemon]) -> None:
    """A pager that was left, a journal that is stuck: nobody waits, and what nobody took is counted."""
    daemon = make_daemon('[programs.sleeper]\ncommand = "sleep 1000"\n')
    os.mkfifo(daemon.said)
    reader = os.open(daemon.said, os.O_RDWR | os.O_NONBLOCK)
    try:
        daemon.start()
        with daemon.client() as client:
            # Lines of more than 100 bytes: more than the fifo, the pipe of the logger and what may wait.
            for _ in range(20_000):
                client.call("signal", programs=["sleeper"], signal="CONT")
        assert daemon.record("sleeper")["state"] == "RUNNING"
        said = bytearray()

        def told() -> bool:
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(reader, 1 << 20):
                    said.extend(piece)
            return b"lines of this log are lost" in said

        until(told, "the loss to be told")
    finally:
        os.close(reader)
    lines = said.decode().splitlines()
    (lost,) = (int(line.rpartition("lines=")[2]) for line in lines if "lines of this log are lost" in line)
    assert sum("method=signal" in line for line in lines) + lost == 20_000


@needs_root
def test_procd_ends_in_time_on_a_frozen_disk(
    make_daemon: Callable[..., Daemon], tmp_path: Path, disk: Disk
) -> None:
    """It says how much is in the pipes, and leaves the logger to it: after the thaw all of it is in the log."""
    daemon = make_daemon(writes(tmp_path), head=head_on(disk)).start()
    logger = daemon.logger
    log = disk.place / "log/writes.log"
    until(lambda: log.exists() and log.stat().st_size > 10_000)
    with stuck(daemon, disk):
        until(lambda: " (disk sleep)" in Path(f"/proc/{logger}/status").read_text(), "the logger to be stuck")
        began_s = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began_s < 15
        assert "logger has not ended in time, and is left alone" in daemon.said.read_text()
        assert alive(logger)
    until(lambda: not alive(logger), "the logger to end by itself")
    content = log.read_bytes()
    assert_numbers(content[: content.rfind(b"\n") + 1], content.count(b"\n"))


@needs_root
def test_output_that_finds_no_room_is_dropped_counted_and_marked(
    make_daemon: Callable[..., Daemon], tmp_path: Path, small_disk: Disk
) -> None:
    """The program never waits; what is missing is known in the log, in `status`, by an event, to procd."""
    lines = 1_000_000
    command = python("counts.py", lines, 500, tmp_path / "nothing")
    later = f"while [ ! -e {tmp_path}/room ]; do sleep 0.05; done; echo room again; exec sleep 1000"
    daemon = make_daemon(
        f"[programs.full]\nshell = true\nmin_uptime = '0s'\nlog.max_size = 0\n"
        f"command = {json.dumps(' '.join(json.loads(command)) + '; ' + later)}\n",
        head=head_on(small_disk),
    ).start()
    until((tmp_path / "nothing.done").exists)
    record = until(lambda: (found := daemon.record("full"))["streams"]["stdout"]["trouble"] and found)
    assert record["state"] == "RUNNING"
    assert record["reason"] == "log: No space left on device"
    assert "No space left on device" in daemon.does("status", "full")
    assert "No space left on device" in daemon.does("why", "full")
    log = small_disk.place / "log/full.log"
    until(lambda: daemon.record("full")["streams"]["stdout"]["dropped"] >= 11 * lines - 3 * MIB)
    log.write_bytes(b"")  # somebody makes room
    until(lambda: not daemon.record("full")["streams"]["stdout"]["trouble"], "the log to be written again")
    (tmp_path / "room").touch()
    until(lambda: b"room again" in log.read_bytes())
    dropped = daemon.record("full")["streams"]["stdout"]["dropped"]
    assert f"{dropped}".encode() in log.read_bytes()
    assert daemon.record("full")["streams"]["stdout"]["offset"] > 0
    events = [json.loads(line) for line in daemon.does("--json", "events").splitlines()]
    trouble, well = (each for each in events if each["type"].startswith("log "))
    assert (trouble["type"], trouble["stream"], trouble["path"]) == ("log trouble", "stdout", str(log))
    assert (well["type"], well["dropped"]) == ("log well", dropped)
    daemon.until_said("log cannot be written")
    daemon.until_said("log is written again")


@needs_root
def test_output_that_finds_no_room_waits_if_it_is_told_to(
    make_daemon: Callable[..., Daemon], small_disk: Disk
) -> None:
    """With `block` the program waits in its pipe; when there is room everything is there, in order."""
    lines = 400_000
    daemon = make_daemon(
        f"[programs.full]\nrestart = 'never'\nlog.max_size = 0\nlog.on_error = 'block'\n"
        f"command = {python('counts.py', lines, 500)}\n",
        head=head_on(small_disk),
    ).start()
    until(lambda: daemon.record("full")["reason"] == "log: No space left on device")
    held = (small_disk.place / "log/full.log").read_bytes()
    assert numbers(lines).startswith(held)
    assert daemon.record("full")["state"] == "RUNNING"
    (small_disk.place / "ballast").unlink()
    daemon.until_state("full", "EXITED")
    assert daemon.stop() == 0
    assert_numbers((small_disk.place / "log/full.log").read_bytes(), lines)


@needs_root
@pytest.mark.parametrize("removed", [True, False], ids=["removed", "procd ends"])
def test_what_waits_for_room_when_nobody_can_wait_any_more_is_counted(
    make_daemon: Callable[..., Daemon], small_disk: Disk, *, removed: bool
) -> None:
    """The program is removed, or procd ends, before there is room: the loss is in procd's own log."""
    lines = 400_000
    program = (
        f"[programs.full]\nrestart = 'never'\nlog.max_size = 0\nlog.on_error = 'block'\n"
        f"command = {python('counts.py', lines, 500)}\n"
    )
    daemon = make_daemon(program, head=head_on(small_disk)).start()
    until(lambda: daemon.record("full")["reason"] == "log: No space left on device")
    log = small_disk.place / "log/full.log"
    held = log.stat().st_size
    if removed:
        daemon.write("")
        daemon.does("reload")
        until(lambda: "full" not in daemon.records())
        daemon.until_said("output lost")
    assert daemon.stop() == 0
    line = daemon.until_said("output lost")
    lost = int(line.partition("bytes=")[2].split()[0])
    # The program was ended while it waited with some of it.
    assert 0 < lost <= 11 * lines - held
    assert log.stat().st_size == held
    assert numbers(lines).startswith(log.read_bytes())


@needs_root
def test_a_log_on_a_disk_that_is_read_only_at_first(
    make_daemon: Callable[..., Daemon], small_disk: Disk
) -> None:
    """The program runs; when the disk can be written, so is the log."""
    (small_disk.place / "log").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk.place], check=True)
    daemon = make_daemon(
        "[programs.web]\nshell = true\nlog.on_error = 'block'\ncommand = 'echo hello; exec sleep 1000'\n",
        head=head_on(small_disk),
    ).start()
    until(lambda: daemon.record("web")["reason"] == "log: Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", small_disk.place], check=True)
    log = small_disk.place / "log/web.log"
    until(lambda: log.exists() and log.read_bytes() == b"hello\n")
    until(lambda: daemon.record("web")["reason"] == "ready")


def test_a_log_directory_that_vanishes_is_made_again(
    start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """What is written after that has been noticed is in the new file."""
    script = (
        f"i=0; while [ ! -e {tmp_path}/end ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exec sleep 1000"
    )
    daemon = start_daemon(f"[programs.web]\nshell = true\ncommand = {json.dumps(script)}\n")
    daemon.until_output("web", b"line 10\n")
    before = daemon.record("web")["streams"]["stdout"]["offset"]
    shutil.rmtree(daemon.directory / "log")
    until(lambda: daemon.output("web").count(b"\n") > 10, "another file")
    (tmp_path / "end").touch()
    lines = daemon.output("web").splitlines()
    first = int(lines[0].split()[1])
    assert lines == [b"line %d" % number for number in range(first, first + len(lines))]
    assert daemon.record("web")["streams"]["stdout"]["offset"] > before


def test_a_hundred_floods_do_not_hold_up_another_program(
    start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """It is restarted and its lines come into its log; neither procd nor the logger becomes large."""
    daemon = start_daemon(
        "[programs.flood]\ninstances = 100\nlog.max_size = '1MiB'\nlog.keep = 1\nnice = 10\n"
        f"command = {python('flood.py', 10**15)}\n" + lives_of(tmp_path)
    )
    logger = daemon.logger
    until(lambda: all(record["state"] == "RUNNING" for record in daemon.records().values()))
    until(lambda: all(record["streams"]["stdout"]["offset"] > MIB for record in daemon.records().values()
          if record["program"] == "flood"))  # fmt: skip
    for _ in range(TIMES):
        restart(daemon, "quick")
    until(lambda: f"life {TIMES + 1} begins".encode() in daemon.output("quick"))
    assert rss_bytes(logger, "VmHWM") < 40 * MIB
    assert rss_bytes(daemon.supervisor, "VmHWM") < 90 * MIB
    daemon.does("stop", "flood")
    daemon.does("stop", "quick")
    daemon.does("logs", "quick", "-n", "1")
    assert_lives(daemon.output("quick"), TIMES + 1)
