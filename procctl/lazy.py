"""A module that is imported when it is first used, for what only some runs of procctl need."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from typing import Any


class LazyModule:
    """Stands for a module; the first attribute that is asked for imports it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401 - whatever the module has
        value = getattr(import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value
