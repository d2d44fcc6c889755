"""`python -m procd`, and the command `procd`.

Owns the short ways: what the keeper starts, and `run`, need no command line parser.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Also by the path of this file, from a directory that nobody has installed (`start.command`).
    _place = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib is not small
    if _place not in sys.path:
        sys.path.insert(0, _place)

from procd import start


def main() -> None:
    """Run the command."""
    verb, *rest = sys.argv[1:] or [""]
    if verb == start.LOG:
        from procd.output.logger.__main__ import main as write_logs  # noqa: PLC0415 - only here

        write_logs()
    elif verb == start.SUPERVISE:
        sys.exit(_supervise(rest))
    elif verb == "run" and (path := _configuration(rest)) != "":
        start.become_keeper(path)
    else:
        from procd.cli import main as parse  # noqa: PLC0415 - the parser is not small

        parse(prog_name="procd")


def _supervise(words: list[str]) -> int:
    """Supervise, without packages that are loaded wherever they are there, and used by nobody here.

    asyncio would load OpenSSL; structlog rich, for tracebacks that are never written so, and greenlet; msgspec
    the types of later Pythons: up to a quarter of the time of a start, and some of the memory.
    """
    unused = ("ssl", "rich", "greenlet", "typing_extensions")
    spared = [name for name in unused if name not in sys.modules]
    # None keeps a module from being imported (sys.modules).
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]
    from procd.supervise import main as supervise  # noqa: PLC0415 - only here

    for name in spared:
        del sys.modules[name]
    return supervise(words)


def _configuration(words: list[str]) -> str | None:
    """The file that is named; None for none; empty for words that have to be parsed by more than this."""
    match words:
        case []:
            return None
        case ["-c" | "--config", path] if not path.startswith("-"):
            return path
        case [word] if word.startswith("--config="):
            return word.removeprefix("--config=")
        case _:
            return ""


if __name__ == "__main__":
    main()
