"""Whatever a child says, the keeper lives on, leaks nothing, and forgets nobody else's records."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.keeper_world import World, world

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds of random datagrams; more where somebody has the time.
FUZZ_S = float(os.environ.get("PROCD_FUZZ_S", "5"))

#: Random datagrams with random descriptors: noise, and messages with wrong lengths, counts and verbs.
FUZZ = """
import random, struct
def fuzz(seed, seconds):
    chance = random.Random(seed)
    pipes = [fd for _ in range(8) for fd in os.pipe()]
    until_s, sent = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        for _ in range(200):
            sent += 1
            parts = []
            for _ in range(chance.choice((1, 1, 2, 30))):
                key = bytes(chance.choices(b'ab/logger', k=chance.choice((0, 1, 2, 9))))
                key = chance.choice((key, b'logger/' + key, b'supervisor/' + key))
                value = chance.randbytes(chance.choice((0, 1, 30, 2000)))
                verb, count = chance.randrange(30), chance.choice((0, 0, 1, 2, 255))
                lengths = len(key), len(value)
                if chance.random() < 0.1:
                    lengths = chance.randrange(999), chance.randrange(2**32)
                if verb in (9, 10):  # FINISH and UPGRADE would do what they say
                    verb = 3
                parts.append(struct.pack('=BBHI', verb, count, *lengths) + key + value)
            noise = chance.randbytes(chance.randrange(300)), b''
            data = chance.choice((b''.join(parts),) * 9 + noise)[:65000]
            fds = chance.choices(pipes, k=chance.choice((0, 0, 1, 2, 3, 20)))
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f'{len(fds)}i', *fds))] if fds else []
            try:
                channel.sendmsg([data], rights, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno != 109:  # ETOOMANYREFS: too many are on their way, which is our own fault
                    raise
            try:
                while True:
                    _, got, _, _ = channel.recvmsg(70000, 4096, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
                    for _, _, rights in got:
                        for (fd,) in struct.iter_unpack('i', rights):
                            os.close(fd)
            except BlockingIOError:
                pass
    for fd in pipes:
        os.close(fd)
    return sent
"""

#: Asks, and does not listen, until nothing more is taken for half a second.
FLOOD = """
import struct
def flood():
    asked, last_s = 0, time.monotonic()
    while time.monotonic() < last_s + 0.5:
        try:
            channel.send((struct.pack('=BBHI', 7, 0, 0, 200) + bytes(200)) * 100, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        asked, last_s = asked + 100, time.monotonic()
    return asked
"""


@pytest.fixture
def kept() -> Iterator[World]:
    """A keeper with a supervisor that behaves, and a logger that does not."""
    with world() as made:
        made.start({name: made.scripted(name) for name in ("supervisor", "logger")}, beat=3600)
        yield made


def test_random_datagrams_do_no_harm(kept: World) -> None:
    """Neither does it die, nor hold a descriptor or a page more; other records are as they were."""
    supervisor, logger = kept.up(), kept.up("logger")
    for life in (supervisor, logger):
        life("line.put('precious', b'value', os.pipe())")
        life("sync()")
        life(f"exec({FUZZ!r}, globals())")
    descriptors = kept.descriptors()
    sent, seed, memory_kib = 0, 0, 0
    began = time.monotonic()
    while seed < 2 or time.monotonic() < began + FUZZ_S:
        seed += 1
        for life in (supervisor, logger):
            sent += life(f"fuzz({seed}, 1)")
            # What was kept is bounded by the number of keys, and can be dropped.
            life("recall()")
            life("keys = {*records, *incomplete} - {'precious', 'keeper'}")
            life("[line.drop(key) for key in keys] and None")
            life("[os.close(fd) for _, fds in records.values() for fd in fds] and None")
            life("(records.clear(), incomplete.clear(), sync())")
        memory_kib = memory_kib or kept.memory_kib()
    assert sent > 1000
    assert kept.keeper is not None
    assert kept.keeper.poll() is None
    assert kept.descriptors() == descriptors
    assert kept.memory_kib() <= memory_kib + 1024
    for life in (supervisor, logger):
        life("recall()")
        assert life("records['precious'][0], len(records['precious'][1])") == (b"value", 2)
    assert "Error" not in kept.said()


def test_a_child_that_never_reads_is_not_listened_to(kept: World) -> None:
    """Its questions wait with it, not in the keeper's memory."""
    supervisor, logger = kept.up(), kept.up("logger")
    memory_kib = kept.memory_kib()
    logger(f"exec({FLOOD!r}, globals())")
    assert logger("flood()") > 1000
    assert kept.memory_kib() <= memory_kib + 4096
    assert supervisor("sync()") is None
    assert logger("sync()") is None


def test_long_and_empty_datagrams_are_no_end(kept: World) -> None:
    """A datagram that is longer than is allowed, or has no byte, is not taken for the end of a channel."""
    supervisor, logger = kept.up(), kept.up("logger")
    logger("channel.send(b'')")
    logger("channel.send(bytes(100000))")
    logger("channel.send(b'')")
    assert logger("sync()") is None
    assert supervisor("sync()") is None
    kept.until_said("says what is no message")


def test_only_the_supervisor_may_end_and_upgrade(kept: World) -> None:
    """A logger that was taken over by what it parses must not end the programs."""
    supervisor, logger = kept.up(), kept.up("logger")
    logger("line.finish(0)")
    logger("line.upgrade()")
    logger("line.give('supervisor', 'key', b'', (0,))")
    logger("sync()")
    assert len(logger("refused")) == 3
    logger.kill()
    kept.up("logger")
    assert supervisor("sync()") is None


def test_descriptors_of_messages_that_take_none_are_closed(kept: World) -> None:
    """Also those of a datagram that is none."""
    supervisor = kept.up()
    kept.up("logger")
    before = kept.descriptors()
    supervisor("import array")
    supervisor("rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0, 1, 2]))]")
    for data in ("bytes(3)", "b'\\x07\\x03' + bytes(6)", "b'\\x03\\x01' + bytes(6)", "b''"):
        supervisor(f"channel.sendmsg([{data}], rights)")
    supervisor("sync()")
    # One was asked to be kept, under the empty key.
    assert kept.descriptors() == before + 1
