"""The command line that becomes the keeper."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as pathlib, not imported: every program waits for this
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def command(children: Mapping[str, Sequence[str]], **seconds: float) -> list[str]:
    """The argv of a keeper of these commands by name, the first being the supervisor; and of `Pace`'s seconds.

    To be executed by a process that is a subreaper already (PR_SET_CHILD_SUBREAPER stays through execve(2)):
    the keeper cannot become one by itself, because ctypes would be a sixth of its memory.

    Whoever does that may block SIGTERM and its like before: the keeper lets them through when it has handlers.

    `-I` and `-S`: no environment variable and no installed package changes what runs, and it starts faster.
    """
    here = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 - see above
    argv = [sys.executable, "-I", "-S", f"{here}/__main__.py"]
    argv += [f"{name}={value}" for name, value in seconds.items()]
    for name, its_argv in children.items():
        if not name.isidentifier() or "--" in its_argv:
            raise ValueError(f"cannot be told to the keeper: {name} {its_argv}")
        argv += ["--", name, *its_argv]
    return argv
