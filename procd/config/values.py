"""Types of the configuration that TOML does not have: durations, signals, file modes.

Owns how they are told to msgspec.  Their syntax is in procd.quantities.  Must not know which keys use them.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from procd.quantities import DURATION_SYNTAX, SIGNAL_SYNTAX, parse_duration, parse_signal

_OCTAL = re.compile(r"0?[0-7]{3}", re.ASCII)
MODE_SYNTAX = 'an octal mode in quotes, as "022" or "0600"'


class Duration(float):
    """Seconds."""

    __slots__ = ()
    expected: ClassVar[str] = DURATION_SYNTAX


class Signal(int):
    """The number of a signal."""

    __slots__ = ()
    expected: ClassVar[str] = SIGNAL_SYNTAX


class Mode(int):
    """Permission bits.

    Only a string: TOML has decimal and octal integers, and after parsing 600 and 0o600 look alike, so one of
    them would silently be a different mode.
    """

    __slots__ = ()
    expected: ClassVar[str] = MODE_SYNTAX


def decode(kind: type, value: object) -> Any:  # noqa: ANN401 - the type is `kind`
    """Make a value of `kind` out of what TOML has; msgspec's `dec_hook`.  Raises ValueError."""
    if kind is Duration:
        return Duration(parse_duration(value))
    if kind is Signal:
        return Signal(parse_signal(value))
    if kind is Mode:
        if isinstance(value, str) and _OCTAL.fullmatch(value):
            return Mode(int(value, 8))
        raise ValueError(MODE_SYNTAX)
    raise AssertionError(f"unreachable: the schema has no other type ({kind})")
