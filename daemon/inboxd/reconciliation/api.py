"""`/api/accounts/{id}/completeness`: whether everything that Meta has is here."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from aiohttp import web

from inboxd.domain.completeness import Completeness, sentence
from inboxd.http.operations import Operation, answer, not_found
from inboxd.reconciliation.resources import CompletenessResource
from inboxd.runtime.clock import Clock

PATH: Final = "/api/accounts/{id}/completeness"


class CompletenessApi:
    """`completeness` tells of an account; `accounts` are those that are served; `below` is the poor share."""

    def __init__(
        self,
        completeness: Callable[[str], Awaitable[Completeness]],
        accounts: Callable[[], Collection[str]],
        clock: Clock,
        *,
        below: Callable[[], float],
    ) -> None:
        self._completeness = completeness
        self._accounts = accounts
        self._clock = clock
        self._below = below

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [
            Operation(
                "GET", PATH, self.one, "accounts", {200: CompletenessResource},
                follows="/api/accounts/{id}/statistics",
            ),
        ]  # fmt: skip

    async def one(self, request: web.Request) -> web.Response:
        """How complete an account is: what exists, what webhooks brought, what was added, what is still missing."""
        account_id = request.match_info["id"]
        if account_id not in self._accounts():
            raise not_found("account")
        found = await self._completeness(account_id)
        summary = sentence(found, self._clock.now_ms())
        return answer(CompletenessResource.of(account_id, found, summary=summary, below=self._below()))
