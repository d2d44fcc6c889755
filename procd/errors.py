"""The error tree of procd.

Owns every exception that crosses a room's wall.  Knows nothing of where an error is shown:
the command lines and the control socket turn fields into sentences and exit codes.

    ProcdError
    ├── ConfigurationError      problems: every mistake of a configuration, with its place
    ├── RuntimeDirectoryHeld    another procd holds the runtime directory
    ├── InvalidQuantity         a duration, size or signal that cannot be read (a ValueError too)
    ├── SpawnError              a child could not be started: stage, errno
    ├── ProcessExitedAlready    a signal for a process that was reaped
    ├── DescriptorClosed        a write to, or a producer for, a stream that is closed
    ├── BufferFull              a write that would make more wait than is allowed; nothing of it was taken
    ├── UnreadableRecord        what an earlier supervisor has left of itself is not what this one reads
    ├── ProtocolError
    │   ├── LocalProtocolError  we tried to send what the protocol does not allow
    │   └── RemoteProtocolError the peer sent what the protocol does not allow
    ├── Unreachable             procctl: no daemon answers on the socket
    └── Refusal                 an answer of the daemon: code, message, hint, data
        ├── BadRequest ├── UnknownMethod ├── NotPermitted ├── NoSuchProgram ├── WrongState
        └── StdinClosed ├── Failed ├── TimedOut ├── TooLarge └── ShuttingDown
"""

from __future__ import annotations

import errno as errno_names
import os

from procd.value import Value

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from typing import Any, ClassVar


class ProcdError(Exception):
    """Anything that procd reports on purpose."""


class Problem(Value):
    """One mistake in a configuration: `file:line: key: what; what to do`."""

    __slots__ = ("file", "line", "key", "what", "remedy")  # noqa: RUF023 - problems are sorted by place

    def __init__(self, file: str, line: int, key: str, what: str, remedy: str) -> None:
        self.file = file
        self.line = line
        self.key = key
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        key = f"{self.key}: " if self.key else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{where}{key}{self.what}{remedy}"


class ConfigurationError(ProcdError):
    """The configuration has mistakes; all of them are in `problems`."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class RuntimeDirectoryHeld(ProcdError):  # noqa: N818 - it names the state that was found
    """Another procd runs on the same runtime directory."""

    def __init__(self, path: str, pid: int | None) -> None:
        who = f"procd with PID {pid}" if pid else "another procd"
        super().__init__(f"{path} is held by {who}")
        self.path = path
        self.pid = pid


class InvalidQuantity(ProcdError, ValueError):  # noqa: N818 - it names the value
    """A word that should be a duration, a size or a signal and is not."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{value!r} is not {expected}")
        self.value = value
        self.expected = expected


class SpawnError(ProcdError):
    """A child could not be started; nothing of it is left.

    `stage` names the step that failed ("pipe", "fork", "chdir", "setgroups", "setgid", "setuid", "rlimit",
    "exec", …); `errno` is the kernel's reason; `subject` is what the step was about (a path, a user).
    """

    def __init__(self, stage: str, errno: int, subject: str = "") -> None:
        about = f" {subject!r}" if subject else ""
        name = errno_names.errorcode.get(errno, str(errno))
        super().__init__(f"{stage}{about} failed: {os.strerror(errno)} ({name})")
        self.stage = stage
        self.errno = errno
        self.subject = subject


class ProcessExitedAlready(ProcdError):  # noqa: N818 - the ancestor's name
    """The process was reaped; there is nobody to signal."""


class DescriptorClosed(ProcdError):  # noqa: N818 - it names the state
    """The stream is closed, or closing: nothing more is accepted."""


class BufferFull(ProcdError):  # noqa: N818 - it names the state
    """A write would make more bytes wait than is allowed; none of it was accepted."""

    def __init__(self, buffered: int, offered: int, bound: int) -> None:
        super().__init__(f"{offered} more bytes do not fit: {buffered} wait already, {bound} may")
        self.buffered = buffered
        self.offered = offered
        self.bound = bound


class UnreadableRecord(ProcdError):  # noqa: N818 - it names the thing
    """A record that an earlier supervisor has left cannot be read; `name` is the program's, if there is one."""

    def __init__(self, name: str | None, reason: str) -> None:
        super().__init__(f"the record of {name or 'procd itself'} cannot be read: {reason}")
        self.name = name
        self.reason = reason


class ProtocolError(ProcdError):
    """What was, or was to be, sent is not allowed by the protocol."""


class LocalProtocolError(ProtocolError):
    """We tried to send what the protocol does not allow; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow; the connection cannot go on."""


class Unreachable(ProcdError):  # noqa: N818 - it names the state
    """No daemon answers on the socket."""


class Refusal(ProcdError):  # noqa: N818 - a refusal is an answer, not a fault
    """An error as it travels on the wire: `{"code", "message", "hint", "data"}`.

    `code` is stable and machine-readable; `message` is one sentence with the value at fault; `hint` is the
    next step for a person; `data` is for programs.
    """

    code: ClassVar[str] = "FAILED"

    def __init__(self, message: str, hint: str = "", data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data = data or {}

    def to_wire(self) -> dict[str, Any]:
        """The map that stands in the error slot of a response."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "data": self.data}

    @staticmethod
    def from_wire(error: object) -> Refusal:
        """Build the refusal that a response carries; an unknown code or shape becomes `Failed`."""
        if not isinstance(error, dict):
            return Failed(str(error))
        kind = REFUSALS.get(str(error.get("code")), Failed)
        extra = error.get("data")
        return kind(
            str(error.get("message", "")),
            str(error.get("hint", "")),
            extra if isinstance(extra, dict) else None,
        )


class BadRequest(Refusal):
    """A parameter is missing, unknown or of the wrong type."""

    code = "BAD_REQUEST"


class UnknownMethod(Refusal):
    """No such method."""

    code = "UNKNOWN_METHOD"


class NotPermitted(Refusal):
    """The caller lacks a right."""

    code = "NOT_PERMITTED"


class NoSuchProgram(Refusal):
    """A pattern matches no program."""

    code = "NO_SUCH_PROGRAM"


class WrongState(Refusal):
    """The program is not in a state in which this can be done."""

    code = "WRONG_STATE"


class StdinClosed(Refusal):
    """The program's stdin is closed, or it never had one; `data.accepted` bytes went through."""

    code = "STDIN_CLOSED"


class Failed(Refusal):
    """It was tried and did not succeed."""

    code = "FAILED"


class TimedOut(Refusal):
    """The state waited for was not reached in time."""

    code = "TIMED_OUT"


class TooLarge(Refusal):
    """A bound was exceeded."""

    code = "TOO_LARGE"


class ShuttingDown(Refusal):
    """The daemon is stopping and takes no more requests of this kind."""

    code = "SHUTTING_DOWN"


REFUSALS: dict[str, type[Refusal]] = {
    kind.code: kind
    for kind in (
        BadRequest, UnknownMethod, NotPermitted, NoSuchProgram, WrongState,
        StdinClosed, Failed, TimedOut, TooLarge, ShuttingDown,
    )
}  # fmt: skip
