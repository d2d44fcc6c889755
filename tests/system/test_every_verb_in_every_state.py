"""Every verb in every state: what it answers, and where the program is afterwards."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from procctl.exit_codes import TIMED_OUT
from tests.system.daemon import BOUND_S, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How a program is brought into a state, and kept there.  What is to fail has no `min_uptime` that it could
#: reach: on a busy machine `false` has lived for 50 ms before somebody hears that it is dead.
IN_STATE = {
    "STOPPED": 'command = ["sleep", "1000"]\nautostart = false',
    "WAITING": 'command = ["sleep", "1000"]\ndepends_on = ["gives-up"]',
    "STARTING": 'command = ["sleep", "1000"]\nready = { fd = 3 }',
    "RUNNING": 'command = ["sleep", "1000"]',
    "STOPPING": 'command = "trap \'\' TERM; while :; do sleep 1000; done"\nshell = true\nstop_timeout = "1h"',
    "BACKOFF": 'command = ["false"]\nmin_uptime = "1h"\nbackoff = { initial = "1h", max = "1h" }',
    "EXITED": 'command = ["true"]\nrestart = "never"',
    "FATAL": (
        'command = ["false"]\nmin_uptime = "1h"\nbackoff = { initial = 0 }\n'
        'start_limit = { count = 1, within = "1h" }'
    ),
}

LIVE = ("STARTING", "RUNNING", "STOPPING")


def by_state(**differing: int) -> dict[str, int]:
    """An exit status for each state: `other` where nothing else is said."""
    other = differing.pop("other")
    return {state: differing.get(state, other) for state in IN_STATE}


#: The words of each verb ({} is the program, {timeout} how long it may take), and the exit status in each
#: state: 0 done, 1 refused or failed, 3 known but not running, 7 timed out.
VERBS = {
    "start": (
        ["--timeout", "{timeout}", "start", "{}"],
        by_state(other=0, WAITING=1, STARTING=7, STOPPING=7, BACKOFF=1, FATAL=1),
    ),
    "stop": (["--timeout", "{timeout}", "stop", "{}"], by_state(other=0, STOPPING=7)),
    "restart": (
        ["--timeout", "{timeout}", "restart", "{}"],
        by_state(other=0, WAITING=1, STARTING=7, STOPPING=7, BACKOFF=1, FATAL=1),
    ),
    "rolling": (
        ["--timeout", "{timeout}", "restart", "--rolling", "{}"],
        by_state(other=0, WAITING=1, STARTING=7, STOPPING=7, BACKOFF=1, FATAL=1),
    ),
    "signal": (["signal", "CONT", "{}"], by_state(other=1, **dict.fromkeys(LIVE, 0))),
    "send": (["send", "{}", "words"], by_state(other=1, **dict.fromkeys(LIVE, 0))),
    "close": (["close", "{}", "stdin"], by_state(other=1, **dict.fromkeys(LIVE, 0))),
    "logs": (["logs", "{}"], by_state(other=0)),
    "status": (["status", "{}"], by_state(other=3, RUNNING=0)),
    "why": (["why", "{}"], by_state(other=0)),
    "wait": (["--timeout", "{timeout}", "wait", "{}", "--for", "stopped"], by_state(other=7, STOPPED=0)),
}

#: Where a verb leaves a program, where that is another place.
AFTERWARDS = {
    **{("start", state): state for state in IN_STATE},
    ("start", "STOPPED"): "RUNNING",
    **{("stop", state): "STOPPED" for state in IN_STATE if state != "STOPPING"},
    **{(verb, "STOPPED"): "RUNNING" for verb in ("restart", "rolling")},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A program for each verb in each state."""
    programs = ["[programs.gives-up]\n" + IN_STATE["FATAL"]]
    for state, keys in IN_STATE.items():
        programs += [f'[programs.{state}-{verb}]\nstdin = "pipe"\n{keys}' for verb in VERBS]
    made = Daemon(tmp_path_factory.mktemp("verbs"), "\n".join(programs))
    try:
        made.start()
        for verb in VERBS:
            made.until_state(f"STOPPING-{verb}", "RUNNING")
            made.does("stop", f"STOPPING-{verb}", "--no-wait")
            for state in IN_STATE:
                made.until_state(f"{state}-{verb}", state)
        yield made
    finally:
        # Asked a second time, procd kills what has not stopped yet.
        made.signal(signal.SIGTERM)
        made.until_state("RUNNING-status", "STOPPED")
        made.signal(signal.SIGTERM)
        made.end()


@pytest.mark.parametrize("state", IN_STATE)
@pytest.mark.parametrize("verb", VERBS)
def test_the_verb_does_what_the_table_says(daemon: Daemon, verb: str, state: str) -> None:
    """It answers as the table has it, says why if it refuses, and changes nothing that it should not."""
    words, statuses = VERBS[verb]
    name = f"{state}-{verb}"
    # Whoever is to be answered in time gets what that takes here: two lives of another program, for some.
    timeout = "500ms" if statuses[state] == TIMED_OUT else f"{BOUND_S:g}s"
    done = daemon.procctl(*(word.format(name, timeout=timeout) for word in words))
    assert done.code == statuses[state], done
    if done.code not in {0, 3}:
        assert name in done.out + done.err
    daemon.until_state(name, AFTERWARDS.get((verb, state), state))
