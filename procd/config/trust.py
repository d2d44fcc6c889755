"""Who else may write a file: the question that root asks before it believes one.

Owns the walk along a path, symbolic links included, and the judgement of each step.  Must not know what the
file is for.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from typing import TYPE_CHECKING

from procd.config.problems import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # the kernel's own bound on one resolution, path_resolution(7)


def require_trusted(path: str, owners: frozenset[int], *, exclusive: bool = False) -> None:
    """Return when nobody but `owners` can change, replace or divert `path` (absolute).

    A directory in which everybody may write is no danger when it is sticky (as /tmp): what stands in it can
    only be replaced by its owner, who is checked too.  With `exclusive`, for a directory whose entries are
    searched by a pattern, it is one: anybody may add a file.

    Raises Mistake with the first step that somebody else controls, OSError when the walk itself fails.
    """
    for step, status in _resolve(path):
        if status.st_uid not in owners:
            raise Mistake(
                f"{step} belongs to {_user(status.st_uid)}, who could change what root runs",
                f"chown root {shlex.quote(step)}",
            )
        if stat.S_ISLNK(status.st_mode) or not status.st_mode & _OTHERS_MAY_WRITE:
            continue
        is_shared = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
        if not is_shared or (exclusive and step == path):
            raise Mistake(
                f"{step} may be written by {_writers(status.st_mode)}, who could change what root runs",
                f"chmod go-w {shlex.quote(step)}",
            )


def _resolve(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every step the kernel takes to reach `path`: directories, symbolic links, and the file itself."""
    current = "/"
    yield current, os.lstat(current)
    ahead = path.split("/")[::-1]
    links = 0
    while ahead:
        name = ahead.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            current = os.path.dirname(current)  # noqa: PTH120 - of a path without links, so this is its parent
            continue
        step = os.path.join(current, name)  # noqa: PTH118
        status = os.lstat(step)
        yield step, status
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise Mistake(f"{path} leads through too many symbolic links")
            target = os.readlink(step)  # noqa: PTH115
            current = "/" if target.startswith("/") else current
            ahead.extend(target.split("/")[::-1])
        else:
            current = step


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def _writers(mode: int) -> str:
    return "everybody" if mode & stat.S_IWOTH else "its group"
