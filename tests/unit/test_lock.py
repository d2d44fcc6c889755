"""The lock: one procd for each runtime directory, and the kernel lets go of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procd import lock
from procd.errors import RuntimeDirectoryHeld


def test_the_directory_is_made_and_the_holder_is_told(tmp_path: Path) -> None:
    """Who comes second learns the directory and the PID."""
    runtime_dir = str(tmp_path / "a" / "b")
    held = lock.hold(runtime_dir)
    with pytest.raises(
        RuntimeDirectoryHeld, match=f"{runtime_dir} is held by procd with PID {os.getpid()}"
    ) as e:
        lock.hold(runtime_dir)
    assert (e.value.path, e.value.pid) == (runtime_dir, os.getpid())
    os.close(held)


def test_it_is_let_go_of_with_its_descriptor(tmp_path: Path) -> None:
    """What stands in the file afterwards holds nobody back, however long it is."""
    os.close(lock.hold(str(tmp_path)))
    (tmp_path / lock.LOCK_NAME).write_text("123456789012345678\nand more\n")
    os.close(lock.hold(str(tmp_path)))
    assert (tmp_path / lock.LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_it_is_let_go_of_when_its_holder_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves the file behind and not the lock."""
    script = (
        "import sys; from procd import lock; lock.hold(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
        with pytest.raises(RuntimeDirectoryHeld, match=f"PID {holder.pid}"):
            lock.hold(str(tmp_path))
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / lock.LOCK_NAME).exists()
    os.close(lock.hold(str(tmp_path)))


@pytest.mark.parametrize("content", ["", "soon\n", "0\n"])
def test_a_holder_that_has_not_said_who_it_is_is_another_procd(tmp_path: Path, content: str) -> None:
    """Between the lock and the PID there is a moment."""
    held = lock.hold(str(tmp_path))
    (tmp_path / lock.LOCK_NAME).write_text(content)
    with pytest.raises(RuntimeDirectoryHeld, match="held by another procd") as refused:
        lock.hold(str(tmp_path))
    assert refused.value.pid is None
    os.close(held)


def test_a_failure_leaves_no_descriptor(tmp_path: Path) -> None:
    """The second try closes what it opened."""
    held = lock.hold(str(tmp_path))
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    with pytest.raises(RuntimeDirectoryHeld):
        lock.hold(str(tmp_path))
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    os.close(held)


def test_no_child_inherits_it(tmp_path: Path) -> None:
    """A program that outlives procd must not keep the next procd out."""
    held = lock.hold(str(tmp_path))
    assert not os.get_inheritable(held)
    os.close(held)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Nothing is truncated at somebody else's wish."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / lock.LOCK_NAME).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        lock.hold(str(tmp_path))
    assert victim.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_an_error_with_its_path() -> None:
    """The command line shows what is in the way."""
    with pytest.raises(OSError, match="/proc/nowhere"):
        lock.hold("/proc/nowhere")
    assert not Path("/proc/nowhere").exists()


def test_a_full_disk_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is what counts; the PID is for people."""

    def full(fd: int, content: bytes, offset: int) -> int:
        raise OSError(28, f"No space left for {content!r} on {fd} at {offset}")

    monkeypatch.setattr(os, "pwrite", full)
    held = lock.hold(str(tmp_path))
    monkeypatch.undo()
    with pytest.raises(RuntimeDirectoryHeld, match="another procd"):
        lock.hold(str(tmp_path))
    os.close(held)
