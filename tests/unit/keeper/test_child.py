"""What is planned for a child, and what is sent to it."""

from __future__ import annotations

import os

import pytest

from procd.keeper import messages
from procd.keeper.child import Child, environment, in_words
from procd.keeper.table import Room


@pytest.fixture
def child() -> Child:
    """One that was never started."""
    return Child("supervisor", ["true"], Room(100))


def test_young_deaths_wait_longer_and_longer_up_to_a_bound(child: Child) -> None:
    """The first is started again at once."""
    waits = []
    for now in range(0, 100, 9):
        child.started_s = now - 9
        child.ended(now, "died", 5.0)
        waits.append(child.start_at_s - now)
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0])


def test_a_long_life_is_followed_at_once_by_the_next(child: Child) -> None:
    """Whatever came before it."""
    for started, ended in ((0.0, 1.0), (1.0, 2.0), (2.1, 3.0), (3.2, 20.0)):
        child.started_s = started
        child.ended(ended, "died", 5.0)
    assert child.start_at_s == 20.0


def test_what_a_child_inherits_is_not_the_service_managers() -> None:
    """And it is told where its channel is."""
    given = {"PATH": "/bin", "NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1", "LISTEN_PID": "1", "WATCHDOG_USEC": "1"}
    assert environment(given) == {"PATH": "/bin", "PROCD_KEEPER_FD": "3"}


def test_ends_are_told_in_words() -> None:
    """Real-time signals have no name."""
    assert in_words(0x300) == "exited with 3"
    assert in_words(9) == "was killed by SIGKILL"
    assert in_words(6 | 0x80) == "was killed by SIGABRT"
    assert in_words(40) == "was killed by signal 40"


def test_records_are_sent_in_few_datagrams_of_bounded_size(child: Child) -> None:
    """As many as fit by bytes and by descriptors; then END; a record that was dropped meanwhile is left out."""
    ours, theirs = messages.channel()
    theirs.setblocking(False)
    child.channel = ours
    for number in range(40):
        child.table.put(f"big{number}".encode(), bytes(20000), ())
        child.table.put(f"fds{number}".encode(), b"", (os.dup(2), os.dup(2)))
    child.hand_over()
    child.table.drop(b"big7")
    datagrams = []
    with ours, theirs:
        while child.flush() == messages.LATER or len(datagrams) < 14:
            datagram, fds = messages.receive(theirs) or (b"", [])
            datagrams.append(list(messages.decode(datagram)))
            assert len(datagram) <= messages.MOST_DATAGRAM_BYTES
            assert len(fds) == sum(count for *_, count in datagrams[-1])
            messages.close_all(fds)
        with pytest.raises(BlockingIOError):
            messages.receive(theirs)
    said = [message for datagram in datagrams for message in datagram]
    assert said[-1][0] == messages.END
    assert {key for verb, key, _, _ in said[:-1] if verb == messages.RECORD} == {*child.table}
    assert len(said) == 80
    for key in [*child.table]:
        child.table.drop(key)
