"""What one log is to the daemon: its settings, the read ends of its pipes, and what the logger was told of it.

What is to be said is not queued: it follows from what the daemon wants and what was said.  So it cannot grow
without bound while the logger does not listen, and all of it can be said again to another logger.
"""

from __future__ import annotations

import os
import select
from functools import partial
from typing import TYPE_CHECKING, Any

from procd.output import messages
from procd.output.channel import Parcel
from procd.output.logger.pipe import unread_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.spec import LogSpec
    from procd.output.streams import StreamKey

#: Pipes of a log that wait to be handed over.  Only a logger that does not listen lets them become many, with a
#: program that is restarted meanwhile; of more, the oldest are given up.
MOST_UNSENT = 16


class HeldPipe:
    """A read end that we hold until all of it was moved, so that nothing is lost with a logger that dies."""

    __slots__ = (
        "begun", "detached", "fd", "finished", "number", "pid", "refused", "sent", "spec", "told_detached",
        "told_finished", "was_refused",
    )  # fmt: skip

    def __init__(self, number: int, fd: int, pid: int, begun: Callable[[int], None] | None) -> None:
        self.number = number
        self.fd = fd
        self.pid = pid
        self.begun = begun
        #: How its log was to be kept when it came.
        self.spec: dict[str, Any] = {}
        self.finished = False
        self.detached = False
        #: We want to know when it is taken.
        self.was_refused = False
        self.forget_what_was_said()

    def forget_what_was_said(self) -> None:
        """There is a logger that does not know this pipe."""
        self.sent = self.told_finished = self.told_detached = False
        #: The logger has no room for it now.
        self.refused = False

    def refuse(self) -> None:
        """Take note that the logger could not take this pipe; what follows waits behind it."""
        self.sent = False
        self.refused = self.was_refused = True

    @property
    def is_over(self) -> bool:
        """Whether nothing is in it, and nobody can write to it."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        events = poll.poll(0)
        return bool(events) and not events[0][1] & select.POLLIN and bool(events[0][1] & select.POLLHUP)


class Slot:
    """One log.  `number` is its place on the board."""

    __slots__ = (
        "_forget_told", "_told_spec", "_watch_told", "forgotten", "gave_up", "key", "number",
        "pipes", "spec", "trouble", "watched",
    )  # fmt: skip

    def __init__(self, number: int, key: StreamKey, spec: dict[str, Any]) -> None:
        self.number = number
        self.key = key
        self.spec = spec
        #: In the order in which they came.
        self.pipes: list[HeldPipe] = []
        self.watched = False
        #: It is to be closed when what is in its pipes was moved.
        self.forgotten = False
        #: Why it cannot be written; empty when it can.
        self.trouble = ""
        #: Bytes that were thrown away before the logger could take them, of which it is still to be told.
        self.gave_up = 0
        self.forget_what_was_said()

    @property
    def path(self) -> str:
        """Where the log is."""
        path: str = self.spec["path"]
        return path

    def forget_what_was_said(self) -> None:
        """There is a logger that knows nothing of this log."""
        self._told_spec: dict[str, Any] | None = None
        self._watch_told = self._forget_told = False
        self.trouble = ""
        for pipe in self.pipes:
            pipe.forget_what_was_said()
            # The logger that knew better has taken that with it.
            pipe.spec = self.spec

    # What is wanted

    def change(self, spec: dict[str, Any]) -> None:
        """Keep the log so from now on."""
        self.spec = spec

    def attach(self, pipe: HeldPipe) -> int:
        """Take what is written to a pipe, too; returns how many bytes had to be given up for it."""
        self._drop_what_is_over()
        pipe.spec = self.spec
        self.pipes.append(pipe)
        unsent = [each for each in self.pipes if not each.sent]
        lost = 0
        for old in unsent[:-MOST_UNSENT]:
            lost += unread_bytes(old.fd)
            self.end(old)
        self.gave_up += lost
        return lost

    def try_again(self) -> None:
        """Offer again what the logger had no room for."""
        for pipe in self.pipes:
            pipe.refused = False

    def finish(self) -> None:
        """Who wrote to its pipes is dead."""
        for pipe in self.pipes:
            pipe.finished = True
        self._drop_what_is_over()

    def _drop_what_is_over(self) -> None:
        """Let go of pipes that the logger does not know and need not know."""
        for pipe in [pipe for pipe in self.pipes if not pipe.sent and pipe.finished and pipe.is_over]:
            self.end(pipe)

    def detach(self) -> bool:
        """Move what is in its pipes, then close them; returns whether there are any."""
        found = [pipe for pipe in self.pipes if not pipe.detached]
        for pipe in found:
            pipe.detached = True
        return bool(found)

    def end(self, pipe: HeldPipe) -> None:
        """Let go of a pipe: all of it was moved."""
        self.pipes.remove(pipe)
        os.close(pipe.fd)

    def close(self) -> None:
        """Let go of all pipes."""
        for pipe in tuple(self.pipes):
            self.end(pipe)

    # What is to be said

    def next_parcel(self) -> Parcel | None:
        """What the logger is to be told next of this log."""
        number = self.number
        spec = self._next_spec()
        if spec != self._told_spec:
            return Parcel([messages.OPEN, number, spec], sent=partial(self._open_sent, spec))
        if self.watched != self._watch_told:
            return Parcel([messages.WATCH, number, self.watched], sent=partial(self._watch_sent, self.watched))
        if self.gave_up:
            return Parcel([messages.GAVE_UP, number, self.gave_up], sent=self._gave_up_sent)
        parcel = self._next_of_pipes()
        if parcel is not None:
            return parcel
        if any(pipe.refused for pipe in self.pipes):
            return None
        if self.forgotten and not self._forget_told:
            return Parcel([messages.FORGET, number], sent=self._forget_sent)
        return None

    def _next_spec(self) -> dict[str, Any]:
        """How the log is to be kept now: what waits in a pipe that the logger has not got goes its old way."""
        return next((pipe.spec for pipe in self.pipes if not pipe.sent and not pipe.refused), self.spec)

    def _next_of_pipes(self) -> Parcel | None:
        """What is to be said of the pipes, in their order: the end of one before the beginning of the next."""
        finish = detach = False
        unsent = None
        for pipe in self.pipes:
            if not pipe.sent:
                unsent = pipe
                break
            finish = finish or (pipe.finished and not pipe.told_finished and not pipe.detached)
            detach = detach or (pipe.detached and not pipe.told_detached)
        if detach:
            return Parcel([messages.DETACH, self.number], sent=self._detach_sent)
        if finish:
            return Parcel([messages.FINISH, self.number], sent=self._finish_sent)
        if unsent is None or unsent.refused:
            return None
        tell = unsent.begun is not None or unsent.was_refused
        message = [messages.ATTACH, self.number, unsent.number, unsent.pid, tell]
        return Parcel(message, (unsent.fd,), partial(setattr, unsent, "sent", True))

    def _open_sent(self, spec: dict[str, Any]) -> None:
        self._told_spec = spec
        if spec == self.spec:
            # There is no way back: what comes late, comes here.
            for pipe in self.pipes:
                pipe.spec = spec

    def _watch_sent(self, wanted: bool) -> None:  # noqa: FBT001 - what was said
        self._watch_told = wanted

    def _gave_up_sent(self) -> None:
        self.gave_up = 0

    def _finish_sent(self) -> None:
        for pipe in self.pipes:
            if pipe.sent and pipe.finished:
                pipe.told_finished = True

    def _detach_sent(self) -> None:
        for pipe in self.pipes:
            if pipe.sent:
                pipe.told_detached = True

    def _forget_sent(self) -> None:
        self._forget_told = True


def settings(key: StreamKey, spec: LogSpec, program: str | None, instance: int | None) -> dict[str, Any]:
    """What OPEN says."""
    return {
        "program": key.program if program is None else program,
        "instance": str(instance or 0),
        "stream": key.stream,
        "path": spec.path,
        "max_size": spec.max_size,
        "keep": spec.keep,
        "max_age_s": spec.max_age_s,
        "compress": spec.compress,
        "format": spec.format.value,
        "on_error": spec.on_error.value,
    }
