"""The tables `[[control.allow]]`: from words to rules.

Owns what is wrong with a rule that could never hold, or would give less than it says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from procd.config.access import EVERY, SETS, WHOLE_RIGHTS, Right, Rule
from procd.config.accounts import group_id, user_id
from procd.config.problems import Mistake, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.document import Place
    from procd.config.problems import Problems
    from procd.config.schema import AllowTable

#: A name, an instance, a glob, or a label with its colon.
_PATTERN = re.compile(r"[A-Za-z0-9_.@*?\[\]!-]{1,128}:?", re.ASCII)


def rules_of(tables: tuple[AllowTable, ...], place: Place, problems: Problems) -> tuple[Rule, ...]:
    """The rules of all tables, in their order; what is wrong is recorded."""
    return tuple(_rule(table, place / index, problems) for index, table in enumerate(tables))


def _rule(table: AllowTable, place: Place, problems: Problems) -> Rule:
    if not table.users and not table.groups:
        problems.add(place, "says nobody whom it allows something", 'add users = ["NAME"] or groups = ["NAME"]')
    if not table.actions:
        problems.add(place, "allows nothing", 'add actions = ["read"], "operate", "all", or single ones')
    names = [word for word in table.users if word != EVERY]
    written = [Right(action) for action in table.actions if action not in SETS]
    given = frozenset(written).union(*(SETS[action] for action in table.actions if action in SETS))
    rule = Rule(
        uids=_ids(names, table.users, user_id, place / "users", problems),
        gids=_ids(table.groups, table.groups, group_id, place / "groups", problems),
        everybody=EVERY in table.users,
        programs=_patterns(table.programs, place / "programs", problems),
        rights=given,
    )
    if rule.for_all_programs:
        return rule
    for right in written:
        if right in WHOLE_RIGHTS:
            where = place / "actions" / table.actions.index(right.value)
            remedy = "give it in a table of its own, without programs"
            problems.add(where, f'"{right.value}" is about procd as a whole, not about some programs', remedy)
    return Rule(
        uids=rule.uids,
        gids=rule.gids,
        everybody=rule.everybody,
        programs=rule.programs,
        # "all", for some programs, is all that can be done to a program.
        rights=given - WHOLE_RIGHTS,
    )


def _ids(
    words: list[str | int] | tuple[str | int, ...],
    written: tuple[str | int, ...],
    look_up: Callable[[str | int], int],
    place: Place,
    problems: Problems,
) -> frozenset[int]:
    found = set()
    for word in words:
        try:
            found.add(look_up(word))
        except Mistake as mistake:
            problems.add_mistake(place / written.index(word), mistake)
    return frozenset(found)


def _patterns(written: tuple[str, ...], place: Place, problems: Problems) -> tuple[str, ...]:
    if not written:
        problems.add(place, "means no program", "remove it, for all programs, or name some")
    for index, pattern in enumerate(written):
        if not _PATTERN.fullmatch(pattern):
            remedy = "write a name, NAME@0, a glob as web*, or a label as app:"
            problems.add(place / index, f"{quoted(pattern)} is not a pattern of programs", remedy)
    return written
