from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.reconciliation.world import LeapClock
from tests.sending.sending_world import SendingWorld, sending_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SendingWorld]:
    async with sending_world(tmp_path / "inboxd.sqlite3", LeapClock()) as found:
        yield found
