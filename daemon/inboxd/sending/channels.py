"""How each kind of outbound message is sent, and looked for when Meta's answer was not seen."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.conversations.event_recording import record_changes
from inboxd.conversations.read_back import ReadBackService, identity_of, read_conversation, sides_of
from inboxd.conversations.read_back_store import Joined, join_sent
from inboxd.domain.budget import Priority
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.mailbox import ListedConversation, ListedMessage
from inboxd.domain.message import SentFromHere, Source
from inboxd.domain.outbound import OutboundAttachment, OutboundKind
from inboxd.domain.reply_window import Tag
from inboxd.events.log import EventLog
from inboxd.meta.conversations_client import ConversationsClient
from inboxd.meta.send_bodies import Recipient
from inboxd.meta.send_client import SendClient, SendReceipt
from inboxd.runtime.clock import Clock
from inboxd.sending.content import content_of
from inboxd.sending.delivery_store import Begun, is_unknown
from inboxd.sending.matching_store import NEW_MS, Finding, Verdict, find, since_of
from inboxd.sending.outbound import OutboundPart, StoredOutbound
from inboxd.sending.uploads.service import UploadService
from inboxd.sending.uploads.upload import UploadError
from inboxd.storage.database import Database

PAGES: Final = 5
"""Most pages of a conversation that are read to find a message."""


class Channel(Protocol):
    """Sends one kind of outbound message for one account."""

    async def send(self, begun: Begun) -> SendReceipt:
        """Make the call. Raises SendError, NotSentError, OutcomeUnknownError, and ValueError when it cannot be made."""

    def settled(
        self, connection: sqlite3.Connection, begun: Begun, receipt: SendReceipt, key: ConversationKey | None, now: int
    ) -> None:
        """Store what was sent, in the transaction that settles it. `key` is its conversation, if there is one."""

    async def look_for(self, one: StoredOutbound, part: OutboundPart) -> Finding:
        """Ask Meta whether a part was sent. Raises GraphError and StorageError."""


ChannelFactory = Callable[[ManagedAccount], Channel]
"""Makes the channel of one account."""


class ChannelTools(NamedTuple):
    """What the channels of all accounts share."""

    database: Database
    event_log: EventLog
    clock: Clock
    aliases: Mapping[str, str]
    uploads: UploadService


class _SettledError(Exception):
    """What became of a part was found out meanwhile, or it was erased."""


class DirectMessages:
    """Messages in conversations, and private replies to comments."""

    def __init__(self, managed: ManagedAccount, tools: ChannelTools) -> None:
        self._managed = managed
        self._tools = tools
        self._read_back = ReadBackService(tools.database, tools.event_log, tools.clock)
        self._page_id: str | None = None
        self._clients: tuple[SendClient, ConversationsClient] | None = None

    @property
    def client(self) -> SendClient:
        """The client of the account's Send API."""
        return self._both[0]

    @property
    def _both(self) -> tuple[SendClient, ConversationsClient]:
        account, graph = self._managed.account, self._managed.graph
        if self._clients is None or self._page_id != account.page_id:
            self._page_id = account.page_id
            self._clients = (
                SendClient(graph, account.login_type, page_id=account.page_id),
                ConversationsClient(graph, account.login_type, page_id=account.page_id),
            )
        return self._clients

    async def send(self, begun: Begun) -> SendReceipt:
        """Make the call of the Send API."""
        one, content = begun.outbound, begun.part.content
        if content is None:
            msg = "Its content was erased."
            raise ValueError(msg)
        is_answer = one.kind is OutboundKind.PRIVATE_REPLY
        recipient = Recipient(comment_id=one.comment_id) if is_answer else Recipient(one.participant_id)
        tagged = begun.tag is Tag.HUMAN_AGENT
        addresses = {at: await self._address(one.id, at) for at in content.attachments if at.url or at.upload_id}
        return await self.client.message(recipient, content, addresses.__getitem__, human_agent=tagged)

    async def _address(self, outbound_id: int, one: OutboundAttachment) -> str:
        """From where Meta may fetch an attachment. Raises ValueError when there is none, or no more."""
        try:
            return one.url or await self._tools.uploads.address(outbound_id, int(one.upload_id or 0))
        except UploadError as error:
            raise ValueError(str(error)) from error

    def settled(
        self, connection: sqlite3.Connection, begun: Begun, receipt: SendReceipt, key: ConversationKey | None, now: int
    ) -> None:
        """Show the message in its conversation. A private reply opens it."""
        content, log = begun.part.content, self._tools.event_log
        if key is None or content is None:
            return
        sent = SentFromHere(key=key, mid=receipt.mid, at=begun.began_at, content=content_of(content))
        created, changed = join_sent(connection, sent, now)
        record_changes(connection, log, created, changed, now)

    async def look_for(self, one: StoredOutbound, part: OutboundPart) -> Finding:
        """Read the conversation back, store what is new of it, and look among that."""
        if one.key is None:
            return Finding(Verdict.UNCLEAR, words="It is not known who wrote the comment.")
        client, account = self._both[1], self._managed.account
        since = await since_of(self._tools.database.read, part.id)
        page = await client.conversations(user_id=one.key.participant_id, priority=Priority.LIVE)
        own = identity_of(account)
        for listed in page:
            sides = sides_of(listed, account.id, own, self._tools.aliases)
            if sides is not None and sides.key == one.key:
                break
        else:
            if one.kind is OutboundKind.PRIVATE_REPLY and page.after is None and not page.cut_off:
                return Finding(Verdict.ABSENT)
            return Finding(Verdict.UNCLEAR, words="Meta lists no conversation with the participant.")
        read_at = self._tools.clock.now_ms()
        found, is_whole = await self._messages(client, listed, since.known_to)
        earliest = since.earliest if since.earliest is not None else (part.began_at or read_at) - NEW_MS
        wanted = [one for one in found if one.created_time is not None and one.created_time >= earliest]
        read = read_conversation(sides, wanted, self._tools.aliases, source=Source.RECONCILED, read_at=read_at)
        looked: list[Finding] = []

        def also(connection: sqlite3.Connection, _joined: Joined) -> None:
            if not is_unknown(connection, one, part):
                raise _SettledError  # erased, perhaps: nothing that was read is stored
            looked.append(find(connection, one, part))

        try:
            await self._read_back.store(read, emit=True, also=also)
        except _SettledError:
            return Finding(Verdict.UNCLEAR, words="It was settled meanwhile.")
        if looked[-1].verdict is Verdict.ABSENT and not (is_whole and since.earliest is not None):
            shown = "Meta does not show the conversation up to that time"
            return Finding(Verdict.UNCLEAR, words=f"{'It is not known when Meta got it' if is_whole else shown}.")
        return looked[-1]

    async def _messages(
        self, client: ConversationsClient, listed: ListedConversation, known_to: int | None
    ) -> tuple[list[ListedMessage], bool]:
        """The messages of a conversation, and whether they reach back to what was known when the part was begun."""
        found: list[ListedMessage] = []
        after: str | None = None
        for _ in range(PAGES):
            page = await client.messages(listed.id, after=after, priority=Priority.LIVE)
            found += page.items
            if any(one.created_time is None for one in page) or page.set_aside:
                return found, False
            if known_to is not None and any((one.created_time or 0) <= known_to for one in page):
                return found, True
            after = page.after
            if after is None:
                # When something was known, an empty list proves nothing: Meta shows less than there is.
                return found, known_to is None and bool(found) and not page.cut_off
        return found, False
