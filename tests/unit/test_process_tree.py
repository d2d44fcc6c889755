"""The pure part of the tree: lines of /proc, and who belongs to whom."""

from __future__ import annotations

from procd.process.tree import Member, Snapshot, parse_stat

LINE = b"%d (%s) %c 10 20 30 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 %d 0 777 10 20 18446744073709551615 0\n"


def test_a_name_may_hold_parentheses_spaces_and_newlines() -> None:
    """The last closing parenthesis ends the name."""
    member = parse_stat(LINE % (5, b"a) S 1 (b\n", b"S"[0], 1))
    assert member == Member(5, 10, 20, 30, 777, "a) S 1 (b\n", alive=True)


def test_a_zombie_is_dead_unless_other_threads_of_it_live() -> None:
    """State Z with more than one thread: only the first thread has ended."""
    assert not parse_stat(LINE % (5, b"x", b"Z"[0], 1)).alive
    assert parse_stat(LINE % (5, b"x", b"Z"[0], 2)).alive
    assert not parse_stat(LINE % (5, b"x", b"X"[0], 0)).alive


def process(pid: int, parent: int, group: int = 0, session: int = 0, *, alive: bool = True) -> Member:
    """A process that cannot be in /proc: its numbers are too high."""
    return Member(pid + BIG, parent + BIG, (group or pid) + BIG, (session or pid) + BIG, 1, "x", alive)


BIG = 1 << 30


def numbers(members: list[Member]) -> list[int]:
    """The PIDs as the tests have them."""
    return [member.pid - BIG for member in members]


def test_members_are_found_by_session_by_group_and_by_parent() -> None:
    """And come parents first, whatever the order in /proc."""
    snapshot = Snapshot(
        [
            process(9, 7),
            process(7, 1, group=2, session=2),
            process(8, 1, group=2, session=3),
            process(5, 9),
            process(6, 1),
        ]
    )
    assert sorted(numbers(snapshot.members(2 + BIG))) == [5, 7, 8, 9]
    assert numbers(snapshot.members(7 + BIG)) == [7, 9, 5]
    assert numbers(snapshot.descendants(7 + BIG)) == [9, 5]


def test_the_dead_are_no_members_but_their_children_are() -> None:
    """A zombie leader with a living child in its group."""
    snapshot = Snapshot([process(2, 1, alive=False), process(3, 2, group=2, session=2)])
    assert numbers(snapshot.members(2 + BIG)) == [3]


def test_what_is_below_an_ignored_process_is_ignored() -> None:
    """Also when its number is that of a session that was asked for."""
    processes = [process(2, 1), process(3, 2, session=9), process(9, 1), process(4, 9)]
    assert numbers(Snapshot(processes, ignore={2 + BIG}).members(9 + BIG)) == [9, 4]
    assert Snapshot(processes, ignore={9 + BIG}).members(9 + BIG) == [process(3, 2, session=9)]


def test_a_known_member_counts_as_long_as_it_is_the_same() -> None:
    """By PID and start time."""
    snapshot = Snapshot([process(2, 1), process(3, 2)])
    assert numbers(snapshot.members(50, also=[(2 + BIG, 1)])) == [2, 3]
    assert snapshot.members(50, also=[(2 + BIG, 0)]) == []
