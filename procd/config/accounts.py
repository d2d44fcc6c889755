"""Users and groups: from the words of the file to the numbers that a child gets.

Owns the look-ups in the user and group databases.  They fail closed: a word that is not certainly a user is
none (CVE-2017-1000082: systemd ran `User=0day` as root).  Must not know programs.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from typing import TypeAlias

from msgspec import Struct

from procd.config.problems import Mistake, did_you_mean, quoted
from procd.config.spec import Credentials

Word: TypeAlias = str | int
Words: TypeAlias = tuple[Word | None, Word | None, tuple[Word, ...] | None]
"""The keys `user`, `group` and `supplementary_groups` as written."""

_NUMBER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_PLAIN_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_NO_ID = 2**32 - 1  # (uid_t) -1 means "leave as it is" to setresuid(2): the program would stay root


class Identity(Struct, frozen=True):
    """Who a program is.

    `credentials` is None when it stays who procd is.  `login` is whose HOME, USER, LOGNAME and SHELL it gets.
    `mistakes` are those of the three keys, each with the name of its key and the index in it.
    """

    credentials: Credentials | None = None
    login: Credentials | None = None
    mistakes: tuple[tuple[tuple[str | int, ...], Mistake], ...] = ()


_AS_PROCD = Identity()


class _User(Struct, frozen=True):
    uid: int
    gid: int | None
    name: str
    home: str
    shell: str


class Accounts:
    """Look-ups for one load, each made once.

    `uid` is whose rights procd has: only root can become somebody else.
    """

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._identities: dict[Words, Identity] = {(None, None, None): _AS_PROCD}

    def identity(self, words: Words) -> Identity:
        """Who a program with these three keys is."""
        found = self._identities.get(words)
        if found is None:
            found = self._identities[words] = _Lookup(self._uid).identity(*words)
        return found


class _Lookup:
    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._mistakes: list[tuple[tuple[str | int, ...], Mistake]] = []

    def identity(
        self, user: Word | None, group: Word | None, supplementary: tuple[Word, ...] | None
    ) -> Identity:
        try:
            account = _user(self._uid) if user is None else _user(user)
        except Mistake as mistake:
            self._mistakes.append((("user",), mistake))
            account = None
        gid = None if group is None else self._gid(group, ("group",))
        groups = None
        if supplementary is not None:
            found = [
                self._gid(word, ("supplementary_groups", index)) for index, word in enumerate(supplementary)
            ]
            groups = tuple(dict.fromkeys(number for number in found if number is not None))
        if account is not None and not self._mistakes:
            if self._uid == 0:
                return self._for_root(account, gid, groups, named=user is not None)
            self._check_unchanged(account, gid, groups)
            if not self._mistakes:
                return Identity(None, _credentials(account, os.getgid(), ()) if user is not None else None)
        return Identity(mistakes=tuple(self._mistakes))

    def _for_root(
        self, account: _User, gid: int | None, groups: tuple[int, ...] | None, *, named: bool
    ) -> Identity:
        if gid is None:
            gid = account.gid if named else os.getgid()
        if gid is None:
            mistake = Mistake(
                f"uid {account.uid} is not in the user database, so its group is unknown", "set group"
            )
            return Identity(mistakes=((("user",), mistake),))
        if groups is None:
            groups = tuple(os.getgrouplist(account.name, gid)) if account.gid is not None else (gid,)
        if named:
            credentials = _credentials(account, gid, groups)
            return Identity(credentials, credentials)
        return Identity(Credentials(account.uid, gid, groups, name="", home="", shell=""))

    def _check_unchanged(self, account: _User, gid: int | None, groups: tuple[int, ...] | None) -> None:
        """Without root's rights nothing can be changed, so the file must say what is the case anyway."""
        remedy = "run procd as root, or remove the key"
        if account.uid != self._uid:
            what = f"procd does not run as root (its uid is {self._uid}), so it cannot become {account.name}"
            self._mistakes.append((("user",), Mistake(what, remedy)))
        if gid is not None and gid != os.getgid():
            what = f"procd does not run as root, so it cannot change its group {os.getgid()} to {gid}"
            self._mistakes.append((("group",), Mistake(what, remedy)))
        if groups is not None and {*groups, os.getgid()} != {*os.getgroups(), os.getgid()}:
            what = "procd does not run as root, so it cannot change its supplementary groups"
            self._mistakes.append((("supplementary_groups",), Mistake(what, remedy)))

    def _gid(self, word: Word, path: tuple[str | int, ...]) -> int | None:
        try:
            return group_id(word)
        except Mistake as mistake:
            self._mistakes.append((path, mistake))
            return None


def user_id(word: Word) -> int:
    """The number of a user.  Raises Mistake."""
    return _user(word).uid


def _user(word: Word) -> _User:
    number = _number(word, "user")
    try:
        entry = pwd.getpwnam(str(word)) if number is None else pwd.getpwuid(number)
    except (KeyError, ValueError):  # ValueError: a NUL, or a character that the locale has not
        if number is not None:
            return _User(number, None, str(number), "/", "/bin/sh")
        close = did_you_mean(
            str(word), (known.pw_name for known in pwd.getpwall()), "create it with useradd --system"
        )
        raise Mistake(f"there is no user {quoted(word)}", close) from None
    return _User(entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir or "/", entry.pw_shell or "/bin/sh")


def group_id(word: Word) -> int:
    """The number of a group.  Raises Mistake."""
    number = _number(word, "group")
    if number is not None:
        return number
    try:
        return grp.getgrnam(str(word)).gr_gid
    except (KeyError, ValueError):
        close = did_you_mean(
            str(word), (known.gr_name for known in grp.getgrall()), "create it with groupadd --system"
        )
        raise Mistake(f"there is no group {quoted(word)}", close) from None


def _number(word: Word, kind: str) -> int | None:
    """The number that `word` is, None for a name; `-1`, `010` and what is out of range are neither."""
    if isinstance(word, str):
        if not _NUMBER.fullmatch(word):
            return None
        number = int(word) if _PLAIN_NUMBER.fullmatch(word) else _NO_ID
    else:
        number = word
    if 0 <= number < _NO_ID:
        return number
    raise Mistake(
        f"{quoted(word)} is not a {kind} id", f"write the name of the {kind}, or a number below {_NO_ID}"
    )


def _credentials(account: _User, gid: int, groups: tuple[int, ...]) -> Credentials:
    return Credentials(account.uid, gid, groups, account.name, account.home, account.shell)
