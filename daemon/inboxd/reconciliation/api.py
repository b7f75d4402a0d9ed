"""`/api/accounts/{id}/completeness`: whether everything that Meta has is here."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from aiohttp import web

from inboxd.domain.completeness import Completeness
from inboxd.http.operations import Operation, answer, not_found
from inboxd.reconciliation.resources import CompletenessResource
from inboxd.runtime.clock import Clock

PATH: Final = "/api/accounts/{id}/completeness"


class CompletenessApi:
    """`completeness` tells of one of `accounts`. `below` and `after_hours` say when webhooks bring too little.

    `every` says how often accounts are compared; 0: never.
    """

    def __init__(
        self,
        completeness: Callable[[str], Awaitable[Completeness]],
        accounts: Callable[[], Collection[str]],
        clock: Clock,
        *,
        every: Callable[[], int],
        below: Callable[[], float],
        after_hours: Callable[[], int],
    ) -> None:
        self._completeness = completeness
        self._accounts = accounts
        self._clock = clock
        self._every = every
        self._below = below
        self._after_hours = after_hours

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
        resource = CompletenessResource.of(
            account_id,
            found,
            self._clock.now_ms(),
            compared=self._every() > 0,
            below=self._below(),
            after_hours=self._after_hours(),
        )
        return answer(resource)
