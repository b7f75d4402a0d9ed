"""The client for the Send API of one account: one call, made once, and what is known after it.

There are three ends. Meta accepted it (`SendReceipt`); Meta refused it, or it certainly did not leave (`SendError`,
`NotSentError`); or nobody can say (`OutcomeUnknownError`): then Meta may have sent the message.
"""

from contextlib import suppress
from typing import Any, Final, NamedTuple

from inboxd.domain.account import LoginType
from inboxd.domain.outbound import PartContent
from inboxd.meta import answers
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.send_bodies import AddressOf, Json, Recipient, action_body, message_body
from inboxd.meta.send_errors import SendError, SendFailure, send_error
from inboxd.meta.single_post import OutcomeUnknownError, post_once
from inboxd.runtime.errors import StorageError

MAX_MID: Final = 1024
"""Most characters of a message id, as in webhooks."""
MEDIA_PATIENCE: Final = 8
"""Meta fetches a file before it answers, and a video for up to 75 s: the answer is waited for so many times longer."""
LONGEST_REST_S: Final = 24 * 3600.0
"""The longest stop of sends when Meta does not say how long."""


class SendReceipt(NamedTuple):
    """Meta accepted a message."""

    mid: str
    recipient_id: str | None
    """The participant: of an answer to a comment it is told here for the first time."""


class SendClient:
    """Sends for one account. `page_id` is the Facebook Page of an account with Facebook Login.

    With Facebook Login the node is the Page: the Instagram account's own node answers "no capability" there.
    """

    def __init__(self, graph: AccountGraph, login_type: LoginType, *, page_id: str | None = None) -> None:
        self._graph = graph
        page = answers.identifier(page_id) if login_type is LoginType.FACEBOOK else None
        self._path = f"{page or 'me'}/messages"
        self._refused = False
        """Whether the account was last told to be unable to send."""

    async def message(
        self, recipient: Recipient, content: PartContent, address_of: AddressOf, *, human_agent: bool = False
    ) -> SendReceipt:
        """Send one part. Raises SendError, NotSentError, OutcomeUnknownError, ValueError, and nothing else."""
        body = message_body(recipient, content, address_of, human_agent=human_agent)
        fields = await self._posted(body, MEDIA_PATIENCE if content.attachments else 1)
        mid = answers.word(fields.get("message_id"), MAX_MID)
        if mid is None or mid != fields.get("message_id"):
            msg = "Meta answered without a usable message id."
            raise OutcomeUnknownError(msg)
        return SendReceipt(mid, answers.identifier(fields.get("recipient_id")))

    async def action(self, participant_id: str, action: str, payload: Json | None = None) -> None:
        """Make a sender action: `typing_on`, `typing_off`, `mark_seen`, `react`, `unreact`. Raises as `message`."""
        await self._posted(action_body(participant_id, action, payload), 1)

    async def _posted(self, body: Json, patience: int) -> dict[str, Any]:
        """The fields of Meta's answer to `body`."""
        answer = await post_once(self._graph, self._path, body, patience=patience, in_words=send_error)
        if isinstance(answer.error, SendError):
            await self._heed(answer.error)
            raise answer.error
        if self._refused:
            self._refused = False
            await self._told(None)
        if self._graph.sends_throttle.strikes:
            self._graph.sends_throttle.reset()
            await self._keep()
        return answer.fields

    async def _heed(self, error: SendError) -> None:
        """Stop sends when the account cannot send. Other limits were obeyed with the answer."""
        row = error.send_row
        if row.failure in {SendFailure.STOPPED, SendFailure.RESTRICTED}:
            longest_s = row.first_stop_s if row.failure is SendFailure.STOPPED else LONGEST_REST_S
            throttle = self._graph.sends_throttle
            throttle.trip_longer(str(error), (error.code, error.subcode), first_s=row.first_stop_s, longest_s=longest_s)
            await self._keep()
        if row.failure is SendFailure.STOPPED:
            self._refused = True
            await self._told(error)

    async def _keep(self) -> None:
        with suppress(StorageError):  # what became of the message counts all the same
            await self._graph.sends_throttle.keep()

    async def _told(self, error: SendError | None) -> None:
        try:
            await self._graph.judged(error)
        except StorageError:
            self._refused = True  # told with the next send
