"""The programs' output: from the read end of a pipe into a log file, and how far it has come.

The face of this room is `Logs`: attach a read end to a log, ask how far a log reaches, be told when it grows.
Whoever follows a program reads its log *file* up to that offset.
"""

from procd.output.logs import STREAMS, Logs, StreamKey, Watcher

__all__ = ["STREAMS", "Logs", "StreamKey", "Watcher"]
