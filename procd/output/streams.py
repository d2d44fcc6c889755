"""The names of output streams."""

from __future__ import annotations

from typing import NamedTuple

#: The output streams that a program can have.
STREAMS = ("stdout", "stderr")


class StreamKey(NamedTuple):
    """One output stream of one instance: `("web@1", "stdout")`."""

    program: str
    stream: str
