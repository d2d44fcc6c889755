"""procctl attach as people use it: in tmux, with vim and a Python prompt."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import PROCCTL, Daemon, until
from tests.system.tmux import Tmux

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="there is no tmux")

VIM = shutil.which("vim.tiny") or shutil.which("vim")
needs_vim = pytest.mark.skipif(VIM is None, reason="there is no vim")
PROMPT = ("C-p", "C-q")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """A window of 30 rows and 100 columns."""
    with Tmux(tmp_path, rows=30, columns=100) as found:
        yield found


def attach(tmux: Tmux, daemon: Daemon, program: str) -> None:
    """Type the command line, as a person does."""
    tmux.types("clear; " + shlex.join([*PROCCTL, "-s", str(daemon.socket), "attach", program]), "Enter")


def modes(tmux: Tmux, place: Path, name: str) -> list[str]:
    """What stty says of the window; without its size, which is the window's."""
    tmux.prompts()
    # One after the other: a file that is there is complete.
    tmux.types(f"stty -a >{name}.new; mv {name}.new {name}", "Enter")
    until((place / name).exists)
    return (place / name).read_text().splitlines()[1:]


def vim(place: Path) -> str:
    """A daemon's vim that edits a file in `place`."""
    (place / "text").write_text("first line\nsecond line\n")
    # A long path would not fit into its last line: it would wait for Enter, and draw nothing before.
    command = json.dumps([VIM, "-u", "NONE", "-i", "NONE", "-n", "text"])
    return f"[programs.vim]\ncommand = {command}\nterminal = true\ndirectory = {json.dumps(str(place))}\n"


@needs_vim
def test_vim_is_left_and_found_again(start_daemon: Callable[..., Daemon], tmux: Tmux, tmp_path: Path) -> None:
    """It shows its screen to whoever comes, follows the window, and writes what was typed."""
    before = modes(tmux, tmp_path, "before")
    daemon = start_daemon(vim(tmp_path))
    daemon.until_state("vim", "RUNNING")
    attach(tmux, daemon, "vim")
    tmux.shows("first line\nsecond line\n~")
    tmux.types("Gothird line", "Escape", ":w", "Enter")
    until(lambda: (tmp_path / "text").read_text() == "first line\nsecond line\nthird line\n")
    tmux.resizes(20, 60)
    # A row of tildes for each line that the window has.
    until(lambda: tmux.screen().count("\n~") == 20 - 3 - 1, f"vim to follow:\n{tmux.screen()}")
    tmux.types(*PROMPT)
    tmux.shows("procctl: detached from vim")
    assert modes(tmux, tmp_path, "detached") == before
    attach(tmux, daemon, "vim")
    tmux.shows("first line\nsecond line\nthird line\n~")
    tmux.types(":q", "Enter")
    tmux.shows("procctl: vim: exited with status 0")
    assert modes(tmux, tmp_path, "ended") == before


@needs_vim
def test_a_killed_supervisor_leaves_a_usable_terminal(
    start_daemon: Callable[..., Daemon], tmux: Tmux, tmp_path: Path
) -> None:
    """The shell works on, its modes are as before, and the cursor is there."""
    before = modes(tmux, tmp_path, "before")
    daemon = start_daemon(vim(tmp_path))
    daemon.until_state("vim", "RUNNING")
    attach(tmux, daemon, "vim")
    tmux.shows("first line")
    pid = daemon.process("vim")
    daemon.kill_supervisor()
    tmux.shows("procctl: the daemon on")
    assert modes(tmux, tmp_path, "after") == before
    assert tmux("display-message", "-p", "#{cursor_flag} #{alternate_on} #{mouse_any_flag}").split() == [
        "1", "0", "0"
    ]  # fmt: skip
    assert daemon.process("vim") == pid


def test_a_python_prompt_is_as_in_front_of_you(
    start_daemon: Callable[..., Daemon], tmux: Tmux, tmp_path: Path
) -> None:
    """Editing, an interrupt, the size, a prompt that is there again; the end of the input ends it."""
    before = modes(tmux, tmp_path, "before")
    command = json.dumps([sys.executable, "-q", "-i"])
    daemon = start_daemon(
        f'[programs.py]\ncommand = {command}\nterminal = true\nrestart = "never"\n'
        'environment = { PYTHON_HISTORY = "/dev/null", PYTHON_COLORS = "0" }\n'
    )
    daemon.until_output("py", b">>> ")
    attach(tmux, daemon, "py")
    tmux.shows("attached to py")
    tmux.types("print(6 * 78)", "BSpace", "BSpace", ")", "Enter")
    tmux.shows("\n42")
    tmux.types("import os, time; print(os.get_terminal_size())", "Enter")
    tmux.shows("terminal_size(columns=100, lines=30)")
    tmux.types("time.sleep(1000)", "Enter")
    tmux.shows("time.sleep(1000)")
    tmux.types("C-c")
    tmux.shows("KeyboardInterrupt")
    tmux.types(*PROMPT)
    tmux.shows("procctl: detached from py")
    assert modes(tmux, tmp_path, "detached") == before
    attach(tmux, daemon, "py")
    tmux.shows("attached to py")
    tmux.types("print(40 + 3)", "Enter")
    tmux.shows("\n43")
    tmux.types("C-d")
    tmux.shows("procctl: py: exited with status 0")
    assert modes(tmux, tmp_path, "ended") == before


def test_a_paste_of_many_lines_arrives_whole(
    start_daemon: Callable[..., Daemon], tmux: Tmux, tmp_path: Path
) -> None:
    """As tmux pastes it: at once, into a program that takes its time."""
    lines = "".join(f"line {number} of a long paste\n" for number in range(20_000))
    (tmp_path / "paste").write_text(lines)
    script = f"stty raw -echo; echo set; head -c {len(lines)} >copy; echo whole; exec cat"
    daemon = start_daemon(
        f"[programs.paste]\ncommand = {json.dumps(['/bin/sh', '-c', script])}\nterminal = true\n"
        f"directory = {json.dumps(str(tmp_path))}\n"
    )
    daemon.until_output("paste", b"set")
    attach(tmux, daemon, "paste")
    tmux.shows("attached to paste")
    tmux("load-buffer", str(tmp_path / "paste"))
    tmux("paste-buffer", "-r")
    daemon.until_output("paste", b"whole")
    assert (tmp_path / "copy").read_text() == lines
    assert os.path.getsize(tmp_path / "copy") > 500_000  # noqa: PTH202
