"""Cron expressions, as far as the configuration has to know them.

Owns their syntax: five fields (minute, hour, day of the month, month, day of the week), six with seconds first,
or a name such as `@daily`.  Pure: what time it is, and where, is for whoever follows a schedule.
"""

from __future__ import annotations

from datetime import UTC, datetime

#: Names that crontab(5) has; `@reboot` is what `autostart` is for.
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

SYNTAX = "minute hour day-of-month month day-of-week"

_MAX_LENGTH = 256
#: Any moment would do; with this one, every check of an expression gives the same answer.
_A_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def expanded(expression: str) -> str:
    """The fields that a nickname stands for; any other expression as it is."""
    return NICKNAMES.get(expression.strip().lower(), expression)


def validate(expression: str) -> None:
    """Make sure that an expression can be followed.

    Raises ValueError, in words, for one that cannot be read, or that never comes (the 30th of February).
    """
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - most have no schedule

    fields = expanded(expression)
    if len(fields) > _MAX_LENGTH:
        raise ValueError(f"longer than {_MAX_LENGTH} characters")
    count = len(fields.split())
    if count not in {5, 6}:
        names = ", ".join(NICKNAMES)
        raise ValueError(f"{count} fields where five are needed: {SYNTAX}; or one of {names}")
    try:
        next(CronSim(fields, _A_MOMENT))
    except CronSimError as error:
        raise ValueError(f"{_lower(str(error))}; the fields are: {SYNTAX}") from error
    except StopIteration:
        raise ValueError("no such day ever comes") from None
    except (AssertionError, TypeError, ValueError) as error:
        # The parser means to raise its own error; where it asserts or compares instead, that is no crash.
        raise ValueError(f"cannot be read; the fields are: {SYNTAX}") from error


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
