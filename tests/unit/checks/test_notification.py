"""What programs say is decoded, whatever bytes they say it with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.checks.notification import MAX_BYTES, MAX_STATUS, NOTHING, Notification, neutralise, parse

USEFUL = st.sampled_from([
    b"READY=1", b"RELOADING=1", b"STOPPING=1", b"STATUS=", b"MAINPID=", b"WATCHDOG=1", b"WATCHDOG=trigger",
    b"WATCHDOG_USEC=", b"EXTEND_TIMEOUT_USEC=", b"BARRIER=1", b"FDSTORE=1", b"\n", b"\0", b"=", b"\xff", b"1",
])  # fmt: skip
DATAGRAMS = st.lists(USEFUL | st.binary(max_size=40) | st.integers().map(lambda n: str(n).encode())).map(
    b"".join
)


@pytest.mark.parametrize(
    ("datagram", "said"),
    [
        (b"READY=1", Notification(ready=True)),
        (b"READY=1\n", Notification(ready=True)),
        (b"READY=1\0", Notification(ready=True)),
        (b"RELOADING=1\nMONOTONIC_USEC=5", Notification(reloading=True)),
        (b"STOPPING=1\nSTATUS=going down", Notification(stopping=True, status="going down")),
        (b"MAINPID=4711", Notification(main_pid=4711)),
        (b"EXTEND_TIMEOUT_USEC=1500000", Notification(extend_timeout_s=1.5)),
        (b"WATCHDOG=1", Notification(watchdog=True)),
        (b"WATCHDOG=trigger", Notification(watchdog_failed=True)),
        (b"WATCHDOG_USEC=20000000", Notification(watchdog_s=20.0)),
        (b"WATCHDOG_USEC=0", Notification(watchdog_s=0.0)),
        (b"BARRIER=1", Notification(barrier=True)),
        (b"STATUS=", Notification(status="")),
        (b"STATUS=a=b", Notification(status="a=b")),
    ],
)
def test_every_field_is_understood(datagram: bytes, said: Notification) -> None:
    """As sd_notify(3) describes them."""
    assert parse(datagram) == said


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\0", b"\n", b"\n\n\n", b"READY", b"=1", b"READY=1\0\nSTATUS=x", b"A=" + b"x" * MAX_BYTES],
)
def test_what_is_no_notification_is_none(datagram: bytes) -> None:
    """Empty (CVE-2016-7795), a NUL inside, too long, or without a field."""
    assert parse(datagram) is None


@pytest.mark.parametrize(
    "datagram",
    [
        b"X_OTHER=1", b"FDSTORE=1\nFDNAME=a", b"READY=0", b"READY=yes", b"ready=1", b" READY=1", b"WATCHDOG=2",
        b"MAINPID=0", b"MAINPID=-1", b"MAINPID=1e3", b"MAINPID= 12", b"MAINPID=4194305", b"MAINPID=1_000",
        b"MAINPID=" + b"9" * 4000, b"MAINPID=\xd9\xa1", b"MAINPID=", b"EXTEND_TIMEOUT_USEC=0",
        b"EXTEND_TIMEOUT_USEC=-5", b"WATCHDOG_USEC=1.5", b"WATCHDOG_USEC=18446744073709551616",
    ],
)  # fmt: skip
def test_what_is_not_known_or_does_not_fit_says_nothing(datagram: bytes) -> None:
    """Unknown fields and values out of bounds are ignored, not guessed at."""
    assert parse(datagram) == NOTHING


def test_a_bad_value_does_not_take_the_rest_along() -> None:
    """The other fields of the datagram count."""
    assert parse(b"MAINPID=x\nREADY=1") == Notification(ready=True)


def test_of_a_field_that_comes_twice_the_first_counts() -> None:
    """As systemd has it."""
    assert parse(b"STATUS=one\nSTATUS=two") == Notification(status="one")


def test_a_status_cannot_bring_a_second_line() -> None:
    """A newline ends the field: what follows is a field of its own, and not more of the status."""
    assert parse(b"STATUS=fine\nMAINPID=1") == Notification(status="fine", main_pid=1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 日本", "café 日本"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\tb\rc\x9b", "a\\tb\\rc\\x9b"),
        ("\u202egnp", "\\u202egnp"),
        ("  spaces  ", "spaces"),
        ("x" * 300, "x" * 255 + "…"),
    ],
)
def test_a_text_is_safe_to_show(text: str, shown: str) -> None:
    """Nothing in it that a terminal obeys, or that makes it read differently (CVE-2023-26604)."""
    assert neutralise(text, MAX_STATUS) == shown


def test_a_status_that_is_not_utf8_is_shown_as_far_as_it_is() -> None:
    """Bytes that are no text are shown as bytes."""
    said = parse(b"STATUS=ok \xff\xfe\x1b\nREADY=1")
    assert said == Notification(ready=True, status="ok \\xff\\xfe\\x1b")


@given(DATAGRAMS)
def test_no_datagram_raises_and_every_status_is_short_and_printable(datagram: bytes) -> None:
    """Parsing is total."""
    said = parse(datagram)
    if said is None or said.status is None:
        return
    assert len(said.status) <= MAX_STATUS
    assert said.status.isprintable()


@given(st.text(), st.integers(1, 400))
def test_neutralising_is_bounded_and_leaves_nothing_to_do(text: str, bound: int) -> None:
    """What came out once comes out again."""
    shown = neutralise(text, bound)
    assert len(shown) <= bound
    assert neutralise(shown, bound) == shown


@given(st.integers(1, 4194304), st.integers(1, 2**64 - 1))
def test_numbers_within_bounds_come_out_as_they_went_in(pid: int, microseconds: int) -> None:
    """Over the whole range, infinity of systemd included."""
    said = parse(f"MAINPID={pid}\nEXTEND_TIMEOUT_USEC={microseconds}".encode())
    assert said == Notification(main_pid=pid, extend_timeout_s=microseconds / 1e6)
