"""An account that is served, with what works for it."""

import asyncio
from collections.abc import Callable

from inboxd.domain.account import Account
from inboxd.meta.account_graph import AccountGraph


class ManagedAccount:
    """An account with its Graph API. `on_resubscribed` are told since when and until when (ms) it got no webhooks."""

    def __init__(self, account: Account, graph: AccountGraph, token_origin: bytes | None) -> None:
        self.account = account
        self.graph = graph
        self.token_origin = token_origin
        self.listeners: list[Callable[[], None]] = []  # called when anything about the account has changed
        self.on_resubscribed: list[Callable[[int, int], None]] = []
        self.asking: set[str] = set()
        """Participants whose profile somebody is fetching."""
        self.lock = asyncio.Lock()
        """Held while the account changes, so that no change is made to what another is just changing."""
        self.subscribing = asyncio.Lock()
        """Held while its subscription is read and changed: each call replaces the whole list that was read before."""
