"""Who a program is: what is certainly a user, and what fails closed."""

from __future__ import annotations

import os
import pwd

import pytest

from procd.config.accounts import Accounts, Identity, Words
from procd.config.spec import Credentials

ORDINARY_UID = 54321
ROOT = Accounts(0)
ORDINARY = Accounts(ORDINARY_UID)
NOBODY = pwd.getpwnam("nobody")


def credentials(words: Words) -> Credentials:
    """The credentials that root gives for these keys."""
    identity = ROOT.identity(words)
    assert identity.credentials is not None, identity.mistakes
    return identity.credentials


def mistake(accounts: Accounts, words: Words) -> tuple[tuple[str | int, ...], str, str]:
    """The only mistake of these keys: where, what, and what to do."""
    identity = accounts.identity(words)
    ((path, found),) = identity.mistakes
    assert identity.credentials is None
    return path, found.what, found.remedy


def test_without_any_of_the_keys_a_program_stays_who_procd_is() -> None:
    """Nothing is looked up, and nothing is changed at the start."""
    assert ROOT.identity((None, None, None)) == Identity()
    assert ORDINARY.identity((None, None, None)) == Identity()


@pytest.mark.parametrize("word", ["nobody", NOBODY.pw_uid, str(NOBODY.pw_uid)])
def test_a_user_is_a_name_or_its_number(word: str | int) -> None:
    """All of uid, gid, groups and login follow from it."""
    found = credentials((word, None, None))
    assert (found.uid, found.gid, found.name) == (NOBODY.pw_uid, NOBODY.pw_gid, "nobody")
    assert (found.home, found.shell) == (NOBODY.pw_dir, NOBODY.pw_shell)
    assert set(found.groups) == set(os.getgrouplist("nobody", NOBODY.pw_gid))


@pytest.mark.parametrize(
    "word",
    ["0x0", "1e3", "0day", "", " 0", "0 ", "٣", "no such user", "nob\0dy", "root:", "\u00b2", "ro\udc80t"],
)
def test_what_is_no_name_is_no_user(word: str) -> None:
    """Nobody runs as root by mistake (CVE-2017-1000082 of systemd: `User=0day`)."""
    path, what, _ = mistake(ROOT, (word, None, None))
    assert path == ("user",)
    assert "there is no user" in what


@pytest.mark.parametrize(
    "word",
    [
        "-1",
        "4294967295",
        "4294967296",
        "010",
        "00",
        "+1",
        "9" * 40,
        -1,
        2**32 - 1,
        pytest.param(10**5000, id="huge"),
    ],
)
def test_a_number_that_is_no_id_is_refused(word: str | int) -> None:
    """(uid_t) -1 means "leave it" to setresuid(2), which would leave root."""
    for words, key in (((word, None, None), "user"), ((None, word, None), "group")):
        path, what, remedy = mistake(ROOT, words)
        assert path == (key,)
        assert f"is not a {key} id" in what
        assert "write the name" in remedy


def test_a_user_that_is_nearly_right_is_suggested() -> None:
    """A typing mistake is the usual reason."""
    assert mistake(ROOT, ("nobdy", None, None))[2] == "did you mean 'nobody'?"
    assert "useradd" in mistake(ROOT, ("zzzzzzzz", None, None))[2]


def test_a_number_without_an_account_needs_a_group() -> None:
    """Its primary group is unknown, and root's would be the worst guess."""
    path, what, remedy = mistake(ROOT, (ORDINARY_UID, None, None))
    assert path == ("user",)
    assert "not in the user database" in what
    assert remedy == "set group"
    found = credentials((ORDINARY_UID, "root", None))
    assert found == Credentials(ORDINARY_UID, 0, (0,), str(ORDINARY_UID), "/", "/bin/sh")


def test_a_group_alone_leaves_the_user() -> None:
    """Only the group is named, so nobody's HOME is set."""
    found = credentials((None, "nogroup", None))
    assert (found.uid, found.gid, found.name, found.home) == (0, NOBODY.pw_gid, "", "")
    assert NOBODY.pw_gid in found.groups


def test_a_group_takes_the_place_of_the_primary_one() -> None:
    """The other groups are still those of the user."""
    found = credentials(("nobody", "daemon", None))
    assert found.gid == 1
    assert 1 in found.groups


@pytest.mark.parametrize(("words", "groups"), [((), ()), (("daemon", 7, "daemon"), (1, 7)), (("1", 1), (1,))])
def test_supplementary_groups_are_exactly_what_is_written(
    words: tuple[str | int, ...], groups: tuple[int, ...]
) -> None:
    """An empty list drops them all (CVE-2023-6507 was about it being ignored)."""
    assert credentials(("nobody", None, words)).groups == groups


def test_each_wrong_supplementary_group_is_named() -> None:
    """Every mistake at once, also beside a wrong user."""
    identity = ROOT.identity(("zzz", "yyy", ("root", "xxx", -1)))
    assert [path for path, _ in identity.mistakes] == [
        ("user",), ("group",), ("supplementary_groups", 1), ("supplementary_groups", 2)
    ]  # fmt: skip


def test_an_ordinary_user_cannot_become_another() -> None:
    """The start would fail each time, so the check says so."""
    path, what, remedy = mistake(ORDINARY, ("root", None, None))
    assert path == ("user",)
    assert "cannot become root" in what
    assert "run procd as root" in remedy


def test_an_ordinary_user_may_name_itself() -> None:
    """Nothing is changed then, but the login variables are set."""
    identity = ORDINARY.identity((ORDINARY_UID, None, None))
    assert identity.mistakes == ()
    assert identity.credentials is None
    assert identity.login is not None
    assert identity.login.uid == ORDINARY_UID


def test_an_ordinary_user_cannot_change_its_groups() -> None:
    """Not even to fewer: setgroups(2) needs a capability."""
    path, what, _ = mistake(ORDINARY, (None, os.getgid() + 12345, None))
    assert path == ("group",)
    assert "cannot change its group" in what
    path, what, _ = mistake(ORDINARY, (None, None, (os.getgid() + 12345,)))
    assert path == ("supplementary_groups",)
    same = ORDINARY.identity((None, os.getgid(), tuple(os.getgroups())))
    assert same == Identity()


def test_equal_words_are_looked_up_once() -> None:
    """Ten thousand programs of one user share one record."""
    assert ROOT.identity(("nobody", None, None)) is ROOT.identity(("nobody", None, None))
