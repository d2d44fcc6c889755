"""Spawning fails closed: at each stage, with its errno, and nothing of the child or its pipes is left.

That nothing is left, no descriptor and no zombie, is checked after every test here (conftest.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from procd.errors import SpawnError
from procd.process import (
    NULL,
    Credentials,
    Limit,
    Process,
    ProcessProtocol,
    Settings,
    credentials_for,
    syscalls,
)
from tests.kernel.children import NOBODY, in_loop, needs_root, open_descriptors, our_children, start, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

USER = Credentials(NOBODY, NOBODY, (NOBODY,), "x", "/", "/bin/sh")
WAYS = [
    pytest.param(Settings(), id="plain"),
    pytest.param(Settings(sole_thread=True, directory="/", umask=0o022), id="lending"),
    pytest.param(Settings(nice=0), id="exact"),
    pytest.param(Settings(credentials=USER), id="credentials", marks=needs_root),
]
every_way = pytest.mark.parametrize("settings", WAYS)


async def failure(command: str | list[str] = "true", **options: Any) -> SpawnError:  # noqa: ANN401 - of start
    """Start what cannot be started."""
    fds, children = open_descriptors(), our_children()
    with pytest.raises(SpawnError) as caught:
        start(command, ProcessProtocol(), **options)
    assert open_descriptors() == fds
    assert our_children() == children
    return caught.value


def in_a_child(attempt: Callable[[], SpawnError | None]) -> tuple[str, int] | None:
    """Fork, and have the child attempt something with fewer rights: the stage and errno of what it got."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            error = attempt()
            os.write(tell, b"none" if error is None else f"{error.stage}|{error.errno}".encode())
        except BaseException as unexpected:  # noqa: BLE001 - it is what the test shall show
            os.write(tell, f"{unexpected!r}|0".encode())
        finally:
            os._exit(0)
    os.close(tell)
    answer = os.read(told, 1000).decode()
    os.close(told)
    os.waitpid(pid, 0)
    stage, _, number = answer.partition("|")
    return None if answer == "none" else (stage, int(number))


def attempt_to_start(settings: Settings) -> SpawnError | None:
    """Start a child in a loop of its own; what it failed with."""

    async def attempt() -> SpawnError | None:
        try:
            process = start(["true"], ProcessProtocol(), settings=settings, child_fds={})
        except SpawnError as error:
            return error
        # A loop that is closed while a child dies is told of it on a descriptor that is closed (asyncio).
        await until(lambda: process.exit)
        return None

    return asyncio.run(attempt())


@every_way
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/nowhere/to/be/found", errno.ENOENT),
        ("nowhere-to-be-found", errno.ENOENT),
        ("", errno.ENOENT),
        ("/etc/passwd", errno.EACCES),
        ("/etc/passwd/x", errno.ENOTDIR),
        ("/", errno.EACCES),
        ("/" + "x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_a_command_that_cannot_be_executed(settings: Settings, command: str, reason: int) -> None:
    """Stage exec, the errno of execve(2), the command as subject."""

    @in_loop
    async def test() -> None:
        error = await failure([command], settings=settings)
        assert (error.stage, error.errno, error.subject) == ("exec", reason, command)

    test()


@every_way
def test_a_file_that_is_no_program(settings: Settings, tmp_path: Path) -> None:
    """No shell takes over; and a script whose interpreter is missing is not found."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)

    @in_loop
    async def test() -> None:
        for name, content, reason in (
            ("text", b"echo hello\n", errno.ENOEXEC),
            ("script", b"#!/nowhere/sh\n", errno.ENOENT),
        ):
            file = tmp_path / name
            file.write_bytes(content)
            file.chmod(0o755)
            error = await failure([str(file)], settings=settings)
            assert (error.stage, error.errno) == ("exec", reason)

    test()


@every_way
def test_a_directory_that_is_missing(settings: Settings) -> None:
    """Stage chdir, and the directory as subject; it is not mistaken for a missing command."""

    @in_loop
    async def test() -> None:
        error = await failure(path="/nowhere", settings=settings)
        assert (error.stage, error.errno, error.subject) == ("chdir", errno.ENOENT, "/nowhere")
        error = await failure(path="/etc/passwd", settings=settings)
        assert (error.stage, error.errno) == ("chdir", errno.ENOTDIR)

    test()


@every_way
def test_what_cannot_be_passed_is_refused_before_anything_is_made(settings: Settings) -> None:
    """NUL bytes, no arguments at all, impossible names of variables, more than the kernel takes."""

    @in_loop
    async def test() -> None:
        assert (await failure(["a\0b"], settings=settings)).stage == "arguments"
        assert (await failure(["true", "a\0b"], settings=settings)).stage == "arguments"
        assert (await failure(["true", "\ud800"], settings=settings)).stage == "arguments"
        for name, value in (("A=B", "x"), ("", "x"), ("A", "\0"), ("\ud800", "")):
            error = await failure(environment={name: value}, settings=settings)
            assert error.stage == "environment"
        error = await failure(["true", "x" * 200_000], settings=settings)
        assert (error.stage, error.errno) == ("exec", errno.E2BIG)
        with pytest.raises(SpawnError, match="arguments"):
            Process(asyncio.get_running_loop(), "true", [], None, None, ProcessProtocol(), settings=settings)

    test()


@every_way
def test_descriptors_that_are_not_there(settings: Settings) -> None:
    """A closed number, a negative one, and a wish that nobody knows."""

    @in_loop
    async def test() -> None:
        for wish, reason in ((9999, errno.EBADF), (-5, errno.EBADF), ("x", errno.EINVAL), (None, errno.EINVAL)):
            error = await failure(child_fds={0: "w", 1: "r", 2: wish}, settings=settings)
            assert (error.stage, error.errno) == ("descriptors", reason)
        error = await failure(child_fds={0: "w", -1: NULL}, settings=settings)
        assert (error.stage, error.errno) == ("descriptors", errno.EBADF)
        error = await failure(child_fds={0: "w", 2: "stdout"}, settings=settings)
        assert (error.stage, error.errno) == ("descriptors", errno.EINVAL)

    test()


CASES: dict[str, tuple[dict[str, Any], str, int]] = {
    "rlimit": ({"limits": (Limit(resource.RLIMIT_CORE, 20, 10),)}, "rlimit", errno.EINVAL),
    "ioprio": ({"io_class": 9}, "ioprio", errno.EINVAL),
    "affinity": ({"cpu_affinity": frozenset({1023})}, "affinity", errno.EINVAL),
    "oom_score_adj": ({"oom_score_adj": 5000}, "oom_score_adj", errno.EINVAL),
    "cgroup": ({"cgroup": "/nowhere"}, "cgroup", errno.ENOENT),
    "ambient set": ({"capabilities": frozenset({62})}, "ambient set", errno.EINVAL),
    "setuid -1": ({"credentials": structs.replace(USER, uid=0xFFFFFFFF)}, "setuid", errno.EINVAL),
    "setgid -1": ({"credentials": structs.replace(USER, gid=-1)}, "setgid", errno.EINVAL),
    "setgroups -1": (
        {"credentials": structs.replace(USER, groups=(1, 1 << 32))},
        "setgroups",
        errno.EINVAL,
    ),
}


@pytest.mark.parametrize(
    ("settings", "stage", "reason"),
    [
        pytest.param(*case, id=name, marks=needs_root if name == "ambient set" else ())
        for name, case in CASES.items()
    ],
)
def test_each_step_tells_its_own_failure(settings: dict[str, Any], stage: str, reason: int) -> None:
    """The step by its name, and the kernel's errno."""

    @in_loop
    async def test() -> None:
        error = await failure(settings=Settings(**settings))
        assert (error.stage, error.errno) == (stage, reason)

    test()


def become_nobody() -> None:
    """Give up all rights, as a procd that is not root has none."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


RIGHTS: dict[str, tuple[dict[str, Any], str, int]] = {
    "setgroups": ({"credentials": structs.replace(USER, uid=1)}, "setgroups", errno.EPERM),
    "rlimit": ({"limits": (Limit(resource.RLIMIT_NICE, 30, 30),)}, "rlimit", errno.EPERM),
    "nice": ({"nice": -5}, "nice", errno.EACCES),
    "ioprio": ({"io_class": 1}, "ioprio", errno.EPERM),
    "oom_score_adj": ({"oom_score_adj": -500}, "oom_score_adj", errno.EACCES),
    "chdir": ({"directory": "/root"}, "chdir", errno.EACCES),
    "bounding set": ({"capabilities": frozenset()}, "bounding set", errno.EPERM),
}


@needs_root
@pytest.mark.parametrize(
    ("settings", "stage", "reason"), [pytest.param(*case, id=name) for name, case in RIGHTS.items()]
)
def test_each_step_that_needs_rights_fails_without_them(
    settings: dict[str, Any], stage: str, reason: int
) -> None:
    """A procd that is not root refuses, and does not start the program as itself."""

    def attempt() -> SpawnError | None:
        become_nobody()
        return attempt_to_start(Settings(**settings))

    assert in_a_child(attempt) == (stage, reason)


@needs_root
@pytest.mark.parametrize(("kept", "stage"), [("setgid", "setuid"), ("setuid", "setgroups")])
def test_half_of_the_rights_is_not_enough(kept: str, stage: str) -> None:
    """The user cannot be changed by who may only change groups; and the other way round."""

    def attempt() -> SpawnError | None:
        capability = {"setgid": 6, "setuid": 7}[kept]
        syscalls.set_capabilities(syscalls.capability_sets(frozenset({capability})))
        return attempt_to_start(Settings(credentials=USER))

    assert in_a_child(attempt) == (stage, errno.EPERM)


@needs_root
def test_who_is_that_user_already_needs_no_rights() -> None:
    """All three are what was asked for: nothing is to be changed."""

    def attempt() -> SpawnError | None:
        become_nobody()
        return attempt_to_start(Settings(credentials=structs.replace(USER, groups=())))

    assert in_a_child(attempt) is None


@needs_root
def test_a_fork_that_is_refused_is_told_as_such() -> None:
    """RLIMIT_NPROC: stage fork, EAGAIN."""

    def attempt() -> SpawnError | None:
        become_nobody()
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        return attempt_to_start(Settings())

    assert in_a_child(attempt) == ("fork", errno.EAGAIN)


@in_loop
async def test_no_memory_for_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOMEM, and signals are let through again afterwards."""

    def no_memory() -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(os, "fork", no_memory)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    error = await failure(settings=Settings(nice=0))
    assert (error.stage, error.errno) == ("fork", errno.ENOMEM)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


@every_way
def test_running_out_of_descriptors_at_any_point_leaks_none(settings: Settings) -> None:
    """With 0, 1, 2 … descriptors free: an error until there are enough, and the same ones open after each."""

    @in_loop
    async def test() -> None:
        await asyncio.sleep(0)  # the reaper's first look
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        stages = []
        free = [fd for fd in range(256) if fd not in open_descriptors()]
        for count in range(20):
            before = open_descriptors()
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[count], hard))
            try:
                process = start(["true"], ProcessProtocol(), settings=settings)
            except SpawnError as error:
                stages.append((error.stage, error.errno))
            else:
                process.lose_connection()
                break
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert open_descriptors() == before
        else:
            pytest.fail("20 free descriptors are not enough for one child")
        assert len(stages) >= 6
        assert set(stages) == {("pipe", errno.EMFILE)}

    test()


@in_loop
async def test_a_loop_that_cannot_watch_the_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child that runs already is killed and reaped, and its pipes are closed."""
    loop = asyncio.get_running_loop()
    add_reader, calls = loop.add_reader, []

    def refuse(fd: int, *arguments: Any) -> None:  # noqa: ANN401 - any callback
        calls.append(fd)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "no more watches")
        add_reader(fd, *arguments)

    monkeypatch.setattr(loop, "add_reader", refuse)
    error = await failure(["sleep", "1000"])
    assert (error.stage, error.errno) == ("watch", errno.ENOSPC)
    monkeypatch.undo()


@in_loop
async def test_users_that_cannot_be_looked_up() -> None:
    """A number without an entry has no group; with one given it needs none."""
    with pytest.raises(SpawnError) as caught:
        credentials_for(4242424, None)
    assert (caught.value.stage, caught.value.errno) == ("user", errno.ENOENT)
    alone = credentials_for(4242424, 55)
    assert alone is not None
    assert (alone.uid, alone.gid, alone.groups) == (4242424, 55, (55,))
    assert credentials_for(None, None) is None
    root = credentials_for(0, None)
    assert root is not None
    assert root.home == "/root"
    assert 0 in root.groups


@needs_root
@in_loop
async def test_a_directory_that_is_closed_to_the_user_is_entered_by_root() -> None:
    """As the ancestor does: with our rights."""
    process = start(["true"], ProcessProtocol(), settings=Settings(credentials=USER, nice=0, directory="/root"))
    process.lose_connection()
    assert process.pid


@needs_root
@pytest.mark.parametrize("there", [True, False])
def test_a_directory_that_is_entered_as_the_user_tells_nothing_of_what_the_user_cannot_see(
    tmp_path: Path, *, there: bool
) -> None:
    """Behind a closed door it is the same whether there is a directory, and nobody gets to it."""
    open_to_all = tmp_path / "closed/open"
    if there:
        open_to_all.mkdir(parents=True)
    else:
        (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o700)

    def attempt(**settings: Any) -> SpawnError | None:  # noqa: ANN401 - of Settings
        return attempt_to_start(Settings(credentials=USER, directory=str(open_to_all), **settings))

    error = attempt(directory_as_user=True)
    assert error is not None
    assert (error.stage, error.errno) == ("chdir", errno.EACCES)
    assert (attempt() is None) is there
