"""The streams of a connection: each has a number, an end, and a bound."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from procd.control.streams import MAX_STREAMS, Streams
from procd.errors import TooLarge
from tests.kernel.children import in_loop, until
from tests.unit.control.outlet import Outlet


class Endless:
    """A source that says one word, and then nothing until it is closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.begun = False

    async def run(self, number: int, outlet: Outlet) -> None:
        """Speak."""
        self.begun = True
        outlet.notify("stream.data", [number, {"word": number}])
        await asyncio.Event().wait()

    def send_rest(self, number: int, outlet: Outlet) -> None:
        """Have a last word."""
        outlet.notify("stream.data", [number, {"last word": number}])

    def close(self) -> None:
        """Count."""
        self.closed += 1


@in_loop
async def test_a_cancelled_stream_says_nothing_more_and_lets_go() -> None:
    """Also one that had not begun; a second time there is nothing to cancel."""
    outlet = Outlet()
    streams = Streams(outlet)
    unborn, running = Endless(), Endless()
    number = streams.begin(unborn)
    assert streams.cancel(number)
    assert not streams.cancel(number)
    number = streams.begin(running)
    await until(lambda: running.begun)
    assert streams.cancel(number)
    await until(lambda: running.closed and unborn.closed)
    assert not unborn.begun
    assert not streams.any()
    assert outlet.sent == [("stream.data", {"word": 2})]
    # Whoever cancels knows that it is over.
    assert outlet.ended == 0


@in_loop
async def test_one_stream_too_many_is_refused_and_closed() -> None:
    """And one that ends makes room; no number comes twice."""
    streams = Streams(Outlet())
    numbers = [streams.begin(Endless()) for _ in range(MAX_STREAMS)]
    excess = Endless()
    with pytest.raises(TooLarge, match=f"{MAX_STREAMS} streams"):
        streams.begin(excess)
    assert excess.closed == 1
    streams.cancel(numbers[0])
    assert streams.begin(Endless()) == MAX_STREAMS + 1
    streams.close()
    await asyncio.sleep(0)


@in_loop
async def test_a_stream_that_fails_says_so() -> None:
    """An error of the system in its own words, a mistake of ours as one; neither escapes into the loop."""

    class Broken(Endless):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        async def run(self, number: int, outlet: Outlet) -> None:  # noqa: ARG002
            raise self.error

        def send_rest(self, number: int, outlet: Outlet) -> None:  # noqa: ARG002
            raise self.error

    outlet = Outlet()
    streams = Streams(outlet)
    with capture_logs() as logged:
        streams.begin(Broken(OSError(5, "Input/output error")))
        await until(lambda: outlet.reason == "the log cannot be read: Input/output error")
        streams.begin(Broken(RuntimeError("ours")))
        await until(lambda: outlet.reason == "procd made a mistake; its log has it")
        streams.begin(Broken(OSError(5, "Input/output error")))
        streams.send_rest()
        streams.close()
    assert [line["event"] for line in logged] == ["log cannot be read", "stream failed", "log cannot be read"]
    assert outlet.ended == 2
    await asyncio.sleep(0)


@in_loop
async def test_the_last_words_of_all_streams_are_sent_without_waiting() -> None:
    """When procd ends, nobody waits for a peer that does not read."""
    outlet = Outlet()
    streams = Streams(outlet)
    streams.begin(Endless())
    streams.begin(Endless())
    streams.send_rest()
    assert outlet.sent == [("stream.data", {"last word": 1}), ("stream.data", {"last word": 2})]
    streams.close()
    await asyncio.sleep(0)
