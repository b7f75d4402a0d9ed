"""Fixtures: a daemon and a simulated Instagram."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.reconciliation.world import LeapClock, World, world_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path / "inboxd.sqlite3", LeapClock()) as found:
        yield found
