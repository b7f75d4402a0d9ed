"""How a command does its work: through the running daemon, or by itself when none runs."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from inboxd.http.client import AdminClient
from inboxd.runtime.errors import DatabaseLockedError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CommandAccess(Generic[T]):
    """Both ways to the daemon's data.

    `offline` opens the database; entering it raises DatabaseLockedError while a daemon runs.
    """

    client: Callable[[], AdminClient]
    offline: Callable[[], AbstractAsyncContextManager[T]]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AdminClient | T]:
        """The admin API of the running daemon, or what works on the database when none runs. Raises InboxdError."""
        async with AsyncExitStack() as stack:
            try:
                opened: AdminClient | T = await stack.enter_async_context(self.offline())
            except DatabaseLockedError:
                opened = await stack.enter_async_context(self.client())
            yield opened
