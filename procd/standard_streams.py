"""The three descriptors that every program takes for granted, and that a caller may have closed."""

from __future__ import annotations

import os
import sys


def open_missing() -> None:
    """Open on /dev/null what the caller closed (`procd run 2>&-`, `procctl … >&-`).

    Otherwise the first file or socket of ours would be somebody's standard output or error.
    """
    descriptor = 0
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - it stays open to the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - the same
