"""The daemon as a service manager sees it: the exit code."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.ingest import Ingest
from inboxd.runtime import supervisor
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.errors import EX_SOFTWARE
from inboxd.runtime.log_processors import Repeats
from inboxd.service import Service


@pytest.fixture
def interpreter() -> Iterator[None]:
    """A service sets the interpreter up for a process of its own."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.usefixtures("interpreter")
async def test_a_daemon_that_gives_up_says_so_by_its_exit_code(
    settings: Settings, secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By that systemd knows to start it afresh."""

    async def crash(_self: Ingest) -> None:
        msg = "on purpose"
        raise RuntimeError(msg)

    monkeypatch.setattr(Ingest, "poll", crash)
    monkeypatch.setattr(supervisor, "_BACKOFF", Backoff(base_s=0))
    service = Service(lambda: (settings, secrets), tmp_path / "inboxd.sqlite3", Repeats(lambda: 0.0))
    assert await service.run(settings, secrets) == EX_SOFTWARE
