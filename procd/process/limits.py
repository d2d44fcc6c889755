"""Our own RLIMIT_NOFILE, lent to a child for the moment in which it is made.

Owns the change of the limit and back, and the few low descriptor numbers that are held for that moment.  Must
not know how the child is made.

A vfork can set no limit, and setting it from outside afterwards would race with the child's first lines.  But
limits are copied to a child at its birth, so ours is lowered for that moment.  While it is, we cannot make a
descriptor with a number above it, and the C library refuses to move one: hence the held numbers.  All this is
for callers whose only thread we are (`Settings.sole_thread`).
"""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

from procd.process.wiring import shared_null

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from procd.process.settings import Limit

HELD_DESCRIPTORS = 6

_held: list[int] = []


def hold_descriptors(count: int = HELD_DESCRIPTORS) -> None:
    """Hold `count` of the lowest free descriptor numbers.

    Call it early, before thousands of descriptors are open; a later call holds only what is missing.
    """
    while len(_held) < count:
        _held.append(os.dup(shared_null()))


def release_descriptors() -> None:
    """Free the held numbers, so that whatever is opened next gets them."""
    while _held:
        os.close(_held.pop())


def can_be_lent(limits: tuple[Limit, ...]) -> bool:
    """Whether all of `limits` is a soft RLIMIT_NOFILE: a hard limit, once lowered, may not be raised again."""
    return not limits or (
        len(limits) == 1
        and limits[0].resource == resource.RLIMIT_NOFILE
        and limits[0].hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    )


@contextmanager
def lent(limits: tuple[Limit, ...]) -> Iterator[None]:
    """Have `limits`, which can be lent, ourselves for a moment."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not limits or limits[0].soft == before[0]:
        yield
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0].soft, limits[0].hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def below(
    limits: tuple[Limit, ...], moves: tuple[tuple[int, int], ...]
) -> Iterator[tuple[tuple[int, int], ...] | None]:
    """Yield `moves` with every source below the limit, for the moment; None when there is no room for that."""
    bound = limits[0].soft if limits else resource.RLIM_INFINITY
    sources = {source for source, _ in moves if _reaches(source, bound)}
    targets = {target for _, target in moves}
    if not sources:
        yield None if any(_reaches(target, bound) for target in targets) else moves
        return
    hold_descriptors()
    free = [fd for fd in _held if fd < bound and fd not in targets]
    if len(sources) > len(free) or any(_reaches(target, bound) for target in targets):
        yield None
        return
    with _copied(dict(zip(sources, free, strict=False))) as places:
        yield tuple((places.get(source, source), target) for source, target in moves)


def _reaches(fd: int, bound: int) -> bool:
    return bound != resource.RLIM_INFINITY and fd >= bound


@contextmanager
def _copied(places: dict[int, int]) -> Iterator[dict[int, int]]:
    try:
        _copy(places.items())
        yield places
    finally:
        _copy((shared_null(), place) for place in places.values())


def _copy(pairs: Iterable[tuple[int, int]]) -> None:
    for source, place in pairs:
        os.dup2(source, place, inheritable=False)
