"""One process that the keeper keeps running, and the channel to it.

Owns its start, when it is to be started again, what is still to be sent to it, and how long it has not
answered.  Must not know what is done about its messages.
"""

from __future__ import annotations

import os
import resource
import signal
from collections import deque

from procd.keeper import messages
from procd.keeper.messages import GONE, LATER, LATER_UNTOLD, SENT
from procd.keeper.table import Table

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

    from procd.keeper.ring import RingReader
    from procd.keeper.table import Room

#: A child that lived as long is started again at once; one that dies younger a second time in a row waits.
YOUNG_S = 10.0
FIRST_WAIT_S = 0.1
#: When so many answers wait for a child, nothing more is read from it.
MOST_ANSWERS = 1024
#: Variables that are the service manager's word to the keeper alone (sd_notify(3), sd_listen_fds(3)).
NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
#: The argument that says what score for the OOM killer the children get (`launch.command`).
OOM_SCORE = "oom_score_adj="
#: Signals that Python ignores, which would stay so after exec.
_IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")


class Child:
    """A child by name; `pid` is 0 while there is no process, `channel` is None while nothing is to come."""

    __slots__ = (
        "_answers",
        "_pending",
        "aborted",
        "argv",
        "channel",
        "complained",
        "ever_up",
        "greeted",
        "handing_over",
        "killed",
        "last_end",
        "name",
        "oom_score_adj",
        "pid",
        "ring",
        "start_at_s",
        "started_s",
        "starts",
        "table",
        "unanswered_s",
        "up",
        "young_deaths",
    )

    def __init__(self, name: str, argv: list[str], room: Room) -> None:
        self.name = name
        self.argv = argv
        self.table = Table(room)
        self.channel: socket.socket | None = None
        #: Where it says what is not to wake us.
        self.ring: RingReader | None = None
        self.pid = 0
        self.starts = 0
        self.young_deaths = 0
        self.started_s = 0.0
        #: When it is to be started, while there is no process.
        self.start_at_s = 0.0
        #: Since when it owes an answer; 0 if it does not.
        self.unanswered_s = 0.0
        #: It was sent SIGABRT, SIGKILL, because it did not answer.
        self.aborted = self.killed = False
        #: It said HELLO, it said UP; one of its processes ever did.
        self.greeted = self.up = self.ever_up = False
        #: END is still to be said.
        self.handing_over = False
        #: Its nonsense was spoken of.
        self.complained = False
        #: Its score for the OOM killer (proc_pid_oom_score_adj(5)), where that is not the keeper's.
        self.oom_score_adj: int | None = None
        #: How its last process ended, in words.
        self.last_end = ""
        self._answers: deque[bytes] = deque()
        # A dict for its order: keys whose records it has not been sent yet.
        self._pending: dict[bytes, None] = {}

    # Its process

    def start(self, now: float, limits: Iterable[tuple[int, tuple[int, int]]]) -> None:
        """Start it, with these resource limits.  Raises OSError when there is no room for another process."""
        ours, theirs = messages.channel()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            self._become(theirs.fileno(), limits)
        theirs.close()
        self.channel, self.pid, self.started_s, self.unanswered_s = ours, pid, now, now
        self.starts += 1
        self.aborted = self.killed = self.greeted = self.up = self.handing_over = self.complained = False
        self._answers.clear()
        self._pending.clear()

    def _become(self, channel_fd: int, limits: Iterable[tuple[int, tuple[int, int]]]) -> None:
        """In the forked process: execute the program, or say why not and end."""
        try:
            # Not the keeper's terminal: Ctrl-C is for the keeper, which passes it on.
            os.setsid()
            signal.set_wakeup_fd(-1)
            for name in _IGNORED_BY_PYTHON:
                signal.signal(signal.Signals[name], signal.SIG_DFL)
            for limit, values in limits:
                try:
                    resource.setrlimit(limit, values)
                except (OSError, ValueError):
                    # Somebody has lowered ours since.  Another limit is better than nobody who supervises.
                    continue
            if self.oom_score_adj is not None:
                _write_oom_score(self.oom_score_adj)
            # From a number that is not its target: dup2 would leave close-on-exec as it is otherwise.
            os.dup2(os.dup(channel_fd), messages.CHANNEL_FD, inheritable=True)
            os.execvpe(self.argv[0], self.argv, environment(os.environ))  # noqa: S606 - this is what it is for
        except BaseException as error:  # noqa: BLE001 - whatever returned from here would be a second keeper
            os.write(2, f"procd: {self.name}: cannot start {self.argv[0]}: {error}\n".encode(errors="replace"))
        finally:
            os._exit(127)

    def ended(self, now: float, why: str, longest_s: float) -> None:
        """There is no process any more (or it could not be started): plan the next, in `longest_s` at most."""
        young = now - self.started_s < YOUNG_S
        self.young_deaths = self.young_deaths + 1 if young else 0
        wait = FIRST_WAIT_S * 2 ** min(self.young_deaths - 2, 16) if self.young_deaths > 1 else 0.0
        self.start_at_s = now + min(wait, longest_s)
        self.pid = 0
        self.up = self.greeted = False
        self.unanswered_s = 0.0
        self.last_end = why

    def signal(self, number: int) -> None:
        """Signal it, if there is a process; it is our child and not reaped, so the number is its own."""
        if self.pid:
            os.kill(self.pid, number)

    # What it is told

    def answer(self, verb: int, key: bytes = b"", value: bytes = b"") -> None:
        """Tell it something."""
        self._answers.append(messages.encode(verb, key, value))

    def tell(self, keys: Iterable[bytes]) -> None:
        """Tell it of records, when it has asked for what is kept."""
        if self.greeted:
            self._pending.update(dict.fromkeys(keys))

    @property
    def pending(self) -> list[bytes]:
        """Keys of records that it has not been sent yet."""
        return list(self._pending)

    @property
    def answers(self) -> list[bytes]:
        """Other messages that it has not been sent yet."""
        return list(self._answers)

    def resume(self, answers: Iterable[bytes], pending: Iterable[bytes]) -> None:
        """Take over what an earlier keeper had not sent."""
        self._answers.extend(answers)
        self._pending.update(dict.fromkeys(pending))

    @property
    def overfull(self) -> bool:
        """It does not read what it is told, so it shall not be listened to either."""
        return len(self._answers) > MOST_ANSWERS

    def flush(self) -> int:
        """Send what can be sent: SENT if that was all, LATER or LATER_UNTOLD otherwise (see messages.send)."""
        if self.channel is None:
            return SENT
        while True:
            keys, datagram, fds, answers = self._next()
            if not datagram:
                return SENT
            outcome = messages.send(self.channel, datagram, fds)
            if outcome in {LATER, LATER_UNTOLD}:
                return outcome
            if outcome == GONE:
                # Its end will be noticed where it is read from.
                self._answers.clear()
                self._pending.clear()
                return SENT
            for _ in range(answers):
                self._answers.popleft()
            for key in keys:
                del self._pending[key]
            if not self._pending:
                self._say_end()

    def _say_end(self) -> None:
        if self.handing_over:
            self.handing_over = False
            self.answer(messages.END)

    def _next(self) -> tuple[list[bytes], bytes, list[int], int]:
        """The next datagram: the keys in it, its bytes and descriptors, how many of the answers are in it."""
        parts: list[bytes] = []
        keys: list[bytes] = []
        fds: list[int] = []
        size = answers = 0
        for part in self._answers:
            if size + len(part) > messages.MOST_DATAGRAM_BYTES:
                return keys, b"".join(parts), fds, answers
            parts.append(part)
            size += len(part)
            answers += 1
        for key in self._pending:
            record = self.table.get(key)
            if record is not None:
                value, its_fds = record
                size += messages.HEADER.size + len(key) + len(value)
                if size > messages.MOST_DATAGRAM_BYTES or len(fds) + len(its_fds) > messages.MOST_FDS:
                    break
                parts.append(messages.encode(messages.RECORD, key, value, len(its_fds)))
                fds += its_fds
            keys.append(key)
        if keys and not parts:
            # All of them were dropped meanwhile.
            self._pending.clear()
            self._say_end()
            return self._next()
        return keys, b"".join(parts), fds, answers

    def hand_over(self) -> None:
        """Tell it of everything that is kept, and of the end of that."""
        self.greeted = True
        self._pending = dict.fromkeys(self.table)
        self.handing_over = True
        if not self._pending:
            self._say_end()


def _write_oom_score(score: int) -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - pathlib is not small
            file.write(str(score))
    except OSError:
        # No /proc: then ours was not lowered either.
        return


def in_words(status: int) -> str:
    """How a process ended, as its wait status (wait(2)) says."""
    if not os.WIFSIGNALED(status):
        return f"exited with {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    named = {each.value: each.name for each in signal.Signals}
    return f"was killed by {named.get(number, f'signal {number}')}"


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What a child finds in its environment."""
    kept = {name: value for name, value in given.items() if name not in NOT_INHERITED}
    kept[messages.CHANNEL_VARIABLE] = str(messages.CHANNEL_FD)
    return kept
