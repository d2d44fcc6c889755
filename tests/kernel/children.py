"""What tests of real children share: a protocol that remembers, waiting under a bound, looking at /proc."""
# ruff: noqa: D102, ANN401 - callbacks are described where they are declared; fixtures and options are anything

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procd.process import Process, ProcessProtocol, Reaper, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from procd.process import Exit

#: How long anything may take; one constant scales all bounds, for slow machines.
BOUND_S = 20.0 * float(os.environ.get("PROCD_TEST_PATIENCE", "1"))

PROGRAMS = Path(__file__).parent.parent / "programs"
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user of a child, which only root may")


class Recorder(ProcessProtocol):
    """Remembers everything that it is told, in order, and lets one wait for it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.output: dict[int, bytearray] = {}
        self.exit: Exit | None = None
        self._changed = asyncio.Event()

    def connection_made(self, process: Process) -> None:
        super().connection_made(process)
        self._note("made")

    def child_data_received(self, child_fd: int, data: bytes) -> None:
        self.output.setdefault(child_fd, bytearray()).extend(data)
        self._changed.set()

    def child_connection_lost(self, child_fd: int) -> None:
        self._note(f"lost {child_fd}")

    def process_exiting(self) -> None:
        self._note("exiting")

    def process_exited(self, exit: Exit) -> None:  # noqa: A002
        self.exit = exit
        self._note("exited")

    def process_ended(self, exit: Exit) -> None:  # noqa: A002
        assert exit is self.exit
        self._note("ended")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()

    @property
    def out(self) -> bytes:
        return bytes(self.output.get(1, b""))

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for a condition that changes with what this protocol is told."""
        async with asyncio.timeout(BOUND_S):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def until_told(self, event: str) -> None:
        await self.until(lambda: event in self.events)

    async def until_ended(self) -> Exit:
        await self.until_told("ended")
        assert self.exit is not None
        return self.exit


def start(command: str | list[str], protocol: ProcessProtocol | None = None, **options: Any) -> Process:
    """Start a shell script (a string) or an argv (a list), with a Recorder unless told otherwise."""
    argv = ["sh", "-c", command] if isinstance(command, str) else command
    protocol = Recorder() if protocol is None else protocol
    environment = options.pop("environment", None)
    path = options.pop("path", None)
    return Process(asyncio.get_running_loop(), argv[0], argv, environment, path, protocol, **options)


def program(name: str, *arguments: str) -> list[str]:
    """The argv of one of tests/programs, in a form that any user may execute."""
    return [python_for_anyone(), "-I", "-c", (PROGRAMS / name).read_text(), *arguments]


@functools.cache
def python_for_anyone() -> str:
    """An interpreter that also a child without our rights can execute; ours may lie in a home directory."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        real = Path(path).resolve()
        if real.exists() and all(place.stat().st_mode & 0o001 for place in (real, *real.parents)):
            return path
    pytest.skip("there is no Python that another user may execute")


async def run(command: str | list[str], text: bytes = b"", **options: Any) -> tuple[bytes, Exit]:
    """Run to the end: what it wrote to its standard output, and how it ended."""
    recorder = Recorder()
    process = start(command, recorder, **options)
    if text:
        process.write(text)
    process.close_stdin()
    end = await recorder.until_ended()
    return recorder.out, end


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own, which must not leave a child or a descriptor behind."""

    def wrapped(*args: Any, **fixtures: Any) -> None:
        asyncio.run(_checked(test(*args, **fixtures)))

    wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__ = test.__name__, test.__doc__, test  # type: ignore[attr-defined]
    wrapped.__dict__.update(test.__dict__)
    return wrapped


async def _checked(test: Coroutine[Any, Any, None]) -> None:
    reaper = Reaper(asyncio.get_running_loop())
    try:
        await test
        await until(lambda: not our_children())
    finally:
        reaper.close()
        _bury_the_rest()


def _bury_the_rest() -> None:
    """End what a test that failed has left: the next one shall not suffer for it."""
    for member in Snapshot.take().descendants(os.getpid()):
        os.kill(member.pid, signal.SIGKILL)
    while left := our_children():  # those of the dead come to us, where we are a subreaper
        for pid in left:
            os.waitpid(pid, 0)


async def until(true: Callable[[], object]) -> None:
    """Wait for a condition that nobody announces, such as one of /proc."""
    async with asyncio.timeout(BOUND_S):
        while not true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


def open_descriptors() -> set[int]:
    """The descriptors of this process that are open."""
    listed = {int(each.name) for each in Path("/proc/self/fd").iterdir()}
    return {fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")}  # without that of the listing


def our_children() -> set[int]:
    """The PIDs of our children, dead ones too."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - a glob fails where a process ends
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(name))
    return found


def status_of(text: bytes) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {name: value.strip() for name, value in lines}
