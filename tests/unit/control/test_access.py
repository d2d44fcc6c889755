"""Who may do what: the kernel's word for a peer, the rules, and the default, which is no."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.config.access import ALL_RIGHTS, READ_RIGHTS, WHOLE_RIGHTS, Right, Rule
from procd.config.spec import ProgramSpec
from procd.control import access
from procd.control.access import CHANGING, Access, Peer
from procd.control.methods import METHODS
from procd.core import Actor
from procd.errors import NotPermitted
from tests.kernel.children import needs_root

STRANGER = os.geteuid() + 1000
NOBODY_SPECIAL = Peer(1, STRANGER, 0, frozenset({0, 70}))


def spec(name: str, *labels: str) -> ProgramSpec:
    """A program that only has names."""
    return ProgramSpec(name=name, program=name.partition("@")[0], groups=labels, command=("x",))


WEB, DB = spec("web@1", "app"), spec("db")


def test_a_peer_is_whom_the_kernel_says() -> None:
    """SO_PEERCRED, not what anybody claims."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer.of(ours)
    assert peer[:3] == (os.getpid(), os.getuid(), os.getgid())
    assert peer.groups == {os.getgid(), *os.getgroups()}
    assert peer.actor == Actor(os.getuid(), os.getpid())


@needs_root
@pytest.mark.parametrize("count", [0, 1, 256, 257, 5000])
def test_all_groups_of_a_peer_are_known(count: int) -> None:
    """Also more of them than Python's getsockopt can take; and as they were when it connected."""
    groups = list(range(1000, 1000 + count))
    ours, theirs = socket.socketpair()
    before = os.getgroups()
    try:
        os.setgroups(groups)
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as connecting:
            listening.bind("")
            listening.listen()
            connecting.connect(listening.getsockname())
            os.setgroups(before)
            accepted, _ = listening.accept()
            with accepted:
                assert Peer.of(accepted).groups == {os.getgid(), *groups}
    finally:
        os.setgroups(before)
        ours.close()
        theirs.close()


def test_a_kernel_that_does_not_know_groups_gives_the_primary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 4.13: rules for groups then hold for the primary group only."""
    monkeypatch.setattr(access, "_SO_PEERGROUPS", 9999)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Peer.of(ours).groups == {os.getgid()}


@pytest.mark.parametrize("uid", [0, os.geteuid()])
@pytest.mark.parametrize("right", Right)
def test_root_and_our_own_user_may_do_everything(uid: int, right: Right) -> None:
    """Without a rule; and they see everything."""
    permit = Access(()).of(Peer(1, uid, uid))
    permit.require(right)
    permit.require(right, WEB)
    assert permit.everything
    assert permit.held == ALL_RIGHTS
    assert permit.may_whole(right)
    assert permit.sees(DB)


@pytest.mark.parametrize("right", sorted(ALL_RIGHTS, key=lambda right: right.value))
def test_nobody_else_may_do_anything(right: Right) -> None:
    """The refusal names who asked and what is missing, and nothing of the programs."""
    permit = Access(()).of(NOBODY_SPECIAL)
    with pytest.raises(NotPermitted, match=f"uid {STRANGER} lacks the right '{right.value}'") as refused:
        permit.require(right)
    assert refused.value.data == {"right": right.value}
    assert "web" not in str(refused.value.to_wire())
    assert not permit.sees(WEB)
    assert not permit.may_whole(right)


def test_a_stranger_may_ask_who_answers() -> None:
    """And learns that it has no rights."""
    permit = Access(()).of(NOBODY_SPECIAL)
    permit.require(Right.NONE)
    assert permit.held == frozenset()
    assert permit.to_wire() == []


@pytest.mark.parametrize(
    ("rule", "is_for"),
    [
        (Rule(uids=frozenset({STRANGER})), True),
        (Rule(uids=frozenset({STRANGER + 1})), False),
        (Rule(gids=frozenset({70})), True),
        (Rule(gids=frozenset({0})), True),
        (Rule(gids=frozenset({71})), False),
        (Rule(everybody=True), True),
        (Rule(uids=frozenset({STRANGER + 1}), gids=frozenset({70})), True),
        (Rule(uids=frozenset({70}), gids=frozenset({STRANGER})), False),
    ],
)
def test_a_rule_is_for_its_users_and_the_members_of_its_groups(rule: Rule, *, is_for: bool) -> None:
    """One of both is enough, and uids are no gids."""
    whole = Rule(uids=rule.uids, gids=rule.gids, everybody=rule.everybody, rights=frozenset({Right.STOP}))
    assert (Right.STOP in Access([whole]).of(NOBODY_SPECIAL).held) is is_for


@pytest.mark.parametrize(
    ("patterns", "web", "db"),
    [
        (("*",), True, True),
        (("web",), True, False),
        (("web@1",), True, False),
        (("web@0",), False, False),
        (("w*",), True, False),
        (("app:",), True, False),
        (("d?",), False, True),
        (("web", "db"), True, True),
    ],
)
def test_a_rule_is_about_its_programs(patterns: tuple[str, ...], *, web: bool, db: bool) -> None:
    """Patterns mean what they mean to procctl; what is not meant is not there."""
    rule = Rule(everybody=True, programs=patterns, rights=frozenset({Right.STATUS}))
    permit = Access([rule]).of(NOBODY_SPECIAL)
    assert (permit.may(Right.STATUS, WEB), permit.may(Right.STATUS, DB)) == (web, db)
    assert (permit.sees(WEB), permit.sees(DB)) == (web, db)
    assert permit.may_whole(Right.STATUS) is (patterns == ("*",))
    assert not permit.may(Right.STOP, WEB)


def test_rules_add_up() -> None:
    """There is no rule that takes something away, so their order means nothing."""
    one = Rule(everybody=True, programs=("web",), rights=READ_RIGHTS)
    two = Rule(gids=frozenset({70}), programs=("*",), rights=frozenset({Right.STOP}))
    for rules in ([one, two], [two, one]):
        permit = Access(rules).of(NOBODY_SPECIAL)
        assert permit.held == READ_RIGHTS | {Right.STOP}
        assert permit.may(Right.STOP, DB)
        assert not permit.may(Right.LOGS, DB)


@given(
    st.lists(
        st.builds(
            Rule,
            uids=st.frozensets(st.sampled_from([1, STRANGER])),
            gids=st.frozensets(st.sampled_from([70, 71])),
            everybody=st.booleans(),
            programs=st.lists(st.sampled_from(["*", "web", "db", "app:", "x*"]), min_size=1).map(tuple),
            rights=st.frozensets(st.sampled_from(sorted(ALL_RIGHTS, key=lambda right: right.value))),
        )
    )
)
def test_whoever_may_something_with_a_program_sees_it(rules: list[Rule]) -> None:
    """And holds the right; and what is held for all programs is held for each."""
    permit = Access(rules).of(NOBODY_SPECIAL)
    for right in ALL_RIGHTS:
        for program in (WEB, DB):
            if permit.may(right, program):
                assert permit.sees(program)
                assert right in permit.held
            assert permit.may(right, program) >= permit.may_whole(right)


def test_every_method_but_the_harmless_needs_a_right() -> None:
    """A method that is added without a thought about rights fails here."""
    harmless = {name for name, method in METHODS.items() if method.right is Right.NONE}
    assert harmless <= {"hello", "cancel", "resize"}


def test_what_changes_something_is_audited() -> None:
    """What only looks leaves no line."""
    looking = {name for name, method in METHODS.items() if method.right not in CHANGING}
    assert looking >= {"hello", "status", "logs", "wait", "cancel"}
    assert not looking & {"start", "stop", "restart", "signal", "write", "close", "reload", "shutdown", "run"}


def test_what_is_about_procd_as_a_whole_is_no_right_on_a_program() -> None:
    """The configuration refuses rules that mix them."""
    assert {method.right for name, method in METHODS.items() if name in {"reload", "plan", "shutdown"}} <= (
        WHOLE_RIGHTS
    )
