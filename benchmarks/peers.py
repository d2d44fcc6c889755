"""procd beside other supervisors, with the same programs on the same machine, in one run.

    python benchmarks/peers.py [--programs 100,1000] [--rounds 3] [--capture] [--only procd,supervisord]
                               [--bin DIRECTORY_OF_PROCD] [--pypi DIRECTORY]

DIRECTORY is the `bin` of a virtual environment with supervisor, circus and Twisted; without it one is made for
the run. runit, s6 and daemontools take part where they are installed, and whoever is missing is named. A loop
of subprocess.Popen is the limit, and nobody's best. systemd is not here: to run many units of its own it has to
be PID 1, and that takes namespaces and root.

The peers take turns, and each round begins with another one, so that all see the same noise; told are medians
of the rounds. A program is child.c, which writes down when it is in its main. Every process that anybody starts
here stays a descendant of this one, which is their subreaper: so all are found, and none is left.

Each has its usual settings. The restarts are measured in a run of their own, because some are told there to
look more often than they usually would; see rivals/.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rivals import ALL, Rival, Task
from rivals.processes import (
    CHILD,
    PATIENCE_S,
    Ends,
    Failed,
    compile_child,
    end_everything,
    prepare,
    programs_and_supervisors,
    pss_kib,
    voluntary_switches,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: What a program writes down: its index, its PID, and when it was in main.
BIRTH = struct.Struct("=IiQ")
#: Programs are killed, at irregular moments, when they are so old: some throttle what lived less than a second.
KILLS, KILLED_PROGRAMS, OLD_S = 20, 10, 1.25
#: Status commands of each sort, and seconds of looking on while nothing happens.
CALLS, IDLE_S = 5, 10.0

#: Per table: its title, and per column the measure, its heading and its decimals.
TABLES: dict[str, list[tuple[str, str, int]]] = {
    "start, until the last program is in main": [("start_s", "s", 3)],
    "memory (PSS) of the supervisor's processes": [
        ("memory_mib", "MiB", 1),
        ("memory_kib_each", "KiB/program", 1),
    ],
    "restart after SIGKILL, until the next is in main": [
        ("restart_p50_ms", "p50 ms", 1),
        ("restart_p99_ms", "p99 ms", 1),
    ],
    "status, the whole command": [("one_ms", "one, ms", 1), ("all_ms", "all, ms", 1)],
    "idle: voluntary context switches": [("switches", "per s", 1)],
    "stop": [("programs_gone_s", "programs gone, s", 3), ("all_gone_s", "all gone, s", 3)],
}


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default="1000", help="how many; 100,1000,3000 for one after the other")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--capture", action="store_true", help="output goes into logs that the peer rotates")
    parser.add_argument("--only", help="these, separated by commas: " + ", ".join(each.name for each in ALL))
    parser.add_argument("--bin", help="where procd and procctl are")
    parser.add_argument("--pypi", help="where supervisord, circusd and twistd are")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [each.name for each in ALL]
    if unknown := set(wanted) - {each.name for each in ALL}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    prepare()
    with tempfile.TemporaryDirectory(prefix="peers-", dir=memory_directory()) as name:
        try:
            run(Path(name), options, [each for each in ALL if each.name in wanted])
        finally:
            end_everything()


def run(place: Path, options: argparse.Namespace, chosen: list[type[Rival]]) -> None:
    """Everything, in that directory."""
    compile_child(place)
    if any(each.from_pypi for each in chosen) and not options.pypi:
        options.pypi = install_from_pypi(place)
    present = dict(find(chosen, options.bin, options.pypi))
    for programs in map(int, options.programs.split(",")):
        compare(Bench(place, programs, capture=options.capture), present, options.rounds)


def memory_directory() -> str | None:
    """A directory in memory, if programs can be run from it; None is wherever temporary files are."""
    path = "/dev/shm"  # noqa: S108 - a directory with a random name is made in it
    if os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_NOEXEC:
        return path
    return None


def install_from_pypi(place: Path) -> str:
    """Make a virtual environment with the peers that come from PyPI; its `bin`."""
    print(
        "installing supervisor, circus and Twisted for this run (--pypi names a place that has them)",
        flush=True,
    )
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
    pip = [str(place / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "supervisor", "circus", "Twisted"], check=False).returncode != 0:
        print("pip could not install all of them")
    return str(place / "venv/bin")


def find(
    chosen: Iterable[type[Rival]], own: str | None, pypi: str
) -> Iterator[tuple[type[Rival], dict[str, str]]]:
    """Those that are installed, with their commands; the others are named."""
    for rival in chosen:
        path = os.environ["PATH"]
        if rival.from_pypi:
            path = pypi
        elif rival.name == "procd":
            path = own or f"{sysconfig.get_path('scripts')}:{path}"
        found = {name: shutil.which(name, path=path) for name in rival.needs}
        binaries = {name: str(Path(where).absolute()) for name, where in found.items() if where}
        if missing := [name for name in rival.needs if name not in binaries]:
            print(f"{rival.name}: skipped, {', '.join(missing)} not found")
        else:
            yield rival, binaries


# A supervisor with its programs


class Births:
    """What the programs have written down."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        #: The latest life of each program: its PID, and when it was in main (ns of the monotonic clock).
        self.latest: dict[int, tuple[int, int]] = {}

    def read(self) -> None:
        """Read what is new."""
        new = os.fstat(self._file.fileno()).st_size - self._file.tell()
        for index, pid, ns in BIRTH.iter_unpack(self._file.read(new // BIRTH.size * BIRTH.size)):
            self.latest[index] = (pid, ns)

    def wait_for(self, true: Callable[[], bool], what: str) -> None:
        """Read until that is true; raises Failed."""
        deadline_s = time.monotonic() + PATIENCE_S
        self.read()
        while not true():
            if time.monotonic() > deadline_s:
                raise Failed(
                    f"{what}: not within {PATIENCE_S:.0f} s ({len(self.latest)} programs were started)"
                )
            time.sleep(0.001)
            self.read()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Running:
    """A supervisor that has been started, and knows nothing of being measured."""

    def __init__(self, rival: Rival, births: Births, said: int) -> None:
        self.rival = rival
        self.births = births
        self.count = len(rival.task.commands)
        self._said = said
        self.began_ns = time.monotonic_ns()
        self.process = self.execute(rival.start())

    def execute(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a command of the peer in a session of its own: Ctrl-C is for this process."""
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            cwd=self.rival.task.directory,
            start_new_session=True,
        )

    def wait_until_started(self) -> float:
        """Seconds from the supervisor's exec to the last program's main."""
        self.births.wait_for(lambda: len(self.births.latest) == self.count, "start")
        programs, _ = programs_and_supervisors()
        if len(programs) != self.count:
            raise Failed(f"{self.count} programs were started, and {len(programs)} are there")
        return (max(ns for _, ns in self.births.latest.values()) - self.began_ns) / 1e9


class Bench:
    """So many programs, and what is measured of whoever supervises them."""

    def __init__(self, place: Path, programs: int, *, capture: bool) -> None:
        self.place = place
        self.programs = programs
        self.capture = capture
        self._serial = 0

    @contextmanager
    def running(
        self, rival: type[Rival], binaries: Mapping[str, str], programs: int, *, fast: bool = False
    ) -> Iterator[Running]:
        """A supervisor that has just been started, until the end; raises Failed with what it said."""
        self._serial += 1
        directory = self.place / str(self._serial)
        directory.mkdir()
        births = Births(directory / "births")
        said = (directory / "said").open("wb")
        try:
            child = [str(self.place / CHILD), str(directory / "births")]
            commands = {f"p{index}": [*child, str(index)] for index in range(programs)}
            peer = rival(Task(directory, commands, self.capture, fast), binaries)
            peer.configure()
            yield Running(peer, births, said.fileno())
        except Failed as error:
            lines = (directory / "said").read_text(errors="replace").split("\n")
            raise Failed("; ".join([str(error), *[line for line in lines if line][-1:]])) from error
        finally:
            end_everything()
            births.close()
            said.close()
            shutil.rmtree(directory, ignore_errors=True)

    def life(self, rival: type[Rival], binaries: Mapping[str, str], results: dict[str, list[float]]) -> None:
        """From start to stop, without a death; what was measured before a failure stays."""

        def note(**measured: float) -> None:
            for name, value in measured.items():
                results.setdefault(name, []).append(value)

        with self.running(rival, binaries, 1) as running:  # from now on its files are in the page cache
            running.wait_until_started()
        with self.running(rival, binaries, self.programs) as running:
            note(start_s=running.wait_until_started())
            time.sleep(1)
            _, supervisors = programs_and_supervisors()
            memory_kib = sum(map(pss_kib, supervisors))
            note(memory_mib=memory_kib / 1024, memory_kib_each=memory_kib / self.programs)
            note(**status(running))
            note(switches=idle(running))
            note(**stop(running))

    def deaths(self, rival: type[Rival], binaries: Mapping[str, str], results: dict[str, list[float]]) -> None:
        """Restarts of one that is as fast as it can be told to be."""
        if not rival.restarts:
            return
        with self.running(rival, binaries, self.programs, fast=True) as running:
            running.wait_until_started()
            times_ms = sorted(restarts_ms(running))
        results.setdefault("restart_p50_ms", []).append(statistics.median(times_ms))
        # With so few kills the 99th percentile is the slowest.
        results.setdefault("restart_p99_ms", []).append(times_ms[-1])


# What is measured


def status(running: Running) -> dict[str, float]:
    """Milliseconds of the peer's own command, from exec to its end, for one program and for all."""
    measured: dict[str, float] = {}
    for name, program, count in (("one_ms", "p0", 1), ("all_ms", None, running.count)):
        command = running.rival.status(program)
        if command is None:
            break
        deadline_s = time.monotonic() + PATIENCE_S
        while count_running(command) < count:
            if time.monotonic() > deadline_s:
                raise Failed(f"{' '.join(command)[:80]} does not say that {count} run")
            time.sleep(0.1)
        measured[name] = statistics.median(took_ms(running, command) for _ in range(CALLS))
    return measured


def count_running(command: list[str]) -> int:
    """How many programs run, by what a status command says."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} does not end") from error
    return len(
        re.findall(r"(?:\brunning\b|\bactive\b|^run:|: up |^up ).*$", said.stdout, re.IGNORECASE | re.MULTILINE)
    )


def took_ms(running: Running, command: list[str]) -> float:
    """Milliseconds from the exec of a command to its end."""
    began_s = time.monotonic()
    process = running.execute(command)
    ends = Ends([process.pid])
    try:
        ended_s = ends.wait()[process.pid]
    finally:
        ends.close()
    if process.wait() != 0:
        raise Failed(f"{' '.join(command)[:80]} ended with {process.returncode}")
    return (ended_s - began_s) * 1e3


def idle(running: Running) -> float:
    """Voluntary context switches a second of all but the programs."""
    time.sleep(2)
    if running.process.poll() is not None:
        raise Failed(f"it ended with {running.process.returncode}")
    _, supervisors = programs_and_supervisors()
    before, began_s = voluntary_switches(supervisors), time.monotonic()
    time.sleep(IDLE_S)
    after, ended_s = voluntary_switches(supervisors), time.monotonic()
    return (after - before) / (ended_s - began_s)


def stop(running: Running) -> dict[str, float]:
    """Seconds from the signal, or the command, until the programs and then all processes are gone."""
    programs, supervisors = programs_and_supervisors()
    ends = Ends([*programs, *supervisors])
    try:
        began_s = time.monotonic()
        if running.rival.ends_on is not None:
            running.process.send_signal(running.rival.ends_on)
        if command := running.rival.stop():
            running.execute(command)
        ended = ends.wait()
    finally:
        ends.close()
    last_s = max(ended[pid] for pid in programs)
    return {"programs_gone_s": last_s - began_s, "all_gone_s": max(ended.values()) - began_s}


def restarts_ms(running: Running) -> Iterator[float]:
    """Milliseconds from the SIGKILL of a program to the main of the next, several times."""
    births = running.births
    irregular = random.Random(running.count)  # noqa: S311 - the same moments for all
    for number in range(KILLS):
        index = number % min(running.count, KILLED_PROGRAMS)
        before = births.latest[index]
        age_s = (time.monotonic_ns() - before[1]) / 1e9
        time.sleep(max(0.0, OLD_S - age_s) + irregular.uniform(0.05, 0.25))
        killed_ns = time.monotonic_ns()
        os.kill(before[0], signal.SIGKILL)
        births.wait_for(lambda: births.latest[index] != before, "restart")  # noqa: B023 - waited for here
        yield (births.latest[index][1] - killed_ns) / 1e6


# The tables


def compare(bench: Bench, present: Mapping[type[Rival], Mapping[str, str]], rounds: int) -> None:
    """Measure all in turns with so many programs, and print; who fails is told, and has its next turn."""
    turns: list[type[Rival]] = []
    for rival in present:
        if rival.most is not None and bench.programs > rival.most:
            print(f"{rival.name}: skipped, it takes {rival.most} programs at most")
        elif bench.capture and not rival.captures:
            print(f"{rival.name}: skipped, it captures no output")
        else:
            turns.append(rival)
    if not turns:
        return
    results: dict[type[Rival], dict[str, list[float]]] = {rival: {} for rival in turns}
    for number in range(rounds):
        first = number % len(turns)
        for rival in [*turns[first:], *turns[:first]]:
            print(f"{bench.programs} programs, round {number + 1}: {rival.name}", file=sys.stderr, flush=True)
            for part in (bench.life, bench.deaths):
                try:
                    part(rival, present[rival], results[rival])
                except (Failed, OSError, subprocess.SubprocessError) as error:
                    print(f"{rival.name}: {bench.programs} programs, round {number + 1}: {error}", flush=True)
    words = f"{bench.programs} programs, rounds: {rounds}{', output captured' if bench.capture else ''}"
    for title, columns in TABLES.items():
        print_table(f"{title} ({words})", columns, results)


def print_table(
    title: str, columns: list[tuple[str, str, int]], results: Mapping[type[Rival], Mapping[str, list[float]]]
) -> None:
    """A line for each peer: medians, and how many times the best peer's they are."""
    heading = "".join(f" {heading:>17} {'of best':>8}" for _, heading, _ in columns)
    print(f"\n{title}\n{'':14}{heading}")
    medians = {
        rival: {name: statistics.median(measured[name]) for name, _, _ in columns if name in measured}
        for rival, measured in results.items()
    }
    best = {
        name: min(
            (median[name] for rival, median in medians.items() if name in median and not rival.is_limit),
            default=0,
        )
        for name, _, _ in columns
    }
    for rival, median in medians.items():
        line = f"{rival.name:14}"
        for name, _, decimals in columns:
            value = f"{median[name]:.{decimals}f}" if name in median else "-"
            # Beside a best of nothing there is no ratio.
            ratio = (
                f"{median[name] / best[name]:.2f}" if name in median and round(best[name], decimals) else "-"
            )
            line += f" {value:>17} {ratio:>8}"
        print(line)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
