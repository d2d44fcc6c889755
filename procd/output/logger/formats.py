"""How a line of output stands in its log: as it is, behind a time, or as a JSON object.

Pure: bytes in, bytes out.  What is written may end in the middle of a line; the rest is then added to it as it
comes, so a line is whole however it was written, and no line has to be held in memory.  Whether a file ends in
the middle of a line can be seen from its last byte, in all formats.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.output.logger.spec import Spec

#: Bytes that stand for themselves in a JSON string; and the newline, which ends the line.
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\') + b"\n"
#: What stands for itself in one, beside these: what is not ASCII, and DEL.
_HIGH = bytes(range(0x7F, 0x100))
#: What has to be escaped, in this order: the backslash first.
_ESCAPES = (
    (b"\\", rb"\\"),
    (b'"', rb"\""),
    (b"\b", rb"\b"),
    (b"\f", rb"\f"),
    (b"\r", rb"\r"),
    (b"\t", rb"\t"),
    *((bytes([byte]), b"\\u%04x" % byte) for byte in range(0x20) if byte not in b"\b\f\n\r\t"),
)


def stamp(now_s: float) -> bytes:
    """RFC 3339 in UTC, with microseconds."""
    seconds, micros = divmod(int(now_s * 1_000_000), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%06dZ" % micros


def escape(text: bytes) -> bytes:
    r"""Make lines parts of JSON strings, leaving the newlines between them.

    Bytes that are not UTF-8 become `\udc80` to `\udcff`, which no text that is UTF-8 becomes: Python's
    `encode("utf-8", "surrogateescape")` makes them the bytes that they were.
    """
    special = text.translate(None, _PLAIN)
    if not special:
        return text
    escapes = special.translate(None, _HIGH)
    if escapes:
        for byte, escaped in _ESCAPES:
            if byte in escapes:
                text = text.replace(byte, escaped)
    if special.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace")
    return text


def whole(data: bytes) -> int:
    """How much of this is best written now: up to its last newline, or else up to its last whole character."""
    end = data.rfind(b"\n") + 1
    if end:
        return end
    # Of a UTF-8 sequence the first byte says how long it is; at most three bytes may be waiting for a fourth.
    for back in range(1, min(4, len(data))):
        byte = data[-back]
        if byte >= 0xF8:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if length > back else len(data)
        if byte < 0x80:
            break
    return len(data)


class Format:
    """How one log writes lines."""

    __slots__ = ("_after", "_before", "_escape", "is_raw", "line_end")

    def __init__(self, spec: Spec) -> None:
        self.is_raw = spec.format == "raw"
        #: What ends a line.
        self.line_end = b"\n"
        self._escape: Callable[[bytes], bytes] = bytes
        #: What stands before the time of a line, and what between the time and the process.
        self._before = b""
        self._after = b""
        if spec.format == "json":
            self.line_end = b'"}\n'
            self._escape = escape
            self._before = b'{"time":"'
            who = (("program", spec.program), ("instance", spec.instance), ("stream", spec.stream))
            said = b",".join(b'"%b":"%b"' % (key.encode(), escape(value.encode())) for key, value in who)
            self._after = b'",%b,"pid":' % said

    def _head(self, now_s: float, pid: int) -> bytes:
        """What begins a line."""
        if self._after:
            return b'%b%b%b%d,"message":"' % (self._before, stamp(now_s), self._after, pid)
        return stamp(now_s) + b" "

    def lines(self, data: bytes, now_s: float, pid: int, *, continued: bool) -> bytes:
        """How these bytes stand in the log; `continued` says that they do not begin a line there.

        There are as many newlines in the result as in the bytes.
        """
        if self.is_raw or not data:
            return data
        head = self._head(now_s, pid)
        text = self._escape(data).replace(b"\n", self.line_end + head)
        end = len(text) - len(head) if data.endswith(b"\n") else len(text)
        return text[:end] if continued else head + text[:end]

    def remark(self, text: str, now_s: float) -> bytes:
        """A line of our own."""
        return self.lines(f"[procd: {text}]\n".encode(), now_s, 0, continued=False)
