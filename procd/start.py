"""`procd run`, until it is the keeper: this process executes it, and the keeper starts all the others.

Owns the command lines of procd's processes.  Imports little: every program waits for this.
"""

from __future__ import annotations

import os
import signal
import sys

from procd import standard_streams
from procd.keeper import launch

TYPE_CHECKING = False  # not from typing, as in `procd.keeper.launch`
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

#: Seconds of the keeper (`procd.keeper.pace`), for tests: `beat=1 patience=1`.
_PACE_VARIABLE = "PROCD_KEEPER_PACE"
_PR_SET_CHILD_SUBREAPER = 36
#: proc_pid_oom_score_adj(5): -1000 would be never.
_OOM_SCORE = -900
#: What the keeper passes on, as soon as it can.
_HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: What Python ignores, which would stay so in what it executes.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)

#: The verbs by which the keeper starts its children; nobody else has a use for them.
SUPERVISE, LOG = "supervise", "log"


def become_keeper(path: str | None) -> NoReturn:
    """Execute the keeper of a supervisor of this configuration, and of a logger."""
    standard_streams.open_missing()
    os.environ.pop("PROCD_COOKIE", None)
    seconds = dict(word.split("=", 1) for word in os.environ.pop(_PACE_VARIABLE, "").split())
    supervisor = [*command(SUPERVISE), f"--directory={os.getcwd()}"]  # noqa: PTH109 - pathlib is not small
    if path is not None:
        supervisor.append(f"--config={path}")
    argv = launch.command(
        {"supervisor": supervisor, "logger": command(LOG)},
        **{name: float(value) for name, value in seconds.items()},
        **_protect(),
    )
    # Before it has handlers it would die of one.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    _become_subreaper()
    os.execv(argv[0], argv)  # noqa: S606 - our own program


def spawn(configuration: str, environ: Mapping[str, str]) -> None:
    """Start another procd, which is to take over; its end is nobody's business.  Raises OSError."""
    argv = [*command("run"), f"--config={configuration}"]
    os.posix_spawn(argv[0], argv, environ, setsid=True, setsigmask=(), setsigdef=_IGNORED)


def command(verb: str) -> list[str]:
    """The command line of a process of ours.

    By the path of our code, and `-P`: neither where we are nor who installed what decides what is executed.
    """
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - as above
    return [sys.executable, "-P", f"{here}/__main__.py", verb]


def _protect() -> dict[str, float]:
    """Be the last that the OOM killer takes, and only we; returns what the children are to have instead."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:  # noqa: PTH123 - as above
            score = int(file.read())
            file.seek(0)
            file.write(str(min(score, _OOM_SCORE)))
            file.flush()
    except OSError:
        # Only CAP_SYS_RESOURCE may lower it.
        return {}
    return {"oom_score_adj": score}


def _become_subreaper() -> None:
    """Inherit orphans, here and in what is executed here (PR_SET_CHILD_SUBREAPER)."""
    import ctypes  # noqa: PLC0415 - the keeper cannot afford it (`launch.command`)

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
