"""The rules of [[control.allow]]: what they give, and what is refused because it could never hold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from procd.config.access import ALL_RIGHTS, READ_RIGHTS, SETS, WHOLE_RIGHTS, Right, Rule
from procd.config.plan import Change, Kind, compare
from tests.unit.config.conftest import ORDINARY_UID

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

OPEN = '[control]\nmode = "0666"\n'


def rules(site: Site, text: str) -> tuple[Rule, ...]:
    """The rules of a configuration whose socket everybody can open."""
    return site.load(OPEN + text).daemon.allow


def test_without_rules_there_are_none(site: Site) -> None:
    """The default is no."""
    assert site.load("").daemon.allow == ()


def test_a_rule_says_who_may_do_what_to_which_programs(site: Site) -> None:
    """Names become numbers, sets become rights, and the order stays."""
    found = rules(
        site,
        '[[control.allow]]\nusers = ["root", 77]\ngroups = [88]\nprograms = ["web*", "app:"]\n'
        'actions = ["stop", "read"]\n[[control.allow]]\nusers = ["*"]\nactions = ["status"]\n',
    )
    assert found == (
        Rule(
            uids=frozenset({0, 77}),
            gids=frozenset({88}),
            programs=("web*", "app:"),
            rights=READ_RIGHTS | {Right.STOP},
        ),
        Rule(everybody=True, rights=frozenset({Right.STATUS})),
    )


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_its_rights(site: Site, name: str) -> None:
    """As the page has them; `write` and `attach`, which make one its user, are in `all` only."""
    (rule,) = rules(site, f'[[control.allow]]\nusers = [1]\nactions = ["{name}"]\n')
    assert rule.rights == SETS[name]
    assert (Right.WRITE in rule.rights) is (name == "all")


def test_all_of_some_programs_is_nothing_of_procd_as_a_whole(site: Site) -> None:
    """Whoever owns one program cannot shut down the others."""
    (rule,) = rules(site, '[[control.allow]]\nusers = [1]\nprograms = ["web"]\nactions = ["all"]\n')
    assert rule.rights == ALL_RIGHTS - WHOLE_RIGHTS


@pytest.mark.parametrize("action", sorted(right.value for right in WHOLE_RIGHTS))
def test_what_is_about_procd_as_a_whole_is_not_about_some_programs(site: Site, action: str) -> None:
    """It would be read as less than it is."""
    problem = site.problem(
        f'{OPEN}[[control.allow]]\nusers = [1]\nprograms = ["web"]\nactions = ["read", "{action}"]\n'
    )
    assert (problem.line, problem.key) == (6, "control.allow[0].actions[1]")
    assert "about procd as a whole" in problem.what


@pytest.mark.parametrize(
    ("keys", "key", "what", "remedy"),
    [
        ('actions = ["read"]', "", "says nobody", "users"),
        ("users = [1]", "", "allows nothing", "actions"),
        ('users = [1]\nactions = ["stauts"]', ".actions[0]", '"stauts" is not', "did you mean 'status'?"),
        ('users = ["no-such-user"]\nactions = ["read"]', ".users[0]", "no user", ""),
        ('groups = [1, "no-such-group"]\nactions = ["read"]', ".groups[1]", "no group", ""),
        ('users = ["-1"]\nactions = ["read"]', ".users[0]", "not a user id", ""),
        ("users = [4294967295]\nactions = ['read']", ".users[0]", "not a user id", ""),
        ('users = [1]\nprograms = []\nactions = ["read"]', ".programs", "means no program", "all programs"),
        ('users = [1]\nprograms = ["a b"]\nactions = ["read"]', ".programs[0]", "not a pattern", "web*"),
        ('user = [1]\nactions = ["read"]', ".user", "no such key", "did you mean 'users'?"),
        ('users = "ann"\nactions = ["read"]', ".users", "not an array", '["ann"]'),
    ],
)
def test_a_mistake_is_told_with_its_place(site: Site, keys: str, key: str, what: str, remedy: str) -> None:
    """A rule is security: nothing in it is guessed."""
    problems = site.problems(f"{OPEN}[[control.allow]]\n{keys}\n")
    found = [each for each in problems if each.key == f"control.allow[0]{key}"]
    assert found, problems
    assert what in found[0].what
    assert remedy in found[0].remedy


def test_allow_is_an_array_of_tables(site: Site) -> None:
    """One table would be taken for the only rule there can be."""
    problem = site.problem('[control.allow]\nusers = [1]\nactions = ["read"]\n')
    assert (problem.key, problem.what) == ("control.allow", "a table is not an array of tables")
    assert "[[control.allow]]" in problem.remedy


@pytest.mark.parametrize("mode", ["", 'mode = "0600"\n', 'mode = "0644"\n'])
def test_a_rule_for_somebody_who_cannot_open_the_socket_is_refused(site: Site, mode: str) -> None:
    """Connecting takes the right to write (unix(7))."""
    problem = site.problem(f'[control]\n{mode}[[control.allow]]\nusers = [77]\nactions = ["read"]\n')
    assert problem.key == ("control.mode" if mode else "control.allow")
    assert "group" in problem.remedy


def test_a_rule_for_those_who_may_anyway_needs_no_other_mode(site: Site) -> None:
    """It is superfluous, not wrong."""
    text = f'[[control.allow]]\nusers = ["root", {ORDINARY_UID}]\nactions = ["read"]\n'
    assert site.load(text).daemon.socket_mode == 0o600


def test_a_group_opens_the_socket_to_it(site: Site) -> None:
    """Whoever wants it closed to its own group says so."""
    gid = os.getgid()
    daemon = site.load(f"[control]\ngroup = {gid}\n").daemon
    assert (daemon.socket_group, daemon.socket_mode) == (gid, 0o660)
    assert site.load(f'[control]\ngroup = {gid}\nmode = "0640"\n').daemon.socket_mode == 0o640
    assert site.load("").daemon.socket_group is None


def test_an_unknown_group_is_a_problem(site: Site) -> None:
    """As everywhere."""
    assert site.problem('[control]\ngroup = "no-such-group"\n').key == "control.group"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give a socket to any group")
def test_a_group_that_procd_is_not_in_is_refused(site: Site) -> None:
    """It would fail at the start."""
    site.uid = os.geteuid()
    assert "not in the group" in site.problem("[control]\ngroup = 54321\n").what


def test_a_reload_puts_rules_in_force_and_nothing_else_of_procd_itself(site: Site) -> None:
    """The plan says which is which."""
    old = site.load("")
    new = site.load(f'{OPEN}[[control.allow]]\nusers = [1]\nactions = ["read"]\n')
    assert compare(old, new).changes == (
        Change("[control]", Kind.UPDATE, ("allow",)),
        Change("[control]", Kind.DAEMON, ("mode",)),
    )
