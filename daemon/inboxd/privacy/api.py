"""`/api/deletions`: erasing an account with everybody in it, where Meta could not tell us whose data is meant."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.http.operations import Operation, answer, body, not_found
from inboxd.http.problems import ProblemError
from inboxd.privacy.deletion_store import DeletionOutcome, DeletionStore, Receipt
from inboxd.privacy.resources import DeletionResource, NewDeletion
from inboxd.runtime.clock import Clock

PATH: Final = "/api/deletions"
NOTHING_KNOWN: Final = "Nothing is known of the account {}, so the request with this code still waits."
"""Of a mistyped id it would be wrong to tell the person who asked that everything is gone."""


class DeletionsApi:
    """Deletions. `stop_calls` ends the calls of the account; `on_deletion` is called when one was requested."""

    def __init__(
        self,
        deletions: DeletionStore,
        clock: Clock,
        *,
        stop_calls: Callable[[str], Awaitable[None]],
        on_deletion: Callable[[], None],
    ) -> None:
        self._deletions = deletions
        self._clock = clock
        self._stop_calls = stop_calls
        self._on_deletion = on_deletion

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        tag = "accounts"
        return [
            Operation("POST", PATH, self.request, tag, {202: DeletionResource}, body=NewDeletion, problems=(404, 409)),
            Operation("GET", PATH + "/{code}", self.one, tag, {200: DeletionResource}, single=True),
        ]

    async def request(self, request: web.Request) -> web.Response:
        """Erase an account with everybody in it, for ever.

        With the confirmation code of a request of Meta's that could not be matched, the page of that request says from
        now on how it stands.
        """
        wanted = body(request, NewDeletion)
        if wanted.code is not None:
            receipt = await self._receipt(wanted.code)
            if receipt.outcome is not DeletionOutcome.NOT_MATCHED:
                raise ProblemError(HTTPStatus.CONFLICT, "The request with this code is not one that waits for you.")
            if not await self._deletions.knows(wanted.account_id):
                raise ProblemError(HTTPStatus.CONFLICT, NOTHING_KNOWN.format(wanted.account_id))
        code = wanted.code or secrets.token_hex(16)
        await self._deletions.request(code, wanted.account_id, self._clock.now_ms())
        await self._stop_calls(wanted.account_id)
        self._on_deletion()
        return answer(DeletionResource.of(code, await self._receipt(code)), status=HTTPStatus.ACCEPTED)

    async def one(self, request: web.Request) -> web.Response:
        """How a deletion stands."""
        code = request.match_info["code"]
        return answer(DeletionResource.of(code, await self._receipt(code)))

    async def _receipt(self, code: str) -> Receipt:
        receipt = await self._deletions.receipt(code)
        if receipt is None:
            raise not_found("deletion")
        return receipt
