"""What the sending workers of all accounts share."""

from collections.abc import Callable
from dataclasses import dataclass

from inboxd.accounts.manager import AccountManager
from inboxd.runtime.clock import Clock
from inboxd.sending.metrics import SendingMetrics
from inboxd.sending.settlement import Settlement
from inboxd.storage.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingTools:
    """The parts that each worker is built from. `random` gives a number from 0 to 1, for jitter."""

    database: Database
    accounts: AccountManager
    settlement: Settlement
    metrics: SendingMetrics
    clock: Clock
    random: Callable[[], float]
