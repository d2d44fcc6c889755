"""What the documentation of procctl shows: the examples run, and the screenshots are what procctl shows."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.system.daemon import BOUND_S, PROCCTL, ROOT, run
from tests.system.test_procctl_terminal import ERASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.web]
command = ["sleep", "infinity"]
instances = 2

[programs.db]
command = "exit 1"
shell = true
backoff = { initial = "1h", max = "1h", jitter = 0 }

[programs.worker]
command = ["sleep", "infinity"]
depends_on = ["db"]

[programs.deaf]
command = "trap '' TERM; while :; do sleep 0.1; done"
shell = true
stop_timeout = "3s"
"""

ECHO = """
[programs.web]
command = ["sleep", "infinity"]
instances = 2

[programs.echo]
command = ["cat"]
stdin = "pipe"
"""

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/script-procd.md").read_text(), re.DOTALL)
EXPECTED = [
    "web@0 RUNNING\nweb@1 RUNNING\nTrue RUNNING\n",
    """no program matches 'wbe' - did you mean 'web'?
0 bytes went in
RUNNING
no daemon answers on /nowhere (No such file or directory)
""",
    r"0 b'one\ntwo\n'" + "\n",
    """web@0 RUNNING → STOPPING
web@0 STOPPING → STOPPED
web@0 STOPPED → WAITING
web@0 WAITING → STARTING
web@0 STARTING → RUNNING
""",
    r"1 3" + "\n" + r"b'three\n'" + "\n",
]

SCREENSHOTS = re.findall(
    r"<!-- screenshot (\d+): (.+) -->\n\n((?:    .*\n)+)", (ROOT / "docs/reference/procctl.md").read_text()
)


def test_the_examples_print_what_is_said(start_daemon: Callable[..., Daemon]) -> None:
    """In their order, each in an interpreter of its own."""
    daemon = start_daemon(ECHO)
    for name in ("web@0", "web@1", "echo"):
        daemon.until_state(name, "RUNNING")
    assert len(EXAMPLES) == len(EXPECTED), "every example is run"
    environment = {"PROCD_SOCKET": str(daemon.socket), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    for example, expected in zip(EXAMPLES, EXPECTED, strict=True):
        done = run([sys.executable, "-c", example], environment=environment)
        assert (done.out, done.err) == (expected, "")


def _structure(text: str) -> list[str]:
    """The lines without what differs from one run to the next: numbers, times, and the room that they take."""
    lines = [re.sub(r"[0-9.]+(?:[a-z]+|[KMG]iB)?(?: \d+[a-z]\b)?", "#", line) for line in text.splitlines()]
    return [re.sub(r" {2,}", "  ", line).rstrip() for line in lines]


@pytest.mark.parametrize(("columns", "words", "text"), SCREENSHOTS, ids=lambda value: value[:20])
def test_the_screenshots_are_what_procctl_shows(shared: Daemon, columns: str, words: str, text: str) -> None:
    """But for numbers; of a line that is rewritten, each look that lasts."""
    for name, state in (("web@0", "RUNNING"), ("web@1", "RUNNING"), ("deaf", "RUNNING"), ("db", "BACKOFF")):
        shared.until_state(name, state)
    running = pexpect.spawn(
        PROCCTL[0], [*PROCCTL[1:], "-s", str(shared.socket), *words.split()], dimensions=(40, int(columns)),
        timeout=BOUND_S, env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"}, encoding="utf-8",
    )  # fmt: skip
    running.expect(pexpect.EOF)
    running.close()
    shown = running.before.replace("\r\n", "\n").replace(ERASE, "\n").strip("\n")
    expected = _structure("".join(line[4:] for line in text.splitlines(keepends=True)))
    if words.startswith("stop"):
        shared.does("start", "deaf", "web@1")
        # How many looks there are is a matter of the machine's speed.
        assert set(_structure(shown)) - {"", *expected} <= {"stopping deaf (# s)…"}
        shown = "\n".join(line for line in shown.splitlines() if not line.startswith("stopping"))
        expected = [line for line in expected if not line.startswith("stopping")]
    assert _structure(shown.strip("\n")) == expected
