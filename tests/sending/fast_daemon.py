"""A daemon as a process of its own, whose time goes faster, so that minutes of waiting take seconds.

Its arguments: FOLDER GRAPH_URL PUBLIC_PORT ADMIN_PORT EPOCH.
"""

import asyncio
import sys
import time
from pathlib import Path

from inboxd import app
from inboxd.config.schema import (
    AccountSettings,
    Admin,
    BudgetSettings,
    Instagram,
    Public,
    ReconciliationSettings,
    SendingSettings,
    Settings,
)
from inboxd.config.secrets import Secrets
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret

from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, T0, TOKEN, VERIFY_TOKEN

SPEED = 60


class FastClock(Clock):
    """A clock that goes SPEED times faster from `epoch` on, a time in seconds."""

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch

    def now_ms(self) -> int:
        return T0 + int((time.time() - self._epoch) * 1000 * SPEED)

    def monotonic(self) -> float:
        return super().monotonic() * SPEED

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / SPEED)

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        return await super().wait(event, None if timeout_s is None else timeout_s / SPEED)


async def _run(folder: str, graph: str, public: str, admin: str, epoch: str) -> None:
    settings = Settings(
        public=Public(port=int(public)),
        admin=Admin(port=int(admin)),
        instagram=Instagram(graph_url=graph, facebook_graph_url=graph, timeout_s=0.4),
        budget=BudgetSettings(calls_per_second=1000, calls_per_hour=100_000),
        reconciliation=ReconciliationSettings(every_minutes=0),
        sending=SendingSettings(per_second=300, per_hour=100_000),
        accounts=(AccountSettings(id=ACCOUNT, name="shop"),),
    )
    secrets = Secrets(
        app_secrets=(Secret(APP_SECRET),),
        verify_token=Secret(VERIFY_TOKEN),
        admin_token=Secret(ADMIN_TOKEN),
        account_tokens={ACCOUNT: Secret(TOKEN)},
    )
    path = Path(folder) / "inboxd.sqlite3"
    async with app.run_daemon(settings, secrets, path, on_give_up=sys.exit, clock=FastClock(float(epoch))):
        await asyncio.Event().wait()


def main() -> None:
    asyncio.run(_run(*sys.argv[1:]))
