"""Types of the configuration that TOML does not have: durations, signals, file modes, limits.

Owns how they are told to msgspec.  The syntax of quantities is in procd.quantities.  Must not know which keys
use them.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from procd.quantities import (
    DURATION_SYNTAX,
    SIGNAL_SYNTAX,
    SIZE_SYNTAX,
    parse_duration,
    parse_signal,
    parse_size,
)

_OCTAL = re.compile(r"0?[0-7]{3}", re.ASCII)
MODE_SYNTAX = 'an octal mode in quotes, as "022" or "0600"'
SHORTEST_S = 0.01


class Duration(float):
    """Seconds."""

    __slots__ = ()
    expected: ClassVar[str] = DURATION_SYNTAX


class Span(Duration):
    """Seconds, at least SHORTEST_S: for what would never end, or never rest, if it took no time at all."""

    __slots__ = ()
    expected: ClassVar[str] = f'{DURATION_SYNTAX}; and at least "10ms"'


class Size(int):
    """Bytes."""

    __slots__ = ()
    expected: ClassVar[str] = SIZE_SYNTAX


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


class Step(tuple[int, float]):
    """One step of a stop: the number of a signal, and how many seconds it may take."""

    __slots__ = ()
    expected: ClassVar[str] = 'a signal and how long it may take: ["INT", "5s"]'


class LimitBounds(tuple[int, int, bool]):
    """A resource limit: soft, hard (-1 is unlimited), and whether one of them was written as a size."""

    __slots__ = ()
    expected: ClassVar[str] = 'a limit: a whole number, "unlimited", a size such as "1GiB", or [soft, hard]'


def decode(kind: type, value: object) -> Any:  # noqa: ANN401 - the type is `kind`
    """Make a value of `kind` out of what TOML has; msgspec's `dec_hook`.  Raises ValueError."""
    if kind is Duration:
        return Duration(parse_duration(value))
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise AssertionError(f"unreachable: the schema has no other type ({kind})")
    return decoder(value)


def _span(value: object) -> Span:
    seconds = parse_duration(value)
    if seconds < SHORTEST_S:
        raise ValueError(Span.expected)
    return Span(seconds)


def _size(value: object) -> Size:
    return Size(parse_size(value))


def _signal(value: object) -> Signal:
    return Signal(parse_signal(value))


def _mode(value: object) -> Mode:
    if isinstance(value, str) and _OCTAL.fullmatch(value):
        return Mode(int(value, 8))
    raise ValueError(MODE_SYNTAX)


def _step(value: object) -> Step:
    if isinstance(value, list) and len(value) == 2:
        return Step((parse_signal(value[0]), parse_duration(value[1])))
    raise ValueError(Step.expected)


def _limit(value: object) -> LimitBounds:
    bounds = value if isinstance(value, list) else [value, value]
    if len(bounds) != 2:
        raise ValueError(LimitBounds.expected)
    soft, hard = (-1 if bound == "unlimited" else parse_size(bound) for bound in bounds)
    is_size = any(isinstance(bound, str) and bound != "unlimited" for bound in bounds)
    return LimitBounds((soft, hard, is_size))


_DECODERS = {Span: _span, Size: _size, Signal: _signal, Mode: _mode, Step: _step, LimitBounds: _limit}
