"""procd: a process supervisor for Linux.

The rooms and the direction of their imports are described in docs/design.md.
"""

__version__ = "0.1.0"
