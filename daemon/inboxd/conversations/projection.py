"""What other features do with the webhook events of a batch, in the transaction that stores them."""

import sqlite3
from collections.abc import Callable, Sequence

from inboxd.conversations.event_preparation import PreparedEvent

Projection = Callable[[sqlite3.Connection, Sequence[PreparedEvent]], Callable[[], None] | None]
"""Called with the events of a batch after they have been stored. It runs in the writer's thread, in their transaction:
what it writes is committed exactly when they are. The function that it returns, if any, is called on the event loop
after the commit and must not raise.

A projection that raises fails the batch, as an event that cannot be stored does: nothing of the batch is committed, and
each event is stored in a transaction of its own, so that only the events that it raises for are postponed. The same
event may therefore be projected more than once before it is committed, and again when its delivery is tried again.
"""
