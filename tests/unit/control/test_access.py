"""Who may do what: the kernel's word for a peer, and the default, which is no."""

from __future__ import annotations

import os
import socket

import pytest

from procd.control.access import ALL_RIGHTS, CHANGING, Peer, Right, require
from procd.control.methods import METHODS
from procd.core import Actor
from procd.errors import NotPermitted

STRANGER = os.geteuid() + 1000


def test_a_peer_is_whom_the_kernel_says() -> None:
    """SO_PEERCRED, not what anybody claims."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer.of(ours)
    assert peer == Peer(os.getpid(), os.getuid(), os.getgid())
    assert peer.actor == Actor(os.getuid(), os.getpid())


@pytest.mark.parametrize("uid", [0, os.geteuid()])
@pytest.mark.parametrize("right", Right)
def test_root_and_our_own_user_may_do_everything(uid: int, right: Right) -> None:
    """For now there is nothing in between."""
    require(Peer(1, uid, uid), right)


@pytest.mark.parametrize("right", ALL_RIGHTS)
def test_nobody_else_may_do_anything(right: Right) -> None:
    """The refusal names who asked and what is missing, and nothing of the programs."""
    with pytest.raises(NotPermitted, match=f"uid {STRANGER} lacks the right '{right.value}'") as refused:
        require(Peer(1, STRANGER, 0), right)
    assert refused.value.data == {"right": right.value}


def test_a_stranger_may_ask_who_answers() -> None:
    """And learns that it has no rights."""
    require(Peer(1, STRANGER, 0), Right.NONE)
    assert Peer(1, STRANGER, 0).rights == frozenset()


def test_every_method_but_the_harmless_needs_a_right() -> None:
    """A method that is added without a thought about rights fails here."""
    assert {name for name, method in METHODS.items() if method.right is Right.NONE} == {"hello", "cancel"}


def test_what_changes_something_is_audited() -> None:
    """What only looks leaves no line."""
    looking = {name for name, method in METHODS.items() if method.right not in CHANGING}
    assert looking >= {"hello", "status", "logs", "wait", "cancel"}
    assert not looking & {"start", "stop", "restart", "signal", "write", "close", "reload", "shutdown"}
