"""A real systemd as PID 1 of its own namespaces, and commands inside it.

Owns the namespaces and what is private in them: /run, /tmp and /var are empty file systems in memory, the rest
of the system is there and read-only, so nothing that systemd does at boot can reach the real one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.system.daemon import BOUND_S, ROOT, Done, run, until

SYSTEMD = Path("/lib/systemd/systemd")

# Run in a mount namespace of its own.  $1 is the name of a cgroup, which systemd shall take for the root.
_ENTER_CGROUP = """
set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo 0 > "/sys/fs/cgroup/$1/cgroup.procs"
exec unshare --fork --pid --mount --mount-proc --uts --ipc --cgroup --kill-child -- sh -c "$2"
"""

# Directories that are needed and would be hidden are held in /mnt meanwhile.
_EMPTY = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
number=0
for place in {places}; do
    mkdir "/mnt/$number"; mount --bind "$place" "/mnt/$number"; number=$((number + 1))
done
for place in {directories}; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
number=0
for place in {places}; do
    mkdir -p "$place"; mount --bind "/mnt/$number" "$place"; number=$((number + 1))
done
umount --lazy /mnt
"""

# Run as PID 1.  The targets want nothing of this system's: no sysctl, no kernel module and no device is to be
# touched by a test.
_BOOT = """
chmod 1777 /tmp
mkdir -p /var/tmp /var/log /var/lib /run/systemd/system/basic.target.d
for wants in /usr/lib/systemd/system/*.target.wants /etc/systemd/system/*.target.wants; do
    [ ! -d "$wants" ] || mount -t tmpfs tmpfs "$wants"
done
printf '[Unit]\nWants=systemd-journald.service systemd-journald.socket\n' \
    > /run/systemd/system/basic.target.d/journal.conf
ln -s /dev/null /run/systemd/system/systemd-remount-fs.service
umount /sys/fs/cgroup
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
for place in / /proc/sys /dev; do mount -o remount,bind,ro "$place"; done
exec env -i PATH="$PATH" container=other {systemd} --system --unit=basic.target --show-status=0
"""

_REMOVE_CGROUP = """
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
"""


@functools.cache
def missing() -> str:
    """Why no systemd can be booted here; empty when one can."""
    if os.geteuid() != 0:
        return "booting a systemd takes root"
    if not SYSTEMD.exists():
        return "systemd is not installed (apt-get install systemd)"
    for tool in ("unshare", "nsenter", "mount"):
        if not shutil.which(tool):
            return f"{tool} is not installed (apt-get install util-linux mount)"
    if run(["systemd-detect-virt", "--chroot"]).code == 0:
        return "systemctl talks to no systemd from inside of a chroot"
    tried = run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--cgroup",
            "mount",
            "-t",
            "cgroup2",
            "none",
            "/sys/fs/cgroup",
        ]
    )
    return f"namespaces and cgroups cannot be had here: {tried.err.strip()}" if tried.code else ""


def emptied(*directories: str, kept: str = str(ROOT)) -> str:
    """Lines for a shell in a mount namespace: these become empty file systems in memory.

    What is in them of this project, its interpreter and one directory more is still there.
    """
    hidden = {
        place
        for place in (str(ROOT), sys.prefix, sys.base_prefix, kept)
        if any(place.startswith(f"{directory}/") for directory in directories)
    }
    return _EMPTY.format(places=shlex.join(sorted(hidden)), directories=shlex.join(directories))


class Machine:
    """One booted systemd.  `pid` is its PID outside."""

    def __init__(self) -> None:
        self._name = f"procd-test-{os.getpid()}-{os.urandom(4).hex()}"
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.root = Path()

    def boot(self) -> Machine:
        """Start systemd, and wait until it has booted."""
        script = emptied("/run", "/tmp", "/var") + _BOOT.format(systemd=SYSTEMD)
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _ENTER_CGROUP, "sh", self._name, script],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
            try:
                until(self._find_init, "systemd to start")
                until(self._has_booted, "systemd to have booted")
            except AssertionError as error:
                said.seek(0)
                error.add_note(said.read().decode(errors="replace"))
                raise
        return self

    def _find_init(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "it ended at once"
        shell = self._process.pid
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for word in Path(f"/proc/{shell}/task/{shell}/children").read_text().split():
                if Path(f"/proc/{word}/comm").read_text() == "systemd\n":
                    self.pid = int(word)
                    self.root = Path(f"/proc/{word}/root")
        return self.pid != 0

    def _has_booted(self) -> bool:
        return self.run("systemctl", "is-system-running").out.strip() in {"running", "degraded"}

    def run(self, *words: str) -> Done:
        """Run a command inside."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--pid", "--cgroup"]
        return run([*inside, "--wd=/", "--", *words])

    def does(self, *words: str) -> str:
        """Run a command inside, which must succeed; what it printed."""
        done = self.run(*words)
        assert done.code == 0, done
        return done.out

    def write(self, path: str, text: str) -> None:
        """Write a file inside; its directories are made."""
        inside = self.root / path.removeprefix("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)

    def property(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.does("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def end(self) -> None:
        """Kill PID 1, and with it everything in its namespaces; remove the cgroup."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self._process.pid, 9)
        self._process.wait(BOUND_S)
        run(["unshare", "--mount", "sh", "-c", _REMOVE_CGROUP, "sh", self._name])
