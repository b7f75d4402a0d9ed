"""What follows from a call of the Send API, in one transaction each: the part, its message, its lane, the event log."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations import reply_window_store
from inboxd.conversations import store as conversations
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.outbound import OutboundKind, OutboundState, PartState, ReasonCode
from inboxd.domain.reply_window import Closed, ReplyWindow, Tag
from inboxd.meta.send_client import SendReceipt
from inboxd.meta.send_errors import SendError, SendFailure, send_row
from inboxd.runtime import logs
from inboxd.runtime.clock import iso_utc
from inboxd.runtime.plural import counted
from inboxd.sending import delivery_store, echo_store, store
from inboxd.sending.authorship import may_be_ours
from inboxd.sending.delivery_store import Begun, Concluding, LatestAttempt, Reason
from inboxd.sending.event_recording import HumanReply, record_human_replies
from inboxd.sending.matching_store import Finding, is_of_another
from inboxd.sending.outbound import OutboundPart, StoredOutbound

MOST_ATTEMPTS: Final = 3
"""Attempts of a part that may have sent it. After that it has failed."""
MEDIA_RETRY_MS: Final = 30_000
MEDIA_ATTEMPTS: Final = 2
_SENDABLE: Final = frozenset({OutboundState.QUEUED, OutboundState.SENDING})
FINDING_OUT: Final = "It is being found out whether it was sent."
"""The last sentence of the reason of whatever is unknown."""
_STOPPED: Final = f"inboxd stopped while it was being sent, so Meta's answer was not seen. {FINDING_OUT}"

_DELETED: Final = "The conversation was deleted here. It begins anew when the participant writes."
_OTHERS_ID: Final = "Meta answered with the id of another message. It is being found out whether it was sent."
_GIVEN_UP: Final = (
    "The call was given up before Meta answered: inboxd stopped, or the account is no longer served. Whether it was "
    "sent is found out when the account is served."
)

Settled = Callable[[sqlite3.Connection, Begun, SendReceipt, ConversationKey | None, int], None]
"""`Channel.settled`."""


class WrittenElsewhere(NamedTuple):
    """A message of the account that was not sent from here. `at` in ms, by Meta's clock."""

    key: ConversationKey
    mid: str
    message_id: int | None
    at: int


class Settlement:
    """Decides and stores what becomes of parts. Every method is called in a transaction; `now` in ms."""

    def __init__(self, concluding: Concluding, pause_ms: Callable[[], int]) -> None:
        self.concluding = concluding
        self._pause_ms = pause_ms

    def begin(
        self, connection: sqlite3.Connection, outbound_id: int, now: int, meta_now: int | None = None
    ) -> Begun | OutboundState | None:
        """Store the intent to send the next part of a message, if it is due and may be sent now.

        `meta_now` is Meta's time (ms), as far as it is known.
        The state of the message when it may not be sent any more; None when there is nothing to send.
        """
        one = store.get(connection, outbound_id)
        if one is None or one.due_at is None or one.due_at > now or one.state not in _SENDABLE:
            return None
        part = next((part for part in one.parts if part.state is PartState.QUEUED), None)
        if part is None:
            return self.concluding.conclude(connection, outbound_id, now)
        decision = self._decide(connection, one, now)
        if isinstance(decision, Reason):
            delivery_store.set_part(connection, part.id, PartState.FAILED, PartState.QUEUED)
            return self.concluding.conclude(connection, outbound_id, now, reason=decision)
        attempt_id = delivery_store.begin(connection, part, decision, now, meta_now)
        if attempt_id is None:
            return None
        self.concluding.conclude(connection, outbound_id, now)
        return Begun(one, part, decision, attempt_id, now)

    def sent(
        self, connection: sqlite3.Connection, begun: Begun, receipt: SendReceipt, settled: Settled, now: int
    ) -> bool:
        """Meta accepted a part. False when it is gone: it was erased meanwhile.

        An answer with the id of another message says nothing.
        """
        one, part = begun.outbound, begun.part
        if is_of_another(connection, one.account_id, part.id, receipt.mid):
            return self.unknown(connection, begun, Reason(ReasonCode.ANSWER_NOT_SEEN, _OTHERS_ID), now)
        if not delivery_store.ended(connection, begun, "sent", now):
            return False
        if not delivery_store.mark_sent(connection, part.id, receipt.mid, now, None):
            return False
        key = one.key
        if one.kind is OutboundKind.PRIVATE_REPLY and receipt.recipient_id not in {None, one.account_id}:
            delivery_store.set_participant(connection, one.id, receipt.recipient_id)
            key = ConversationKey(one.account_id, receipt.recipient_id)
        settled(connection, begun, receipt, key, now)
        self._after_sent(connection, one, part, key, receipt.mid, now)
        return True

    def found(
        self, connection: sqlite3.Connection, one: StoredOutbound, part: OutboundPart, found: Finding, now: int
    ) -> bool:
        """A part that was unknown was sent after all. False when it is no longer unknown."""
        if found.mid is None or not delivery_store.is_unknown(connection, one, part):
            return False
        delivery_store.mark_sent(connection, part.id, found.mid, now, None)
        key = one.key
        if key is None and found.participant_id is not None:
            delivery_store.set_participant(connection, one.id, found.participant_id)
            key = ConversationKey(one.account_id, found.participant_id)
        self._after_sent(connection, one, part, key, found.mid, now)
        return True

    def unknown(self, connection: sqlite3.Connection, begun: Begun, reason: Reason, now: int) -> bool:
        """The answer was not seen, or says nothing. False when the part is gone."""
        if not delivery_store.ended(connection, begun, "unknown", now, reason):
            return False
        if not delivery_store.set_part(connection, begun.part.id, PartState.UNKNOWN, PartState.SENDING):
            return False
        self.concluding.conclude(connection, begun.outbound.id, now, due_at=now, reason=reason)
        return True

    def abandoned(self, connection: sqlite3.Connection, outbound_id: int, now: int) -> bool:
        """A call was given up before its outcome was known. False when no part is being sent."""
        if not delivery_store.orphan(connection, outbound_id):
            return False
        reason = Reason(ReasonCode.ANSWER_NOT_SEEN, _GIVEN_UP)
        self.concluding.conclude(connection, outbound_id, now, due_at=now, reason=reason)
        return True

    def orphaned_of_others(self, connection: sqlite3.Connection, served: Collection[str], now: int) -> int:
        """The same as `orphaned` for the accounts that are not served, whose workers would do it."""
        accounts = set(delivery_store.sending_accounts(connection)) - set(served)
        return sum(self.orphaned(connection, account_id, now) for account_id in accounts)

    def orphaned(self, connection: sqlite3.Connection, account_id: str, now: int) -> int:
        """Make unknown what was being sent when the process ended. Returns how many messages."""
        found = delivery_store.orphans(connection, account_id)
        for outbound_id in found:
            reason = Reason(ReasonCode.ANSWER_NOT_SEEN, _STOPPED)
            try:
                self.concluding.conclude(connection, outbound_id, now, due_at=now, reason=reason)
            except msgspec.MsgspecError as error:  # it must not keep the others from being sent, now or ever
                told = {"account_id": account_id, "outbound_id": outbound_id}
                logs.get("sending").error("sending_crashed", **told, exc_info=error)
                delivery_store.bury(connection, outbound_id, now)
        return len(found)

    def waits(self, connection: sqlite3.Connection, begun: Begun, reason: Reason, due_at: int, now: int) -> bool:
        """A part certainly was not sent, and will be tried again at `due_at` (ms)."""
        if not delivery_store.ended(connection, begun, "waits", now, reason):
            return False
        if not delivery_store.set_part(connection, begun.part.id, PartState.QUEUED, PartState.SENDING):
            return False
        delivery_store.uncount(connection, begun.part.id)
        self._decided(connection, begun.outbound, begun.part, now)
        self.concluding.conclude(connection, begun.outbound.id, now, due_at=due_at, reason=reason)
        return True

    def refused(self, connection: sqlite3.Connection, begun: Begun, error: SendError, now: int) -> OutboundState | None:
        """Meta refused a part. Returns the state of its message; None when it is gone."""
        one, part, row = begun.outbound, begun.part, error.send_row
        reason = Reason(row.reason_code, str(error), error.code, error.subcode)
        if not delivery_store.ended(connection, begun, "refused", now, reason):
            return None
        due_at = None
        if row.reason_code is ReasonCode.COMMENT_ANSWERED and part.attempts:
            reason = reason._replace(words=f"{error} An earlier attempt may have delivered it.")
        if row.failure is SendFailure.MEDIA:
            attempt = delivery_store.latest_attempt(connection, part.id)
            if attempt is not None and attempt.refusals < MEDIA_ATTEMPTS:
                due_at = now + MEDIA_RETRY_MS
                reason = reason._replace(words=f"{error} It is tried once more.")
        elif row.failure is SendFailure.CLOSED and one.kind is OutboundKind.MESSAGE and one.key is not None:
            tag = begun.tag or Tag.RESPONSE
            reply_window_store.refused(connection, one.key, tag, now)
            decision = self._decide(connection, one, now)
            if isinstance(decision, Reason):
                reason = reason._replace(words=f"{error} {decision.words}")
            elif decision is not tag:  # a human may still answer with the tag
                due_at = now
        state = PartState.FAILED if due_at is None else PartState.QUEUED
        if not delivery_store.set_part(connection, part.id, state, PartState.SENDING):
            return None
        self._decided(connection, one, part, now)
        return self.concluding.conclude(connection, one.id, now, due_at=due_at, reason=reason)

    def unsendable(self, connection: sqlite3.Connection, begun: Begun, words: str, now: int) -> OutboundState | None:
        """A part cannot be sent, for a reason of our own."""
        reason = Reason(ReasonCode.BAD_MEDIA if begun.part.content else ReasonCode.BAD_CONTENT, words)
        if not delivery_store.ended(connection, begun, "refused", now, reason):
            return None
        if not delivery_store.set_part(connection, begun.part.id, PartState.FAILED, PartState.SENDING):
            return None
        return self.concluding.conclude(connection, begun.outbound.id, now, reason=reason)

    def absent(
        self, connection: sqlite3.Connection, one: StoredOutbound, part: OutboundPart, now: int
    ) -> OutboundState | None:
        """It is proved that an unknown part was not sent: send it again, or say that it has failed."""
        if not delivery_store.is_unknown(connection, one, part):
            return None
        attempt = delivery_store.latest_attempt(connection, part.id)
        again = part.attempts < MOST_ATTEMPTS and not _is_for_once(attempt)
        state = PartState.QUEUED if again else PartState.FAILED
        delivery_store.set_part(connection, part.id, state, PartState.UNKNOWN)
        self._decided(connection, one, part, now)
        if again:
            return self.concluding.conclude(connection, one.id, now, due_at=now)
        told = (
            ""
            if attempt is None or attempt.reason is None
            else f" The last answer: {attempt.reason.removesuffix(FINDING_OUT)}"
        )
        words = f"It did not arrive, after {counted(part.attempts, 'attempt')}.{told}".rstrip()
        codes = (None, None) if attempt is None else (attempt.code, attempt.subcode)
        return self.concluding.conclude(connection, one.id, now, reason=Reason(ReasonCode.NOT_DELIVERED, words, *codes))

    def unclear(
        self,
        connection: sqlite3.Connection,
        one: StoredOutbound,
        part: OutboundPart,
        due_at: int | None,
        words: str,
        now: int,
    ) -> None:
        """It is not known yet whether a part was sent. `due_at` (ms): when to look again; None: a person has to."""
        if not delivery_store.is_unknown(connection, one, part):
            return
        code = ReasonCode.ANSWER_NOT_SEEN if due_at is not None else ReasonCode.UNRESOLVED
        reason = Reason(code, words, one.meta_code, one.meta_subcode)
        self.concluding.conclude(connection, one.id, now, due_at=due_at, reason=reason)

    def set_aside(self, connection: sqlite3.Connection, outbound_id: int, later: int, now: int) -> OutboundState | None:
        """Handling a message raised an error that nobody foresaw: it must not stop the others, now or after a restart.

        What may have been sent becomes unknown, or is looked at again `later` (ms); what was not sent has failed.
        """
        one = store.get(connection, outbound_id)
        if one is None:
            return None
        words = "A defect of inboxd prevented it; the log has the traceback."
        part = next((part for part in one.parts if part.state not in {PartState.SENT, PartState.CANCELED}), None)
        if part is None or part.state is PartState.FAILED:
            return self.concluding.conclude(connection, outbound_id, now)
        if part.state is PartState.QUEUED:
            delivery_store.set_part(connection, part.id, PartState.FAILED, PartState.QUEUED)
            return self.concluding.conclude(connection, outbound_id, now, reason=Reason(ReasonCode.REFUSED, words))
        delivery_store.set_part(connection, part.id, PartState.UNKNOWN, PartState.SENDING)
        reason = Reason(ReasonCode.ANSWER_NOT_SEEN, words)
        return self.concluding.conclude(connection, outbound_id, now, due_at=later, reason=reason)

    def human_replied(self, connection: sqlite3.Connection, written: Sequence[WrittenElsewhere], now: int) -> None:
        """The account wrote these messages, and they were not sent from here. All are recorded in one step."""
        replies = []
        for one in written:
            until = one.at + self._pause_ms()
            conversation_id = reply_window_store.pause_automation(connection, one.key, until, now)
            if conversation_id is not None:
                replies.append(HumanReply(one.key, conversation_id, one.mid, one.message_id, one.at, until))
        if replies:
            record_human_replies(connection, self.concluding.event_log, replies)

    def _after_sent(
        self,
        connection: sqlite3.Connection,
        one: StoredOutbound,
        part: OutboundPart,
        key: ConversationKey | None,
        mid: str,
        now: int,
    ) -> None:
        if key is not None:
            _, is_echoed = echo_store.echo_of(connection, key, mid)
            if is_echoed:  # its echo came before the answer
                echo_store.delivered(connection, part.id, now)
        self.concluding.conclude(connection, one.id, now, due_at=now)
        self._decided(connection, one, part, now, key)

    def _decided(
        self,
        connection: sqlite3.Connection,
        one: StoredOutbound,
        part: OutboundPart,
        now: int,
        key: ConversationKey | None = None,
    ) -> None:
        """It is known now what became of a part: what else the account wrote since it was begun, a human wrote.

        `key` is its conversation, if that was not known when it was begun.
        """
        keys = {known for known in (one.key, key) if known is not None}
        if one.kind is OutboundKind.PRIVATE_REPLY and one.key is None:  # it may have been any new conversation
            keys.update(echo_store.opened_since(connection, one.account_id, part.id))
        written = []
        for each in sorted(keys):
            other = echo_store.unexplained(connection, each, part.id)
            if other is None:
                continue
            parts = echo_store.undecided(connection, each)
            if not may_be_ours(connection, each, other.mid, other.message_id, parts):
                written.append(WrittenElsewhere(each, other.mid, other.message_id, other.sent_at))
        self.human_replied(connection, written, now)

    @staticmethod
    def _decide(connection: sqlite3.Connection, one: StoredOutbound, now: int) -> Tag | Reason | None:
        """As what a message may be sent at `now`, or why it may not. None: it needs no window."""
        if one.kind is OutboundKind.MESSAGE and one.key is not None:
            conversation = conversations.get_by_key(connection, one.key)
            if conversation is None:
                return Reason(ReasonCode.WINDOW_CLOSED, _DELETED)
            decision = ReplyWindow.of(conversation).decide(one.sent_by, now)
            return Reason(ReasonCode.WINDOW_CLOSED, decision.words) if isinstance(decision, Closed) else decision
        if one.expires_at is not None and one.expires_at <= now:
            return Reason(
                ReasonCode.WINDOW_CLOSED, f"Meta took an answer to the comment until {iso_utc(one.expires_at)}."
            )
        return None


def _is_for_once(attempt: LatestAttempt | None) -> bool:
    """Whether Meta's answer forbids to send again even when the message is proved to be absent."""
    if attempt is None or attempt.code is None:
        return False
    return send_row(attempt.code, attempt.subcode).failure is not SendFailure.UNCLEAR
