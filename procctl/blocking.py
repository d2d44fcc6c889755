"""The methods of a blocking client, one for each method of the wire.

Owns their signatures; what is sent and how the answer is read stands in `procctl.questions`, which is imported
by the first of them that is used: the command line prints the maps of the wire and needs none.
"""

from __future__ import annotations

from procctl.lazy import LazyModule
from procd.errors import StdinClosed

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from procctl import pieces, questions, resume
    from procctl.client import Client
    from procctl.questions import Question, T
    from procctl.results import Change, Event, EventGap, Hello, LogGap, LogPiece, Outcome, Record
else:
    # The command line asks without types, and starts faster for it.
    pieces = LazyModule("procctl.pieces")
    questions = LazyModule("procctl.questions")
    resume = LazyModule("procctl.resume")


class Methods:
    """What a `Client` can be asked; each raises what `Client.call` raises.

    `programs` are patterns: names, instances (`web@1`), globs, labels (`app:`), `"*"`.  Where a `timeout_s` is
    given, the daemon keeps it; else the time limit of the client holds.
    """

    def ask(self, question: Question[T]) -> T:
        """The typed answer to a question."""
        raise NotImplementedError

    def another(self) -> Client:
        """A client of the same daemon, with a connection of its own."""
        raise NotImplementedError

    def hello(self) -> Hello:
        """Who answers, and what we may do."""
        return self.ask(questions.hello())

    def status(self, *programs: str) -> list[Record]:
        """Programs and their states; all, if none is named."""
        return self.ask(questions.status(programs))

    def start(self, *programs: str, wait: bool = True, timeout_s: float | None = None) -> list[Outcome]:
        """Start programs, and wait until they are ready; one that failed has `ok` false."""
        return self.ask(questions.operate("start", programs, timeout_s, wait=wait))

    def stop(self, *programs: str, wait: bool = True, timeout_s: float | None = None) -> list[Outcome]:
        """Stop programs, and wait until no process of them is left."""
        return self.ask(questions.operate("stop", programs, timeout_s, wait=wait))

    def restart(
        self, *programs: str, wait: bool = True, timeout_s: float | None = None, rolling: bool = False
    ) -> list[Outcome]:
        """Restart programs, all at once or, `rolling`, each when the one before is ready."""
        return self.ask(questions.operate("restart", programs, timeout_s, wait=wait, rolling=rolling))

    def signal(self, number: int | str, *programs: str, group: bool = False) -> list[str]:
        """Send a signal (`15`, `"TERM"`); the names of the programs that got it."""
        return self.ask(questions.signal(number, programs, group=group))

    def write(self, program: str, data: bytes) -> int:
        """Write to a program's stdin, at its pace; returns when all of it is in the pipe.

        Raises StdinClosed, with the bytes that went in as `data["accepted"]`.  More than 64 KiB go in several
        requests; `accepted` is of all of them.
        """
        accepted = 0
        for piece in questions.portions(data):
            try:
                accepted += self.ask(questions.write(program, piece))
            except StdinClosed as refusal:
                refusal.data["accepted"] = accepted + int(refusal.data.get("accepted") or 0)
                raise
        return accepted

    def close_stream(self, program: str, stream: str) -> None:
        """Close procd's side of a program's `stdin`, `stdout` or `stderr`."""
        self.ask(questions.close(program, stream))

    def wait(self, program: str, state: str, timeout_s: float | None = None) -> Record:
        """Wait until a program is `running`, `stopped`, `exited` or `healthy`; raises TimedOut."""
        return self.ask(questions.wait(program, state, timeout_s))

    def why(self, program: str) -> dict[str, Any]:
        """Explain a program's state: the map of protocol.md."""
        return self.ask(questions.why(program))

    def plan(self) -> list[Change]:
        """What a reload would change; raises Failed, with `data["problems"]`."""
        return self.ask(questions.plan())

    def reload(self) -> list[Change]:
        """Read the configuration again, and carry out what changed; raises as `plan`."""
        return self.ask(questions.reload())

    def run(self, command: str | Sequence[str], **spec: Any) -> Record:  # noqa: ANN401 - the keys of protocol.md
        """Run a program that is not in the file: `name`, `user`, `environment`, `directory`, `stdin`, `rm`."""
        return self.ask(questions.run(command, spec))

    def forget(self, *programs: str) -> list[str]:
        """Forget programs that were `run` and have ended; the names of those."""
        return self.ask(questions.forget(programs))

    def rotate(self, *programs: str) -> list[Outcome]:
        """Begin new log files."""
        return self.ask(questions.rotate(programs))

    def metrics(self) -> dict[str, Any]:
        """The numbers that procd keeps about itself."""
        return self.ask(questions.metrics())

    def upgrade(self) -> tuple[str, str]:
        """Go on as the procd that is installed now, without touching a program; the versions before and after.

        Raises Failed when that cannot take over; nothing has changed then.  The daemon closes the connection.
        """
        return self.ask(questions.upgrade())

    def shutdown(self) -> None:
        """Stop every program, then the daemon; returns when that has begun."""
        self.ask(questions.shutdown())

    def logs(
        self,
        program: str,
        *,
        stream: str | None = None,
        lines: int | None = None,
        offset: int | None = None,
        since_s: float | None = None,
        follow: bool = False,
    ) -> pieces.Pieces[LogPiece | LogGap]:
        """The output of a program: all of it, its last `lines`, from `offset` on, or since a Unix time.

        Goes on with the next byte when the connection is lost and the daemon comes back.  Raises Failed when
        the log ends before its end.
        """
        position = resume.LogPosition(
            program, stream, lines=lines, offset=offset, since_s=since_s, follow=follow
        )
        return pieces.Pieces(self.another, position)

    def events(self, *, since: int = 0, follow: bool = False) -> pieces.Pieces[Event | EventGap]:
        """What happened after the event with the number `since`; goes on as `logs` does."""
        return pieces.Pieces(self.another, resume.EventPosition(since, follow=follow))
