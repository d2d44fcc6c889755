"""A real sshd on loopback, with keys and a configuration of its own, and the ssh that finds it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.daemon import BOUND_S, PROCCTL, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

#: sshd of root insists on it (Debian's unit makes it), and is given it for the time of a test.
PRIVILEGE_SEPARATION = Path("/run/sshd")

SERVER = """
ListenAddress 127.0.0.1
Port {port}
HostKey {place}/host
AuthorizedKeysFile {place}/me.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
AcceptEnv PROCD_SOCKET
SetEnv PATH={place}/bin:/usr/bin:/bin
MaxStartups 50
"""

CLIENT = """
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {place}/me
  IdentitiesOnly yes
  UserKnownHostsFile {place}/known
  StrictHostKeyChecking yes
  LogLevel ERROR
"""


class Sshd:
    """One sshd; `add_host` makes a name for it, with a daemon of procd behind."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port()
        self._hosts: dict[str, dict[str, object]] = {}
        for key in ("host", "me"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / key)]
            subprocess.run(keygen, check=True, timeout=BOUND_S)
        host_key = (place / "host.pub").read_text()
        (place / "known").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        (place / "server").write_text(SERVER.format(port=self.port, place=place))
        (place / "bin").mkdir()
        there = place / "bin/procctl"
        there.write_text(f'#!/bin/sh\nexec {shlex.join(PROCCTL)} "$@"\n')
        there.chmod(0o755)
        self._write_client()

    def _write_client(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name
        lines = []
        for name, options in self._hosts.items():
            lines += [f"Host {name}", *(f"  {key} {value}" for key, value in options.items())]
        # The first value of an option is the one that counts (ssh_config(5)).
        text = "\n".join(lines) + CLIENT.format(port=self.port, user=user, place=self.place)
        (self.place / "client").write_text(text)

    def add_host(self, name: str, **options: object) -> None:
        """Make a name for this machine, with options of ssh_config(5)."""
        self._hosts[name] = options
        self._write_client()

    @property
    def environment(self) -> Mapping[str, str]:
        """What lets procctl use this sshd."""
        return {"PROCCTL_SSH": shlex.join(["ssh", "-F", str(self.place / "client")])}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Listen, to the end of the block."""
        made = not PRIVILEGE_SEPARATION.exists() and os.geteuid() == 0
        if made:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        assert SSHD is not None
        with (self.place / "said").open("wb") as said:
            process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.place / "server")], stdin=subprocess.DEVNULL, stderr=said
            )
        try:
            until(self._listens, "sshd to listen")
            yield
        finally:
            process.terminate()
            process.wait(BOUND_S)
            if made:
                PRIVILEGE_SEPARATION.rmdir()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
