"""How all that a supervisor has comes to another one: when the keeper is dead, or by an upgrade.

Owns the order of it: who has nothing yet does not supervise, and who has given everything away is gone at once.
Must not know what is recorded; everybody records what is theirs.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Protocol

import structlog

from procd import logging, start
from procd.beginning import READ_AGAIN, keep_lock, recorded
from procd.core import Cause
from procd.errors import Failed, ShuttingDown, WrongState
from procd.keeper.messages import UPGRADE_KEY
from procd.runtime.journal import actor_to_wire
from procd.runtime.present_memory import RecordedValues

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.spec import Configuration
    from procd.control import ControlServer
    from procd.core import Actor
    from procd.keeper.bequest import Bequest
    from procd.keeper.client import Memory
    from procd.runtime import Runtime
    from procd.runtime.event_log import EventLog
    from procd.runtime.logger import KeptLogger
    from procd.runtime.present_memory import PresentMemory

log = structlog.get_logger()

#: How long requests may still take when another supervisor is to come.
_REQUESTS_MAY_TAKE_S = 10.0
#: Seconds after which a procd that was started to take over has failed; doubled with each, up to the longest.
_SUCCESSOR_MAY_TAKE_S, _LONGEST_S = 10.0, 300.0
#: Seconds until it is tried again to wait for a successor.
_BEQUEST_AGAIN_S = 1.0


class Estate(Protocol):
    """What a supervisor has."""

    runtime: Runtime
    control: ControlServer
    logger: KeptLogger
    events: EventLog

    @property
    def configuration(self) -> Configuration:
        """What is in force."""

    @property
    def held(self) -> int:
        """The descriptor that holds the runtime directory."""


class Handover:
    """Gives an estate away, once.

    `keeper` is the one that has started us, and `about` what it says of itself; `memory` is where everybody
    records; `environ` is what another procd is started with.
    """

    def __init__(
        self,
        estate: Estate,
        keeper: Memory,
        memory: PresentMemory,
        about: Mapping[str, str],
        environ: Mapping[str, str],
    ) -> None:
        self._estate = estate
        self._keeper = keeper
        self._memory = memory
        self._about = about
        self._environ = environ
        self._bequest: Bequest | None = None
        self._upgrading = False
        #: Why the keeper is not upgraded, or nothing, as soon as it says so.
        self._answer: asyncio.Future[str] | None = None
        self._departure: asyncio.Task[None]

    # The keeper's death

    def keeper_lost(self) -> None:
        """Go on, and wait for a supervisor of another keeper, which takes over."""
        estate = self._estate
        log.error("keeper is gone: nobody would go on if this process ended", pid=os.getpid())
        estate.runtime.journal.note("keeper lost", None, pid=os.getpid())
        estate.runtime.around.cgroups.withdraw()
        estate.logger.keeper_lost()
        self._answered("it is gone")
        self._wait_for_successor()
        if self._about.get("notify") != "1":
            # There is no service manager: nobody else would start another.
            self._start_successor(_SUCCESSOR_MAY_TAKE_S)

    def _start_successor(self, may_take_s: float) -> None:
        """Start a procd that is to take over; and another if it does not."""
        try:
            start.spawn(self._estate.configuration.files[0], self._environ)
        except OSError as error:
            log.error("no other procd can be started", reason=error.strerror)  # noqa: TRY400 - a traceback tells no more
        again_s = min(2 * may_take_s, _LONGEST_S)
        asyncio.get_running_loop().call_later(may_take_s, self._start_successor, again_s)

    def _wait_for_successor(self) -> None:
        from procd.keeper.bequest import SOCKET_NAME, Bequest  # noqa: PLC0415 - hardly ever

        loop = asyncio.get_running_loop()
        starts = int(self._about.get("starts", "1"))
        try:
            path = f"{self._estate.configuration.daemon.runtime_dir}/{SOCKET_NAME}"
            self._bequest = Bequest(loop, path, self._bequeath, starts=starts)
        except OSError as error:
            log.error("nobody can take over yet", reason=str(error))  # noqa: TRY400 - a traceback tells no more
            loop.call_later(_BEQUEST_AGAIN_S, self._wait_for_successor)
            return
        self._bequest.done.add_done_callback(_leave)

    async def _bequeath(self, memory: Memory) -> None:
        """Have another keeper know all that ours knew."""
        estate = self._estate
        self._memory.become(memory)
        keep_lock(memory, estate.held)
        recorded(memory, estate.configuration)
        memory.put(READ_AGAIN, b"")
        estate.control.keep()
        estate.runtime.bequeath()
        estate.events.again()
        estate.runtime.around.logs.bequeath()
        estate.logger.keep()
        await memory.settle()

    # An upgrade

    async def upgrade(self, actor: Actor) -> str:
        """Begin to go on as the program that is installed now; returns its version.

        Raises Failed when it could not go on, and WrongState; then nothing has changed.
        """
        if self._keeper.lost or self._upgrading:
            what = "there is no keeper" if self._keeper.lost else "an upgrade is under way"
            raise WrongState(f"{what}: procd cannot be upgraded now", "wait a moment")
        self._upgrading = True
        try:
            version = await self._rehearse()
            await self._upgrade_keeper()
        except Failed as error:
            log.warning("not upgraded", reason=f"{error}: {error.hint}")
            raise
        finally:
            self._upgrading = False
        log.info("procd is upgraded", version=version, reason=str(Cause("upgrade requested", actor)))
        self._estate.runtime.journal.note("upgrade", None, version=version, by=actor_to_wire(actor))
        # When this is answered.
        self._departure = asyncio.get_running_loop().create_task(self._make_way(version))
        return version

    async def _rehearse(self) -> str:
        """Have what is installed try to read all that it would get; its version.  Raises Failed."""
        from procd import rehearsal  # noqa: PLC0415 - hardly ever

        configuration, values = self._estate.configuration, RecordedValues()
        recorded(values, configuration)
        self._estate.runtime.record_in(values)
        return await rehearsal.ask(configuration.files[0], values.values, self._environ)

    async def _upgrade_keeper(self) -> None:
        """Have the keeper execute what is installed.  Raises Failed."""
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._keeper.on_upgraded = lambda: self._answered("")
        self._keeper.on_refused = lambda key, why: self._answered(why) if key == UPGRADE_KEY.decode() else None
        self._keeper.upgrade()
        why = await answer
        if why:
            raise Failed("the keeper that is installed cannot take over; nothing has changed", why)

    def _answered(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(why)

    async def _make_way(self, version: str) -> None:
        """Leave what is to be done to the supervisor that comes now."""
        await asyncio.sleep(0)
        reason = ShuttingDown(f"procd goes on as version {version}", "ask again")
        await self._estate.control.leave(reason, _REQUESTS_MAY_TAKE_S)
        self._memory.put(READ_AGAIN, b"")
        self._estate.runtime.keeping.flush()
        await self._memory.settle()
        logging.flush()
        os._exit(0)


def _leave(_: object) -> None:
    """End, without a trace: everything is somebody else's."""
    log.warning("another procd has taken over")
    logging.flush()
    os._exit(0)
