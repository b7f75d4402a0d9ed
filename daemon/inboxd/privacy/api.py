"""Exporting and erasing a participant, and `/api/deletions`: erasing an account that Meta could not name to us."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.domain.conversation import ConversationKey
from inboxd.http.operations import Operation, answer, body, not_found
from inboxd.http.problems import ProblemError
from inboxd.http.resource import EXAMPLE_ACCOUNT
from inboxd.privacy.deletion_store import DeletionOutcome, DeletionStore, Receipt
from inboxd.privacy.participant_eraser import Erasure, NotAPersonError, ParticipantEraser, PersonExport
from inboxd.privacy.resources import DeletionResource, NewDeletion
from inboxd.runtime.clock import Clock

PATH: Final = "/api/deletions"
PARTICIPANT_PATH: Final = "/api/participants/{account}/{participant}"
NOTHING_KNOWN: Final = "Nothing is known of the account {}, so the request with this code still waits."
"""With a mistyped id, the person who asked would be told that everything is gone."""


class ParticipantPrivacyApi:
    """Exporting and erasing one participant."""

    def __init__(self, eraser: ParticipantEraser) -> None:
        self._eraser = eraser

    def operations(self) -> Sequence[Operation]:
        """What can be done. The document lists it among the other operations on participants."""
        one, tag = PARTICIPANT_PATH, "participants"
        forget, export = "Participants_forget", "Participants_export"
        return [
            Operation("DELETE", one, self.forget, tag, {200: Erasure}, problems=(409,), id=forget, follows=one),
            Operation("GET", one + "/export", self.export, tag, {200: PersonExport}, id=export, follows=one),
        ]

    async def export(self, request: web.Request) -> web.Response:
        """Everything that is kept of one person, to be handed to them."""
        person = await self._eraser.export(_key(request))
        if person is None:
            raise not_found("participant")
        return answer(person)

    async def forget(self, request: web.Request) -> web.Response:
        """Erase one person everywhere, for ever: messages, profile, picture, raw deliveries, search index."""
        try:
            return answer(await self._eraser.forget(_key(request)))
        except NotAPersonError as error:
            raise ProblemError(HTTPStatus.CONFLICT, f"{error}.") from error


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
            Operation(
                "POST", PATH, self.request, tag, {202: DeletionResource}, body=NewDeletion, problems=(404, 409),
                examples={"body": {"accountId": EXAMPLE_ACCOUNT}},
            ),
            Operation("GET", PATH + "/{code}", self.one, tag, {200: DeletionResource}, single=True),
        ]  # fmt: skip

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


def _key(request: web.Request) -> ConversationKey:
    return ConversationKey(request.match_info["account"], request.match_info["participant"])
