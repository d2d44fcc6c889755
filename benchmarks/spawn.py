"""How long starting a process takes, beside the standard library and Twisted, in one run.

    python benchmarks/spawn.py [ROUNDS] [MEGABYTES ...]

Every round starts one child in each way, so that all see the same noise; what counts is the ratio of the
medians.  Timed is the call that starts the child, which blocks the loop, and all of it to the reaped child with
closed pipes: ours goes through the loop for that, the others just wait.  Twisted is measured where it is
installed; its fork, for another user, does not wait to see whether the program could be executed.
"""
# ruff: noqa: ANN401, PLC0415 - Twisted may be missing, and has no types to speak of

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from procd.process import Limit, Process, ProcessProtocol, Reaper, Settings, credentials_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.process import Exit

COMMAND = ["/bin/true"]
NOBODY = 65534
SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
PLAIN = Settings()
LENDING = Settings(
    directory="/", umask=0o022, limits=(Limit(resource.RLIMIT_NOFILE, 1024, HARD),), sole_thread=True
)


class Waiting(ProcessProtocol):
    """Sets a future when all is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended = loop.create_future()

    def process_ended(self, exit: Exit) -> None:  # noqa: A002
        """It is."""
        self.ended.set_result(exit)


class Contender:
    """One way to start a child; `start` is timed, `finish` ends what it returned."""

    def __init__(self, name: str, start: Callable[[], Any], finish: Callable[[Any], None]) -> None:
        self.name = name
        self.start = start
        self.finish = finish
        self.calls: list[float] = []
        self.cycles: list[float] = []

    def round(self) -> None:
        """Start one and time the call; end it and time the whole."""
        begin = time.perf_counter()
        child = self.start()
        self.calls.append(time.perf_counter() - begin)
        self.finish(child)
        self.cycles.append(time.perf_counter() - begin)


def popen(**options: Any) -> subprocess.Popen[bytes]:
    """Start a child with three pipes and a session of its own."""
    return subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        start_new_session=True, **options,
    )  # fmt: skip


def popen_as_nobody() -> subprocess.Popen[bytes]:
    """The same, under another user."""
    return popen(user=NOBODY, group=NOBODY, extra_groups=[NOBODY])


def finish_popen(child: subprocess.Popen[bytes]) -> None:
    """Close and wait."""
    for pipe in (child.stdin, child.stdout, child.stderr):
        assert pipe is not None
        pipe.close()
    child.wait()


def bare_posix_spawn() -> tuple[int, list[int]]:
    """The system call and three pipes, nothing else."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    sources = (pipes[0][0], pipes[1][1], pipes[2][1])
    actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(sources)]
    pid = os.posix_spawn(COMMAND[0], COMMAND, os.environ, file_actions=actions, setsid=True, setsigdef=[13, 25])
    for source in sources:
        os.close(source)
    return pid, [pipes[0][1], pipes[1][0], pipes[2][0]]


def finish_bare(child: tuple[int, list[int]]) -> None:
    """Close and wait."""
    for fd in child[1]:
        os.close(fd)
    os.waitpid(child[0], 0)


def ours(loop: asyncio.AbstractEventLoop, settings: Settings) -> Contender:
    """A Process, ended through its loop."""

    def start() -> Process:
        return Process(loop, COMMAND[0], COMMAND, None, None, Waiting(loop), settings=settings)

    def finish(process: Process) -> None:
        process.close_stdin()
        protocol = process.protocol
        assert isinstance(protocol, Waiting)
        loop.run_until_complete(protocol.ended)

    return Contender("", start, finish)


def twisted(loop: asyncio.AbstractEventLoop, **options: Any) -> Contender | None:
    """Twisted's spawnProcess on the same loop, where there is a Twisted."""
    try:
        from twisted.internet import asyncioreactor, process, protocol
    except ImportError:
        return None
    if "twisted.internet.reactor" not in sys.modules:
        asyncioreactor.install(loop)
    from twisted.internet import reactor

    def start() -> Any:
        return reactor.spawnProcess(protocol.ProcessProtocol(), COMMAND[0], COMMAND, os.environ, **options)

    def finish(transport: Any) -> None:
        if transport.pid is not None:  # it looks once by itself, and may have reaped it already
            process.reapProcessHandlers.pop(transport.pid, None)
            os.waitpid(transport.pid, 0)
        for pipe in list(transport.pipes.values()):
            pipe.stopReading()
            pipe.stopWriting()
            os.close(pipe.fileno())

    return Contender("", start, finish)


def named(name: str, contender: Contender | None) -> list[Contender]:
    """Give it a name, if it is there."""
    if contender is None:
        return []
    contender.name = name
    return [contender]


def compare(title: str, contenders: list[Contender], rounds: int) -> None:
    """Run them side by side, and print medians and ratios to the first."""
    for _ in range(rounds):
        for contender in contenders:
            contender.round()
    calls = statistics.median(contenders[0].calls)
    cycles = statistics.median(contenders[0].cycles)
    print(f"{title}, {rounds} rounds{'call':>32}{'ratio':>7}{'to the end':>15}{'ratio':>7}")
    for contender in contenders:
        call, cycle = statistics.median(contender.calls), statistics.median(contender.cycles)
        print(
            f"  {contender.name:44} {call * 1e6:8.0f} µs {call / calls:6.2f}"
            f" {cycle * 1e6:10.0f} µs {cycle / cycles:6.2f}"
        )


def memory(loop: asyncio.AbstractEventLoop, count: int = 1000) -> None:
    """Python memory of an idle Process with three pipes."""
    protocol = ProcessProtocol()
    soft = min(HARD, 4 * count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, SOFT), HARD))
    Process(loop, "/bin/sleep", ["sleep", "1000"], None, None, protocol).signal_process("KILL")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    processes = [Process(loop, "/bin/sleep", ["sleep", "1000"], None, None, protocol) for _ in range(count)]
    loop.run_until_complete(asyncio.sleep(0.1))
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"memory of an idle Process with three pipes: {used / count:.0f} bytes, over {count}")
    for process in processes:
        process.signal_process("KILL")
    loop.run_until_complete(_ended(processes))


async def _ended(processes: list[Process]) -> None:
    while not all(process.ended for process in processes):  # noqa: ASYNC110 - a thousand ends at once
        await asyncio.sleep(0.01)


def main() -> None:
    """Compare with nothing more in memory, then with ballast."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sizes = [int(word) for word in sys.argv[2:]] or [0, 200]
    loop = asyncio.new_event_loop()
    reaper = Reaper(loop, exclusive=False)
    nobody = credentials_for(NOBODY, None)
    for size in sizes:
        ballast = [os.urandom(1000) for _ in range(size * 1000)]
        plain = [
            Contender("subprocess.Popen", popen, finish_popen),
            *named("procd Process", ours(loop, PLAIN)),
            *named("procd Process, lending directory and limit", ours(loop, LENDING)),
            Contender("os.posix_spawn, bare", bare_posix_spawn, finish_bare),
            *named("Twisted spawnProcess", twisted(loop)),
        ]
        compare(f"plain, {size} MB more in memory", plain, rounds)
        if os.geteuid() == 0 and nobody is not None:
            credentials = [
                Contender("subprocess.Popen", popen_as_nobody, finish_popen),
                *named("procd Process", ours(loop, Settings(credentials=nobody))),
                *named("procd Process, exact", ours(loop, Settings(credentials=nobody, nice=0))),
                *named("Twisted spawnProcess", twisted(loop, uid=NOBODY, gid=NOBODY)),
            ]
            compare(f"another user, {size} MB more in memory", credentials, rounds)
        del ballast
    memory(loop)
    reaper.close()
    loop.close()


if __name__ == "__main__":
    main()
