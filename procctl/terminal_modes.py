"""What a program has done to the terminal that shows it, and how that is undone.

A program that is left in the middle, or killed, does not leave the screen that it took, show the cursor that it
hid, or stop the mouse reports that it asked for.  Only what was really set is undone: a terminal may do
something visible even where there is nothing to undo.

Pure: it gets the bytes that go to the terminal.  The sequences are those of xterm (ctlseqs) and of the
terminals that follow it.
"""

from __future__ import annotations

import re

#: ESC and what stands behind it, as far as it matters here; and the change to another character set.
_SEQUENCE = re.compile(
    rb"\x1b\[(?P<mark>[<>?!]?)(?P<numbers>[0-9;:]{0,64})(?P<between>[ ]?)(?P<final>[@-~])"
    rb"|\x1b(?P<single>[=>c])"
    rb"|\x1b\((?P<set>[0-9A-Za-z])"
    rb"|(?P<shift>[\x0e\x0f])"
)
#: The beginning of one, at the end of what came.
_CUT_OFF = re.compile(rb"\x1b(?:\(|\[[<>?!]?[0-9;:]{0,64}[ ]?)?\Z")

#: Private modes (DECSET) that are switched off, in this order: the screen last, as it brings the cursor back.
_OFF = (9, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 1, 5, 6, 47, 1047, 1049)
#: Those that a terminal has from the beginning, and gets back.
_ON = (7, 25)
_SCREENS = frozenset({47, 1047, 1049})

_NEWLINE = b"\r\n"
_LOWEST_LINE = b"\x1b[999;1H"


class TerminalModes:
    """Follows what is shown."""

    def __init__(self) -> None:
        self._rest = b""
        self._last = b""
        self._forget()

    def _forget(self) -> None:
        self._set: set[int] = set()
        self._unset: set[int] = set()
        #: What undoes each of the other things that were done.
        self._others: dict[str, bytes] = {}
        self._keyboards = 0
        self._moved = False

    def feed(self, data: bytes) -> None:
        """Take note of what goes to the terminal."""
        if not data:
            return
        self._last = data[-1:]
        data = self._rest + data
        for found in _SEQUENCE.finditer(data):
            if found["final"]:
                self._control(found["mark"], found["numbers"], found["between"] + found["final"])
            elif found["single"]:
                self._single(found["single"])
            elif found["set"]:
                self._note("set", b"" if found["set"] == b"B" else b"\x1b(B")
            else:
                self._note("shift", b"\x0f" if found["shift"] == b"\x0e" else b"")
        cut_off = _CUT_OFF.search(data)
        self._rest = cut_off[0] if cut_off else b""

    def _note(self, what: str, undone_by: bytes) -> None:
        if undone_by:
            self._others[what] = undone_by
        else:
            self._others.pop(what, None)

    def _single(self, key: bytes) -> None:
        if key == b"c":
            self._forget()
        else:
            self._note("keypad", b"\x1b>" if key == b"=" else b"")

    def _control(self, mark: bytes, numbers: bytes, final: bytes) -> None:  # noqa: C901 - a table of sequences
        match mark, final:
            case b"?", b"h":
                self._switch(numbers, to=self._set, away=self._unset)
            case b"?", b"l":
                self._switch(numbers, to=self._unset, away=self._set)
            case b"", b"h" | b"l":
                if numbers == b"4":
                    self._note("insert", b"\x1b[4l" if final == b"h" else b"")
            case b"", b"r":
                # The cursor goes home with it, unless it is kept.
                self._note("region", b"\x1b7\x1b[r\x1b8" if numbers else b"")
            case b"", b"m":
                self._note("colours", b"" if numbers in {b"", b"0"} else b"\x1b[m")
            case b"", b" q":
                self._note("cursor", b"" if numbers in {b"", b"0"} else b"\x1b[0 q")
            case b"", b"H" | b"f":
                self._moved = True
            case b">", b"m":
                self._note("keys", b"\x1b[>4m" if numbers.startswith(b"4;") and numbers != b"4;0" else b"")
            case b">", b"u":
                self._keyboards += 1
            case b"<", b"u":
                self._keyboards = max(0, self._keyboards - int(numbers or b"1"))
            case b"!", b"p":
                self._unset.clear()
                self._set &= _SCREENS
                self._others.clear()

    @staticmethod
    def _switch(numbers: bytes, *, to: set[int], away: set[int]) -> None:
        for number in numbers.replace(b":", b";").split(b";"):
            if number:
                to.add(int(number))
                away.discard(int(number))

    def undo(self) -> bytes:
        """What to send so that the terminal is as before, with the cursor at the beginning of a free line."""
        on_main_screen = not self._set & _SCREENS
        parts = list(self._others.values())
        if self._keyboards:
            parts.append(b"\x1b[<%du" % self._keyboards)
        parts += [b"\x1b[?%dh" % mode for mode in _ON if mode in self._unset]
        parts += [b"\x1b[?%dl" % mode for mode in _OFF if mode in self._set]
        if on_main_screen and self._moved:
            parts += [_LOWEST_LINE, _NEWLINE]
        elif on_main_screen and self._last not in {b"", b"\n"}:
            parts.append(_NEWLINE)
        self._forget()
        self._last = self._rest = b""
        return b"".join(parts)
