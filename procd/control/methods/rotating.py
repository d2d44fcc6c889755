"""The method that rotates logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procd.output.streams import STREAMS, StreamKey

if TYPE_CHECKING:
    from procd.control.call import Answer, Call
    from procd.core import Program

#: Seconds that the logger has.  It needs milliseconds, unless the disk of a log is stuck.
ROTATE_S = 10.0


async def rotate(call: Call, sent: dict[str, Any]) -> Answer:
    """Go on in new log files; those without a byte stay as they are."""
    logs, programs = call.daemon.runtime.around.logs, call.daemon.runtime.machine.programs
    names = call.names(sent)
    keys = [StreamKey(name, stream) for name in names for stream in STREAMS]
    kept = [key for key in keys if logs.keeps(key)]
    reasons = await logs.rotate(kept, ROTATE_S)
    failures: dict[str, list[str]] = {}
    for key, reason in reasons.items():
        if reason:
            failures.setdefault(key.program, []).append(f"{key.stream}: {reason}")
    keepers = {key.program for key in kept}
    return {
        "programs": [
            _outcome(name, programs.get(name), failures.get(name, []), keeps=name in keepers) for name in names
        ]
    }


def _outcome(name: str, program: Program | None, failures: list[str], *, keeps: bool) -> dict[str, Any]:
    return {
        "name": name,
        "ok": not failures,
        # It may have been removed meanwhile.
        "state": None if program is None else program.state.value,
        "reason": "; ".join(failures) if keeps else "nothing to rotate",
    }
