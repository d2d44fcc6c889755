"""What a method takes, and the checking of what a client sent.

Owns the kinds of parameters.  Every refusal names the parameter, the value at fault and what is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from procd.errors import BadRequest, InvalidQuantity
from procd.quantities import parse_signal
from procd.wire import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: More patterns than programs are a mistake of the client.
MAX_PATTERNS = 1024
#: Characters of a name or pattern: four times the longest name, and short enough to be quoted in an answer.
MAX_NAME_LENGTH = 256
#: Rows or columns of a terminal: what fits into 16 bits (TIOCSWINSZ, ioctl_tty(2)).
MAX_CELLS = 65535
#: The largest whole number that every client can hold exactly (a double's, and JSON's), and more bytes, lines
#: and events than there will be.
MAX_COUNT = 2**53
#: Three thousand years, as a time and as a duration.
MAX_SECONDS = 1e11


class Kind(NamedTuple):
    """A type of parameter: what it is called, and a check that returns the value or raises ValueError."""

    words: str
    check: Callable[[object], Any]


class Parameter(NamedTuple):
    """One parameter of a method."""

    name: str
    kind: Kind
    required: bool = False


def checked(method: str, parameters: tuple[Parameter, ...], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Check the map that came with a request; parameters that were left out, or are nil, are absent.

    Raises BadRequest for the first parameter that is missing, unknown or of the wrong kind.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in sent:
        if name not in known:
            raise _unknown(method, name, list(known))
    values: dict[str, Any] = {}
    for parameter in parameters:
        value = sent.get(parameter.name)
        if value is None:
            if parameter.required:
                raise BadRequest(f"{method} needs {parameter.name!r}", f"give {parameter.kind.words}")
            continue
        try:
            values[parameter.name] = parameter.kind.check(value)
        except ValueError as error:
            raise BadRequest(
                f"{parameter.name!r} of {method} is {_brief(value)}", f"give {parameter.kind.words}"
            ) from error
    return values


def _unknown(method: str, name: str, known: list[str]) -> BadRequest:
    import difflib  # noqa: PLC0415 - only once somebody mistypes

    near = difflib.get_close_matches(name[:64], known, 1)
    takes = f"it takes {', '.join(known)}" if known else "it takes none"
    hint = f"did you mean {near[0]!r}?" if near else takes
    return BadRequest(f"{method} has no parameter {name[:64]!a}", hint)


def _brief(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_LENGTH:
        raise ValueError
    return value


def _patterns(value: object) -> list[str]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_PATTERNS:
        raise ValueError
    return [_text(item) for item in value]


def _flag(value: object) -> bool:
    if value is not True and value is not False:
        raise ValueError
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise ValueError
    return value


def _cells(value: object) -> int:
    if not 1 <= _count(value) <= MAX_CELLS:
        raise ValueError
    return _count(value)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_SECONDS:
        raise ValueError
    return float(value)


def _octets(value: object) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= MAX_CHUNK_BYTES:
        raise ValueError
    return value


def _signal(value: object) -> int:
    try:
        return parse_signal(value)
    except InvalidQuantity as error:
        raise ValueError from error


def one_of(*words: str) -> Kind:
    """Make the kind that is one of a few words."""

    def check(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind(" or ".join(repr(word) for word in words), check)


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError
    return value


TEXT = Kind("a name", _text)
PATTERNS = Kind(f"a list of 1 to {MAX_PATTERNS} names or patterns", _patterns)
FLAG = Kind("true or false", _flag)
COUNT = Kind("a whole number from 0 to 2**53", _count)
CELLS = Kind(f"a whole number from 1 to {MAX_CELLS}", _cells)
SECONDS = Kind("a number of seconds from 0 to 1e11", _seconds)
OCTETS = Kind(f"1 to {MAX_CHUNK_BYTES} bytes, as bin", _octets)
SIGNAL = Kind('a signal: "TERM", "SIGTERM" or a number', _signal)
TABLE = Kind("a map that is not empty", _table)
