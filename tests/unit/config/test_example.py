"""etc/procd.toml, the first configuration that anybody runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from procd.config import load
from procd.config.spec import Input

ETC = Path(__file__).parents[3] / "etc"


def test_the_example_needs_nothing_but_python() -> None:
    """It is valid for an ordinary user without any XDG directory, and stays within the clone."""
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    configuration = load(str(ETC / "procd.toml"), environ, uid=54321)
    assert list(configuration.programs) == ["web", "tick", "upper"]
    assert configuration.programs["upper"].stdin is Input.PIPE
    daemon = configuration.daemon
    run = f"{ETC.parent}/run"
    assert (daemon.runtime_dir, daemon.socket) == (run, f"{run}/procd.sock")
    assert daemon.state_dir.startswith(f"{run}/")
    assert daemon.log_dir.startswith(f"{run}/")


def test_its_port_can_be_chosen() -> None:
    """8080 is often taken."""
    environ = {"PATH": os.environ["PATH"], "PORT": "9999"}
    configuration = load(str(ETC / "procd.toml"), environ, uid=54321, check_files=False)
    assert configuration.programs["web"].command[-1] == "9999"
