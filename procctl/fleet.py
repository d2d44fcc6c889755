"""One verb on several hosts, side by side: a process for each, and their answers brought together.

Owns the waiting for all of them, the marking of each line with its host, and the exit status of the whole.  It
must not know a verb, but for `status`, whose answers become one table.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol

from procctl import exit_codes
from procctl.commands import ONE_HOST_VERBS
from procctl.console import colours_wanted, end_in_order_at_sigterm, to_json, width, write
from procctl.render import escaped, escaped_output, status_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from procctl.console import Invocation

PIECE_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024
"""A line that is longer is passed on in parts; a `status` of 30,000 programs is not."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2

_WORST_FIRST = (
    exit_codes.USAGE,
    exit_codes.UNREACHABLE,
    exit_codes.TIMED_OUT,
    exit_codes.NOT_PERMITTED,
    exit_codes.NO_SUCH_PROGRAM,
    exit_codes.FAILED,
    exit_codes.NOT_RUNNING,
    exit_codes.DONE,
)


def run(
    arguments: Sequence[str], invocation: Invocation, carry_out: Callable[[Sequence[str], str], int]
) -> int:
    """Carry out a command line on each of its hosts; the exit status of all together.

    `carry_out` does it for one host, in a process that is made for that.
    """
    if invocation.verb in ONE_HOST_VERBS:
        sys.stderr.write(f"procctl: {invocation.verb} is for one host\nsay -H once\n")
        return exit_codes.USAGE
    as_table = invocation.verb in {"", "status"} and not invocation.json
    show = _Table(invocation.hosts) if as_table else _lines(invocation)
    options = ["--json", *arguments] if as_table else arguments
    end_in_order_at_sigterm()
    hosts = [_Host(name, lambda name=name: carry_out(options, name)) for name in invocation.hosts]  # type: ignore[misc]
    try:
        _read_all(hosts, show)
    finally:
        for host in hosts:
            host.end()
    show.end()
    return of_all(host.exit_code for host in hosts)


def of_all(codes: Iterable[int]) -> int:
    """The exit status that stands for those of several hosts: the worst, as ordered above.

    One that is not among them, such as that of a program that was run, counts as a failure.
    """
    found = {code if code in _WORST_FIRST else exit_codes.FAILED for code in codes}
    return next(code for code in _WORST_FIRST if code in found)


class _Show(Protocol):
    """What becomes of the lines of the hosts."""

    def line(self, host: str, stream: int, line: str) -> None:
        """Take a line that was written for standard output or standard error."""

    def end(self) -> None:
        """All hosts are done."""


class _Lines:
    """Each line behind its host, as it comes; the hosts' names take the same room."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._width = max(map(len, hosts)) + 1

    def line(self, host: str, stream: int, line: str) -> None:
        said = line.removeprefix("procctl: ") if stream == _STDERR else line
        if sys.stdout.isatty():
            said = escaped_output(said)
        text = f"{f'{host}:':<{self._width}} {said}"
        if stream == _STDERR:
            _write_error(text)
        else:
            write(f"{text}\n")

    def end(self) -> None:
        pass


class _JsonLines:
    """Each answer, and each error, with the key `host` before its own."""

    def line(self, host: str, stream: int, line: str) -> None:
        text = to_json({"host": host, **_map_in(line)})
        if stream == _STDERR:
            _write_error(text.removesuffix("\n"))
        else:
            write(text)

    def end(self) -> None:
        pass


class _Table:
    """The programs of all hosts in one table, when all have answered; who did not is one line each."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._records: dict[str, list[dict[str, Any]]] = {host: [] for host in hosts}
        self._errors: list[str] = []

    def line(self, host: str, stream: int, line: str) -> None:
        said = _map_in(line)
        if stream == _STDERR:
            self._errors.append(f"{host}: {escaped(said.get('message'))}")
        else:
            self._records[host] = [{"host": host, **record} for record in said.get("programs", ())]

    def end(self) -> None:
        records = [record for each in self._records.values() for record in each]
        if records:
            write(status_table(records, colour=colours_wanted(), width=width()))
        for error in self._errors:
            _write_error(f"procctl: {error}")


def _map_in(line: str) -> dict[str, Any]:
    """The map that a line of JSON is; what else a process may say, such as a traceback, is a message."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"code": "FAILED", "message": line, "hint": "", "data": {}}


def _lines(invocation: Invocation) -> _Show:
    return _JsonLines() if invocation.json else _Lines(invocation.hosts)


def _write_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class _Host:
    """A process of ours that carries out the command line on one host."""

    def __init__(self, name: str, action: Callable[[], int]) -> None:
        self.name = name
        self.exit_code = exit_codes.FAILED
        ours_out, theirs_out = os.pipe()
        ours_err, theirs_err = os.pipe()
        # A copy of this process: one thread, nothing open but the standard streams, and no start to wait for.
        self._pid = os.fork()
        if not self._pid:
            _become(action, {_STDOUT: theirs_out, _STDERR: theirs_err})
        os.close(theirs_out)
        os.close(theirs_err)
        self.readers = (_Reader(self.name, _STDOUT, ours_out), _Reader(self.name, _STDERR, ours_err))

    def end(self) -> None:
        """Learn how it ended; it is told to, if it has not."""
        left = [reader for reader in self.readers if not reader.over]
        if left:
            os.kill(self._pid, signal.SIGTERM)
        for reader in left:
            reader.close()
        _, status = os.waitpid(self._pid, 0)
        self.exit_code = os.waitstatus_to_exitcode(status)


class _Reader:
    """One stream of a host, cut into lines."""

    def __init__(self, host: str, stream: int, fd: int) -> None:
        self.host = host
        self.stream = stream
        self.fd = fd
        self.over = False
        self._held = b""

    def read(self, tell: Callable[[str, int, str], None]) -> bool:
        """Tell the lines that are whole now, the last one also without a newline; False at the end."""
        piece = os.read(self.fd, PIECE_BYTES)
        self._held += piece
        if not piece or len(self._held) > MAX_LINE_BYTES:
            lines, self._held = self._held.removesuffix(b"\n").split(b"\n") if self._held else [], b""
        else:
            *lines, self._held = self._held.split(b"\n")
        for line in lines:
            tell(self.host, self.stream, line.decode(errors="backslashreplace"))
        return bool(piece)

    def close(self) -> None:
        """Read no more."""
        self.over = True
        os.close(self.fd)


def _become(action: Callable[[], int], streams: dict[int, int]) -> None:
    """In the copy: carry out the command line, and end.  Its standard input is empty."""
    code = exit_codes.FAILED
    try:
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for fd, target in {nowhere: _STDIN, **{theirs: stream for stream, theirs in streams.items()}}.items():
            os.dup2(fd, target)
        code = action()
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - this is the top of the copy, and says what would end it
        sys.excepthook(*sys.exc_info())
    finally:
        # Not sys.exit: what the original has set up for its own end is not the copy's to carry out.
        os._exit(code)


def _read_all(hosts: Sequence[_Host], show: _Show) -> None:
    with selectors.DefaultSelector() as selector:
        for host in hosts:
            for each in host.readers:
                selector.register(each.fd, selectors.EVENT_READ, each)
        while selector.get_map():
            for key, _ in selector.select():
                reader: _Reader = key.data
                if not reader.read(show.line):
                    selector.unregister(reader.fd)
                    reader.close()
