"""Commands as people write them: words, or a string that is split as a shell splits words.

Owns the splitting, and what is left to a shell.  Pure.
"""

from __future__ import annotations

import shlex

from procd.config.problems import Mistake

_SHELL_WORDS = frozenset({"|", "||", "&&", "&", ";", "<", ">", ">>", "2>", "2>&1", "&>"})


def split(command: str, shell_remedy: str) -> tuple[str, ...]:
    """The words of a string.

    Raises Mistake for a quote that is not closed, and, with the advice `shell_remedy`, for words that mean
    something to a shell, because no shell will see them.
    """
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        what = str(error)
        raise Mistake(
            f"cannot be split into words: {what[:1].lower()}{what[1:]}", "close the quote, or write an array"
        ) from None
    for word in words:
        if word in _SHELL_WORDS:
            raise Mistake(f"{word} means something to a shell, and no shell runs this command", shell_remedy)
    return words


def for_shell(command: str | tuple[str, ...]) -> tuple[str, ...]:
    """The command that makes a shell run a string.  Raises Mistake."""
    if not isinstance(command, str):
        raise Mistake("is an array, but shell = true runs a string", "write it as one string, or remove shell")
    if not command.strip():
        raise Mistake("is empty", "name a program")
    if "\0" in command:
        raise Mistake("a NUL character cannot be passed to a program", "remove \\u0000")
    return ("/bin/sh", "-c", command)
