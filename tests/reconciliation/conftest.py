"""Fixtures: a daemon and a simulated Instagram."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.reconciliation.world import LeapClock, World, world_of


@pytest.fixture
async def world(database_path: Path) -> AsyncIterator[World]:
    async with world_of(database_path, LeapClock()) as found:
        yield found
