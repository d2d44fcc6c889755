"""The way to a daemon on another machine: `ssh HOST procctl --stdio`.

Owns the ssh process, and what is said when it fails.  ssh finds the host, checks its key and authenticates as
it is configured (ssh_config(5)); procd never listens on a network.  It must not know what is said over it.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import tempfile
from math import ceil
from typing import TYPE_CHECKING

from procctl.absence import unreachable
from procd.errors import NotPermitted

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECT_TIMEOUT_S = 10
"""How long a host may take to answer at all, where no --timeout says so; TCP by itself waits for minutes."""

LEAVE_S = 0.5
"""What ssh gets to end by itself when the connection is closed; a shared master (ControlMaster) needs it."""

SAID_BYTES = 64 * 1024
"""As much as is read of what ssh said; the reason is in the last line of it, or the only one."""

END_S = 5.0
"""What a dying ssh gets to say why."""

SSH_FAILED = 255
"""ssh's own exit status for everything that is not the remote command's (ssh(1))."""

COMMAND_NOT_FOUND = 127
"""The shell's exit status where there is no such command (sh(1))."""

_HOST = re.compile(r"[A-Za-z0-9_.%:@\[\]/+~=-]+", re.ASCII)
"""What may stand in a host: names, addresses, user@, ssh:// URIs; nothing that a shell would read."""


def checked_host(host: str) -> str:
    """A host that ssh takes for a host; raises ValueError for an option (CVE-2017-1000117) or anything odd."""
    if host.startswith("-") or not _HOST.fullmatch(host) or host.endswith("@"):
        raise ValueError(host)
    return host


class Ssh:
    """One host, and the ssh to it while there is a connection."""

    def __init__(self, host: str, socket_path: str | None) -> None:
        self._host = checked_host(host)
        self._socket_path = socket_path
        self._ssh: subprocess.Popen[bytes] | None = None
        self.where = host if socket_path is None else f"{host}:{socket_path}"

    def connect(self, timeout_s: float | None) -> socket.socket:
        """Start ssh with one end of a socket pair as its standard input and output; returns the other end.

        It returns before ssh has connected.  Raises Unreachable where there is no ssh.
        """
        ours, theirs = socket.socketpair()
        # A file and no pipe: nobody reads it before the end, and a talkative ssh must not wait for that.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as ssh does
        with theirs:
            try:
                self._ssh = subprocess.Popen(
                    self._command(timeout_s), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._said
                )
            except OSError as error:
                ours.close()
                self._said.close()
                raise unreachable(
                    f"ssh cannot be started: {error.strerror}", "install an ssh client"
                ) from error
        return ours

    def _command(self, timeout_s: float | None) -> Sequence[str]:
        patience_s = CONNECT_TIMEOUT_S if timeout_s is None else max(ceil(timeout_s), 1)
        there = ["procctl", *([] if self._socket_path is None else ["-s", self._socket_path]), "--stdio"]
        return [
            *shlex.split(os.environ.get("PROCCTL_SSH") or "ssh"),
            "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={patience_s}", "--", self._host,
            # ssh gives it to the shell of the user there.
            shlex.join(there),
        ]  # fmt: skip

    def why_it_ended(self) -> Exception | None:
        """What ssh, or the procctl at the other end, said before the connection ended."""
        if self._ssh is None:
            return None
        try:
            self._ssh.wait(END_S)
        except subprocess.TimeoutExpired:
            return None
        self._said.seek(0)
        said = self._said.read(SAID_BYTES).decode(errors="backslashreplace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if self._ssh.returncode == SSH_FAILED:
            return unreachable(
                f"{self._host} does not answer by ssh: {lines[-1] if lines else 'it did not say why'}", ""
            )
        if self._ssh.returncode == COMMAND_NOT_FOUND:
            return unreachable(f"{self._host} has no procctl on the PATH that ssh gives", "")
        # procctl there ended with a sentence of its own, in its usual form.
        told = next((line.removeprefix("procctl: ") for line in lines if line.startswith("procctl: ")), "")
        if not told:
            return None
        if self._ssh.returncode == 5:
            return NotPermitted(f"on {self._host}, {told}")
        return unreachable(f"on {self._host}, {told}", "")

    def leave(self) -> None:
        """See to it that ssh ends, whose connection has been closed."""
        ssh, self._ssh = self._ssh, None
        if ssh is None:
            return
        try:
            ssh.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also when the waiting is interrupted (Ctrl-C): ssh would not notice by itself that we are gone.
            ssh.terminate()
            ssh.wait()
            self._said.close()
