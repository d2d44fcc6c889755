"""What the logger is asked and answers: asked again when another one is started, as long as somebody waits."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from procd.output.channel import Parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Logs that are asked about in one message, which has a bound.
SLOTS_A_MESSAGE = 4096


class _Question:
    """One message.  `numbers` are the slots that it is about; they may be fewer when it is sent."""

    __slots__ = ("answer", "numbers", "sent", "verb")

    def __init__(self, verb: str, numbers: Sequence[int]) -> None:
        self.verb = verb
        self.numbers = numbers
        self.sent = False
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Questions:
    """All that are open.  `exists` says whether a slot is still one; `flush` says what is to be said."""

    def __init__(self, exists: Callable[[int], bool], flush: Callable[[], None]) -> None:
        self._exists = exists
        self._flush = flush
        self._open: dict[int, _Question] = {}
        self._last = 0

    async def ask(self, verb: str, numbers: Sequence[int], timeout_s: float) -> list[Any]:
        """Ask about slots; the answers, in parts, with None for a part that is not answered in time."""
        firsts = range(0, len(numbers), SLOTS_A_MESSAGE)
        tokens = [self._begin(verb, numbers[first : first + SLOTS_A_MESSAGE]) for first in firsts]
        if not tokens:
            return []
        self._flush()
        answers = [self._open[token].answer for token in tokens]
        try:
            await asyncio.wait(answers, timeout=timeout_s)
        finally:
            for token in tokens:
                self._open.pop(token, None)
        return [answer.result() if answer.done() else None for answer in answers]

    def _begin(self, verb: str, numbers: Sequence[int]) -> int:
        self._last += 1
        self._open[self._last] = _Question(verb, numbers)
        return self._last

    def answered(self, token: int, answer: object) -> None:
        """Hear an answer, perhaps to a question that nobody asks any more."""
        question = self._open.get(token)
        if question is not None and not question.answer.done():
            question.answer.set_result(answer)

    def forget_what_was_said(self) -> None:
        """There is a logger that was asked nothing."""
        for question in self._open.values():
            question.sent = False

    def next_parcel(self) -> Parcel | None:
        """What is to be asked next."""
        for token, question in self._open.items():
            if not question.sent:
                numbers = [number for number in question.numbers if self._exists(number)]
                message = [question.verb, token, numbers]
                return Parcel(message, sent=partial(setattr, question, "sent", True))
        return None
