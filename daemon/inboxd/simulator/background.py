"""What happens later: tasks that end with the server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web


class Background:
    """Runs actions after a while. When the server stops, those that wait are given up."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def after(self, ms: float, act: Callable[[], Awaitable[Any]]) -> None:
        """Do `act` after so many milliseconds."""
        task = asyncio.create_task(_after(ms / 1000, act), name="simulator: later")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until_stopped(self, _app: web.Application) -> AsyncIterator[None]:
        """A cleanup context of the server."""
        yield
        waiting = list(self._tasks)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _after(seconds: float, act: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.sleep(seconds)
    await act()
