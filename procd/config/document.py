"""One configuration file: read, parsed, and able to say on which line a key stands.

Owns files and places in them.  Must not know which keys there are.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from procd.config.locate import line_of, lines_of_keys
from procd.config.problems import Mistake, quoted
from procd.config.syntax import syntax_problem
from procd.config.trust import require_trusted
from procd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.locate import Path
    from procd.config.problems import Problems

_MOST_BYTES = 64 * 1024 * 1024  # some hundred thousand programs; a wrong file such as a log is told apart
_TRUSTED_BY_ROOT = frozenset({0})
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Document(Struct, frozen=True, dict=True):
    """A file of the configuration.

    `name` is what people are shown, `path` is absolute, `directory` is where its relative paths start.
    """

    name: str
    path: str
    text: str
    table: Mapping[str, Any]

    @property
    def directory(self) -> str:
        """Where relative paths in this file start."""
        return os.path.dirname(self.path)  # noqa: PTH120

    @cached_property
    def _lines(self) -> Mapping[Path, int]:
        return lines_of_keys(self.text)

    def line_of(self, path: Path) -> int:
        """The line of a key, or of the nearest table around it; 0 when nothing of it is written here."""
        return line_of(self._lines, path)


class Place(Struct, frozen=True):
    """Where a value stands: a document and the path of keys in it."""

    document: Document
    path: Path = ()

    def __truediv__(self, step: str | int) -> Place:
        return Place(self.document, (*self.path, step))

    @property
    def key(self) -> str:
        """The path as people write it: `programs.web.command[1]`."""
        text = ""
        for step in self.path:
            if isinstance(step, int):
                text += f"[{step}]"
            else:
                text += f".{_written(step)}" if text else _written(step)
        return text


def read_document(name: str, *, uid: int, problems: Problems, if_missing: str) -> Document | None:
    """Read and parse one file; None when it has problems, which are recorded.

    `if_missing` is the remedy for a file that is not there.

    As root (`uid` 0) a file that somebody else may write is refused before it is opened: from then on only
    root can change what the path leads to.
    """
    path = os.path.abspath(name)  # noqa: PTH100 - without resolving links: the directory is the one that was named
    try:
        if uid == 0:
            require_trusted(path, _TRUSTED_BY_ROOT)
        text = decode(read_bytes(path, _MOST_BYTES))
        return Document(name, path, text, _parse(text, name, problems))
    except FileNotFoundError:
        mistake = Mistake("there is no such file", if_missing)
    except OSError as error:
        mistake = Mistake(f"cannot be read: {error.strerror}", "check the path and its permissions")
    except Mistake as found:
        mistake = found
    except _SyntaxProblem:
        return None
    problems.add_problem(Problem(name, 0, "", mistake.what, mistake.remedy))
    return None


def read_bytes(path: str, most_bytes: int, *, owner: int | None = None) -> bytes:
    """The content of a regular file, which belongs to `owner` if that is given.

    Raises OSError, and Mistake for what is no regular file (a fifo would be waited for), is too large, or is
    somebody else's.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Mistake("is not a regular file", "name a file")
        if owner not in {None, status.st_uid}:
            raise Mistake("leads to a file of somebody else", "name the file itself")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise Mistake(f"is larger than {most_bytes} bytes", "is it the right file?")
    return content


def decode(content: bytes) -> str:
    """The text of a file (a byte order mark is dropped).

    Raises Mistake that names the line of the first byte that is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Mistake(f"line {line} is not UTF-8", "save the file as UTF-8") from None


class _SyntaxProblem(Exception):  # noqa: N818 - a mistake of the user's, not an error of ours
    """The text is not TOML; the problem is recorded."""


def _parse(text: str, name: str, problems: Problems) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems.add_problem(syntax_problem(str(error), text, name))
    except RecursionError:
        problems.add_problem(Problem(name, 0, "", "arrays or tables are nested too deep", "nest less"))
    except ValueError:
        # The only other one is Python's own bound on the digits of an integer, which tomllib lets through.
        problems.add_problem(Problem(name, 0, "", "a number has thousands of digits", "write a smaller number"))
    raise _SyntaxProblem


def _written(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else quoted(key)
