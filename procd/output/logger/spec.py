"""How a log is to be kept: what OPEN says."""

from __future__ import annotations

from sys import intern

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from typing import Any


class Spec:
    """The settings of one log, as `procd.config.spec.LogSpec` and the names that stand in its lines."""

    __slots__ = (
        "blocks",
        "compress",
        "format",
        "instance",
        "keep",
        "max_age_s",
        "max_size",
        "path",
        "program",
        "stream",
    )

    def __init__(self, said: dict[str, Any]) -> None:
        self.program: str = said["program"]
        self.instance: str = said["instance"]
        self.stream: str = intern(said["stream"])
        self.path: str = said["path"]
        self.max_size: int | None = said["max_size"]
        self.keep: int = said["keep"]
        self.max_age_s: float | None = said["max_age_s"]
        self.compress: bool = said["compress"]
        self.format: str = intern(said["format"])
        #: The program waits while its log cannot be written; otherwise its output is dropped.
        self.blocks: bool = said["on_error"] == "block"
