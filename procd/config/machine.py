"""What the configuration asks of the machine it is on: programs, directories and environment files that exist.

Owns these look-ups, each made once in a load.  With `check_files` off it takes existence for granted, but for
environment files, whose content is part of the configuration.  Must not know keys.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from procd.config.document import read_bytes
from procd.config.environment_files import parse
from procd.config.problems import Mistake
from procd.config.trust import require_trusted

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.environment_files import Entry, Fault

_MOST_BYTES_OF_ENVIRONMENT = 2 * 1024 * 1024  # about what execve(2) takes in all
_ROOT = frozenset({0})


class Machine:
    """Look-ups on this machine for one load.  `uid` is whose rights procd has."""

    def __init__(self, *, uid: int, check_files: bool) -> None:
        self._uid = uid
        self._check_files = check_files
        self._verdicts: dict[tuple[str, ...], Mistake | None] = {}
        self._environment_files: dict[tuple[str, int], list[Entry | Fault]] = {}

    @property
    def environment_files(self) -> list[str]:
        """The environment files that were read."""
        return list(dict.fromkeys(path for path, _ in self._environment_files))

    def require_directory(self, path: str) -> None:
        """Raise Mistake when there is no directory at `path`."""
        self._require(("directory", path), lambda: _directory(path))

    def require_not_directory(self, path: str) -> None:
        """Raise Mistake when `path` is a directory, into which nothing can be written."""
        self._require(("file", path), lambda: _not_directory(path))

    def require_executable(self, word: str, search_path: str) -> None:
        """Raise Mistake when nothing can be executed as `word`, a path or a name that is searched for."""
        if "/" in word:
            self._require(("executable", word), lambda: _executable(word))
        else:
            self._require(("executable", word, search_path), lambda: _found(word, search_path))

    def environment_file(self, path: str, owner: int) -> list[Entry | Fault]:
        """The lines of an environment file for a program that runs as the user `owner`.

        Raises Mistake and OSError when it cannot be read.
        """
        key = (path, owner)
        found = self._environment_files.get(key)
        if found is None:
            content = read_environment_file(path, owner, uid=self._uid)
            # An environment is bytes: what is not UTF-8 goes through unharmed, as in os.environ.
            found = parse(content.decode("utf-8", "surrogateescape"))
            self._environment_files[key] = found
        return found

    def _require(self, key: tuple[str, ...], judge: Callable[[], Mistake | None]) -> None:
        if not self._check_files:
            return
        if key not in self._verdicts:
            self._verdicts[key] = judge()
        mistake = self._verdicts[key]
        if mistake is not None:
            raise mistake


def read_environment_file(path: str, owner: int, *, uid: int) -> bytes:
    """The content of an environment file.

    Root reads a file that only root can write, or one that belongs to the user the program runs as: what is
    in it reaches no other user.  Such a file must itself be that user's, or a link of theirs could make root
    read a secret to them.  Raises Mistake and OSError.
    """
    if uid != 0:
        return read_bytes(path, _MOST_BYTES_OF_ENVIRONMENT)
    try:
        require_trusted(path, _ROOT)
    except Mistake:
        if owner == 0:
            raise
        require_trusted(path, frozenset({0, owner}))
        return read_bytes(path, _MOST_BYTES_OF_ENVIRONMENT, owner=owner)
    return read_bytes(path, _MOST_BYTES_OF_ENVIRONMENT)


def _directory(path: str) -> Mistake | None:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - paths are strings in this room
    except FileNotFoundError:
        return Mistake(f"directory {path} does not exist", f"create it: mkdir -p {path}")
    except OSError as error:
        return Mistake(
            f"directory {path} cannot be used: {error.strerror}", "check the path and its permissions"
        )
    return None if stat.S_ISDIR(mode) else Mistake(f"{path} is not a directory", "name a directory")


def _not_directory(path: str) -> Mistake | None:
    if os.path.isdir(path):  # noqa: PTH112
        return Mistake(f"{path} is a directory", "name a file in it")
    return None


def _executable(path: str) -> Mistake | None:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return Mistake(f"{path} does not exist", "check the path, or install the program")
    except OSError as error:
        return Mistake(f"{path} cannot be executed: {error.strerror}", "check the path and its permissions")
    if stat.S_ISDIR(mode):
        return Mistake(f"{path} is a directory", "name a program in it")
    return None if os.access(path, os.X_OK) else Mistake(f"{path} is not executable", f"chmod +x {path}")


def _found(name: str, search_path: str) -> Mistake | None:
    for directory in search_path.split(":"):
        # A relative entry of PATH depends on the working directory of the moment; it is no place to rely on.
        if directory.startswith("/") and _executable(f"{directory}/{name}") is None:
            return None
    return Mistake(
        f"{name} is not found on the program's PATH ({search_path})", "install it, or write its full path"
    )
