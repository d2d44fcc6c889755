"""The methods of the wire as typed questions: what each is asked with, and how its answer is read.

Owns the parameters.  Pure: the blocking client and the asyncio one ask the same questions
(docs/reference/protocol.md).  Raises nothing; a mistake in a parameter is the daemon's to tell (BadRequest).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from procctl import results
from procd.wire import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from procctl.results import Change, Hello, Outcome, Record

T = TypeVar("T")

EVERYTHING = ("*",)


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A method, its parameters, and the reading of its answer.

    `takes_s` is the time that the daemon keeps for it, where it does.
    """

    method: str
    params: dict[str, Any]
    read: Callable[[Any], T]
    takes_s: float | None = None


def _given(**params: object) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _nothing(_: object) -> None:
    """Read an answer that says only that it was done."""


def hello() -> Question[Hello]:
    """Who answers, and what we may do."""
    return Question("hello", {}, results.hello_of)


def status(programs: Sequence[str]) -> Question[list[Record]]:
    """Programs and their states; all, if none is named."""
    return Question("status", {"programs": list(programs) or list(EVERYTHING)}, results.records_of)


def operate(
    verb: str, programs: Sequence[str], timeout_s: float | None, *, wait: bool, rolling: bool = False
) -> Question[list[Outcome]]:
    """`start`, `stop` or `restart`."""
    params = _given(programs=list(programs), wait=wait, timeout=timeout_s, rolling=rolling or None)
    return Question(verb, params, results.outcomes_of, timeout_s)


def signal(number: int | str, programs: Sequence[str], *, group: bool) -> Question[list[str]]:
    """A signal; the names of the programs that got it."""
    params = {"programs": list(programs), "signal": number, "group": group}
    return Question("signal", params, lambda answer: list(answer["signalled"]))


def write(program: str, data: bytes) -> Question[int]:
    """Bytes for a program's stdin, 64 KiB at most; how many are in its pipe."""
    return Question("write", {"program": program, "data": data}, lambda answer: int(answer["accepted"]))


def portions(data: bytes) -> list[bytes]:
    """Bytes, cut so that each piece fits into a request."""
    return [data[start : start + MAX_CHUNK_BYTES] for start in range(0, len(data), MAX_CHUNK_BYTES)]


def close(program: str, stream: str) -> Question[None]:
    """Close procd's side of stdin, stdout or stderr."""
    return Question("close", {"program": program, "stream": stream}, _nothing)


def wait(program: str, state: str, timeout_s: float | None) -> Question[Record]:
    """Wait until a program is running, stopped, exited or healthy."""
    params = _given(program=program, timeout=timeout_s) | {"for": state}
    return Question("wait", params, results.record_of, timeout_s)


def why(program: str) -> Question[dict[str, Any]]:
    """Explain a program's state."""
    return Question("why", {"program": program}, dict)


def plan() -> Question[list[Change]]:
    """What a reload would change."""
    return Question("plan", {}, results.changes_of)


def reload() -> Question[list[Change]]:
    """Read the configuration again, and carry out what changed."""
    return Question("reload", {}, results.changes_of)


def run(command: str | Sequence[str], spec: Mapping[str, Any]) -> Question[Record]:
    """A program that is not in the file; `spec` has the keys of protocol.md beside `command`."""
    words = command if isinstance(command, str) else list(command)
    return Question("run", {"spec": {"command": words, **spec}}, results.record_of)


def forget(programs: Sequence[str]) -> Question[list[str]]:
    """Forget programs that are in no file and have ended; the names of those."""
    return Question("forget", {"programs": list(programs)}, lambda answer: list(answer["forgotten"]))


def rotate(programs: Sequence[str]) -> Question[list[Outcome]]:
    """Begin new log files."""
    return Question("rotate", {"programs": list(programs)}, results.outcomes_of)


def metrics() -> Question[dict[str, Any]]:
    """The numbers that procd keeps about itself."""
    return Question("metrics", {}, dict)


def upgrade() -> Question[tuple[str, str]]:
    """Go on as the program that is installed now; the versions before and after."""
    return Question("upgrade", {}, lambda answer: (answer["from"], answer["to"]))


def shutdown() -> Question[None]:
    """Stop every program, then the daemon."""
    return Question("shutdown", {}, _nothing)
