"""A terminal instead of pipes: controlling, sized, raw or cooked, hung up when closed."""

from __future__ import annotations

import errno
import os
import re
import termios

import pytest

from procd.errors import DescriptorClosed, SpawnError
from procd.process import Process, Settings, Terminal, credentials_for
from tests.kernel.children import NOBODY, Recorder, in_loop, needs_root, start

#: Each way to spawn that can give a terminal.
WAYS = pytest.mark.parametrize("settings", [Settings(), Settings(nice=0)], ids=["plain", "exact"])


def start_on_terminal(script: str, settings: Settings, **options: object) -> tuple[Process, Recorder]:
    """Start a shell on a terminal."""
    recorder = Recorder()
    terminal = Terminal(**{"rows": 33, "columns": 77, "raw": True, **options})  # type: ignore[arg-type]
    return start(script, recorder, terminal=terminal, settings=settings), recorder


@WAYS
def test_it_is_the_controlling_terminal_of_its_session(settings: Settings) -> None:
    """/dev/tty opens, the child leads its session, and its three descriptors are the terminal."""

    @in_loop
    async def test() -> None:
        script = (
            "echo mine >/dev/tty; ps -o tty=,sid=,pid= -p $$; for n in 0 1 2; do readlink /proc/$$/fd/$n; done"
        )
        process, recorder = start_on_terminal(script, settings)
        await recorder.until_ended()
        mine, ids, *names = recorder.out.decode().split("\n")[:5]
        assert mine == "mine"
        terminal, session, pid = ids.split()
        assert int(session) == int(pid) == process.pid
        assert names == [f"/dev/{terminal}"] * 3

    test()


@WAYS
def test_its_size_is_set_and_changes_are_told(settings: Settings) -> None:
    """Resizing sends SIGWINCH."""

    @in_loop
    async def test() -> None:
        process, recorder = start_on_terminal(
            "trap 'stty size; exit' WINCH; stty size; while :; do read x; done", settings
        )
        await recorder.until(lambda: b"\n" in recorder.out)
        process.resize(40, 100)
        await recorder.until_ended()
        assert recorder.out.split() == [b"33", b"77", b"40", b"100"]

    test()


@in_loop
async def test_cooked_echoes_and_ends_its_input_by_a_key() -> None:
    """Line editing, echo and control-D; and carriage returns at the ends of lines."""
    process, recorder = start_on_terminal("cat; echo end", Settings(), raw=False)
    process.write(b"helxx\x7f\x7flo\n\x04")
    await recorder.until_ended()
    assert recorder.out.endswith(b"hello\r\nend\r\n")
    assert len(re.findall(b"hel", recorder.out)) == 2


@in_loop
async def test_cooked_turns_control_c_into_a_signal_and_raw_does_not() -> None:
    """The modes can be changed while it runs."""
    process, recorder = start_on_terminal(
        "trap 'echo INT; exit' INT; head -c 1 | od -An -c; read x", Settings()
    )
    process.write(b"\x03")
    await recorder.until(lambda: b"003" in recorder.out)
    process.set_cooked()
    process.write(b"\x03")
    await recorder.until(lambda: b"INT" in recorder.out)
    process.set_raw()
    await recorder.until_ended()


@in_loop
async def test_closing_it_hangs_up() -> None:
    """The session gets SIGHUP; the halves cannot be closed alone."""
    process, recorder = start_on_terminal("trap 'exit 9' HUP; echo x; while :; do read y; done", Settings())
    await recorder.until(lambda: recorder.out)
    process.close_stdin()
    process.close_stdout()
    assert not process.lost_in_connection
    process.lose_connection()
    end = await recorder.until_ended()
    assert end.code == 9
    assert recorder.events.count("lost 1") == 1
    with pytest.raises(DescriptorClosed):
        process.resize(1, 1)


@in_loop
async def test_other_descriptors_can_stand_beside_it() -> None:
    """A pipe at descriptor 5, and the terminal at 0, 1, 2."""
    recorder = Recorder()
    start("cat <&5; tty >&2", recorder, terminal=Terminal(raw=True), child_fds={5: "w"})
    recorder.process.write_to_child(5, b"beside\n")
    recorder.process.close_child_fd(5)
    await recorder.until_ended()
    assert recorder.out.startswith(b"beside\n/dev/pts/")


@in_loop
async def test_without_a_session_of_its_own_there_is_no_terminal() -> None:
    """It fails in the step that it fails in."""
    with pytest.raises(SpawnError) as caught:
        start("true", terminal=Terminal(), settings=Settings(new_session=False))
    assert caught.value.stage == "terminal"


@needs_root
@in_loop
async def test_it_belongs_to_the_user_of_the_child() -> None:
    """Who may open it again by its name."""
    recorder = Recorder()
    settings = Settings(credentials=credentials_for(NOBODY, None))
    start("stat -c %u $(tty); echo again >$(tty)", recorder, terminal=Terminal(raw=True), settings=settings)
    await recorder.until_ended()
    assert recorder.out == b"%d\nagain\n" % NOBODY
    assert os.getuid() == 0


@in_loop
async def test_a_terminal_that_cannot_be_made_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stage terminal; descriptors are counted after each test."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no more terminals")

    for module, name in ((os, "openpty"), (termios, "tcsetwinsize")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(SpawnError) as caught:
                start("true", terminal=Terminal())
        assert (caught.value.stage, caught.value.errno) == ("terminal", errno.ENOSPC)
