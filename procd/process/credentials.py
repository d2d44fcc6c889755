"""From a user and a group to everything that a child of theirs is given.

Owns the look-up in the user and group databases for callers that have only numbers.  It is made before the
fork: in a child it could hang on a name service, and its failure would come too late.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import pwd
from typing import TYPE_CHECKING

from procd.config.spec import Credentials
from procd.errors import SpawnError

if TYPE_CHECKING:
    from procd.process.settings import Settings


def settle(settings: Settings, path: str | bytes | None, uid: int | None, gid: int | None) -> Settings:
    """Put the arguments of Process that have a name of their own into its settings.

    Raises SpawnError for a user or a group that there cannot be.
    """
    credentials = credentials_for(uid, gid) or settings.credentials
    if credentials is not None:
        _refuse_impossible(credentials)
        if already_held(credentials):
            credentials = None
    directory = settings.directory if path is None else path
    if credentials is settings.credentials and directory is settings.directory:
        return settings
    return dataclasses.replace(settings, credentials=credentials, directory=directory)


def credentials_for(uid: int | None, gid: int | None) -> Credentials | None:
    """The credentials of a user number, a group number, or both; None for neither.

    Without `gid` it is the user's own group; the supplementary groups are the user's with that group, as
    initgroups(3) has them.  Raises SpawnError("user") when what is missing cannot be found.
    """
    if uid is None and gid is None:
        return None
    wanted = os.geteuid() if uid is None else uid
    try:
        entry = pwd.getpwuid(wanted)
    except (KeyError, OverflowError) as error:
        if gid is None:
            raise SpawnError("user", errno.ENOENT, str(wanted)) from error
        # A number without a name is in no group but the one that was given.
        entry = pwd.struct_passwd((str(wanted), "x", wanted, gid, "", "/", ""))
    group = entry.pw_gid if gid is None else gid
    return Credentials(
        uid=wanted,
        gid=group,
        groups=tuple(os.getgrouplist(entry.pw_name, group)),
        name=entry.pw_name,
        home=entry.pw_dir,
        shell=entry.pw_shell or "/bin/sh",
    )


def already_held(credentials: Credentials) -> bool:
    """Whether this process is exactly that, and not root: then there is nothing to change, nor the right to."""
    uid, gid = credentials.uid, credentials.gid
    return (
        os.geteuid() != 0
        and os.getresuid() == (uid, uid, uid)
        and os.getresgid() == (gid, gid, gid)
        and set(os.getgroups()) | {gid} == set(credentials.groups) | {gid}
    )


def _refuse_impossible(credentials: Credentials) -> None:
    """All bits set, which is -1, means "leave as it is" to the kernel: the child would stay what we are."""
    groups = [("setgroups", group) for group in credentials.groups]
    for stage, number in [("setuid", credentials.uid), ("setgid", credentials.gid), *groups]:
        if not 0 <= number < _NO_CHANGE:
            raise SpawnError(stage, errno.EINVAL, str(number))


_NO_CHANGE = 0xFFFFFFFF
