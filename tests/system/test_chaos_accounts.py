"""The accounts of the chaos find what is wrong: each kind of it, done to evidence that is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.system import chaos_accounts as accounts

if TYPE_CHECKING:
    from pathlib import Path

NOTED = """birth 0 100 7 a.1
end 0 exit 3 2
hook 5
birth 1 101 8 a.2
end 1 signal 9 1
birth 2 102 9 a.3
end 2 exit 0 1
"""
LOG = b"0 0 \n0 1 .\n1 0 \n2 0 \n"


def lives(tmp_path: Path, noted: str = NOTED) -> accounts.Lives:
    """What was noted, read."""
    (tmp_path / "p@0.lives").write_text(noted)
    return accounts.lives_of(tmp_path, "p")


def test_lives_that_are_right_are_right(tmp_path: Path) -> None:
    """One after the other, each with a cookie of its own."""
    assert accounts.started_once(lives(tmp_path), 3) == []


@pytest.mark.parametrize(
    "noted",
    [
        NOTED.replace("a.2", "a.1"),
        NOTED + "overlap 104 a.4\n",
        NOTED.replace("birth 1", "birth 0"),
        NOTED + "birth 3 103 10 a.4\n",
    ],
)
def test_a_life_too_many_is_found(tmp_path: Path, noted: str) -> None:
    """Started twice, beside another, without having seen the one before, or that nobody asked for."""
    assert len(accounts.started_once(lives(tmp_path, noted), 3)) == 1


def test_a_log_that_is_right_is_right(tmp_path: Path) -> None:
    """In each format, and as a terminal writes it."""
    noted = lives(tmp_path)
    assert accounts.lines_once(noted, LOG, "raw") == []
    assert accounts.lines_once(noted, LOG.replace(b"\n", b"\r\n"), "raw") == []
    timed = b"".join(b"2026-01-01T00:00:00.000000Z " + line for line in LOG.splitlines(keepends=True))
    assert accounts.lines_once(noted, timed, "timestamp") == []
    objects = b"".join(b'{"time":"x","message":"%b"}\n' % line for line in LOG.splitlines())
    assert accounts.lines_once(noted, objects, "json") == []


@pytest.mark.parametrize(
    "text",
    [
        LOG.replace(b"0 1 .\n", b""),
        LOG.replace(b"0 1 .\n", b"0 1 .\n0 1 .\n"),
        LOG.replace(b"0 1 .\n", b"0 1 "),
        b"0 1 .\n0 0 \n1 0 \n2 0 \n",
        b"0 0 \n1 0 \n0 1 .\n2 0 \n",
        LOG + b"3 0 \n",
        LOG + b"[procd: 5 bytes were dropped]\n",
        b"",
    ],
)
def test_a_line_lost_doubled_cut_or_moved_is_found(tmp_path: Path, text: bytes) -> None:
    """Or one of nobody."""
    assert accounts.lines_once(lives(tmp_path), text, "raw")


def test_rotated_files_are_read_the_oldest_first(tmp_path: Path) -> None:
    """By their numbers, not by their names."""
    for name, text in {"p.log": b"5", "p.log.1": b"4", "p.log.2": b"3", "p.log.10": b"2"}.items():
        (tmp_path / name).write_bytes(text)
    assert accounts.log_at(tmp_path / "p.log") == b"2345"


REQUESTS = [accounts.Request(1, 50, 50), accounts.Request(2, 50, None), accounts.Request(3, 50, 50)]
ONE, TWO, THREE = (accounts.message(number, 50) for number in (1, 2, 3))


@pytest.mark.parametrize("got", [ONE + THREE, ONE + TWO + THREE, ONE + TWO[:20] + THREE])
def test_a_request_without_an_answer_may_have_come_or_not(got: bytes) -> None:
    """Or in part."""
    assert accounts.input_once("p", got, REQUESTS) == []


@pytest.mark.parametrize(
    "got",
    [
        ONE + TWO,
        ONE + TWO + THREE[:-1],
        ONE + ONE + THREE,
        ONE + TWO + TWO + THREE,
        THREE + ONE,
        b"x" + ONE + THREE,
    ],
)
def test_accepted_bytes_that_did_not_come_once_and_in_order_are_found(got: bytes) -> None:
    """Those that nobody sent are, too."""
    assert accounts.input_once("p", got, REQUESTS)


def transition(new: str, reason: str, old: str = "RUNNING") -> dict[str, Any]:
    """An event."""
    return {"type": "transition", "program": "p", "old": old, "new": new, "reason": reason}


EVENTS = [
    transition("RUNNING", "ready", "STARTING"),
    transition("WAITING", "exited with status 3 after 2s"),
    transition("STARTING", "exited with status 3 after 2s", "WAITING"),
    transition("WAITING", "killed by SIGKILL after 3s"),
    transition("STOPPING", "stop requested"),
]


def test_ends_that_are_told_as_they_were_are_right(tmp_path: Path) -> None:
    """The one of a program that was told to stop is none of them."""
    assert accounts.every_end_told_once(lives(tmp_path), EVENTS) == []


@pytest.mark.parametrize(
    "events",
    [
        [EVENTS[3]],
        [EVENTS[1], EVENTS[1], EVENTS[3]],
        [EVENTS[3], EVENTS[1]],
        [*EVENTS, EVENTS[3]],
        [transition("WAITING", "exited with status 4 after 2s"), EVENTS[3]],
        [transition("WAITING", "ended, nobody knows how after 2s"), EVENTS[3]],
    ],
)
def test_an_end_untold_told_twice_or_told_wrongly_is_found(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    """Also one that came when nobody looked."""
    assert accounts.every_end_told_once(lives(tmp_path), events)


def test_only_an_end_before_a_stop_may_be_told_as_that(tmp_path: Path) -> None:
    """Of the last life nobody knows whether the stop of everything had begun."""
    stopped = NOTED.replace("hook 5\n", "stopped\n")
    assert accounts.every_end_told_once(lives(tmp_path, stopped), [EVENTS[3]]) == []


@pytest.mark.parametrize(
    ("noted", "starts", "restarts"),
    [
        (NOTED, 3, 2),
        # A stop between two lives, a stop of a life that had no time to note itself, and of one that had.
        (NOTED.replace("hook 5\n", "stopped\n"), 3, 1),
        (NOTED.replace("hook 5\n", "stopped\n"), 4, 2),
        (NOTED + "stopped\nbirth 3 103 10 a.4\n", 4, 2),
        # What is told of without a stop never was, and one that was has to be told of.
        (NOTED, 4, 2),
        (NOTED + "stopped\nbirth 3 103 10 a.4\n", 5, 2),
        (NOTED, 2, 2),
    ],
)
def test_restarts_are_the_lives_that_nobody_asked_for(
    tmp_path: Path, noted: str, starts: int, restarts: int
) -> None:
    """Each of the `starts` is told of."""
    told = [transition("WAITING", "", "STOPPED")] * starts
    assert accounts.restarts_of(lives(tmp_path, noted), told) == restarts


def test_a_life_without_its_hook_is_found(tmp_path: Path) -> None:
    """And hooks that nobody asked for."""
    noted = lives(tmp_path)
    assert len(accounts.hooks_before(noted, 1)) == 2
    with_all = lives(tmp_path, "hook 1\nbirth 0 1 1 a\nend 0 exit 0 1\nhook 2\nhook 3\nbirth 1 2 2 b\n")
    assert accounts.hooks_before(with_all, 3) == []
    assert len(accounts.hooks_before(with_all, 2)) == 1


def test_numbers_of_events_that_do_not_grow_are_found() -> None:
    """And lines that are no events."""
    assert accounts.numbered_upwards([{"type": "x", "seq": 1}, {"type": "x", "seq": 5}]) == []
    assert accounts.numbered_upwards([{"type": "x", "seq": 5}, {"type": "x", "seq": 5}])
    assert accounts.numbered_upwards([{"type": "broken", "line": "{"}])
