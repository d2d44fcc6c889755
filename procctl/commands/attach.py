"""`procctl attach`: at a program's terminal, or at its pipes, as if it ran in front of you."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from procctl import detach_keys as keys_of
from procctl import exit_codes
from procctl.attachment import Attachment, Line, Signalled, Signals
from procctl.completion import complete_instances
from procctl.invocation import Invocation, common_options, say, to_json, write
from procctl.log_output import OWN_STDOUT, open_output
from procctl.own_terminal import OwnTerminal, screen_size
from procctl.render import escaped
from procctl.terminal_modes import TerminalModes

if TYPE_CHECKING:
    from procctl.attachment import Ending
    from procctl.log_output import Output

OWN_STDIN = 0


class Keys(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """Names of keys, as what a keyboard sends for them."""

    name = "keys"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:  # noqa: ANN401 - click's signature
        """Read `ctrl-p,ctrl-q`."""
        if isinstance(value, bytes):
            return value
        try:
            return keys_of.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("program", shell_complete=complete_instances)
@click.option(
    "--detach-keys",
    type=Keys(),
    default=keys_of.DEFAULT,
    metavar="KEYS",
    help=f"What to type to leave the program running, '' for nothing.  [default: {keys_of.DEFAULT}]",
)
@click.option("--no-stdin", is_flag=True, help="Only look: nothing is sent, and Ctrl-C ends it.")
@common_options
@click.pass_obj
def attach(invocation: Invocation, program: str, *, detach_keys: bytes, no_stdin: bool) -> int:
    """Be at a program's terminal, or at its standard input and output.

    At a terminal, every key goes to the program and the window's size with it.  With pipes, lines do.  Ends
    when the keys to detach are typed, or with the program.
    """  # fmt: skip
    try:
        with Line(invocation.socket_path, invocation.timeout_s, host=invocation.host) as line:
            answer = line.call("attach", program=program, **screen_size(OWN_STDOUT, OWN_STDIN))
            front = Front(line, program, answer, typed=bool(answer["input"]) and not no_stdin)
            ending = front.stay(detach_keys, as_json=invocation.json)
    except Signalled as signalled:
        # As it would have ended without us: whoever sent it sees that.
        os.kill(os.getpid(), signalled.number)
        return 128 + signalled.number
    return _tell(ending, program, as_json=invocation.json)


def _tell(ending: Ending, program: str, *, as_json: bool) -> int:
    if as_json:
        write(to_json(ending._asdict()))
    elif ending.detached:
        say(f"detached from {program}")
    else:
        say(f"{program}: {ending.reason}")
    return exit_codes.DONE if ending.ok else exit_codes.FAILED


class Front:
    """The terminal, or the pipes, of the person who is attached."""

    def __init__(self, line: Line, program: str, answer: dict[str, Any], *, typed: bool) -> None:
        self._line = line
        self._program = program
        self._stream: int = answer["stream"]
        self._has_terminal = bool(answer["terminal"])
        self._typed = typed
        #: Ours, while the program has it.
        self._lent = OwnTerminal(OWN_STDIN) if typed and os.isatty(OWN_STDIN) else None

    def stay(self, keys: bytes, *, as_json: bool) -> Ending:
        """Be attached until it ends; whatever ends it, the terminal is then as it was.

        Raises what `Attachment.run` raises.
        """
        if not self._typed:
            say(f"only looking at {self._program}: nothing can be typed; Ctrl-C ends this")
        elif self._lent is not None:
            say(f"attached to {self._program}" + ("; the keys to detach leave it running" if keys else ""))
        raw = self._has_terminal
        modes = TerminalModes() if raw and not as_json and os.isatty(OWN_STDOUT) else None
        detached = False
        with Signals() as signals, open_output(as_json=as_json, raw=raw) as output:
            attachment = Attachment(
                self._line, self._program, self._stream, output if modes is None else _Followed(output, modes),
                typed=OWN_STDIN if self._typed else None, keys=keys_of.DetachKeys(keys),
                on_signal=self._on_signal, say=self._say,
            )  # fmt: skip
            try:
                self._lend(keys)
                ending = attachment.run(signals)
                detached = ending.detached
            finally:
                if self._lent is not None:
                    self._lent.give_back(with_typed=detached)
                if modes is not None:
                    # A terminal that is gone cannot be tidied up.
                    with suppress(OSError):
                        os.write(OWN_STDOUT, modes.undo())
        return ending

    def _lend(self, keys: bytes) -> None:
        if self._lent is None:
            return
        if self._has_terminal:
            self._lent.pass_everything()
        else:
            self._lent.pass_lines(keys[-1:])

    def _say(self, sentence: str) -> None:
        if self._lent is None or not self._has_terminal:
            say(sentence)
            return
        # In raw mode a newline does not bring the cursor back.
        sys.stderr.write(f"\r\nprocctl: {escaped(sentence)}\r\n")
        sys.stderr.flush()

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGTSTP:
            if self._lent is not None:
                self._lent.interrupt()
            os.kill(os.getpid(), signal.SIGSTOP)
            return  # and then there is a SIGCONT
        if number == signal.SIGCONT and self._lent is not None:
            self._lent.resume()
        size = screen_size(OWN_STDOUT, OWN_STDIN)
        if size and self._has_terminal:
            self._line.begin("resize", stream=self._stream, **size)


class _Followed:
    """An output whose terminal modes are followed."""

    def __init__(self, output: Output, modes: TerminalModes) -> None:
        self._output = output
        self._modes = modes
        self.gap = output.gap
        self.end = output.end

    def data(self, offset: int, piece: bytes) -> None:
        # Before it is shown: what was written half is undone as well.
        self._modes.feed(piece)
        self._output.data(offset, piece)
