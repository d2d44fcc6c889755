"""The programs' output: from the read end of a pipe into a log file, and how far it has come.

The daemon's face of this room is `procd.output.logs`: attach a read end to a log, ask how far a log reaches, be
told when it grows.  Who moves the bytes is a process of its own, `procd.output.logger`; what the two say to
each other stands in `messages`, what both see in `board`.  Whoever follows a program reads its log *files*
(`history`).

Nothing is imported here: the logger is small.
"""
