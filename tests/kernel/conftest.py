"""What every kernel test must leave behind: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procd.process import Reaper, limits, wiring
from tests.kernel.children import open_descriptors, our_children

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a descriptor open, or a child, living or dead."""
    Reaper.become_subreaper()  # what is left of a child that is gone shall not hide below PID 1
    wiring.shared_null()
    limits.hold_descriptors()
    before = open_descriptors()
    yield
    assert open_descriptors() == before, "descriptors"
    assert our_children() == set(), "children"
