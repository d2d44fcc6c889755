"""Collecting every mistake of a configuration, each with its place.

Owns the list of problems of one load and the exception by which a leaf of this room reports a mistake
without knowing where in the file it stands.  Must not know what is right or wrong.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from procd.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from procd.config.document import Place


class Mistake(Exception):  # noqa: N818 - a mistake of the user's, not an error of ours
    """What is wrong and what to do about it; whoever catches it knows the place."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class Problems:
    """The problems found so far; the same problem is kept once, however many programs share its cause."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, what: str, remedy: str = "") -> None:
        """Record that the value at `place` is wrong."""
        document = place.document
        self.add_problem(Problem(document.name, document.line_of(place.path), place.key, what, remedy))

    def add_mistake(self, place: Place, mistake: Mistake) -> None:
        """Record a mistake that was raised about the value at `place`."""
        self.add(place, mistake.what, mistake.remedy)

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """Record a Mistake that is raised within about the value at `place`."""
        try:
            yield
        except Mistake as mistake:
            self.add_mistake(place, mistake)

    def add_problem(self, problem: Problem) -> None:
        """Record a problem whose place is known already."""
        texts = (problem.file, problem.key, problem.what, problem.remedy)
        if not all(text.isprintable() for text in texts):
            file, key, what, remedy = map(_on_one_line, texts)
            problem = Problem(file, problem.line, key, what, remedy)
        self._found.setdefault(problem)

    def raise_if_any(self) -> None:
        """Raise ConfigurationError with all problems, by file in the order of reading, then by line."""
        if not self._found:
            return
        rank: dict[str, int] = {}
        for problem in self._found:
            rank.setdefault(problem.file, len(rank))
        found = sorted(self._found, key=lambda problem: (rank[problem.file], problem))
        raise ConfigurationError(tuple(found))


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The remedy for a word that is not among `known`."""
    import difflib  # noqa: PLC0415 - only once somebody mistypes

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


def _on_one_line(text: str) -> str:
    """Control characters escaped: a problem is one line, and no file may steer the terminal it is shown on."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def quoted(value: object) -> str:
    """A value as people wrote it, short enough for one line."""
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            text = json.dumps(value, ensure_ascii=False)
        case dict():
            text = "a table"
        case list():
            text = "[" + ", ".join(quoted(item) for item in value[:4]) + (", …]" if len(value) > 4 else "]")
        case _:
            text = str(value) if not isinstance(value, int) or abs(value) < 10**40 else "a huge number"
    return text if len(text) <= 80 else f"{text[:79]}…"
