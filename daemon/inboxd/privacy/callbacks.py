"""Meta's callbacks about app users: "Deauthorize" and "Data deletion request", and the status page of a deletion."""

from collections.abc import Awaitable, Callable, Sequence
from html import escape
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.http.forms import fields_of
from inboxd.http.problems import SAFE_HEADERS, ProblemError
from inboxd.meta.signed_request import SignedRequest, SignedRequestError, parse_signed_request
from inboxd.privacy.deletion_store import DeletionOutcome, DeletionStore, Receipt
from inboxd.receiving.webhooks import PATH
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.secret import Secret

DELETION_PATH: Final = PATH + "/data-deletion"
DEAUTHORIZE_PATH: Final = PATH + "/deauthorize"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Data deletion</title>
<meta name="viewport" content="width=device-width"></head>
<body><h1>Data deletion</h1><p>{status}</p><p>Confirmation code: {code}</p></body></html>
"""
_WAITS_FOR: Final = {
    "deliveries": ", which is not complete yet: messages that came before have still to be processed.",
    "files": ", which is not complete yet: a picture could not be removed.",
    "journal": ", which is not complete yet: it is gone from the database, but not from the database's journal.",
    "error": ", which is not complete yet: it failed, and is tried again.",
}
_NOT_MATCHED: Final = (
    "Nothing has been deleted: Instagram named a person, and this service does not know which account is theirs. That "
    "is so for accounts that are connected through Facebook, and for those that are no longer connected. Please ask "
    "whoever runs this service to delete the account's data, and give them the confirmation code."
)
_BACKUPS: Final = "Backups that were made before may hold it until they are replaced."
_PAGE_HEADERS: Final = {**SAFE_HEADERS, "Content-Security-Policy": "default-src 'none'", "X-Robots-Tag": "noindex"}


class Callbacks:
    """The handlers.

    `find` returns the account of a user id, `others` the accounts that are known to belong to somebody else.
    `deauthorize` stops the calls of the account of a user id and returns the account's id. `on_deletion` is called when
    a deletion was requested.
    """

    def __init__(
        self,
        app_secrets: Sequence[Secret],
        deletions: DeletionStore,
        clock: Clock,
        *,
        find: Callable[[str], str | None],
        others: Callable[[str], frozenset[str]],
        deauthorize: Callable[[str], Awaitable[str | None]],
        on_deletion: Callable[[], None],
        base_url: str | None,
    ) -> None:
        self.app_secrets = app_secrets
        self._deletions = deletions
        self._clock = clock
        self._find = find
        self._others = others
        self._deauthorize = deauthorize
        self._on_deletion = on_deletion
        self._base_url = base_url
        self._log = logs.get("callbacks")

    def add_routes(self, app: web.Application) -> None:
        """Put the routes on the public application."""
        app.router.add_post(DEAUTHORIZE_PATH, self.deauthorize)
        app.router.add_post(DELETION_PATH, self.delete)
        app.router.add_get(DELETION_PATH + "/{code:[0-9a-f]{32}}", self.status)

    async def deauthorize(self, request: web.Request) -> web.Response:
        """The owner removed the app: calls stop, and the token is dropped."""
        signed = await self._signed(request)
        account_id = await self._deauthorize(signed.user_id)
        self._log.warning("deauthorized", account_id=account_id, known=account_id is not None)
        return web.Response(headers=SAFE_HEADERS)

    async def delete(self, request: web.Request) -> web.Response:
        """The owner wants their data deleted. It begins now; the answer has the address of the status page."""
        signed = await self._signed(request)
        account_id, outcome = self._find(signed.user_id), None
        if account_id is None:
            kept = await self._deletions.keeps_anything(self._others(signed.user_id))
            outcome = DeletionOutcome.NOT_MATCHED if kept else DeletionOutcome.NOTHING_KEPT
        # The request is stored first, because we may crash: Meta asks again when it gets no answer.
        await self._deletions.request(signed.receipt, account_id, self._clock.now_ms(), outcome)
        await self._deauthorize(signed.user_id)
        self._on_deletion()
        if outcome is DeletionOutcome.NOT_MATCHED:
            self._log.error("deletion_not_matched", code=signed.receipt)
        else:
            self._log.warning("deletion_requested", account_id=account_id, code=signed.receipt)
        base = self._base_url or f"https://{request.host}"
        answer = {"url": f"{base}{DELETION_PATH}/{signed.receipt}", "confirmation_code": signed.receipt}
        return web.json_response(answer, headers=SAFE_HEADERS)

    async def status(self, request: web.Request) -> web.Response:
        """The status page of a deletion, for the person who asked for it."""
        code = request.match_info["code"]
        receipt = await self._deletions.receipt(code)
        found = HTTPStatus.OK
        if receipt is None:
            found, text = HTTPStatus.NOT_FOUND, "There is no request with this code."
        else:
            text = _standing(receipt)
        page = _PAGE.format(status=escape(text), code=escape(code))
        return web.Response(status=found, text=page, content_type="text/html", headers=_PAGE_HEADERS)

    async def _signed(self, request: web.Request) -> SignedRequest:
        form = await fields_of(request)
        text = form.get("signed_request")
        if text is None:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "Expected the form field signed_request.")
        try:
            return parse_signed_request(text, [secret.reveal() for secret in self.app_secrets])
        except SignedRequestError as error:
            self._log.warning("signed_request_refused", error=str(error))
            raise ProblemError(HTTPStatus.UNAUTHORIZED, f"{error}.") from error


def _standing(receipt: Receipt) -> str:
    """The status of a request, for the person who made it. Only what is completed is called completed."""
    asked = f"Requested at {iso_utc(receipt.requested_at)}"
    if receipt.completed_at is None:
        return f"{asked}. The data is being deleted{_WAITS_FOR.get(receipt.waits_for or '', '.')}"
    if receipt.outcome is DeletionOutcome.NOTHING_KEPT:
        return f"{asked}, completed at once: nothing of this person is kept here."
    if receipt.outcome is DeletionOutcome.NOT_MATCHED:
        return f"{asked}. {_NOT_MATCHED}"
    return f"{asked}, completed at {iso_utc(receipt.completed_at)}. {_BACKUPS}"
