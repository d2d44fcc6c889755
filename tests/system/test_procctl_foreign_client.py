"""A MessagePack-RPC client that is not ours: the one of pynvim, which speaks with Neovim by it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tests.system.daemon import PROGRAMS, run

if TYPE_CHECKING:
    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.cat]
command = ["cat"]
stdin = "pipe"

[programs.later]
command = ["sleep", "infinity"]
autostart = false
"""


def test_a_client_library_of_somebody_else_works(shared: Daemon) -> None:
    """It asks, operates, is refused, writes bytes, and follows a stream."""
    shared.until_state("cat", "RUNNING")
    done = run([sys.executable, PROGRAMS / "foreign_client.py", shared.socket])
    assert done.code == 0, done
    told = json.loads(done.out)
    assert (told["hello"]["protocol"], told["hello"]["pid"]) == (1, shared.supervisor)
    records = {record["name"]: record for record in told["status"]["programs"]}
    assert (records["cat"]["pid"], records["later"]["pid"]) == (shared.process("cat"), None)
    assert [(row["ok"], row["state"]) for row in told["start"]["programs"]] == [(True, "RUNNING")]
    assert [(row["ok"], row["state"]) for row in told["stop"]["programs"]] == [(True, "STOPPED")]
    error, result = told["refusal"]
    assert (error["code"], error["data"], result) == ("NO_SUCH_PROGRAM", {"pattern": "nobody"}, None)
    assert told["write"] == {"accepted": 6}
    assert told["methods"] == ["stream.data"]
    assert bytes.fromhex(told["log"]) == b"\xff\x00done"
