"""The methods of an asyncio client, one for each method of the wire: those of `procctl.blocking`, awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procctl import questions
from procctl.async_pieces import AsyncPieces
from procctl.resume import EventPosition, LogPosition
from procd.errors import StdinClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procctl.async_client import AsyncClient
    from procctl.questions import Question, T
    from procctl.results import Change, Event, EventGap, Hello, LogGap, LogPiece, Outcome, Record


class AsyncMethods:
    """What an `AsyncClient` can be asked; each raises what `AsyncClient.call` raises.

    Parameters and results are those of `procctl.Client`.
    """

    async def ask(self, question: Question[T]) -> T:
        """The typed answer to a question."""
        raise NotImplementedError

    def another(self) -> AsyncClient:
        """A client of the same daemon, with a connection of its own."""
        raise NotImplementedError

    async def hello(self) -> Hello:
        """Who answers, and what we may do."""
        return await self.ask(questions.hello())

    async def status(self, *programs: str) -> list[Record]:
        """Programs and their states; all, if none is named."""
        return await self.ask(questions.status(programs))

    async def start(self, *programs: str, wait: bool = True, timeout_s: float | None = None) -> list[Outcome]:
        """Start programs, and wait until they are ready; one that failed has `ok` false."""
        return await self.ask(questions.operate("start", programs, timeout_s, wait=wait))

    async def stop(self, *programs: str, wait: bool = True, timeout_s: float | None = None) -> list[Outcome]:
        """Stop programs, and wait until no process of them is left."""
        return await self.ask(questions.operate("stop", programs, timeout_s, wait=wait))

    async def restart(
        self, *programs: str, wait: bool = True, timeout_s: float | None = None, rolling: bool = False
    ) -> list[Outcome]:
        """Restart programs, all at once or, `rolling`, each when the one before is ready."""
        return await self.ask(questions.operate("restart", programs, timeout_s, wait=wait, rolling=rolling))

    async def signal(self, number: int | str, *programs: str, group: bool = False) -> list[str]:
        """Send a signal (`15`, `"TERM"`); the names of the programs that got it."""
        return await self.ask(questions.signal(number, programs, group=group))

    async def write(self, program: str, data: bytes) -> int:
        """Write to a program's stdin, at its pace; returns when all of it is in the pipe."""
        accepted = 0
        for portion in questions.portions(data):
            try:
                accepted += await self.ask(questions.write(program, portion))
            except StdinClosed as refusal:
                refusal.data["accepted"] = accepted + int(refusal.data.get("accepted") or 0)
                raise
        return accepted

    async def close_stream(self, program: str, stream: str) -> None:
        """Close procd's side of a program's `stdin`, `stdout` or `stderr`."""
        await self.ask(questions.close(program, stream))

    async def wait(self, program: str, state: str, timeout_s: float | None = None) -> Record:
        """Wait until a program is `running`, `stopped`, `exited` or `healthy`; raises TimedOut."""
        return await self.ask(questions.wait(program, state, timeout_s))

    async def why(self, program: str) -> dict[str, Any]:
        """Explain a program's state: the map of protocol.md."""
        return await self.ask(questions.why(program))

    async def plan(self) -> list[Change]:
        """What a reload would change; raises Failed, with `data["problems"]`."""
        return await self.ask(questions.plan())

    async def reload(self) -> list[Change]:
        """Read the configuration again, and carry out what changed; raises as `plan`."""
        return await self.ask(questions.reload())

    async def run(self, command: str | Sequence[str], **spec: Any) -> Record:  # noqa: ANN401 - the keys of protocol.md
        """Run a program that is not in the file: `name`, `user`, `environment`, `directory`, `stdin`, `rm`."""
        return await self.ask(questions.run(command, spec))

    async def forget(self, *programs: str) -> list[str]:
        """Forget programs that were `run` and have ended; the names of those."""
        return await self.ask(questions.forget(programs))

    async def rotate(self, *programs: str) -> list[Outcome]:
        """Begin new log files."""
        return await self.ask(questions.rotate(programs))

    async def metrics(self) -> dict[str, Any]:
        """The numbers that procd keeps about itself."""
        return await self.ask(questions.metrics())

    async def upgrade(self) -> tuple[str, str]:
        """Go on as the procd that is installed now, without touching a program; the versions before and after.

        Raises Failed when that cannot take over; nothing has changed then.  The daemon closes the connection.
        """
        return await self.ask(questions.upgrade())

    async def shutdown(self) -> None:
        """Stop every program, then the daemon; returns when that has begun."""
        await self.ask(questions.shutdown())

    def logs(
        self,
        program: str,
        *,
        stream: str | None = None,
        lines: int | None = None,
        offset: int | None = None,
        since_s: float | None = None,
        follow: bool = False,
    ) -> AsyncPieces[LogPiece | LogGap]:
        """The output of a program, as `Client.logs` gives it: `async for`, and `async with` around it."""
        position = LogPosition(program, stream, lines=lines, offset=offset, since_s=since_s, follow=follow)
        return AsyncPieces(self.another(), position)

    def events(self, *, since: int = 0, follow: bool = False) -> AsyncPieces[Event | EventGap]:
        """What happened after the event with the number `since`, as `Client.events` gives it."""
        return AsyncPieces(self.another(), EventPosition(since, follow=follow))
