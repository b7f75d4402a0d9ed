"""What a change really did to a message, as facts that others can be told."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from inboxd.domain.message import Direction, Edit, Message, Reaction


class Fact(StrEnum):
    """What happened to a message. The values are types of events."""

    RECEIVED = "message.received"
    SENT = "message.sent"
    POSTBACK = "postback.received"
    UPDATED = "message.updated"
    EDITED = "message.edited"
    DELETED = "message.deleted"
    REACTION_ADDED = "message.reaction_added"
    REACTION_REMOVED = "message.reaction_removed"
    READ = "message.read"


class MessageFact(NamedTuple):
    """A fact, and when it happened (ms)."""

    fact: Fact
    at: int
    reaction: Reaction | None = None
    """The reaction that was added or removed."""
    read_by_account: bool | None = None
    """Of a read: whether it was the account, and not the participant, who read the message."""


def facts(before: Message | None, after: Message) -> list[MessageFact]:
    """What really changed between two states of one message: nothing, when both say the same.

    A message that arrives after it was deleted tells nothing new: there is nothing left to show of it.
    """
    if before is None:
        if after.direction is not None and after.current_edit is None and not after.reactions and not after.seen:
            return [MessageFact(_arrival(after), after.shown_at)]  # most changes are this kind
        before = Message(mid=after.mid, noticed_at=after.noticed_at)
    if after.deleted_at is not None:
        return [MessageFact(Fact.DELETED, after.deleted_at)] if before.deleted_at is None else []
    return [*_content(before, after), *_reactions(before, after), *_reads(before, after)]


def _content(before: Message, after: Message) -> Iterator[MessageFact]:
    if before.direction is None and after.direction is not None:
        yield MessageFact(_arrival(after), after.shown_at)
    elif before.content != after.content or before.direction is not after.direction:
        yield MessageFact(Fact.UPDATED, after.shown_at)
    edit = after.current_edit
    if edit is not None and _is_news(before, after, edit):
        yield MessageFact(Fact.EDITED, edit.at)


def _is_news(before: Message, after: Message, edit: Edit) -> bool:
    """Whether `edit` says something else than what was known. An edit that is read again has only a later time."""
    known = before.current_edit
    if known is None or known == edit:
        return known is None
    was_read, is_read = known is not before.edit, edit is not after.edit
    return known.text != edit.text or not (was_read or is_read)


def _arrival(message: Message) -> Fact:
    if message.direction is Direction.OUTBOUND:
        return Fact.SENT
    return Fact.POSTBACK if message.content is not None and message.content.type == "postback" else Fact.RECEIVED


def _reactions(before: Message, after: Message) -> Iterator[MessageFact]:
    if before.reactions == after.reactions:
        return
    known = {one.by: one for one in before.reactions}
    for one in after.reactions:
        earlier = known.get(one.by)
        had = None if earlier is None else (earlier.reaction, earlier.emoji)
        if one.reaction is not None and had != (one.reaction, one.emoji):
            yield MessageFact(Fact.REACTION_ADDED, one.at, reaction=one)
        elif one.reaction is None and earlier is not None and earlier.reaction is not None:
            taken_back = Reaction(by=one.by, at=one.at, reaction=earlier.reaction, emoji=earlier.emoji)
            yield MessageFact(Fact.REACTION_REMOVED, one.at, reaction=taken_back)


def _reads(before: Message, after: Message) -> Iterator[MessageFact]:
    if before.seen_by_participant_at is None and after.seen_by_participant_at is not None:
        yield MessageFact(Fact.READ, after.seen_by_participant_at, read_by_account=False)
    if before.seen_by_account_at is None and after.seen_by_account_at is not None:
        yield MessageFact(Fact.READ, after.seen_by_account_at, read_by_account=True)
