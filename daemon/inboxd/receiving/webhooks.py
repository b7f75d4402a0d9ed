"""The public listener: Meta's verification request and its deliveries.

Source: Meta's "Webhooks" page, "Verification requests" and "Event notifications". A delivery is answered 200 only when
it is durable. A delivery with a valid signature is never refused because of its content.
"""

import hmac
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import istr

from inboxd.http.access_log import DELIVERY
from inboxd.http.bodies import BodyBudget, BodyTooLargeError, NoRoomError
from inboxd.http.problems import SAFE_HEADERS, problem
from inboxd.http.protocol import send_continue
from inboxd.meta.signature import HEADER, SignatureVerifier, Verdict, check_form, digest_of
from inboxd.receiving.metrics import ReceivingMetrics
from inboxd.receiving.store import Inbox
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageBusyError, StorageError
from inboxd.runtime.secret import Secret

PATH: Final = "/webhooks/instagram"
RETRY_AFTER_S: Final = 5
_SIGNATURE: Final = istr(HEADER)
_VIA: Final = istr("Via")


class Webhooks:
    """The two handlers of the public listener. `verifier` and `verify_token` may be replaced at any time.

    `via` is what this daemon calls itself when it hands deliveries on: one that it handed on itself is refused.
    """

    def __init__(
        self,
        inbox: Inbox,
        verifier: SignatureVerifier,
        verify_token: Secret,
        metrics: ReceivingMetrics,
        budget: BodyBudget,
        via: str,
    ) -> None:
        self._inbox = inbox
        self._budget = budget
        self._via = via
        self.verifier = verifier
        self.verify_token = verify_token
        self._metrics = metrics
        self._log = logs.get("webhooks")

    def add_routes(self, app: web.Application) -> None:
        """Add the routes to the public application."""
        app.router.add_get(PATH, self.verify, allow_head=False)
        app.router.add_post(PATH, self.receive)

    async def verify(self, request: web.Request) -> web.Response:
        """Answer Meta's verification request: check the token and return the challenge. Needs no database."""
        query = request.query
        if query.get("hub.mode") != "subscribe" or "hub.challenge" not in query:
            return problem(HTTPStatus.BAD_REQUEST, "Expected hub.mode=subscribe, hub.verify_token and hub.challenge.")
        token = self.verify_token.reveal().encode()
        if not hmac.compare_digest(query.get("hub.verify_token", "").encode(errors="replace"), token):
            self._log.warning("verification_refused")
            return problem(HTTPStatus.FORBIDDEN, "hub.verify_token is not the configured verify token.")
        self._log.info("verification_answered")
        return web.Response(text=query["hub.challenge"], content_type="text/plain", headers=SAFE_HEADERS)

    async def receive(self, request: web.Request) -> web.Response:
        """Verify the signature, store durably, then acknowledge. If the head is invalid, the body is not read."""
        signature = request.headers.get(_SIGNATURE)
        verdict = check_form(signature)
        if signature is None or verdict is not Verdict.VALID:
            return self._unsigned(verdict, request.content_length)
        content = request.content
        if not content.is_eof():
            if (request.content_length or 0) > self._budget.max_body_bytes:
                return self._too_large()
            send_continue(request)
        body = await content.readany()
        if len(body) <= self._budget.share and content.at_eof():  # nearly every delivery is: its body is here at once
            return await self._take(request, signature, body)
        with self._budget.body(request.remote, body) as large:  # its bytes count towards the budget until it is stored
            body = b""
            try:
                body = await large.read(content)
            except BodyTooLargeError:
                return self._too_large()
            except NoRoomError:
                self._metrics.deliveries.labels("no_room").inc()
                self._log.warning("bodies_crowded")
                return _try_again("Too many large bodies are arriving.")
            return await self._take(request, signature, body)

    async def _take(self, request: web.Request, signature: str, body: bytes) -> web.Response:
        digest = digest_of(signature)
        verdict = self.verifier.check_body(digest, body)
        if verdict is not Verdict.VALID:
            return self._unsigned(verdict, len(body))
        if self._via in request.headers.get(_VIA, ""):
            self._log.warning("delivery_came_back")
            return problem(HTTPStatus.LOOP_DETECTED, "A webhook endpoint of this inboxd leads back to it. Delete it.")
        try:
            request[DELIVERY] = await self._inbox.append(body, digest)
        except StorageBusyError as error:
            self._metrics.deliveries.labels("busy").inc()
            return _try_again(str(error))
        except StorageError as error:
            self._metrics.deliveries.labels("refused").inc()
            self._log.error("delivery_refused", error=str(error))
            return _try_again("The delivery could not be stored.")
        self._metrics.stored.inc()
        return web.Response()

    def _unsigned(self, verdict: Verdict, size: int | None) -> web.Response:
        self._metrics.deliveries.labels("unsigned").inc()
        self._log.warning("delivery_unsigned", verdict=verdict.name.lower(), bytes=size)
        return problem(HTTPStatus.UNAUTHORIZED, verdict.value)

    def _too_large(self) -> web.Response:
        self._metrics.deliveries.labels("too_large").inc()
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"A body may have {self._budget.max_body_bytes} bytes (public.max_body_bytes).",
        )


def _try_again(detail: str) -> web.Response:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
