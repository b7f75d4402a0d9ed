"""Reactions, typing and seen marks. They are made at once and not kept: Meta takes the same one twice without harm."""

import sqlite3
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.conversations.api import PATH as CONVERSATIONS
from inboxd.conversations.messages_api import PATH as MESSAGES
from inboxd.domain.conversation import ConversationKey
from inboxd.events.log import EventLog
from inboxd.http.operations import Operation, answer, body, not_found, path_id
from inboxd.http.problems import ProblemError
from inboxd.http.resource import Resource
from inboxd.meta.budget import PATIENCE_S
from inboxd.meta.send_budget import SendBudget
from inboxd.meta.send_client import SendClient
from inboxd.meta.send_errors import TOO_MANY, SendError, SendFailure
from inboxd.meta.single_post import NotSentError, OutcomeUnknownError
from inboxd.runtime.clock import Clock
from inboxd.sending import actions_store
from inboxd.sending.actions_store import Target
from inboxd.storage.database import Database

_SCOPE: Final = "send"
_STEP_S: Final = 0.5


class NewReaction(Resource, frozen=True, forbid_unknown_fields=True):
    """A reaction."""

    reaction: Annotated[
        str, Meta(min_length=1, max_length=32, pattern=r"^[^\x00-\x1f]+$(?!\n)", description="An emoji.")
    ]


class Typing(Resource, frozen=True, forbid_unknown_fields=True):
    """Whether the account is shown as typing."""

    on: bool = True


class Done(Resource, frozen=True):
    """Meta did it."""

    success: bool = True

    @classmethod
    def example(cls) -> "Done":
        """For the documentation."""
        return cls()


class Sender:
    """How an account sends at once: within its limits, but not later."""

    def __init__(self, managed: ManagedAccount, budget: SendBudget, client: Callable[[], SendClient]) -> None:
        self.managed = managed
        self.budget = budget
        self.client = client


class ActionsApi:
    """Reactions, typing and seen marks. `sender_of` finds the account; None when it is not served."""

    def __init__(
        self, database: Database, event_log: EventLog, clock: Clock, sender_of: Callable[[str], Sender | None]
    ) -> None:
        self._database = database
        self._event_log = event_log
        self._clock = clock
        self._sender_of = sender_of

    def operations(self) -> Sequence[Operation]:
        """The operations of the API."""
        reaction, one, tag = MESSAGES + "/{id}/reaction", CONVERSATIONS + "/{id}", "sending"
        common: dict[str, Any] = {"needs": _SCOPE, "problems": (409, 502, 503)}
        example = {"body": {"reaction": "❤️"}}
        return [
            Operation("PUT", reaction, self.react, tag, {200: Done}, body=NewReaction, examples=example, **common),
            Operation("DELETE", reaction, self.unreact, tag, {200: Done}, **common),
            Operation(
                "POST", one + "/typing", self.typing, tag, {200: Done}, body=Typing, examples={"body": {"on": True}},
                **common,
            ),
            Operation("POST", one + "/seen", self.seen, tag, {200: Done}, **common),
        ]  # fmt: skip

    async def react(self, request: web.Request) -> web.Response:
        """React to a message, or change the reaction. Meta may refuse it: not every account can react."""
        emoji = body(request, NewReaction).reaction
        target = await self._target(request)
        await self._act(target.key, "react", {"message_id": target.mid, "reaction": emoji})
        return await self._reacted(target, emoji)

    async def unreact(self, request: web.Request) -> web.Response:
        """Take the account's reaction back."""
        target = await self._target(request)
        await self._act(target.key, "unreact", {"message_id": target.mid})
        return await self._reacted(target, None)

    async def typing(self, request: web.Request) -> web.Response:
        """Show the participant that somebody is typing, for up to 20 seconds, or that nobody is any more."""
        on = body(request, Typing).on
        await self._act(await self._conversation(request), "typing_on" if on else "typing_off")
        return answer(Done())

    async def seen(self, request: web.Request) -> web.Response:
        """Show the participant that the account has seen the newest message. `PATCH …/read` does not tell them."""
        await self._act(await self._conversation(request), "mark_seen")
        return answer(Done())

    async def _target(self, request: web.Request) -> Target:
        target = await actions_store.message(self._database.read, path_id(request, "message"))
        if target is None:
            raise not_found("message")
        return target

    async def _conversation(self, request: web.Request) -> ConversationKey:
        key = await actions_store.conversation(self._database.read, path_id(request, "conversation"))
        if key is None:
            raise not_found("conversation")
        return key

    async def _reacted(self, target: Target, emoji: str | None) -> web.Response:
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> None:
            actions_store.react(connection, self._event_log, target, emoji, now)

        await self._database.write(transaction)
        return answer(Done())

    async def _act(self, key: ConversationKey, action: str, payload: dict[str, Any] | None = None) -> None:
        """Make the call. Raises ProblemError with Meta's reason."""
        sender = self._sender_of(key.account_id)
        if sender is None or not sender.managed.account.callable:
            raise ProblemError(HTTPStatus.CONFLICT, "The account is not served here, or needs a valid token.")
        await self._turn(sender.budget)
        try:
            with sender.budget.slot():
                await sender.client().action(key.participant_id, action, payload)
        except SendError as error:
            throttled = error.send_row.failure is SendFailure.THROTTLED or error.send_row is TOO_MANY
            status = HTTPStatus.SERVICE_UNAVAILABLE if throttled else HTTPStatus.CONFLICT
            raise ProblemError(status, f"Meta refused it: {error}") from error
        except NotSentError as error:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"Nothing was sent: {error}.") from error
        except OutcomeUnknownError as error:
            raise ProblemError(HTTPStatus.BAD_GATEWAY, f"{error} It can be tried again without harm.") from error

    async def _turn(self, budget: SendBudget) -> None:
        """Wait a moment for a free slot. Raises ProblemError (503)."""
        ends_at = self._clock.monotonic() + PATIENCE_S
        while (wait_s := budget.wait_s()) > 0:
            left_s = ends_at - self._clock.monotonic()
            if left_s <= 0 or left_s < wait_s < float("inf"):
                why = budget.report().reason or "other calls are being made"
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"No call can be made now: {why}.")
            await self._clock.sleep(min(wait_s, _STEP_S))
