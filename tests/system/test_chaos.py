"""Half a minute of chaos; `chaos.py` goes on for as long as one likes, and says what is done."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.system.chaos import Chaos

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = float(os.environ.get("PROCD_CHAOS_S", "30"))


@pytest.mark.timeout(SECONDS + 600)
def test_whoever_of_procd_is_killed_the_programs_live_on_and_everything_is_accounted_for(
    tmp_path: Path,
) -> None:
    """Killed and stopped are supervisor and logger, up to several times a second and within their starts."""
    seed = int(os.environ.get("PROCD_CHAOS_SEED", random.SystemRandom().randrange(2**32)))
    chaos = Chaos(tmp_path, seed)
    print(f"seed {seed}")
    try:
        chaos.run(SECONDS)
    except AssertionError as error:
        chaos.mistakes.append(str(error))
    finally:
        chaos.daemon.end()
    print(chaos.report())
    assert not chaos.mistakes, chaos.report()
    assert chaos.did["supervisor killed"] > SECONDS / 4, chaos.did
    assert chaos.did["logger killed"] > SECONDS / 6, chaos.did
