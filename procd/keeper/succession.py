"""How the keeper's next program takes over: by exec in the same process, with all it knows in a memory file.

Owns the form of that file.  Children and channels notice nothing.  Before it is done for good, another process
tries whether the new program can read the file: a keeper that fails at its start would cost everything.

The file is a row of messages (`messages.encode`), each with the numbers of its descriptors behind it, which are
kept open across exec.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import sys

from procd.keeper import messages

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.keeper.child import Child
    from procd.keeper.keeper import Keeper

#: To be counted up when the file changes its meaning.  A keeper reads its own and the one before.
FORM = 1

_KEEPER, _CHILD, _RECORD, _ANSWER, _PENDING, _DONE = range(1, 7)
_NUMBERS = ("exits", "exits_lost", "stopping")
_CHILDS_NUMBERS = ("pid", "starts", "young_deaths")
_CHILDS_SECONDS = ("started_s", "start_at_s", "unanswered_s")
_CHILDS_FLAGS = ("aborted", "killed", "greeted", "up", "ever_up", "handing_over", "complained")
_CHILDS = (*_CHILDS_NUMBERS, *_CHILDS_SECONDS, *_CHILDS_FLAGS)
#: The arguments that name the file.
RESUME, REHEARSE = "resume=", "rehearse="


def _write(keeper: Keeper) -> tuple[int, list[int]]:
    """The file, and the descriptors that are named in it.  Raises OSError."""
    kept: list[int] = []
    parts: list[bytes] = []

    def part(verb: int, key: bytes = b"", value: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        parts.append(messages.encode(verb, key, value, len(fds)) + array.array("i", fds).tobytes())
        kept.extend(fds)

    about: dict[str, object] = {name: getattr(keeper, name) for name in _NUMBERS}
    about["finish"] = "" if keeper.finish is None else keeper.finish
    about["relayed"] = " ".join(str(int(number)) for number in keeper.relayed)
    about["limits"] = " ".join(f"{limit}:{soft}:{hard}" for limit, (soft, hard) in keeper.limits)
    part(_KEEPER, b"", messages.lines(form=FORM, **about))
    for child in keeper.children:
        channel = () if child.channel is None else (child.channel.fileno(),)
        its = {name: int(getattr(child, name)) for name in (*_CHILDS_NUMBERS, *_CHILDS_FLAGS)}
        seconds = {name: getattr(child, name) for name in _CHILDS_SECONDS}
        text = messages.lines(**its, **seconds, last_end=child.last_end)
        part(_CHILD, child.name.encode(), text, channel)
        for key in child.table:
            record = child.table.get(key)
            if record is not None:
                part(_RECORD, key, *record)
        for answer in child.answers:
            part(_ANSWER, b"", answer)
        for key in child.pending:
            part(_PENDING, key)
    part(_DONE)
    file = os.memfd_create("procd-keeper", os.MFD_CLOEXEC)
    try:
        data = memoryview(b"".join(parts))
        while data:
            data = data[os.write(file, data) :]
    except OSError:
        os.close(file)
        raise
    return file, kept


def _read(file: int) -> Iterator[tuple[int, bytes, bytes, tuple[int, ...]]]:
    """The parts of a file.  Raises ValueError when it is not whole."""
    data = os.pread(file, os.fstat(file).st_size, 0)
    at = 0
    verb = 0
    while at < len(data):
        verb, count, key_bytes, value_bytes = messages.HEADER.unpack_from(data, at)
        key_at = at + messages.HEADER.size
        value_at = key_at + key_bytes
        fds_at = value_at + value_bytes
        fds = array.array("i")
        at = fds_at + count * fds.itemsize
        fds.frombytes(data[fds_at:at])
        yield verb, data[key_at:value_at], data[value_at:fds_at], tuple(fds)
    if verb != _DONE:
        raise ValueError("the file of the earlier keeper is not whole")


def restore(keeper: Keeper, file: int) -> dict[str, int]:
    """Know what the earlier keeper knew; returns the channels by name of child.  Raises ValueError.

    No descriptor is touched.
    """
    children = {child.name.encode(): child for child in keeper.children}
    child = keeper.first
    channels = {}
    for verb, key, value, fds in _read(file):
        if verb == _KEEPER:
            _restore_keeper(keeper, messages.fields(value))
        elif verb == _CHILD:
            child = children[key]
            _restore_child(child, messages.fields(value))
            if fds:
                channels[child.name] = fds[0]
        elif verb == _RECORD:
            child.table.put(key, value, fds)
        elif verb == _ANSWER:
            child.resume((value,), ())
        elif verb == _PENDING:
            child.resume((), (key,))
    return channels


def _restore_keeper(keeper: Keeper, said: dict[str, str]) -> None:
    if int(said["form"]) != FORM:
        raise ValueError(f"the earlier keeper wrote form {said['form']}, this one reads {FORM}")
    for name in _NUMBERS:
        setattr(keeper, name, int(said[name]))
    keeper.finish = int(said["finish"]) if said["finish"] else None
    keeper.relayed = {int(number) for number in said["relayed"].split()}
    limits = [[int(number) for number in limit.split(":")] for limit in said["limits"].split()]
    keeper.limits = tuple((limit, (soft, hard)) for limit, soft, hard in limits)


def _restore_child(child: Child, said: dict[str, str]) -> None:
    for name in _CHILDS_NUMBERS:
        setattr(child, name, int(said[name]))
    for name in _CHILDS_SECONDS:
        setattr(child, name, float(said[name]))
    for name in _CHILDS_FLAGS:
        setattr(child, name, said[name] == "1")
    child.last_end = said["last_end"]


def take_over(keeper: Keeper, file: int) -> None:
    """Be the keeper that comes after the one that wrote the file.  Raises ValueError, and OSError."""
    channels = restore(keeper, file)
    os.close(file)
    for child in keeper.children:
        if child.name in channels:
            os.set_inheritable(channels[child.name], False)
            child.channel = socket.socket(fileno=channels[child.name])
            keeper.watch(child)
        for key in child.table:
            for fd in (child.table.get(key) or (b"", ()))[1]:
                os.set_inheritable(fd, False)
    keeper.first.answer(messages.UPGRADED)


def _command(argument: str) -> list[str]:
    """Our command line with one more argument, the first; see `launch.command`."""
    ours = [each for each in sys.argv[1:] if not each.startswith((RESUME, REHEARSE))]
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not small
    return [sys.executable, "-I", "-S", f"{here}/__main__.py", argument, *ours]


def rehearse(keeper: Keeper) -> int:
    """Start a process that ends with 0 if the program that is installed now can take over; returns its PID.

    Raises OSError.
    """
    file, _ = _write(keeper)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                os.set_inheritable(file, True)
                os.execv(sys.executable, _command(f"{REHEARSE}{file}"))  # noqa: S606 - our own program
            finally:
                os._exit(127)
    finally:
        os.close(file)
    return pid


def execute(keeper: Keeper) -> str:
    """Become the program that is installed now; returns, with the reason, only if that failed."""
    # Before it has handlers the new program would die of a signal.  It lets them through when it has them;
    # those that came until now are in the file.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, keeper.caught)
    keeper.take_signals()
    file = -1
    kept: list[int] = []
    try:
        file, kept = _write(keeper)
        for fd in (file, *kept):
            os.set_inheritable(fd, True)
        os.execv(sys.executable, _command(f"{RESUME}{file}"))  # noqa: S606 - our own program
    except OSError as error:
        return f"cannot execute {sys.executable}: {error.strerror}"
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)
        if file >= 0:
            os.close(file)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
