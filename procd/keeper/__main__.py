"""`python -I -S …/procd/keeper [beat=30 …] -- supervisor COMMAND… -- logger COMMAND…` (`launch.command`).

Without the `site` module, and so without what is installed: the keeper needs the standard library only.
"""

from __future__ import annotations

import os
import resource
import sys

if __name__ == "__main__":
    # `-I` keeps the current directory and the environment out of the search for modules; procd itself is here.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120 - pathlib is not small

from procd.keeper import messages, succession
from procd.keeper.child import OOM_SCORE, Child
from procd.keeper.keeper import Keeper
from procd.keeper.outside import Outside
from procd.keeper.pace import Pace
from procd.keeper.table import FDS_FOR_ITSELF, Room

#: The first descriptor of socket activation (sd_listen_fds(3)).
_FIRST_ACTIVATED = 3


def main(arguments: list[str]) -> int:
    """Keep, from the first start or as the next program of a keeper that runs; returns the exit status."""
    options, *commands = _split(arguments)
    file = _option(options, succession.RESUME)
    rehearsed = _option(options, succession.REHEARSE)
    score = _option(options, OOM_SCORE)
    pace = Pace()
    pace.take(options)
    outside = Outside(os.environ)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    room = Room(limits[1] - FDS_FOR_ITSELF)
    children = [Child(name, argv, room) for name, *argv in commands]
    for child in children:
        child.oom_score_adj = score
    keeper = Keeper(children, outside, pace, ((resource.RLIMIT_NOFILE, limits),))
    if rehearsed is not None:
        succession.restore(keeper, rehearsed)
        return 0
    if file is not None:
        succession.take_over(keeper, file)
    else:
        _take_activated(keeper)
    os.chdir("/")
    return keeper.run()


def _split(arguments: list[str]) -> list[list[str]]:
    """What stands between the `--`."""
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == "--":
            parts.append([])
        else:
            parts[-1].append(argument)
    return parts


def _option(options: list[str], prefix: str) -> int | None:
    for option in options:
        if option.startswith(prefix):
            options.remove(option)
            return int(option[len(prefix) :])
    return None


def _take_activated(keeper: Keeper) -> None:
    """Keep the sockets of systemd for the first child, as records `activated:NAME:NUMBER`."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
        fd = _FIRST_ACTIVATED + number
        os.set_inheritable(fd, False)
        name = names[number] if number < len(names) else "unknown"
        keeper.first.table.put(messages.ACTIVATED_PREFIX + f"{name}:{number}".encode(), messages.HERE, (fd,))


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.exit(status)
