"""The reply window: until when a participant may be answered, and with which tag.

Meta counts from what the participant did, by Meta's clock. What opens the window is listed in `opening_of`; unsends,
edits, reads and echoes do not. Each stored time only grows, so the order in which webhooks arrive does not matter.
Source: Meta's "Send messages" and "Human Agent" pages.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple, Self

import msgspec

from inboxd.domain.account import DAY_MS
from inboxd.domain.conversation import Conversation, ConversationKey
from inboxd.domain.message import Direction, MessageChange, Reacted, ReadBack, Sent
from inboxd.domain.outbound import SentBy
from inboxd.domain.referral import referral_of

WINDOW_MS: Final = DAY_MS
"""The standard window."""
AD_WINDOW_MS: Final = 7 * DAY_MS
"""How long a message that came from an ad may open the window. Meta does not promise it: its answer counts."""
HUMAN_AGENT_MS: Final = 7 * DAY_MS
"""How long a human may answer, for an account with the Human Agent feature."""
AD_SOURCE: Final = "ADS"


class Tag(StrEnum):
    """As what a message may be sent."""

    RESPONSE = "RESPONSE"
    """Inside the window: without a tag."""
    HUMAN_AGENT = "HUMAN_AGENT"
    """After it: only what a human wrote."""


class Closed(NamedTuple):
    """Nothing may be sent."""

    at: int | None
    """Since when (ms). None when the window never opened."""
    words: str
    """Why, and what opens it again, for people."""


class Opening(NamedTuple):
    """What a participant did, as far as it opens the window. Times in ms."""

    wrote_at: int
    ad_clicked_at: int | None = None

    def merged(self, other: "Opening | None") -> "Opening":
        """Both together: the later times."""
        if other is None:
            return self
        clicks = [at for at in (self.ad_clicked_at, other.ad_clicked_at) if at is not None]
        return Opening(max(self.wrote_at, other.wrote_at), max(clicks, default=None))


class ReplyWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether a conversation can be answered. Times in ms."""

    customer_wrote_at: int | None = None
    """The latest thing that opened the window."""
    ad_clicked_at: int | None = None
    """The latest message that came from an ad."""
    refused_at: int | None = None
    """When Meta last said that the window is closed, of a message without a tag."""
    tag_refused_at: int | None = None
    """The same of a message with the tag HUMAN_AGENT."""
    human_agent: bool = False
    """Whether the account has the Human Agent feature, by its settings."""
    human_agent_refused_at: int | None = None
    """When Meta last said that the account does not have it. None when the setting was confirmed since."""

    @classmethod
    def of(cls, conversation: Conversation) -> Self:
        """The window of a conversation."""
        return cls(
            customer_wrote_at=conversation.customer_wrote_at,
            ad_clicked_at=conversation.ad_clicked_at,
            refused_at=conversation.window_refused_at,
            tag_refused_at=conversation.tag_refused_at,
            human_agent=conversation.human_agent,
            human_agent_refused_at=conversation.human_agent_refused_at,
        )

    @property
    def closes_at(self) -> int | None:
        """When messages without a tag end, or ended (ms). None when the window never opened."""
        if self.customer_wrote_at is None:
            return None
        until = self.customer_wrote_at + WINDOW_MS
        if self.ad_clicked_at is not None:
            until = max(until, self.ad_clicked_at + AD_WINDOW_MS)
        return until if self._is_outdated(self.refused_at) else min(until, self.refused_at or until)

    @property
    def human_agent_until(self) -> int | None:
        """Until when a human may answer with the tag (ms). None when the account does not have the feature."""
        if self.customer_wrote_at is None or not self.human_agent or self.human_agent_refused_at is not None:
            return None
        until = self.customer_wrote_at + HUMAN_AGENT_MS
        return until if self._is_outdated(self.tag_refused_at) else min(until, self.tag_refused_at or until)

    def expires_at(self, sent_by: SentBy) -> int | None:
        """The last moment (ms) at which what `sent_by` sends may leave, if the participant does nothing until then."""
        ends = [self.closes_at, self.human_agent_until if sent_by is SentBy.HUMAN else None]
        return max((end for end in ends if end is not None), default=None)

    def decide(self, sent_by: SentBy, now: int) -> Tag | Closed:
        """As what a message of `sent_by` may be sent at `now` (ms)."""
        if self.customer_wrote_at is None or self.closes_at is None:
            return Closed(None, "The participant has not written yet, and Instagram lets nobody write first.")
        if now < self.closes_at:
            return Tag.RESPONSE
        until = self.human_agent_until
        if sent_by is SentBy.HUMAN and until is not None and now < until:
            return Tag.HUMAN_AGENT
        return Closed(self.expires_at(sent_by), self._words(sent_by, now))

    def can_reply(self, now: int) -> bool:
        """Whether anybody may answer at `now` (ms): at least a human."""
        return isinstance(self.decide(SentBy.HUMAN, now), Tag)

    def _is_outdated(self, refused_at: int | None) -> bool:
        """Whether the participant did something since Meta refused, or Meta never refused."""
        return refused_at is None or (self.customer_wrote_at is not None and refused_at < self.customer_wrote_at)

    def _words(self, sent_by: SentBy, now: int) -> str:
        closed_at, until = self.closes_at or 0, self.human_agent_until
        why = "when Meta refused a message" if closed_at == self.refused_at else "after what the participant last did"
        words = f"The reply window closed at {_utc(closed_at)}, {why}"
        if until is None:
            return f"{words}. It opens again when they write."
        if now < until:
            return f'{words}. Only a human may answer until {_utc(until)} ("sentBy": "human").'
        if sent_by is SentBy.HUMAN:
            words += f", and the time for human answers ended at {_utc(until)}"
        return f"{words}. It opens again when they write."


def opening_of(change: MessageChange) -> Opening | None:
    """What `change` does for the window. None when it does not open it.

    A message, a tap and a reaction of the participant open it. A reaction that the Conversations API lists has the time
    of its message, which is not later than the reaction.
    """
    key = change.key
    if key.account_id == key.participant_id:
        return None  # notes to self
    if isinstance(change, Sent | ReadBack):
        if change.direction is not Direction.INBOUND:
            return None
        details = {} if change.content is None else change.content.details or {}
        return Opening(change.at, change.at if is_from_ad(details.get("referral")) else None)
    if isinstance(change, Reacted) and change.by == key.participant_id and change.reaction is not None:
        return Opening(change.at)
    return None


def openings_of(changes: Iterable[MessageChange]) -> dict[ConversationKey, Opening]:
    """What `changes` do for the windows of their conversations."""
    found: dict[ConversationKey, Opening] = {}
    for change in changes:
        opening = opening_of(change)
        if opening is not None:
            found[change.key] = opening.merged(found.get(change.key))
    return found


def is_from_ad(value: object) -> bool:
    """Whether a referral in Meta's JSON, which may be anything, is from an ad."""
    referral = referral_of(value)
    return referral is not None and (referral.source or "").upper() == AD_SOURCE


def _utc(at: int) -> str:
    """A time (ms) for people."""
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC"
