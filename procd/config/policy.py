"""When a program is started, restarted and stopped.

Owns what these keys mean together: restart, success, backoff, start limit, stop, schedule, run time.  Must not
know how any of it is done.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from procd.config import cron
from procd.config.problems import Mistake, quoted
from procd.config.program_schema import StartLimitTable
from procd.config.spec import Backoff, Kind, Restart, StartLimit, StopScope, StopStep, Success
from procd.errors import InvalidQuantity
from procd.quantities import format_duration, parse_signal

if TYPE_CHECKING:
    from procd.config.context import Load
    from procd.config.declaration import Declaration
    from procd.config.problems import Problems
    from procd.config.program_schema import BackoffTable

_RESTARTS = {kind.value: kind for kind in Restart}
_SCOPES = {kind.value: kind for kind in StopScope}
_KINDS = {kind.value: kind for kind in Kind}
_USUAL_SUCCESS = Success()
_NO_LIMIT = StartLimitTable()
_ONE_STEP = ("stop_signal", "stop_timeout")


def policy_of(declaration: Declaration, load: Load) -> dict[str, Any]:
    """The fields of the spec that say when a program is started, restarted and stopped."""
    table = declaration.table
    steps = _stop_steps(declaration, load)
    return {
        "kind": _KINDS[table.type],
        "restart": _RESTARTS[table.restart],
        "success": _success(declaration, load.problems),
        "min_uptime_s": float(table.min_uptime),
        "backoff": _backoff(declaration, load.problems),
        "start_limit": _start_limit(declaration, load),
        "start_timeout_s": float(table.start_timeout),
        # What is left over of a program is asked with the first signal too.
        "stop_signal": steps[0].signal if steps else int(table.stop_signal),
        "stop_timeout_s": float(table.stop_timeout),
        "stop_steps": steps,
        "stop_scope": _SCOPES[table.stop_scope],
        "schedule": _schedule(declaration, load.problems),
        "max_runtime_s": None if table.max_runtime is None else float(table.max_runtime),
    }


def _stop_steps(declaration: Declaration, load: Load) -> tuple[StopStep, ...]:
    """The steps of `stop`; none where the single step of the other two keys holds.

    Both in one table contradict each other; what a program says in either way wins over [defaults].
    """
    steps = declaration.table.stop
    if not steps:
        return ()
    own, defaults = declaration.raw, declaration.defaults.raw
    where = own if "stop" in own else defaults
    if where is defaults and any(key in own for key in _ONE_STEP):
        return ()
    for key in _ONE_STEP:
        if isinstance(where, dict) and key in where:
            remedy = "remove one of the two: stop_signal and stop_timeout are the same as stop with one step"
            load.problems.add(declaration.place(key), "stands beside stop", remedy)
    return load.shared(tuple(StopStep(*step) for step in steps))


def _schedule(declaration: Declaration, problems: Problems) -> str | None:
    expression = declaration.table.schedule
    if expression is None:
        return None
    with problems.at(declaration.place("schedule")):
        if declaration.written("type") in (None, "service"):
            raise Mistake(
                "starts a program that ends by itself, and this is a service", 'write type = "oneshot"'
            )
        try:
            cron.validate(expression)
        except ValueError as error:
            raise Mistake(
                f"{quoted(expression)} is not a schedule: {error}", 'write it as "30 4 * * *"'
            ) from None
    return expression


def _start_limit(declaration: Declaration, load: Load) -> StartLimit | None:
    table = declaration.table.start_limit
    if table == _NO_LIMIT:
        return None
    if table.count is None or table.within is None:
        missing = "count" if table.count is None else "within"
        written = declaration.written("start_limit")
        if isinstance(written, dict) and missing not in written:
            remedy = 'write start_limit = { count = 5, within = "1m" }'
            load.problems.add(declaration.place("start_limit"), f"has no {missing}", remedy)
        return None
    return load.shared(StartLimit(table.count, float(table.within)))


def _success(declaration: Declaration, problems: Problems) -> Success:
    words = declaration.table.success_exit_status
    if words == (0,):
        return _USUAL_SUCCESS
    codes, signals = set(), set()
    for index, word in enumerate(words):
        try:
            if isinstance(word, int):
                codes.add(_exit_code(word))
            else:
                signals.add(_signal_by_name(word))
        except Mistake as mistake:
            problems.add_mistake(declaration.place("success_exit_status", index), mistake)
    return _shared_success(frozenset(codes), frozenset(signals))


def _backoff(declaration: Declaration, problems: Problems) -> Backoff:
    table = declaration.table.backoff
    if not isfinite(table.factor) or not isfinite(table.jitter):
        # The bounds of the schema let nan pass, because it is neither too small nor too large.
        key = "jitter" if isfinite(table.factor) else "factor"
        problems.add(declaration.place("backoff", key), "nan is not a number", "write a number")
    if table.initial > table.max:
        place = declaration.place("backoff", "max")
        limit, initial = format_duration(table.max), format_duration(table.initial)
        what = f"{limit} is shorter than backoff.initial, {initial}"
        problems.add(place, what, "make max at least as long as initial")
    return _shared_backoff(table)


@lru_cache(maxsize=256)
def _shared_backoff(table: BackoffTable) -> Backoff:
    return Backoff(float(table.initial), float(table.factor), float(table.max), float(table.jitter))


@lru_cache(maxsize=256)
def _shared_success(codes: frozenset[int], signals: frozenset[int]) -> Success:
    return Success(codes, signals)


def _exit_code(number: int) -> int:
    if not 0 <= number <= 255:
        raise Mistake(f"{quoted(number)} is not an exit code", "exit codes are 0 to 255")
    return number


def _signal_by_name(word: str) -> int:
    if word.isdigit():
        raise Mistake(
            f"{quoted(word)} is not the name of a signal", f"for the exit code write {word}, without quotes"
        )
    try:
        return parse_signal(word)
    except InvalidQuantity:
        raise Mistake(f"{quoted(word)} is not a signal", 'write its name, as "TERM" or "SIGTERM"') from None
