"""What the Conversations API shows, as changes of messages, and storing it: once, whatever webhooks bring as well."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from inboxd.conversations import read_back_store
from inboxd.conversations.event_recording import record_changes
from inboxd.conversations.read_back_store import Joined, ReadConversation
from inboxd.domain.account import Account
from inboxd.domain.clock_trust import is_believable
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.mailbox import Detail, ListedAttachment, ListedConversation, ListedMessage, Party, StoryKind
from inboxd.domain.message import Attachment, Content, Direction, Reacted, ReadBack, Source
from inboxd.domain.own_identity import OwnIdentity
from inboxd.events.log import EventLog
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database

_HEART: Final = "❤"

Also = Callable[[sqlite3.Connection, Joined], None]
"""Stores something else in the transaction that stores what was read."""


class Sides(NamedTuple):
    """The two sides of a listed conversation."""

    key: ConversationKey
    own: OwnIdentity
    """How the account may be named, also in this conversation."""
    username: str | None
    """The participant's username, if the API told it."""


def identity_of(account: Account) -> OwnIdentity:
    """The ids and the username by which the Conversations API may name an account."""
    known = (account.id, account.app_scoped_id, account.page_id)
    return OwnIdentity(frozenset(one for one in known if one), account.username)


def sides_of(listed: ListedConversation, account_id: str, own: OwnIdentity, aliases: Mapping[str, str]) -> Sides | None:
    """The sides of a conversation of `account_id`.

    `aliases` maps each id of a served account to its main id, because a participant may be one too. None when the
    participant cannot be told, or when there are several.
    """
    others = own.others(listed.participants)
    if others is None or len({party.id for party in others}) > 1:
        return None
    mine = frozenset(party.id for party in listed.participants) - {party.id for party in others}
    known = OwnIdentity(own.ids | mine, own.username)
    if not others:
        return Sides(ConversationKey(account_id, account_id), known, None)
    participant = others[0]
    key = ConversationKey(account_id, aliases.get(participant.id, participant.id))
    return Sides(key, known, participant.username)


def read_conversation(
    sides: Sides,
    messages: Sequence[ListedMessage],
    aliases: Mapping[str, str],
    *,
    source: Source,
    read_at: int,
    undated_at: int | None = None,
) -> ReadConversation:
    """What the messages of one conversation say, read at `read_at` (ms), in the order in which they were sent.

    A message whose time is missing or not believable counts as sent at `undated_at`, else at `read_at`.
    """
    read: list[ReadBack] = []
    changes: list[Reacted] = []
    instead_at = read_at if undated_at is None else min(undated_at, read_at)
    dated: list[tuple[int, ListedMessage]] = []
    undated: set[str] = set()
    for one in reversed(messages):  # the API lists the newest first, to the second
        at = one.created_time
        if at is None or not is_believable(at, read_at, None):
            undated.add(one.id)
            at = instead_at
        dated.append((at, one))
    for at, one in sorted(dated, key=itemgetter(0)):  # ids and events are given in the order of the conversation
        read.append(_message(one, sides, aliases, at, source, read_at))
        changes += _reactions(one, sides, at)
    return ReadConversation(sides.key, sides.username, read, changes, frozenset(undated))


class ReadBackService:
    """Stores what was read of conversations, and records what really changed."""

    def __init__(self, database: Database, event_log: EventLog, clock: Clock) -> None:
        self._database = database
        self._event_log = event_log
        self._clock = clock

    async def store(self, read: ReadConversation, *, emit: bool, also: Also | None = None) -> Joined:
        """Store one conversation in one transaction, with events if `emit`. Returns what really changed.

        `also` runs in the same transaction. Raises StorageError.
        """
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> Joined:
            joined = read_back_store.join(connection, read, now)
            if emit:
                record_changes(connection, self._event_log, joined.created, joined.changed, now)
            if also is not None:
                also(connection, joined)
            return joined

        return await self._database.write(transaction)


def _message(
    one: ListedMessage, sides: Sides, aliases: Mapping[str, str], at: int, source: Source, read_at: int
) -> ReadBack:
    key = sides.key
    direction = None if one.detail is Detail.UNAVAILABLE else _direction(one, sides, aliases)
    if direction is None:
        return ReadBack(key=key, mid=one.id, at=at, source=source, read_at=read_at)
    return ReadBack(
        key=key,
        mid=one.id,
        at=at,
        source=source,
        read_at=read_at,
        sender_id=key.account_id if direction is Direction.OUTBOUND else key.participant_id,
        direction=direction,
        content=_content(one, is_self=key.account_id == key.participant_id),
    )


def _direction(one: ListedMessage, sides: Sides, aliases: Mapping[str, str]) -> Direction | None:
    """Who sent it: told by the sender, else by the recipients. None when neither says."""
    key, own = sides.key, sides.own
    if key.account_id == key.participant_id:
        return Direction.OUTBOUND

    def is_participant(party: Party) -> bool:
        return aliases.get(party.id, party.id) == key.participant_id

    if one.sender is not None:
        if is_participant(one.sender):
            return Direction.INBOUND
        return Direction.OUTBOUND if own.is_own(one.sender) else None
    if any(map(is_participant, one.recipients)):
        return Direction.OUTBOUND
    return Direction.INBOUND if any(map(own.is_own, one.recipients)) else None


def _content(one: ListedMessage, *, is_self: bool) -> Content:
    """The content, named as webhooks name it."""
    attachments = [_attachment(part) for part in one.attachments or ()]
    attachments += [Attachment(type="share", url=link, payload={"url": link}) for link in one.shares]
    details: dict[str, object] = {"is_self": True} if is_self else {}
    if one.story is not None and one.story.kind is StoryKind.MENTION:
        link = one.story.link
        attachments.insert(0, Attachment("story_mention", link, payload=None if link is None else {"url": link}))
    elif one.story is not None:
        story = {"id": one.story.id, "url": one.story.link}
        details["reply_to"] = {"story": {name: value for name, value in story.items() if value is not None}}
    kind = "unsupported" if one.is_unsupported else attachments[0].type if attachments else "text"
    return Content(type=kind, text=one.text, attachments=tuple(attachments), details=details or None)


def _attachment(part: ListedAttachment) -> Attachment:
    told = {
        "url": part.url,
        "mime_type": part.mime_type,
        "name": part.name,
        "preview_url": part.preview_url,
        "width": part.width,
        "height": part.height,
        "size": part.size,
    }
    payload: dict[str, object] = {name: value for name, value in told.items() if value is not None}
    return Attachment(part.type, part.url, part.title, payload or None)


def _reactions(one: ListedMessage, sides: Sides, at: int) -> Iterator[Reacted]:
    """The reactions, at the time of the message: Meta does not say when, and every webhook's reaction is later.

    Whoever is not the account is the participant, since there are two sides.
    """
    key = sides.key
    for reaction in one.reactions or ():
        name = "love" if reaction.emoji.startswith(_HEART) else "other"
        for party in reaction.by:
            by = key.account_id if sides.own.is_own(party) else key.participant_id
            yield Reacted(key=key, mid=one.id, at=at, by=by, reaction=name, emoji=reaction.emoji)
