"""How commands reach the outbox: through the running daemon, which alone sends."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode

from inboxd.conversations.api import PATH as CONVERSATIONS
from inboxd.conversations.messages_api import PATH as MESSAGES
from inboxd.conversations.resources import ConversationList, ConversationResource
from inboxd.http.client import AdminClient, UnreachableError
from inboxd.http.operations import MAX_LIMIT
from inboxd.runtime.errors import EX_USAGE, InboxdError
from inboxd.sending.api import PATH
from inboxd.sending.idempotency_key import KEY
from inboxd.sending.input_resources import NewMessage
from inboxd.sending.resources import OutboundList, OutboundResource
from inboxd.sending.uploads.api import PATH as UPLOADS
from inboxd.sending.uploads.api import UploadResource

T = TypeVar("T")
RETRY_AFTER_S: Final = (0.5, 1.0)
"""Pauses before a request that got no answer is made again."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_PLATFORM_ID: Final = re.compile(r"([0-9]{1,32})_([0-9]{1,32})")
_USERNAME: Final = re.compile(r"[A-Za-z0-9._]{1,64}")
_MOST_FOUND: Final = 2000


class NoSuchRecipientError(InboxdError):
    """Nobody, or more than one, is meant by what was given as the recipient."""

    exit_code = EX_USAGE


class NoSuchOutboundError(InboxdError):
    """There is no such outbound message."""

    exit_code = EX_USAGE


class OutboxClient:
    """The outbox of the running daemon. Raises InboxdError."""

    def __init__(self, remote: AdminClient) -> None:
        self._remote = remote

    async def conversation(self, recipient: str, account_id: str | None) -> ConversationResource | None:
        """The conversation with `recipient`: its id, `@username`, a participant's id, or Meta's two ids with `_`.

        None when it looks like a participant's id and there is no conversation with them. Raises NoSuchRecipientError.
        """
        if _NUMBER.fullmatch(recipient):
            found = await self._by_id(recipient)
            if found is not None and account_id in {None, found.client_account_id}:
                return found
            return await self._by_participant(recipient, account_id)
        both = _PLATFORM_ID.fullmatch(recipient)
        if both is not None:
            return await self._by_participant(both[2], account_id or both[1])
        name = recipient.removeprefix("@")
        if _USERNAME.fullmatch(name) is None:
            msg = f"{recipient!r} is no conversation's id, @username or participant's id"
            raise NoSuchRecipientError(msg)
        matching = [one for one in await self._page(q=name) if (one.participant_username or "").lower() == name.lower()]
        found = _only(matching, f"@{name}", account_id)
        if found is None:
            msg = f"there is no conversation with @{name}; 'inboxd conversations' shows which there are"
            raise NoSuchRecipientError(msg)
        return found

    async def answer(self, conversation_id: str, message: NewMessage, key: str) -> OutboundResource:
        """Put a message for a conversation into the outbox, once for each `key`."""
        return await self._accepted(f"{CONVERSATIONS}/{conversation_id}/messages", message, key)

    async def send(self, message: NewMessage, key: str) -> OutboundResource:
        """Put a message that names its recipient into the outbox, once for each `key`."""
        return await self._accepted(MESSAGES, message, key)

    async def upload(self, path: Path, key: str) -> UploadResource:
        """Upload a file, to be attached; once for each `key`. Raises OSError when it cannot be read."""
        with path.open("rb") as file:
            return await self._remote.upload(UPLOADS, UploadResource, file, {KEY: key})

    async def one(self, outbound_id: str) -> OutboundResource:
        """One outbound message. Raises NoSuchOutboundError."""
        return await self._call("GET", outbound_id)

    async def page(self, state: str | None, account_id: str | None, limit: int) -> OutboundList:
        """The latest outbound messages."""
        asked = {"state": state, "accountId": account_id, "limit": str(limit)}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return await self._remote.call("GET", f"{PATH}?{query}", OutboundList)

    async def cancel(self, outbound_id: str) -> OutboundResource:
        """Do not send what is not sent yet. Raises NoSuchOutboundError."""
        return await self._call("POST", outbound_id, "/cancel")

    async def retry(self, outbound_id: str, *, force: bool) -> OutboundResource:
        """Send a failed one again; with `force` also one that is unknown. Raises NoSuchOutboundError."""
        return await self._call("POST", outbound_id, "/retry?force=true" if force else "/retry")

    async def _call(self, method: str, outbound_id: str, end: str = "") -> OutboundResource:
        if _NUMBER.fullmatch(outbound_id) is None:
            msg = f"{outbound_id!r} is no id of an outbound message; 'inboxd outbox' shows them"
            raise NoSuchOutboundError(msg)
        return await self._remote.call(
            method, f"{PATH}/{outbound_id}{end}", OutboundResource, absent=NoSuchOutboundError
        )

    async def _accepted(self, path: str, message: NewMessage, key: str) -> OutboundResource:
        """Ask again when no answer comes: the key makes it harmless. Raises DaemonError."""
        headers = {KEY: key}
        for pause_s in RETRY_AFTER_S:
            try:
                return await self._remote.call("POST", path, OutboundResource, message, headers=headers)
            except UnreachableError:
                await asyncio.sleep(pause_s)
        return await self._remote.call("POST", path, OutboundResource, message, headers=headers)

    async def _by_id(self, conversation_id: str) -> ConversationResource | None:
        try:
            return await self._remote.call(
                "GET", f"{CONVERSATIONS}/{conversation_id}", ConversationResource, absent=NoSuchRecipientError
            )
        except NoSuchRecipientError:
            return None

    async def _by_participant(self, participant_id: str, account_id: str | None) -> ConversationResource | None:
        return _only(await self._page(participantPlatformId=participant_id), participant_id, account_id)

    async def _page(self, **asked: str) -> Sequence[ConversationResource]:
        """The conversations that match, of the latest so many."""
        found: list[ConversationResource] = []
        cursor: dict[str, str] = {}
        while len(found) < _MOST_FOUND:
            query = urlencode({**asked, **cursor, "limit": str(MAX_LIMIT)})
            page = await self._remote.call("GET", f"{CONVERSATIONS}?{query}", ConversationList)
            found += page.conversations
            if page.next_cursor is None:
                break
            cursor = {"cursor": page.next_cursor}
        return found


def _only(found: Sequence[ConversationResource], name: str, account_id: str | None) -> ConversationResource | None:
    """The one that is meant. Raises NoSuchRecipientError when there are more."""
    meant = [one for one in found if account_id in {None, one.client_account_id}]
    if len(meant) > 1:
        which = ", ".join(f"{one.id} (account {one.client_account_id})" for one in meant[:10])
        msg = f"{len(meant)} conversations are with {name}: {which}. Give --account, or the id of one as --to"
        raise NoSuchRecipientError(msg)
    return meant[0] if meant else None
