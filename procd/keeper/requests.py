"""What children ask of the keeper: the messages of `messages`, carried out.

Owns nothing.  Children are procd's own, yet nothing that one says may end the keeper, leave a descriptor open
or take more room than is allowed.
"""

from __future__ import annotations

import os

from procd.keeper import messages
from procd.keeper.messages import BEQUEST_KEY, HERE, KEEPER_KEY
from procd.keeper.ring import RingReader
from procd.keeper.table import Refused

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    from procd.keeper.child import Child
    from procd.keeper.keeper import Keeper


def hear(keeper: Keeper, child: Child, datagram: bytes, fds: list[int], *, silently: bool = False) -> None:
    """Do what the messages of a datagram say, or of a ring; whatever descriptors are left over are closed."""
    taken = 0
    try:
        for verb, key, value, wanted in messages.decode(datagram):
            its_fds = tuple(fds[taken : taken + wanted])
            taken += len(its_fds)
            try:
                if not silently or verb in messages.IN_A_RING:
                    _obey(keeper, child, verb, key, value, its_fds, whole=len(its_fds) == wanted)
            except Refused as refused:
                child.answer(messages.REFUSED, key, str(refused).encode())
    except ValueError as error:
        _complain(keeper, child, error)
    finally:
        messages.close_all(fds[taken:])


def hear_ring(keeper: Keeper, child: Child, end: int | None = None) -> None:
    """Do what a child has said in its ring and was not heard yet; up to `end`, as it counts."""
    if child.ring is None:
        return
    try:
        said = child.ring.take(end)
    except ValueError as error:
        _complain(keeper, child, error)
        _close_ring(child)
    else:
        hear(keeper, child, said, [], silently=True)


def leave_ring(keeper: Keeper, child: Child) -> None:
    """Hear the last of a child's ring, whose next is another one."""
    hear_ring(keeper, child)
    _close_ring(child)


def _close_ring(child: Child) -> None:
    if child.ring is not None:
        child.ring.close()
        child.ring = None


def _complain(keeper: Keeper, child: Child, error: ValueError) -> None:
    """Say that a child talks nonsense, once for each of its lives."""
    if not child.complained:
        child.complained = True
        keeper.outside.say(f"{child.name} (PID {child.pid}) says what is no message: {error}")


def _obey(
    keeper: Keeper, child: Child, verb: int, key: bytes, value: bytes, fds: tuple[int, ...], *, whole: bool
) -> None:
    """Do what one message says.  The descriptors are taken over.  Raises Refused, and ValueError."""
    if not whole:
        messages.close_all(fds)
        raise Refused("there was no room for its descriptors")
    if verb == messages.PUT:
        child.table.put(key, value, fds)
    elif verb == messages.GIVE and child is keeper.first:
        _give(keeper, key, value, fds)
    elif verb == messages.RING and child is keeper.first:
        _ring(keeper, child, value, fds)
    else:
        messages.close_all(fds)
        do = _VERBS.get(verb) or _VERBS_OF_THE_FIRST.get(verb if child is keeper.first else 0)
        if do is None:
            raise Refused(f"{child.name} cannot ask for {verb}")
        do(keeper, child, key, value)


def _give(keeper: Keeper, key: bytes, value: bytes, fds: tuple[int, ...]) -> None:
    name, _, key = key.partition(b"/")
    for other in keeper.children:
        if other.name.encode() == name:
            other.table.put(key, value, fds)
            other.tell((key,))
            return
    messages.close_all(fds)
    raise Refused(f"there is no {name.decode(errors='replace')}")


def _ring(keeper: Keeper, child: Child, written: bytes, fds: tuple[int, ...]) -> None:
    if fds:
        leave_ring(keeper, child)
        child.ring = RingReader(fds[0])
        messages.close_all(fds[1:])
    hear_ring(keeper, child, int(written) if written.isdigit() else -1)


def _hello(keeper: Keeper, child: Child, _key: bytes, _protocol: bytes) -> None:
    if child is keeper.first:
        about = messages.lines(
            protocol=messages.PROTOCOL,
            pid=os.getpid(),
            notify=int(keeper.outside.listens),
            starts=child.starts + _starts_elsewhere(child),
            last_end=child.last_end,
            exits_lost=keeper.exits_lost,
            stopping=int(keeper.stopping >= 0),
            ring=1,
        )
        keeper.remember(KEEPER_KEY, about)
    child.hand_over()


def _starts_elsewhere(child: Child) -> int:
    """How many supervisors there were under the keepers before us."""
    value, _ = child.table.get(BEQUEST_KEY) or (HERE, ())
    starts = messages.fields(value[len(HERE) :]).get("starts", "")
    return int(starts) if starts.isdecimal() else 0


def _up(keeper: Keeper, child: Child, _key: bytes, _value: bytes) -> None:
    child.up = child.ever_up = True
    _pong(keeper, child, b"", b"")
    keeper.relay()


def _pong(_keeper: Keeper, child: Child, _key: bytes, _value: bytes) -> None:
    if not child.aborted:
        child.unanswered_s = 0.0


def _drop(_keeper: Keeper, child: Child, key: bytes, _value: bytes) -> None:
    child.table.drop(key)


def _sync(_keeper: Keeper, child: Child, _key: bytes, token: bytes) -> None:
    if len(token) > messages.MOST_KEY_BYTES:
        raise Refused("so long a token is not answered")
    child.answer(messages.SYNCED, b"", token)


def _notify(keeper: Keeper, _child: Child, _key: bytes, text: bytes) -> None:
    keeper.outside.notify(text)


def _finish(keeper: Keeper, _child: Child, _key: bytes, status: bytes) -> None:
    keeper.finish = int(status) & 0xFF


def _upgrade(keeper: Keeper, child: Child, _key: bytes, _value: bytes) -> None:
    try:
        keeper.rehearse()
    except Refused as refused:
        child.answer(messages.REFUSED, messages.UPGRADE_KEY, str(refused).encode())


_VERBS = {
    messages.HELLO: _hello,
    messages.UP: _up,
    messages.PONG: _pong,
    messages.DROP: _drop,
    messages.SYNC: _sync,
    messages.NOTIFY: _notify,
}
_VERBS_OF_THE_FIRST = {messages.FINISH: _finish, messages.UPGRADE: _upgrade}
