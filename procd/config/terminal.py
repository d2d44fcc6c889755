"""The key `terminal`: a terminal in place of the three pipes, and what cannot go with it.

Owns what `terminal = true` means for the other keys.  Must not know how a terminal is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config.spec import Input

if TYPE_CHECKING:
    from procd.config.declaration import Declaration
    from procd.config.problems import Problems

_INPUTS = {kind.value: kind for kind in Input}
_REMEDY = "remove one of them"


def input_of(declaration: Declaration, problems: Problems) -> Input:
    """What is at the program's stdin: a terminal can always be written to.

    What contradicts `terminal = true` is recorded.
    """
    table = declaration.table
    if not table.terminal:
        return _INPUTS[table.stdin]
    if table.stdin != "pipe" and declaration.is_written("stdin"):
        problems.add(declaration.place("stdin"), "a terminal is its own input: `terminal` is true", _REMEDY)
    if table.stdout != "log":
        problems.add(
            declaration.place("stdout"), "the output of a terminal is logged: `terminal` is true", _REMEDY
        )
    if table.stderr != "stdout":
        problems.add(declaration.place("stderr"), "a terminal has one output: `terminal` is true", _REMEDY)
    if table.log.format != "raw":
        what = "what a terminal shows is no sequence of lines: `terminal` is true"
        problems.add(declaration.place("log", "format"), what, 'write "raw", or remove `terminal`')
    return Input.PIPE
