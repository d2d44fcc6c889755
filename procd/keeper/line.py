"""A child's end of its channel to the keeper, for any loop.

Owns what was not sent yet, and the values that are too large for a message.  Nothing here waits: what the
kernel does not take now is queued, one change for each key, so a keeper that stands still costs little.
"""

from __future__ import annotations

import os
import socket
from collections import OrderedDict

from procd.keeper import messages, ring
from procd.keeper.messages import GONE, HERE, IN_A_FILE, LATER_UNTOLD, SENT

TYPE_CHECKING = False  # the logger wants a small one, too
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

#: Longer values go in a file in memory.
_MOST_HERE_BYTES = messages.MOST_VALUE_BYTES - len(HERE)


NOTHING, ROOM, TIME = "nothing", "room", "time"


class Record:
    """What is kept under a key; the descriptors belong to whoever is given it."""

    __slots__ = ("fds", "key", "value")

    def __init__(self, key: str, value: bytes, fds: tuple[int, ...]) -> None:
        self.key = key
        self.value = value
        self.fds = fds

    def close(self) -> None:
        """Close its descriptors: nobody wants them."""
        messages.close_all(self.fds)

    def __repr__(self) -> str:
        return f"Record({self.key!r}, {len(self.value)} bytes, {self.fds})"


class _Unsent:
    """A message that waits, with descriptors of its own."""

    __slots__ = ("data", "fds", "silent")

    def __init__(self, data: bytes, fds: tuple[int, ...], *, silent: bool) -> None:
        self.data = data
        self.fds = fds
        #: Nobody has to be woken for it.
        self.silent = silent


def channel_of(environ: MutableMapping[str, str]) -> socket.socket | None:
    """The channel that the keeper has given us; None if there is no keeper.

    Takes the variable out, so that nobody else is told of it.
    """
    number = environ.pop(messages.CHANNEL_VARIABLE, "")
    if not number.isdecimal():
        return None
    channel = socket.socket(fileno=int(number))
    channel.set_inheritable(False)
    channel.setblocking(False)
    return channel


class Line:
    """The channel, without a loop: call `read` when it is readable, `flush` when `wants` says so.

    What the keeper tells arrives at `on_record`, `on_end`, `on_refused`, `on_synced`, `on_upgraded`, and
    `on_lost` when it is gone; then nothing is sent any more, and nothing more is told.  PINGs are answered in
    `read`: whoever does not come round to it is killed.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._unsent: OrderedDict[tuple[int, bytes], _Unsent] = OrderedDict()
        self._batching = self._collecting = 0
        #: For what wakes nobody; how far the keeper was told to read there; and how often it was asked to be
        #: another program and has not refused, which ends the use of the ring.
        self._ring: ring.RingWriter | None = None
        self._ring_told = 0
        self._upgrades = 0
        #: The keys of records that have descriptors.
        self._with_fds: set[bytes] = set()
        self.lost = False
        #: A record could not be received as a whole: there was no room for its descriptors.  The keeper has it.
        self.on_incomplete: Callable[[str], None] = _ignore
        self.on_record: Callable[[Record], None] = _close
        self.on_end: Callable[[], None] = _ignore
        self.on_refused: Callable[[str, str], None] = _ignore
        self.on_synced: Callable[[bytes], None] = _ignore
        self.on_upgraded: Callable[[], None] = _ignore
        self.on_lost: Callable[[], None] = _ignore
        #: NOTHING, ROOM (call `flush` when the channel is writable), or TIME (call it a little later).
        self.wants = NOTHING
        self.on_wants: Callable[[str], None] = _ignore

    def fileno(self) -> int:
        """The descriptor of the channel."""
        return self._channel.fileno()

    # What we say

    def put(self, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Have this kept under a key instead of what was; whether the keeper has it already.

        The descriptors stay ours.  Raises OSError where there is no room for a copy of them, or of a value.
        """
        return self._change(messages.PUT, key, value, fds)

    def give(self, child: str, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Have this kept for another child of the keeper, which is told at once; as `put`."""
        return self._change(messages.GIVE, f"{child}/{key}", value, fds)

    def drop(self, key: str) -> bool:
        """Have nothing kept under a key; whether the keeper knows already."""
        return self._say(messages.DROP, key.encode(errors="surrogateescape"))

    def pass_on(self, verb: int, key: bytes, value: bytes, fds: Sequence[int]) -> bool:
        """Say of a record what somebody else has said of it (PUT, DROP), as it is; as `put`."""
        return self._say(verb, key, value, fds)

    def hello(self) -> None:
        """Ask for everything that is kept: `on_record` for each, then `on_end`."""
        self._say(messages.HELLO, b"", str(messages.PROTOCOL).encode())

    def share_ring(self) -> None:
        """From now on wake the keeper only for what is more than a record; it has to know rings."""
        if self._ring is not None:
            return
        try:
            shared = ring.RingWriter()
        except OSError:
            return
        if self._say(messages.RING, b"", b"0", (shared.fd,)):
            self._ring = shared
        else:
            shared.close()

    def up(self) -> None:
        """Say that signals are welcome, and that from now on an answer is to be expected within seconds."""
        self._say(messages.UP)

    def sync(self, token: bytes) -> None:
        """Have `on_synced` called with the token (up to 255 bytes) when all before it is done."""
        self._say(messages.SYNC, b"", token)

    def notify(self, text: str) -> None:
        """Tell the service manager (sd_notify(3))."""
        self._say(messages.NOTIFY, b"", text.encode(errors="replace"))

    def finish(self, status: int) -> None:
        """Say that our end will be the end of all, with this exit status."""
        self._say(messages.FINISH, b"", str(status).encode())

    def upgrade(self) -> None:
        """Have the keeper become the program that is installed now: `on_upgraded`, or `on_refused`."""
        self._say(messages.UPGRADE)
        # The next program does not know the ring.
        self._upgrades += 1

    @property
    def settled(self) -> bool:
        """Whether the keeper has everything that was said."""
        return not self._unsent

    def batch(self) -> Batch:
        """In a `with`: what is said goes together, as far as a datagram goes; nobody dies in between.

        Descriptors are copied for that; where there is no room for a copy, they are sent at once, after what
        waits.
        """
        return Batch(self)

    def collect(self) -> Batch:
        """In a `with`: what is said may wait for the end, or for `send`; otherwise as `batch`."""
        return Batch(self, collects=True)

    def send(self) -> None:
        """Send what was collected: what is done next must not be done before that is known."""
        if self.wants == NOTHING:
            self.flush()

    def _change(self, verb: int, key: str, value: bytes, fds: Sequence[int]) -> bool:
        encoded = key.encode(errors="surrogateescape")
        if len(value) <= _MOST_HERE_BYTES:
            return self._say(verb, encoded, HERE + value, fds)
        file = os.memfd_create(f"procd-{key}"[:200], os.MFD_CLOEXEC)
        try:
            data = memoryview(value)
            while data:
                data = data[os.write(file, data) :]
            return self._say(verb, encoded, IN_A_FILE, (*fds, file))
        finally:
            os.close(file)

    def _say(self, verb: int, key: bytes = b"", value: bytes = b"", fds: Sequence[int] = ()) -> bool:
        data = messages.encode(verb, key, value, len(fds))
        if self.lost:
            return False
        silent = not self._wakes(verb, key, fds)
        waits = self._batching or self._collecting
        copies = self._copies_if_possible(fds) if waits else None
        if copies is None:
            if not self._unsent and ((silent and self._write(data)) or self._send(data, fds)):
                return not self.lost
            copies = _copies(fds)
        self._queue(verb, key, value, _Unsent(data, copies, silent=silent))
        return False

    def _wakes(self, verb: int, key: bytes, fds: Sequence[int]) -> bool:
        """Whether the keeper has to be woken for it; takes note of which records have descriptors."""
        if verb not in messages.IN_A_RING:
            return True
        # Somebody may wait for the end of a pipe that is closed by this.
        closes = key in self._with_fds
        if fds:
            self._with_fds.add(key)
        elif closes:
            self._with_fds.remove(key)
        return closes or bool(fds)

    def _copies_if_possible(self, fds: Sequence[int]) -> tuple[int, ...] | None:
        try:
            return _copies(fds)
        except OSError:
            self.send()
            return None

    def _queue(self, verb: int, key: bytes, value: bytes, unsent: _Unsent) -> None:
        if verb in {messages.PUT, messages.DROP, messages.GIVE}:
            # What comes later of one key replaces what waits, in its place: nothing is told later for it, and
            # the queue is no longer than there are keys.
            place = (messages.GIVE if verb == messages.GIVE else messages.PUT, key)
        else:
            place = (verb, value)
        replaced = self._unsent.get(place)
        if replaced is not None:
            messages.close_all(replaced.fds)
            unsent.silent &= replaced.silent
        self._unsent[place] = unsent

    def _write(self, data: bytes) -> bool:
        """Write silent messages into the ring; whether there is one, with room for them."""
        if self._ring is None or self._upgrades or not self._ring.write(data):
            return False
        if self._ring.written - self._ring_told > ring.SIZE // 2:
            self._send(b"", ())
        return True

    def _send(self, data: bytes, fds: Sequence[int]) -> bool:
        """Send a datagram; whether there is nothing more to be done about it."""
        written = 0 if self._ring is None else self._ring.written
        if written != self._ring_told:
            told = messages.encode(messages.RING, b"", str(written).encode())
            if len(told) + len(data) > messages.MOST_DATAGRAM_BYTES:
                return self._send(b"", ()) and self._send(data, fds)
            data = told + data
        outcome = messages.send(self._channel, data, fds)
        if outcome == SENT:
            self._ring_told = written
            return True
        if outcome == GONE:
            self._discard()  # `read` will tell
            return True
        self._want(TIME if outcome == LATER_UNTOLD else ROOM)
        return False

    def _want(self, what: str) -> None:
        if what != self.wants or what == TIME:
            self.wants = what
            self.on_wants(what)

    def flush(self) -> None:
        """Send what waits, as far as it goes."""
        while self._unsent:
            places, data, fds = self._next()
            silent = all(self._unsent[place].silent for place in places)
            if not (silent and self._write(data)) and not self._send(data, fds):
                return
            for place in places:
                sent = self._unsent.pop(place, None)
                if sent is not None:
                    messages.close_all(sent.fds)
        self._want(NOTHING)

    def _next(self) -> tuple[list[tuple[int, bytes]], bytes, list[int]]:
        """As many messages as fit into a datagram."""
        places, parts, fds, size = [], [], list[int](), 0
        for place, unsent in self._unsent.items():
            size += len(unsent.data)
            if size > messages.MOST_DATAGRAM_BYTES or len(fds) + len(unsent.fds) > messages.MOST_FDS:
                break
            places.append(place)
            parts.append(unsent.data)
            fds += unsent.fds
        return places, b"".join(parts), fds

    def _discard(self) -> None:
        for unsent in self._unsent.values():
            messages.close_all(unsent.fds)
        self._unsent.clear()
        self._want(NOTHING)

    # What we hear

    def read(self, most: int = 64) -> bool:
        """Take up to so many datagrams; whether there may be more."""
        for _ in range(most):
            if self.lost:
                return False
            try:
                received = messages.receive(self._channel)
            except BlockingIOError:
                return False
            if received is None:
                self._be_lost()
                return False
            self._hear(*received)
        return True

    def _be_lost(self) -> None:
        self.lost = True
        self._discard()
        self._leave_ring()
        self.on_lost()

    def _hear(self, datagram: bytes, fds: list[int]) -> None:
        taken = 0
        try:
            for verb, key, value, wanted in messages.decode(datagram):
                its_fds = tuple(fds[taken : taken + wanted])
                taken += len(its_fds)
                if verb == messages.RECORD:
                    self._record(
                        key.decode(errors="surrogateescape"), value, its_fds, whole=len(its_fds) == wanted
                    )
                else:
                    messages.close_all(its_fds)
                    self._told(verb, key, value)
        finally:
            messages.close_all(fds[taken:])

    def _told(self, verb: int, key: bytes, value: bytes) -> None:
        match verb:
            case messages.PING:
                self._say(messages.PONG)
            case messages.END:
                self.on_end()
            case messages.REFUSED:
                self._upgrades -= key == messages.UPGRADE_KEY
                self.on_refused(key.decode(errors="surrogateescape"), value.decode(errors="replace"))
            case messages.SYNCED:
                self.on_synced(value)
            case messages.UPGRADED:
                self.on_upgraded()
            case _:
                # A newer keeper may say more than we know.
                return

    def _record(self, key: str, value: bytes, fds: tuple[int, ...], *, whole: bool) -> None:
        if not whole or (value[:1] == IN_A_FILE and not fds):
            messages.close_all(fds)
            self.on_incomplete(key)
            return
        if value[:1] == IN_A_FILE:
            *others, file = fds
            value = IN_A_FILE + _contents(file)
            os.close(file)
            fds = tuple(others)
        if fds:
            self._with_fds.add(key.encode(errors="surrogateescape"))
        self.on_record(Record(key, value[1:], fds))

    def close(self) -> None:
        """Say nothing more, and hear nothing."""
        self.lost = True
        self._discard()
        self._leave_ring()
        self._channel.close()

    def _leave_ring(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None


class Batch:
    """While it is entered, what is said is collected; it is sent at the end of the outermost."""

    __slots__ = ("_collects", "_line")

    def __init__(self, line: Line, *, collects: bool = False) -> None:
        self._line = line
        self._collects = collects

    def __enter__(self) -> None:
        self._count(1)

    def __exit__(self, *_: object) -> None:
        self._count(-1)
        line = self._line
        if not line._batching and not line._collecting:  # noqa: SLF001 - the other half of Line
            line.send()

    def _count(self, more: int) -> None:
        if self._collects:
            self._line._collecting += more  # noqa: SLF001 - as above
        else:
            self._line._batching += more  # noqa: SLF001 - as above


def _copies(fds: Sequence[int]) -> tuple[int, ...]:
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))  # noqa: PERF401 - those that were made have to be closed
    except OSError:
        messages.close_all(copies)
        raise
    return tuple(copies)


def _contents(file: int) -> bytes:
    size = os.fstat(file).st_size
    parts = []
    at = 0
    while at < size:
        part = os.pread(file, size - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _close(record: Record) -> None:
    record.close()


def _ignore(*_: object) -> None:
    """Nobody wants to know."""
