"""What all tests have in common: a process whose signals are as at a terminal."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take back what a shell without job control has ignored for us.

    It does so with SIGINT and SIGQUIT for whatever it runs in the background; children inherit that, and would
    be spawned in another way, or not end at Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
