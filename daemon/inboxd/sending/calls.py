"""The calls that one worker is making, so that those to somebody who was erased are given up before they leave."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from inboxd.meta.send_client import SendReceipt
from inboxd.meta.single_post import OutcomeUnknownError


class CallsUnderWay:
    """A call may wait long for its connection. What was begun before an erasure must not leave after it."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[SendReceipt], str | None] = {}  # to whom each is

    async def make(self, call: Coroutine[Any, Any, SendReceipt], participant_id: str | None) -> SendReceipt:
        """Make `call`, which is to a participant. Raises what it raises, and OutcomeUnknownError when given up."""
        task = asyncio.ensure_future(call)
        self._calls[task] = participant_id
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task in self._calls or (current is not None and current.cancelling()):
                raise  # the caller is cancelled
            msg = "The call was given up, because the participant was erased."
            raise OutcomeUnknownError(msg) from None
        finally:
            self._calls.pop(task, None)

    def give_up(self, participant_id: str | None) -> None:
        """Give up the calls to a participant who was erased; None: all of them."""
        for task, to in [*self._calls.items()]:
            if participant_id in {to, None}:
                del self._calls[task]
                task.cancel()
