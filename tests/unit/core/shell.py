"""A shell that carries out what the machine decides, in virtual time, as badly as a real one can.

Processes start or do not, live as long as they like, obey signals or not, leave others behind, hang in the
kernel.  Answers take their time, and some come when nobody waits for them any more.  Whatever happens is drawn
from one source of chance, so a history can be had again.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from procd.core import (
    Action,
    AwaitEmpty,
    AwaitReady,
    BecameReady,
    CancelHook,
    CheckFailed,
    CheckPassed,
    Died,
    Emptied,
    Exit,
    Exited,
    Forget,
    Hook,
    HookEnded,
    KillTree,
    Publish,
    RunHook,
    Signal,
    Spawn,
    SpawnFailed,
    SpawnSucceeded,
    State,
    WatchHealth,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from procd.core import Event, Machine

ENDS = (Exit(code=0), Exit(code=0), Exit(code=1), Exit(code=3), Exit(signal=15), Exit(signal=9), Exit())


@dataclass(slots=True, eq=False)
class Life:
    """What exists of a program: its main process, and whether others will be left when that is gone."""

    spawned: bool = False
    alive: bool = True
    leaves_others: bool = False
    hangs: bool = False
    awaited: bool = False


class Shell:
    """Carries actions out in their order, not always at once, and answers through `submit`."""

    def __init__(self, machine: Machine, chance: Random, submit: Callable[[Event], None]) -> None:
        self.now = 0.0
        self.lives: dict[str, Life] = {}
        self.hooks: dict[str, tuple[Hook, object]] = {}
        self._machine = machine
        self._chance = chance
        self._submit = submit
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._todo: deque[Action] = deque()
        self._lags = False
        #: How many shells there were: what it waits for ends with it, processes do not.
        self._reign = 0

    # Time

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        """Do something after a delay."""
        self._serial += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._serial, what))

    def next(self) -> float | None:
        """When something happens next by itself."""
        return self._agenda[0][0] if self._agenda else None

    def turn(self) -> None:
        """Let the next thing happen."""
        at_s, _, what = heapq.heappop(self._agenda)
        self.now = max(self.now, at_s)
        what()

    def _soon(self) -> float:
        return self._chance.choice((0.0, 0.01, 0.3, 2.0))

    def _rarely(self) -> bool:
        return self._chance.random() < 0.04

    # Actions

    def take(self, actions: list[Action]) -> None:
        """Carry actions out behind those that are still to be carried out."""
        self._todo += actions
        if self._todo and not self._lags:
            if self._rarely():
                self._lags = True
                self.later(self._soon(), self._work)
            else:
                self._work()

    def _work(self) -> None:
        self._lags = True
        while self._todo:
            self._carry_out(self._todo.popleft())
        self._lags = False

    def _carry_out(self, action: Action) -> None:
        match action:
            case Spawn():
                self._spawn(action.name)
            case Signal():
                self._signal(action.name)
            case KillTree():
                self._kill(action.name)
            case AwaitEmpty():
                self._await_empty(action.name)
            case RunHook():
                self._run_hook(action)
            case CancelHook():
                self._cancel_hook(action.name)
            case AwaitReady():
                self._await_ready(action.name)
            case WatchHealth():
                self._watch_health(action.name)
            case Forget() | Publish():
                pass

    # Another machine

    def follow(self, machine: Machine) -> None:
        """Take another machine's word from now on."""
        self._machine = machine

    def owed(self) -> list[Spawn | RunHook]:
        """Say what was asked for, and would never be answered if this shell were to end now."""
        owed: list[Spawn | RunHook] = []
        for name, program in self._machine.programs.items():
            if program.spawning and name not in self.lives:
                owed.append(Spawn(name))
            elif program.hook is not None and name not in self.hooks:
                owed.append(RunHook(name, program.hook))
        return owed

    def die(self, machine: Machine, actions: list[Action], owed: list[Spawn | RunHook]) -> None:
        """Be another shell, which finds processes, and does not know what the one before still had to do.

        It carries out what the machine that goes on tells it, and answers what nobody else will answer.
        """
        self._machine = machine
        self._reign += 1
        self._todo.clear()
        for life in self.lives.values():
            life.awaited = False
        self.take(actions)
        for each in owed:
            if self._machine is not machine:
                return  # it has died again, and then all of this was owed once more
            if isinstance(each, RunHook):
                self._submit(HookEnded(each.name, each.hook, "nobody knows how it ended"))
            elif machine.programs[each.name].state is State.STARTING and self._chance.random() < 0.5:
                self._spawn(each.name)
            else:
                self._submit(SpawnFailed(each.name, "procd was killed before it was started"))

    # Lives

    def _spawn(self, name: str) -> None:
        assert name not in self.lives, f"{name} has a life already"
        assert name not in self.hooks, f"a hook of {name} still runs"
        life = self.lives[name] = Life()
        fails = self._chance.random() < 0.1

        def answer() -> None:
            if fails:
                del self.lives[name]
                self._submit(SpawnFailed(name, "exec: no such file"))
                return
            life.spawned = True
            life.leaves_others = self._chance.random() < 0.2
            lasts_s = self._chance.choice((0.01, 0.2, 1.5, 8.0, 90.0, 3600.0, 3600.0))
            self.later(lasts_s, lambda: self._die(name, life))
            self._submit(SpawnSucceeded(name, self._serial + 1000))

        if self._rarely():
            self.later(self._soon(), answer)
        else:
            answer()

    def _die(self, name: str, life: Life) -> None:
        if self.lives.get(name) is not life or not life.alive:
            return
        life.alive = False
        ended = self._chance.choice(ENDS)
        if self._machine.programs[name].state is State.STOPPING or self._chance.random() < 0.7:
            self._exit(name, life, ended)
        else:
            # Others of its group take their time.
            self._submit(Died(name))
            self.later(self._chance.choice((0.05, 0.5, 2.0)), lambda: self._exit(name, life, ended))

    def _exit(self, name: str, life: Life, ended: Exit) -> None:
        program = self._machine.programs[name]
        assert self.lives[name] is life
        if program.state is not State.STOPPING and not program.stuck:
            # Its group is killed at once; nobody waits for more after an end that nobody asked for.
            del self.lives[name]
        self._submit(Exited(name, ended))

    def _signal(self, name: str) -> None:
        life = self.lives.get(name)
        if life is not None and life.spawned and self._chance.random() < 0.7:
            self.later(self._soon(), lambda: self._die(name, life))

    def _kill(self, name: str) -> None:
        life = self.lives.get(name)
        if life is None or not life.spawned:
            return
        life.hangs = self._rarely()
        life.leaves_others = False
        takes_s = self._chance.choice((6.0, 60.0, 1e7)) if life.hangs else 0.02
        self.later(takes_s, lambda: self._end_killed(name, life))

    def _end_killed(self, name: str, life: Life) -> None:
        life.hangs = False
        if life.awaited:
            self._empty(name, life)
        else:
            self._die(name, life)

    def _await_empty(self, name: str) -> None:
        life = self.lives[name]
        assert not life.alive, f"{name} is not to be awaited while it lives"
        life.awaited = True
        reign = self._reign
        if not life.hangs and (not life.leaves_others or self._chance.random() < 0.5):
            self.later(self._soon(), lambda: self._see_empty(name, life, reign))

    def _see_empty(self, name: str, life: Life, reign: int) -> None:
        if reign == self._reign:
            self._empty(name, life)

    def _empty(self, name: str, life: Life) -> None:
        if self.lives.get(name) is life and not life.hangs:
            del self.lives[name]
            self._submit(Emptied(name, ("sleep (pid 7)",) if self._rarely() else ()))

    # Hooks

    def _run_hook(self, action: RunHook) -> None:
        name = action.name
        assert name not in self.hooks, f"{name} has a hook already"
        hooks = self._machine.programs[name].spec.hooks
        timeout_s = hooks.timeout_s if hooks is not None else 1.0
        this = self.hooks[name] = (action.hook, object())
        takes_s = timeout_s + self._chance.choice((8.0, 1e7)) if self._rarely() else self._soon()
        failure = "exited with status 1" if self._chance.random() < 0.2 else ""
        self.later(min(takes_s, 1e7), lambda: self._end_hook(name, this, failure))

    def _end_hook(self, name: str, this: tuple[Hook, object], failure: str) -> None:
        if self.hooks.get(name) is this:
            del self.hooks[name]
            self._submit(HookEnded(name, this[0], failure))

    def _cancel_hook(self, name: str) -> None:
        this = self.hooks.get(name)
        if this is not None:
            takes_s = self._chance.choice((8.0, 1e7)) if self._rarely() else 0.01
            self.later(takes_s, lambda: self._end_hook(name, this, "killed by SIGKILL"))

    # Checks

    def _await_ready(self, name: str) -> None:
        reign = self._reign
        if self._chance.random() < 0.8:
            self.later(self._soon(), lambda: self._tell_ready(name, reign))

    def _watch_health(self, name: str) -> None:
        life, reign = self.lives.get(name), self._reign
        if life is not None and life.alive:
            self.later(0.5 + self._soon(), lambda: self._check(name, life, reign))

    def _check(self, name: str, life: Life, reign: int) -> None:
        if self.lives.get(name) is not life or reign != self._reign:
            return
        if self._chance.random() < 0.7:
            self._submit(CheckPassed(name))
        else:
            self._submit(CheckFailed(name, "refused", final=self._rarely()))
        self._watch_health(name)

    def _tell_ready(self, name: str, reign: int) -> None:
        if name in self._machine.programs and reign == self._reign:
            self._submit(BecameReady(name))
