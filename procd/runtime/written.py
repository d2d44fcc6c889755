"""What one life of a program writes, read back from its log for the check that waits for a line.

Owns the way from the log, whatever its format and however it is rotated, to the program's own bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.checks import LogSource
from procd.output.history import Extent, Gap, History, Reader
from procd.output.logs import Watcher
from procd.output.plain import Plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.spec import LogSpec
    from procd.output.logs import Logs
    from procd.output.streams import StreamKey
    from procd.runtime.life import Life


class Written:
    """The output of one stream of a life, from its first byte on.

    `spec_now` says how the log is kept at present; a reload may move it, or give it another format.
    """

    def __init__(self, logs: Logs, key: StreamKey, life: Life, spec_now: Callable[[], LogSpec | None]) -> None:
        self._logs = logs
        self._key = key
        self._life = life
        self._spec_now = spec_now
        self._spec: LogSpec | None = None
        self._reader: Reader | None = None
        self._plain: Plain
        self._rest = b""

    def source(self) -> LogSource:
        """The same, as a check wants it; its offsets count from the beginning of the life."""
        return LogSource(0, self._read, self._watch)

    def _read(self, _offset: int, size: int) -> bytes:
        """Read on.  Raises OSError."""
        reader = self._reader_now()
        while reader is not None and not self._rest:
            piece = reader.step(size)
            if piece is None or isinstance(piece, Gap):
                continue
            if not piece:
                return b""
            self._rest = self._plain.feed(piece)
        said, self._rest = self._rest[:size], self._rest[size:]
        return said

    def _reader_now(self) -> Reader | None:
        """Read the present log; none before it is known where in it this life begins."""
        spec, begins = self._spec_now(), self._life.log_starts.get(self._key.stream)
        if spec is None or begins is None:
            return None
        if self._reader is None or spec != self._spec:
            moved = self._spec is not None and spec.path != self._spec.path
            at = self._reader.offset if self._reader is not None else begins
            self._close()
            self._spec, self._plain = spec, Plain(spec.format)
            # Where it goes on it may have another past: what this life writes comes at the end of that.
            at = self._logs.starts(self._key) if moved else at
            self._reader = Reader(History(spec.path, spec.keep, self._extent), at)
        return self._reader

    def _extent(self) -> Extent:
        return Extent(self._logs.starts(self._key), self._logs.reaches(self._key))

    def _watch(self, grown: Callable[[], None]) -> Callable[[], None]:
        unwatch = [_nothing]

        def over(_: str) -> None:
            # The log of a program that is removed grows no more, and with its life ends the check; one that was
            # moved has another watcher from now on.
            if self._logs.keeps(self._key):
                unwatch[0] = self._logs.watch(self._key, Watcher(grown, over))
                grown()

        unwatch[0] = self._logs.watch(self._key, Watcher(grown, over))
        self._life.on_log_begun += (grown,)

        def end() -> None:
            self._life.on_log_begun = tuple(each for each in self._life.on_log_begun if each is not grown)
            unwatch[0]()
            self._close()

        return end

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _nothing() -> None:
    """Nothing is watched yet."""
