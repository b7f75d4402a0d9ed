"""Erasing one person, and exporting everything that is kept of one (GDPR, articles 15 and 17)."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.event import EventType, NewEvent
from inboxd.events.log import EventLog
from inboxd.events.store import PARTICIPANT_ERASED
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_PARTICIPANT, Resource
from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.erasure_store import ErasureStore
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import EX_USAGE, InboxdError
from inboxd.storage.database import Database
from inboxd.storage.personal_data import PersonalData, Subject

ROUNDS: Final = 50
"""How often an erasure waits for deliveries that are not processed yet, and for programs that read the journal."""
BACKUPS: Final = (
    "Backups that were made earlier, and copies that a restore or an upgrade has left beside the database, still hold "
    "what was erased until they are replaced or deleted."
)


class ParticipantErasedData(Resource, frozen=True, kw_only=True):
    """Who was erased."""

    participant_platform_id: str


ERASED: Final = EventType(
    name=PARTICIPANT_ERASED,
    summary="Everything of a participant was erased, also from the event log. Erase what you keep of them.",
    data=ParticipantErasedData,
    example=ParticipantErasedData(participant_platform_id="912345678901234"),
)


class NotAPersonError(InboxdError):
    """The id is the account's own: every delivery mentions it, and the account is no person who could be forgotten."""

    exit_code = EX_USAGE


class Erasure(msgspec.Struct, frozen=True, rename="camel"):
    """What was erased of one person."""

    messages: int
    conversations: int
    profiles: int
    webhook_events: int
    backfill_attempts: int
    deliveries: int
    avatars: int
    deliveries_waiting: int
    """Deliveries that mention the person and could not be processed yet: forget again when they are."""
    journal_emptied: bool
    """False: another program read the database all the while, and its journal keeps traces; forget again later."""
    files_left: int = 0
    """Picture files that could not be removed; the log names them. Forget again when they can be."""
    events: int = 0
    """Entries of the event log."""
    outbound_messages: int = 0
    """Messages in the outbox: sent, or to be sent."""
    comments: int = 0
    """Comments and mentions that they wrote."""
    note: str = BACKUPS

    @property
    def complete(self) -> bool:
        """Whether nothing is left outside of backups."""
        return self.journal_emptied and not self.deliveries_waiting and not self.files_left

    @property
    def nobody(self) -> bool:
        """Whether nothing was kept of the person."""
        erased = self.messages + self.conversations + self.profiles + self.webhook_events
        erased += self.backfill_attempts + self.deliveries + self.events + self.outbound_messages + self.comments
        return self.complete and not erased

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            messages=12,
            conversations=1,
            profiles=1,
            webhook_events=2,
            backfill_attempts=1,
            deliveries=14,
            avatars=1,
            deliveries_waiting=0,
            journal_emptied=True,
        )


class PersonExport(msgspec.Struct, frozen=True, rename="camel"):
    """Everything that is kept of one person."""

    client_account_id: str
    participant_platform_id: str
    exported_at: str
    participant: dict[str, Any] | None
    conversation: dict[str, Any] | None
    messages: list[dict[str, Any]]
    webhook_events: list[dict[str, Any]]
    events: list[dict[str, Any]]
    """Entries of the event log, as they are kept."""
    missed_messages: list[dict[str, Any]]
    """Messages that Meta did not deliver and that were found later."""
    outbound_messages: list[dict[str, Any]]
    """What was sent to them through inboxd, or is to be sent."""
    comments: list[dict[str, Any]]
    """What they commented."""
    uploads: list[dict[str, Any]]
    """Files that were sent to them, without the bytes."""
    avatar_webp: str | None
    """Our copy of the person's picture, in base64."""

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            client_account_id=EXAMPLE_ACCOUNT,
            participant_platform_id=EXAMPLE_PARTICIPANT,
            exported_at="2026-09-21T15:00:00.000Z",
            participant={"profileState": "complete", "username": "ana_x", "name": "Ana X"},
            conversation={"status": "open", "metadata": {}},
            messages=[{"platformMessageId": "aWdfZAG1faXRlbToxOjE3", "content": "Do you have it in blue?"}],
            webhook_events=[],
            events=[],
            missed_messages=[],
            outbound_messages=[],
            comments=[],
            uploads=[],
            avatar_webp=None,
        )


class ParticipantEraser:
    """Erases or exports one person, while a daemon works on the same database or without one."""

    def __init__(
        self, database: Database, personal_data: Sequence[PersonalData], clock: Clock, event_log: EventLog
    ) -> None:
        self._personal_data = tuple(personal_data)
        self._store = ErasureStore(database, personal_data)
        self._eraser = AccountEraser(database, personal_data, clock, self._record)
        self._clock = clock
        self._event_log = event_log
        self._log = logs.get("forgetting")

    async def export(self, key: ConversationKey) -> dict[str, Any] | None:
        """The export document of one person (PersonExport, and what other features add), or None: nothing is kept.

        Raises StorageError.
        """
        subject = Subject.participant(key)
        scan = await self._store.mention_scan(subject)
        scan = scan._replace(ids=[one.encode() for one in subject.ids])  # what others answered is not the person's
        members: dict[str, Any] = {}
        for one in self._personal_data:
            if one.export is not None:
                members |= await one.export(subject, scan.mentioned)
        if not any(members.values()):
            return None
        return {
            **dict.fromkeys(PersonExport.__struct_encode_fields__),  # in this order
            "clientAccountId": key.account_id,
            "participantPlatformId": key.participant_id,
            "exportedAt": iso_utc(self._clock.now_ms()),
            **members,
        }

    async def forget(self, key: ConversationKey, *, patient: bool = True) -> Erasure:
        """Erase one person from everything but backups. Raises NotAPersonError, StorageError.

        `patient`: wait for deliveries that mention the person and are not processed yet, because a daemon works on
        them.
        """
        if key.participant_id == key.account_id:
            raise NotAPersonError(
                f"{key.participant_id} is the account itself, and no participant; delete its conversation instead"
            )
        erased = await self._eraser.erase(Subject.participant(key), rounds=ROUNDS if patient else 1)
        counts = erased.counts
        self._log.info("participant_forgotten", account_id=key.account_id, rows=counts.total(), waiting=erased.waiting)
        return Erasure(
            messages=counts["messages"],
            conversations=counts["conversations"],
            profiles=counts["profiles"],
            webhook_events=counts["webhook_events"],
            backfill_attempts=counts["run_items"],
            deliveries=counts["deliveries"],
            avatars=counts["avatars"],
            deliveries_waiting=erased.waiting,
            journal_emptied=erased.journal_emptied,
            files_left=erased.files_left,
            events=counts["events"],
            outbound_messages=counts["outbound_messages"],
            comments=counts["comments"],
        )

    def _record(self, connection: sqlite3.Connection, subject: Subject) -> None:
        participant_id, now = subject.participant_id or "", self._clock.now_ms()
        data = msgspec.json.encode(ParticipantErasedData(participant_platform_id=participant_id))
        self._event_log.append(connection, [NewEvent(ERASED.name, subject.account_id, now, data, participant_id)])
