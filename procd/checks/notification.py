"""What a program says by sd_notify(3), decoded.

Owns the format of a datagram: lines of `NAME=value`.  Pure, and total: whatever bytes come, the answer is a
record or None, never an exception.  Must not know who sent them.

What is not known is ignored, FDSTORE and its kin among it: procd keeps no descriptors for programs.  A value
that does not fit its field is ignored too, and the rest of the datagram counts.  Of a field that comes twice
the first one counts, as systemd has it.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

#: Bytes of the longest datagram that is looked at.  systemd takes a page, and programs are written for that.
MAX_BYTES: Final = 4096
#: Characters of a status that are kept: it is one cell of a table.
MAX_STATUS: Final = 256

_MAX_PID: Final = 1 << 22  # PID_MAX_LIMIT of 64-bit kernels, proc(5)
_MAX_USEC: Final = (1 << 64) - 1  # USEC_INFINITY: a program that wants to wait for ever says this


class Notification(Struct, frozen=True, kw_only=True):
    """One datagram; what it did not say is False or None.

    `status` is safe to show: no control character is left in it, and it is short.  `extend_timeout_s` asks for
    so many seconds from now, `watchdog_s` is the new interval of the watchdog, 0 for none.  `watchdog` feeds
    it, `watchdog_failed` says that the program has found itself faulty.
    """

    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    status: str | None = None
    main_pid: int | None = None
    extend_timeout_s: float | None = None
    watchdog: bool = False
    watchdog_failed: bool = False
    watchdog_s: float | None = None
    barrier: bool = False


#: What remains of a datagram that says nothing procd knows.
NOTHING: Final = Notification()


def parse(datagram: bytes) -> Notification | None:
    """Decode one datagram; None for one that is empty, too long, has a NUL in it or no `NAME=value` line."""
    # sd_notify(3) of some languages sends C strings with their end.
    text = datagram.removesuffix(b"\0")
    if not text or len(datagram) > MAX_BYTES or b"\0" in text:
        return None
    fields: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals and name:
            fields.setdefault(name, value)
    return _notification(fields) if fields else None


def _notification(fields: dict[bytes, bytes]) -> Notification:
    watchdog = fields.get(b"WATCHDOG")
    return Notification(
        ready=fields.get(b"READY") == b"1",
        reloading=fields.get(b"RELOADING") == b"1",
        stopping=fields.get(b"STOPPING") == b"1",
        status=_status(fields.get(b"STATUS")),
        main_pid=_number(fields.get(b"MAINPID"), 1, _MAX_PID),
        extend_timeout_s=_seconds(fields.get(b"EXTEND_TIMEOUT_USEC"), 1),
        watchdog=watchdog == b"1",
        watchdog_failed=watchdog == b"trigger",
        watchdog_s=_seconds(fields.get(b"WATCHDOG_USEC"), 0),
        barrier=fields.get(b"BARRIER") == b"1",
    )


def _number(value: bytes | None, lowest: int, highest: int) -> int | None:
    """Read a decimal number within bounds; int() alone takes spaces, signs, `_` and digits without end."""
    if value is None or not value.isdigit() or len(value) > 20:
        return None
    number = int(value)
    return number if lowest <= number <= highest else None


def _seconds(value: bytes | None, lowest_usec: int) -> float | None:
    microseconds = _number(value, lowest_usec, _MAX_USEC)
    return None if microseconds is None else microseconds / 1e6


def _status(value: bytes | None) -> str | None:
    if value is None:
        return None
    # Twice what is kept is enough to know that it is too long, four bytes are the longest character.
    return neutralise(value[: 8 * MAX_STATUS].decode("utf-8", "backslashreplace"), MAX_STATUS)


def neutralise(text: str, max_characters: int) -> str:
    r"""Make text of a program safe to show: at most so many characters, none that a terminal would obey.

    That takes control characters, and those that reorder or hide what stands around them (CVE-2021-42574).
    They are shown as Python writes them: `\x1b`, `\u202e`.
    """
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    ).strip()
    return shown if len(shown) <= max_characters else shown[: max_characters - 1] + "…"
