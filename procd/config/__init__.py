"""The configuration: TOML in, frozen specs out; old and new specs in, a plan out.

What reads files is imported when a file is read: a supervisor that goes on from records needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.spec import Configuration

__all__ = ["json_schema", "load"]


def load(path: str | None, environ: Mapping[str, str], *, uid: int, check_files: bool = True) -> Configuration:
    """Read, check and resolve a configuration; see `loading.load`.  Raises ConfigurationError."""
    from procd.config import loading  # noqa: PLC0415 - see above

    return loading.load(path, environ, uid=uid, check_files=check_files)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration; see `reference.json_schema`."""
    from procd.config import reference  # noqa: PLC0415 - see above

    return reference.json_schema()
