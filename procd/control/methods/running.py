"""Methods about programs that are in no file: run, forget.

Owns who such a program runs as.  Unless the caller has the right `run-as`, that is the caller: its own user,
its own groups, as the kernel told them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from procd.config.access import Right
from procd.config.accounts import user_id
from procd.config.problems import Mistake
from procd.core import Cause
from procd.errors import BadRequest, ConfigurationError, Failed, TooLarge, WrongState
from procd.output.history import History
from procd.runtime.record import record
from procd.runtime.transient import ENDED

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.control.access import Peer
    from procd.control.call import Answer, Call

#: Programs that are in no file, at once.  Each has a record, and a log file that stays.
MAX_TRANSIENT = 1024

_IDENTITY = ("user", "group", "supplementary_groups")


def run(call: Call, sent: dict[str, Any]) -> Answer:
    """Start a program that is in no file."""
    if call.daemon.closing:
        raise call.going_down()
    runtime = call.daemon.runtime
    if len(runtime.transients) >= MAX_TRANSIENT:
        raise TooLarge(f"{MAX_TRANSIENT} programs are there that are in no file", "forget some of them")
    written = {key: value for key, value in sent["spec"].items() if value is not None}
    name = _text(written, "name") or runtime.transients.free_name()
    forget = _flag(written, "rm")
    call.programs = [name[:64]]
    spec = _resolve(call, name, written)
    call.permit.require(Right.RUN, spec)
    if not _is_own(call, spec):
        call.permit.require(Right.RUN_AS, spec)
    if name in runtime.machine.programs:
        raise WrongState(f"there is a program {name} already", "give this one another name, or none")
    begins = _begins(spec)
    runtime.transients.start(spec, call.peer.actor, forget=forget)
    answer = record(runtime, runtime.machine.programs[name])
    for log in answer["streams"].values():
        log["offset"] = begins.get(log["path"], 0)
    return answer


def _begins(spec: ProgramSpec) -> dict[str, int]:
    """Where in each log, by its path, the output of a program begins that is not there yet.

    Looked up before it starts: afterwards the first of its output may be in the log already.
    """
    begins = {}
    for kept in (spec.stdout_log, spec.stderr_log):
        if kept is not None:
            # It may be no file, or none that can be read: then nobody can follow it either.
            with contextlib.suppress(OSError):
                begins[kept.path] = History(kept.path, kept.keep, lambda: None).extent().end
    return begins


def _text(written: dict[str, Any], key: str) -> str:
    value = written.pop(key, "")
    if not isinstance(value, str):
        raise BadRequest(f"{key!r} of run is no text", "give the name of the program")
    return value


def _flag(written: dict[str, Any], key: str) -> bool:
    value = written.pop(key, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{key!r} of run is not true or false", "give true or false")
    return value


def _resolve(call: Call, name: str, written: dict[str, Any]) -> ProgramSpec:
    peer, is_master = call.peer, call.daemon.access.is_master(call.peer.uid)
    if not is_master and _names_itself(written, peer):
        written |= {"user": peer.uid, "group": peer.gid, "supplementary_groups": sorted(peer.groups)}
    try:
        spec = call.daemon.resolve(name, written, check_files=is_master)
    except ConfigurationError as error:
        problems = [str(problem) for problem in error.problems]
        raise Failed(
            f"the program has {len(problems)} problem{'s' * (len(problems) > 1)}; nothing was started",
            "\n".join(problems),
            {"problems": problems},
        ) from error
    return spec if is_master else replace(spec, directory_as_user=True)


def _names_itself(written: dict[str, Any], peer: Peer) -> bool:
    """Whether a program is to run as the caller: nobody is named, or the caller and nothing else."""
    if not any(key in written for key in _IDENTITY):
        return True
    try:
        return all(key == "user" or key not in written for key in _IDENTITY) and (
            user_id(written["user"]) == peer.uid
        )
    except (Mistake, TypeError):
        return False


def _is_own(call: Call, spec: ProgramSpec) -> bool:
    """Whether a program gets nothing that its caller has not: neither a user nor a group."""
    peer, credentials = call.peer, spec.credentials
    if call.daemon.access.is_master(peer.uid):
        return True
    return (
        credentials is not None
        and credentials.uid == peer.uid
        and {credentials.gid, *credentials.groups} <= peer.groups
    )


def forget(call: Call, sent: dict[str, Any]) -> Answer:
    """Forget programs that are in no file and have ended."""
    runtime = call.daemon.runtime
    names = call.names(sent)
    for name in names:
        program = runtime.machine.programs[name]
        if name not in runtime.transients:
            raise WrongState(f"{name} is in the configuration", "take it out there, and reload")
        if program.state not in ENDED or program.live:
            raise WrongState(f"{name} is {program.state.value}", "stop it first")
    for name in names:
        runtime.transients.forget(name, Cause("forget requested", call.peer.actor))
    return {"forgotten": names}
