"""Words that people write for numbers: durations, sizes, signals.

Owns their syntax (INTERFACE: "10s", "64MiB", "SIGTERM") in both directions.  Knows nothing of where they
are used.
"""

from __future__ import annotations

import signal

from procd.errors import InvalidQuantity

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from re import Match

_DURATION_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS_BYTES = {
    "": 1, "B": 1,
    "KB": 1000, "MB": 1000**2, "GB": 1000**3,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3,
}  # fmt: skip
_NUMBER_AND_UNIT = r"(?a)([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([A-Za-z]*)"
_TWO_DIGITS = r"(?a)[0-9]{1,2}"
_TOO_LARGE = 2**63  # neither the kernel's counters nor file offsets go further

DURATION_SYNTAX = 'a duration: a number of seconds, or "250ms", "1.5s", "10m", "2h", "1d"'
SIZE_SYNTAX = 'a size: a number of bytes, or "64KiB", "50MiB", "1GiB" (also KB, MB, GB)'
SIGNAL_SYNTAX = 'a signal: "TERM", "SIGTERM" or a number'


def parse_duration(value: object) -> float:
    """Seconds of a duration, from 0 to what 63 bits hold.

    Raises InvalidQuantity for anything else (booleans too: `true` is not one second).
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Before it becomes a float: TOML's integers have no bound, and a float's overflow is another exception.
        if not 0 <= value < _TOO_LARGE:
            raise InvalidQuantity(value, DURATION_SYNTAX)
        return float(value)
    number, unit = _split(value, DURATION_SYNTAX)
    if unit and unit not in _DURATION_UNITS_S:
        raise InvalidQuantity(value, DURATION_SYNTAX)
    return float(number) * _DURATION_UNITS_S[unit or "s"]


def parse_size(value: object) -> int:
    """Bytes of a size, from 0 to what 63 bits hold.

    Raises InvalidQuantity for anything else, a fraction of a byte among them.
    """
    size: float
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        number, unit = _split(value, SIZE_SYNTAX)
        if unit not in _SIZE_UNITS_BYTES:
            raise InvalidQuantity(value, SIZE_SYNTAX)
        size = (float(number) if "." in number else int(number)) * _SIZE_UNITS_BYTES[unit]
    if not 0 <= size < _TOO_LARGE or size != int(size):
        raise InvalidQuantity(value, SIZE_SYNTAX)
    return int(size)


def parse_signal(value: object) -> int:
    """The number of a signal.

    Raises InvalidQuantity for a name or a number that Linux does not have (signal(7)); 0 is not a signal.
    """
    if isinstance(value, str):
        name = value.upper()
        if _fullmatch(_TWO_DIGITS, name):
            return parse_signal(int(name))
        name = name if name.startswith("SIG") else f"SIG{name}"
        found = signal.Signals.__members__.get(name)
        if found is not None:
            return int(found)
        plus = _fullmatch(rf"SIGRTMIN\+({_TWO_DIGITS[4:]})", name)
        if plus:
            return parse_signal(int(signal.SIGRTMIN) + int(plus.group(1)))
    elif isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= int(signal.SIGRTMAX):
        return value
    raise InvalidQuantity(value, SIGNAL_SYNTAX)


def signal_name(number: int) -> str:
    """`SIGTERM` for 15; `SIGRTMIN+3` style for real-time signals; `signal 77` for what has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        lowest = int(signal.SIGRTMIN)
        if lowest < number <= int(signal.SIGRTMAX):
            return f"SIGRTMIN+{number - lowest}"
        return f"signal {number}"


def format_duration(seconds: float) -> str:
    """A duration for people, two units at most: `250ms`, `4.2s`, `3m 20s`, `2h 5m`, `12d 3h`."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    for big, small, size in (("m", "s", 60), ("h", "m", 3600), ("d", "h", 86400)):
        if big == "d" or whole < size * (60 if big == "m" else 24):
            rest = (whole % size) // (size // 60 if big != "d" else 3600)
            return f"{whole // size}{big} {rest}{small}" if rest else f"{whole // size}{big}"
    raise AssertionError("unreachable: days take every longer duration")


def format_size(size: int) -> str:
    """A size for people, three digits at most: `512B`, `1.5KiB`, `20MiB`."""
    if size < 1024:
        return f"{size}B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.5 or unit == "GiB":
            return f"{amount:.1f}{unit}".replace(f".0{unit}", unit) if amount < 9.95 else f"{amount:.0f}{unit}"
    raise AssertionError("unreachable: GiB takes every larger size")


def _fullmatch(pattern: str, text: str) -> Match[str] | None:
    import re  # noqa: PLC0415 - who only shows quantities, as `procctl status` does, need not wait for it

    return re.fullmatch(pattern, text)


def _split(value: object, expected: str) -> tuple[str, str]:
    match = _fullmatch(_NUMBER_AND_UNIT, value) if isinstance(value, str) else None
    if match is None:
        raise InvalidQuantity(value, expected)
    return match.group(1), match.group(2)
