"""What the tests of checks share."""

from __future__ import annotations

import pytest

from tests.unit.checks.fake_loop import FakeLoop


@pytest.fixture
def loop() -> FakeLoop:
    """A loop in virtual time."""
    return FakeLoop()
