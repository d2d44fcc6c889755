"""What systemd hears of procd."""

from __future__ import annotations

import pytest

from procd.systemd import Notifier


@pytest.fixture
def said() -> list[str]:
    """What the service manager was told."""
    return []


def test_each_message_has_the_fields_of_its_protocol(said: list[str]) -> None:
    """READY, STATUS, RELOADING with its time, STOPPING, and the request for more time."""
    notifier = Notifier(said.append)
    notifier.ready("3 RUNNING")
    notifier.status("2 RUNNING")
    notifier.reloading()
    notifier.stopping("Stopping")
    notifier.extend_timeout(2.5)
    reloading = said.pop(2).split("\n")
    assert said == [
        "READY=1\nSTATUS=3 RUNNING", "STATUS=2 RUNNING", "STOPPING=1\nSTATUS=Stopping",
        "EXTEND_TIMEOUT_USEC=2500000",
    ]  # fmt: skip
    assert reloading[0] == "RELOADING=1"
    assert reloading[1].removeprefix("MONOTONIC_USEC=").isdigit()


def test_a_newline_in_a_status_begins_no_field(said: list[str]) -> None:
    """Whoever can make us say something could otherwise say anything in our name."""
    Notifier(said.append).status("one\nREADY=1")
    assert said == ["STATUS=one READY=1"]


def test_without_a_manager_nothing_is_said() -> None:
    """And nobody is troubled."""
    notifier = Notifier(None)
    notifier.ready("")
    assert not notifier.listens
