"""Where things are when nobody says otherwise.

Owns the table "Where things are" of the documentation, for root and for everybody else.  Pure: the
environment is a parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config.problems import Mistake

if TYPE_CHECKING:
    from collections.abc import Mapping


def configuration_file(given: str | None, environ: Mapping[str, str], *, uid: int) -> str:
    """The path of the configuration: given, or from $PROCD_CONFIG, or the default.

    Raises Mistake when the environment of an ordinary user does not tell where that is.
    """
    named = given or environ.get("PROCD_CONFIG")
    if named:
        return named
    if uid == 0:
        return "/etc/procd/procd.toml"
    return (
        f"{_user_directory('XDG_CONFIG_HOME', '.config', environ, 'name a file with -c FILE')}/procd/procd.toml"
    )


def runtime_dir(environ: Mapping[str, str], *, uid: int) -> str:
    """The default of `daemon.runtime_dir`.  Raises Mistake where there is none."""
    if uid == 0:
        return "/run/procd"
    directory = environ.get("XDG_RUNTIME_DIR", "")
    if not directory.startswith("/"):
        raise Mistake(
            "has no default, because $XDG_RUNTIME_DIR is not set", 'write runtime_dir = "/PATH" in [daemon]'
        )
    return f"{directory}/procd"


def state_dir(environ: Mapping[str, str], *, uid: int) -> str:
    """The default of `daemon.state_dir`.  Raises Mistake where there is none."""
    if uid == 0:
        return "/var/lib/procd"
    remedy = 'write state_dir = "/PATH" in [daemon]'
    return f"{_user_directory('XDG_STATE_HOME', '.local/state', environ, remedy)}/procd"


def log_dir(environ: Mapping[str, str], *, uid: int) -> str:
    """The default of `daemon.log_dir`.  Raises Mistake where there is none."""
    if uid == 0:
        return "/var/log/procd"
    remedy = 'write log_dir = "/PATH" in [daemon]'
    return f"{_user_directory('XDG_STATE_HOME', '.local/state', environ, remedy)}/procd/log"


def _user_directory(variable: str, below_home: str, environ: Mapping[str, str], remedy: str) -> str:
    # A relative path in these variables is to be ignored (XDG Base Directory Specification).
    directory = environ.get(variable, "")
    if directory.startswith("/"):
        return directory
    home = environ.get("HOME", "")
    if home.startswith("/"):
        return f"{home}/{below_home}"
    raise Mistake(f"has no default, because neither ${variable} nor $HOME is set", remedy)
