"""What every feature is built from."""

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from inboxd import __version__
from inboxd.feature import Core
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database


async def open_core(
    stack: AsyncExitStack, database_path: Path, clock: Clock, *, on_give_up: Callable[[], None]
) -> Core:
    """Open the database; `stack` closes it. The supervisor runs nothing until somebody enters it.

    `on_give_up` is called when the daemon can no longer do its job. Raises InboxdError.
    """
    metrics = Metrics(__version__)
    observers: list[Callable[[int, float], None]] = [metrics.observe_commit]

    def observe_commit(transactions: int, took_s: float) -> None:
        for observe in observers:
            observe(transactions, took_s)

    database = await stack.enter_async_context(Database(database_path, on_commit=observe_commit))
    return Core(
        clock=clock,
        random=random.random,
        database=database,
        metrics=metrics,
        supervisor=Supervisor(clock, metrics, random.random, on_give_up=on_give_up),
        commit_observers=observers,
    )
