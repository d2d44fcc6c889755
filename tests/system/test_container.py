"""procd as PID 1 of a container: no service manager, a read-only root, Docker's capabilities."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system import container
from tests.system.container import VOLUME, Container
from tests.system.daemon import python, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(container.missing()), reason=container.missing())

#: All that has to be written for a container: where its own files are, and that logs go to its standard output.
HEAD = """
[daemon]
runtime_dir = "{runtime_dir}"
state_dir = "/run/procd/state"
log_dir = "/run/procd/log"
[defaults]
min_uptime = "50ms"
stderr = "log"
log.path = "/dev/stdout"
"""
QUIET = '[programs.quiet]\ncommand = ["sleep", "infinity"]\n'


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Start containers with the programs of a text; the second one has the volume of the first."""
    made: list[Container] = []

    def start(programs: str, *, ordinary: bool = False, runtime_dir: str = "/run/procd") -> Container:
        text = HEAD.format(runtime_dir=runtime_dir) + programs
        made.append(Container(tmp_path, text, socket=f"{runtime_dir}/procd.sock", ordinary=ordinary))
        return made[-1].start()

    yield start
    for each in made:
        each.end()


def shell(name: str, script: str, more: str = "") -> str:
    """The table of a program that is a shell script."""
    return f"[programs.{name}]\nshell = true\ncommand = {json.dumps(script)}\n{more}\n"


@pytest.mark.parametrize("ordinary", [False, True], ids=["root", "ordinary"])
def test_procd_is_pid_1_and_its_programs_write_to_the_containers_output(
    make: Callable[..., Container], ordinary: bool
) -> None:
    """With a writable /run alone; also as an ordinary user, who cannot become anybody else."""
    made = make(
        QUIET + shell("speaker", "echo out of $(id -u); echo err >&2; exec sleep infinity"), ordinary=ordinary
    )
    assert made.program("quiet") > 1
    commands = {number: line for number, _, line in made.processes()}
    assert "procd/keeper" in commands[1]
    user = container.ORDINARY if ordinary else 0
    until(lambda: f"out of {user}\n".encode() in made.said(), "what it wrote")
    until(lambda: b"err\n" in made.said(), "what it wrote to stderr")
    assert os.statvfs(made.root).f_flag & os.ST_RDONLY
    made.signal(signal.SIGTERM)
    assert made.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_signal_stops_dependents_first(make: Callable[..., Container], number: int) -> None:
    """Whatever STOPSIGNAL the image has (nginx's is SIGQUIT); the container's exit status is 0."""
    on_term = f"sleep 0.2; echo $PROCD_PROGRAM >> {VOLUME}/order; exit"
    script = f"trap '{on_term}' TERM; echo up; while :; do sleep 0.1; done"
    made = make(
        shell("web", script, 'depends_on = ["app"]')
        + shell("app", script, 'depends_on = ["db"]')
        + shell("db", script)
    )
    until(lambda: made.said().count(b"up\n") == 3, "three programs")
    made.program("web")
    made.signal(number)
    assert made.wait() == 0
    assert (made.directory / "order").read_text().split() == ["web", "app", "db"]


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)],
    ids=["success", "failure", "signal"],
)
def test_the_container_ends_with_the_status_of_its_essential_program(
    make: Callable[..., Container], script: str, status: int
) -> None:
    """As it would with that program as its only one."""
    made = make(
        QUIET + shell("main", f"read -r line; {script}", 'stdin = "pipe"\nrestart = "never"\nessential = true')
    )
    made.program("main")
    made.does("send", "main", "go")
    assert made.wait() == status


def test_orphans_leave_no_zombies(make: Callable[..., Container]) -> None:
    """A thousand of a program, a thousand of one whose supervisor has died, and those of `docker exec`."""
    made = make(f"[programs.parent]\ncommand = {python('orphans.py')}\nstdin = 'pipe'\n")
    before = made.program("parent")
    made.does("send", "parent", "1000")
    until(lambda: made.said().count(b"1000\n") == 1, "a thousand orphans")
    until(lambda: not made.zombies(), f"all to be reaped: {made.zombies()}")
    killed = made.part("supervise")
    made.run("kill", "-KILL", str(killed))
    until(lambda: made.part("supervise") not in {0, killed}, "another supervisor")
    made.does("send", "parent", "1000")
    until(lambda: made.said().count(b"1000\n") == 2, "another thousand")
    until(lambda: not made.zombies(), f"all to be reaped: {made.zombies()}")
    assert made.run("sh", "-c", "for n in 1 2 3 4 5 6 7 8 9; do (sleep 0.1 &) done").code == 0
    until(lambda: not [line for _, _, line in made.processes() if "sleep 0.1" in line], "them to end")
    until(lambda: not made.zombies(), f"all to be reaped: {made.zombies()}")
    assert made.program("parent") == before
    assert f"{before} " in made.does("status")


@pytest.mark.parametrize("verb", ["supervise", "log"])
def test_a_part_of_procd_that_is_killed_costs_the_container_nothing(
    make: Callable[..., Container], verb: str
) -> None:
    """Programs keep their PIDs and their output, and the container ends as it would have."""
    counting = "i=0; while :; do i=$((i + 1)); echo line $i; sleep 0.05; done"
    made = make(QUIET + shell("counts", counting))
    before = made.program("quiet"), made.program("counts")
    killed = made.part(verb)
    made.run("kill", "-KILL", str(killed))
    until(lambda: made.part(verb) not in {0, killed}, "another one")
    assert (made.program("quiet"), made.program("counts")) == before
    last = f"line {made.said().count(b'line ') + 10}\n".encode()
    until(lambda: last in made.said(), "more output")
    numbers = [int(line.split()[1]) for line in made.said().splitlines() if line.startswith(b"line ")]
    assert numbers == list(range(1, len(numbers) + 1))
    made.signal(signal.SIGTERM)
    assert made.wait() == 0


def test_a_container_that_is_killed_can_be_started_again(make: Callable[..., Container]) -> None:
    """`docker stop` has waited in vain: nothing is left, and what was left in a volume stops nobody."""
    text = QUIET + shell("deaf", "trap '' TERM; echo up; while :; do sleep 0.1; done", 'stop_timeout = "1h"')
    made = make(text, runtime_dir=f"{VOLUME}/run")
    until(lambda: b"up\n" in made.said(), "the deaf one")
    made.signal(signal.SIGTERM)
    until(lambda: b"program is told to stop" in made.said(), "the stop")
    made.signal(signal.SIGKILL)
    made.wait()
    assert (made.directory / "run/procd.sock").exists()
    again = make(text, runtime_dir=f"{VOLUME}/run")
    assert again.program("quiet") > 1


def test_a_health_check_says_whether_the_programs_run(make: Callable[..., Container]) -> None:
    """`HEALTHCHECK CMD procctl …`, with exit statuses that Docker understands."""
    made = make(QUIET + shell("broken", "sleep 0.1; exit 1", 'restart = "never"'))
    made.does("wait", "broken", "--for", "exited")
    assert made.procctl("--timeout", "3s", "status", "quiet").code == 0
    assert made.procctl("--timeout", "3s", "status", "quiet", "broken").code == 3
