"""What a child finds when it starts: the same in each of the ways to start one."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import fcntl
import json
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procd.errors import SpawnError
from procd.process import NULL, Credentials, Limit, Reaper, Settings, exact, plain, stdlib, syscalls
from procd.process import spawn as choice
from tests.kernel.children import NOBODY, Recorder, in_loop, needs_root, program, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.process.launch import Launch

SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
#: Nobody, in two groups that exist nowhere.
OTHERS = Credentials(NOBODY, NOBODY - 1, (NOBODY - 1, 12345), "x", "/", "/bin/sh")
# What the C library ignores in every child of posix_spawn: signals of its own, 32 and 33, which it takes again.
C_LIBRARY_SIGNALS = 0b11 << 31


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that were taken, in order."""
    taken: list[str] = []

    def watched(name: str, function: Any) -> Any:  # noqa: ANN401 - any spawn function
        def spawn(launch: Launch) -> int | None:
            taken.append(name)
            pid: int | None = function(launch)
            return pid

        return spawn

    for module in (plain, stdlib, exact):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(getattr(choice, name), "spawn", watched(name, module.spawn))
    return taken


@pytest.fixture
def ugly_parent() -> Iterator[None]:
    """A parent as bad as can be: ignored signals, an inheritable descriptor, a raised limit, a umask."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGUSR2)}
    fd = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(fd, True)
    mask = os.umask(0o011)
    yield
    os.umask(mask)
    os.close(fd)
    for number, handler in handlers.items():
        signal.signal(number, handler)


async def view(settings: Settings, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of start
    """Start a child and have it tell how it finds itself."""
    recorder = Recorder()
    start(program("view.py"), recorder, settings=settings, **options)
    await recorder.until_ended()
    seen: dict[str, Any] = json.loads(recorder.out)
    assert seen["pid"] == recorder.process.pid
    return seen


def ignored(seen: dict[str, Any]) -> int:
    """The signals that a child ignores; Python itself ignores two."""
    python = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    mask = int(seen["status"]["SigIgn"][0], 16)
    return mask & ~(python | C_LIBRARY_SIGNALS)


LENT = Limit(resource.RLIMIT_NOFILE, min(1024, SOFT), HARD)
CASES = {
    "plain": (Settings(), ["plain"]),
    "plain, lending": (
        Settings(directory="/usr", umask=0o077, limits=(LENT,), sole_thread=True), ["plain"],
    ),
    "another directory, with threads about": (Settings(directory="/usr", umask=0o077), ["stdlib"]),
    "a limit, with threads about": (Settings(limits=(LENT,)), ["exact"]),
    "exact": (Settings(nice=1), ["exact"]),
}  # fmt: skip
ROOTS_CASES = {
    "credentials": (Settings(credentials=OTHERS, directory="/usr", umask=0o077), ["stdlib"]),
    "credentials, lending": (Settings(credentials=OTHERS, limits=(LENT,), sole_thread=True), ["stdlib"]),
    "credentials and more": (Settings(credentials=OTHERS, directory="/usr", umask=0o077, nice=1), ["exact"]),
    "no groups at all": (Settings(credentials=Credentials(1, 1, (), "x", "/", "/bin/sh")), ["exact"]),
}
ALL = [pytest.param(*case, id=name) for name, case in CASES.items()]
ALL += [pytest.param(*case, id=name, marks=needs_root) for name, case in ROOTS_CASES.items()]


@pytest.mark.parametrize(("settings", "expected"), ALL)
def test_the_childs_view_is_as_asked_for(settings: Settings, expected: list[str], ways: list[str]) -> None:
    """Descriptors, session, signals, limits, credentials; and which way was taken."""

    @in_loop
    async def test() -> None:
        before = (str(Path.cwd()), os.umask(0o022), resource.getrlimit(resource.RLIMIT_NOFILE))
        seen = await view(settings)
        assert ways == expected
        assert (str(Path.cwd()), os.umask(before[1]), resource.getrlimit(resource.RLIMIT_NOFILE)) == (
            before[0], 0o022, before[2],
        )  # fmt: skip
        assert seen["descriptors"] == [0, 1, 2]
        assert seen["session"] == seen["group"] == seen["pid"]
        assert ignored(seen) == 0
        assert int(seen["status"]["SigBlk"][0], 16) == 0
        assert seen["directory"] == (settings.directory or before[0])
        assert seen["umask"] == (0o022 if settings.umask is None else settings.umask)
        soft = LENT.soft if settings.limits else SOFT
        assert seen["limits"]["RLIMIT_NOFILE"] == [soft, HARD]
        assert_credentials(seen, settings.credentials)

    test()


def assert_credentials(seen: dict[str, Any], credentials: Credentials | None) -> None:
    """All of them are what was asked for, and nothing of root's is left."""
    if credentials is None:
        assert seen["uids"] == list(os.getresuid())
        return
    assert seen["uids"] == [credentials.uid] * 3
    assert seen["gids"] == [credentials.gid] * 3
    assert seen["status"]["Uid"] == [str(credentials.uid)] * 4
    assert seen["status"]["Gid"] == [str(credentials.gid)] * 4
    assert sorted(seen["groups"]) == sorted(credentials.groups)
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(seen["status"][capabilities][0], 16) == 0


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(nice=0),
        pytest.param(Settings(credentials=OTHERS), marks=needs_root),
    ],
    ids=["plain", "exact", "credentials"],
)
@pytest.mark.usefixtures("ugly_parent")
def test_nothing_of_an_ugly_parent_is_inherited(settings: Settings) -> None:
    """Ignored signals become default, inheritable descriptors stay behind, a blocked signal is let through."""

    @in_loop
    async def test() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            seen = await view(settings)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        assert ignored(seen) == 0
        assert int(seen["status"]["SigBlk"][0], 16) == 0
        assert seen["descriptors"] == [0, 1, 2]

    test()


WAYS = pytest.mark.parametrize("settings", [Settings(), Settings(nice=0)], ids=["plain", "exact"])


@WAYS
def test_any_descriptor_number_can_be_given(settings: Settings) -> None:
    """Pipes at 7 and 300, /dev/null at 0, an open file at 9, nothing at 1."""

    @in_loop
    async def test() -> None:
        recorder = Recorder()
        file = os.memfd_create("given")
        os.write(file, b"of ours")
        script = "cat <&300 >&7; cat /proc/self/fd/9 >&7; ls /proc/self/fd | tr '\\n' ' ' >&7; cat >&7"
        fds: dict[int, Any] = {0: NULL, 2: NULL, 7: "r", 300: "w", 9: file}
        process = start(["bash", "-c", script], recorder, settings=settings, child_fds=fds)
        process.write_to_child(300, b"through 300, ")
        process.close_child_fd(300)
        await recorder.until_ended()
        os.close(file)
        text, numbers = bytes(recorder.output[7][:20]), bytes(recorder.output[7][20:])
        assert text == b"through 300, of ours"
        # The directory that ls reads is among them, at the lowest number that was free.
        assert sorted(map(int, numbers.split())) in ([0, 1, 2, 3, 7, 9, 300], [0, 2, 3, 7, 9, 300])

    test()


@WAYS
def test_our_own_standard_descriptors_can_be_swapped(settings: Settings) -> None:
    """Sources that are targets of others: 10 goes to 11, 11 to 10, both at once."""

    @in_loop
    async def test() -> None:
        first, second = os.memfd_create("first"), os.memfd_create("second")
        low, high = (
            fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, 40),
            fcntl.fcntl(second, fcntl.F_DUPFD_CLOEXEC, 50),
        )
        recorder = Recorder()
        script = f"readlink /proc/self/fd/{low} /proc/self/fd/{high}"
        fds: dict[int, Any] = {0: NULL, 1: "r", 2: NULL, low: high, high: low}
        start(["bash", "-c", script], recorder, settings=settings, child_fds=fds)
        await recorder.until_ended()
        for fd in (first, second, low, high):
            os.close(fd)
        assert recorder.out == b"/memfd:second (deleted)\n/memfd:first (deleted)\n"

    test()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(sole_thread=True),
        pytest.param(Settings(sole_thread=True, credentials=OTHERS), marks=needs_root),
    ],
    ids=["plain", "credentials"],
)
def test_the_original_limit_is_given_with_ten_thousand_descriptors_open(
    settings: Settings, ways: list[str]
) -> None:
    """The soft limit is ours only for the moment, and no step of it needs a descriptor above it."""
    if HARD < 11_000:
        pytest.skip("the hard limit on descriptors is too low for this")
    settings = dataclasses.replace(settings, limits=(Limit(resource.RLIMIT_NOFILE, 1024, HARD),))
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(10_000)]

    @in_loop
    async def test() -> None:
        for _ in range(3):
            seen = await view(settings)
            assert seen["limits"]["RLIMIT_NOFILE"] == [1024, HARD]
            assert seen["descriptors"] == [0, 1, 2]
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (HARD, HARD)

    try:
        test()
        assert "exact" not in ways
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))


@needs_root
@in_loop
async def test_a_child_of_another_user_can_open_its_output_again() -> None:
    """Its ends of the pipes belong to it, as nginx needs it for /dev/stdout."""
    recorder = Recorder()
    settings = Settings(credentials=OTHERS)
    start("echo again >/dev/stdout; echo error >/dev/stderr; cat /dev/stdin", recorder, settings=settings)
    recorder.process.write(b"input\n")
    recorder.process.close_stdin()
    await recorder.until_ended()
    assert recorder.out == b"again\ninput\n"
    assert recorder.output[2] == b"error\n"


@in_loop
async def test_a_signal_between_fork_and_exec_does_not_reach_our_loop() -> None:
    """Our handlers are inherited until exec, and so is the pipe by which they wake the loop."""
    loop = asyncio.get_running_loop()
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "usr1")
    recorder = Recorder()
    start("kill -USR1 $$", recorder, settings=Settings(nice=0))
    end = await recorder.until_ended()
    assert end.signal == signal.SIGUSR1
    assert seen == []
    loop.remove_signal_handler(signal.SIGUSR1)
    assert Reaper.of(loop) is recorder.process._reaper


@pytest.mark.parametrize("settings", [Settings(), Settings(nice=0)], ids=["plain", "exact"])
@pytest.mark.usefixtures("ugly_parent")
def test_an_old_kernel_closes_descriptors_one_by_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without close_range, or where a sandbox forbids it; descriptors that are not in the map too."""

    def missing(first: int, last: int = 0) -> None:
        raise OSError(errno.ENOSYS, f"no close_range for {first} to {last}")

    @in_loop
    async def test() -> None:
        monkeypatch.setattr(syscalls, "close_range_on_exec", missing)
        seen = await view(settings)
        assert seen["descriptors"] == [0, 1, 2]
        recorder = Recorder()
        start("ls /proc/self/fd >&5", recorder, settings=settings, child_fds={5: "r"})
        await recorder.until_ended()
        # ls opens the directory at the lowest free number, which is 0.
        assert recorder.output[5].split() in ([b"0", b"1", b"5"], [b"0", b"1", b"3", b"5"])

    test()


@in_loop
async def test_descriptors_that_cannot_be_sealed_stop_the_spawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error than a missing call fails closed."""

    def failing(first: int) -> None:
        raise OSError(errno.ENOMEM, str(first))

    monkeypatch.setattr(syscalls, "close_range_on_exec", failing)
    for settings in (Settings(), Settings(nice=0)):
        with pytest.raises(SpawnError) as caught:
            start("true", settings=settings)
        assert (caught.value.stage, caught.value.errno) == ("descriptors", errno.ENOMEM)


@in_loop
async def test_without_a_way_back_the_parent_does_not_leave_its_directory(
    monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    """Then the child changes it itself."""

    def refuse(fd: int) -> None:
        raise PermissionError(errno.EACCES, str(fd))

    monkeypatch.setattr(os, "fchdir", refuse)
    seen = await view(Settings(directory="/usr", sole_thread=True))
    assert seen["directory"] == "/usr"
    assert ways == ["plain", "exact"]


def test_a_child_may_have_a_descriptor_above_its_own_limit(ways: list[str]) -> None:
    """It is put there before the limit is set, which only the exact way can do."""
    limit = Limit(resource.RLIMIT_NOFILE, 64, HARD)

    @in_loop
    async def test() -> None:
        recorder = Recorder()
        settings = Settings(limits=(limit,), sole_thread=True)
        start(["bash", "-c", "ulimit -n; cat <&100"], recorder, settings=settings, child_fds={1: "r", 100: "w"})
        recorder.process.write_to_child(100, b"above\n")
        recorder.process.close_child_fd(100)
        await recorder.until_ended()
        assert recorder.out == b"64\nabove\n"
        assert ways == ["plain", "exact"]

    test()
