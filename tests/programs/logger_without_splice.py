"""The logger on a system where splice(2) refuses files."""

import errno
import os
import stat
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from procd.output.logger import __main__ as logger

_splice = os.splice


def splice(source: int, target: int, count: int, *, flags: int = 0) -> int:
    """Refuse regular files, as a file system without it does."""
    if stat.S_ISREG(os.fstat(target).st_mode):
        raise OSError(errno.EINVAL, "Invalid argument")
    return _splice(source, target, count, flags=flags)


os.splice = splice
logger.main()
