"""Forgetting one person, and telling everything that is known of one (GDPR, articles 15 and 17)."""

import base64
from pathlib import Path
from typing import Any, Final

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.export_store import PersonExportStore, subject_of
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import EX_USAGE, InboxdError
from inboxd.storage.database import Database

STEP: Final = 200
ROUNDS: Final = 50
"""How often is waited for deliveries that are not understood yet, and for whoever reads the journal."""
BACKUPS: Final = (
    "Backups that were made earlier, and copies that a restore or an upgrade has left beside the database, still hold "
    "what was erased until they are replaced or deleted."
)


class NotAPersonError(InboxdError):
    """The id is the account's own: every delivery mentions it, and the account is no person to be forgotten."""

    exit_code = EX_USAGE


class Erasure(msgspec.Struct, frozen=True, rename="camel"):
    """What was erased of one person."""

    messages: int
    conversations: int
    profiles: int
    events: int
    backfill_attempts: int
    deliveries: int
    avatars: int
    deliveries_waiting: int
    """Deliveries that mention the person and could not be understood yet: forget again when they are."""
    journal_emptied: bool
    """False: somebody else read the database all the while, and its journal keeps traces; forget again later."""
    files_left: int = 0
    """Picture files that could not be removed; the log names them. Forget again when they can be."""
    note: str = BACKUPS

    @property
    def complete(self) -> bool:
        """Whether nothing is left outside of backups."""
        return self.journal_emptied and not self.deliveries_waiting and not self.files_left

    @property
    def nobody(self) -> bool:
        """Whether nothing was kept of the person."""
        erased = self.messages + self.conversations + self.profiles + self.events
        return self.complete and not (erased + self.backfill_attempts + self.deliveries)


class PersonExport(msgspec.Struct, frozen=True, rename="camel"):
    """Everything that is kept of one person."""

    client_account_id: str
    participant_platform_id: str
    exported_at: str
    participant: dict[str, Any] | None
    conversation: dict[str, Any] | None
    messages: list[dict[str, Any]]
    events: list[dict[str, Any]]
    avatar_webp: str | None
    """Our copy of the person's picture, in base64."""


class ParticipantEraser:
    """Erases or exports one person, beside a running daemon's other work or without one."""

    def __init__(self, database: Database, avatars: AvatarStore, cache: ProfileCache, clock: Clock) -> None:
        self._people = PersonExportStore(database)
        self._avatars = avatars
        self._eraser = AccountEraser(database, avatars, cache, clock)
        self._clock = clock
        self._log = logs.get("forgetting")

    async def export(self, key: ConversationKey) -> PersonExport | None:
        """Everything about one person, or None when there is nothing."""
        participant = await self._people.part("participant", key)
        conversation = await self._people.part("conversation", key)
        events = await self._people.events(key)
        if participant is None and conversation is None and not events:
            return None
        messages: list[dict[str, Any]] = []
        while page := await self._people.messages(key, limit=STEP, offset=len(messages)):
            messages += page
        return PersonExport(
            client_account_id=key.account_id,
            participant_platform_id=key.participant_id,
            exported_at=iso_utc(self._clock.now_ms()),
            participant=participant,
            conversation=conversation,
            messages=messages,
            events=events,
            avatar_webp=self._picture(participant),
        )

    async def forget(self, key: ConversationKey, *, patient: bool = True) -> Erasure:
        """Erase one person from everything but backups. Raises NotAPersonError, StorageError.

        Deliveries that mention the person and wait to be understood are waited for when `patient`: somebody else works
        on them.
        """
        if key.participant_id == key.account_id:
            raise NotAPersonError(
                f"{key.participant_id} is the account itself, and no participant; delete its conversation instead"
            )
        erased = await self._eraser.erase(subject_of(key), rounds=ROUNDS if patient else 1)
        counts = erased.counts
        self._log.info("participant_forgotten", account_id=key.account_id, rows=counts.total(), waiting=erased.waiting)
        return Erasure(
            messages=counts["messages"],
            conversations=counts["conversations"],
            profiles=counts["profiles"],
            events=counts["events"],
            backfill_attempts=counts["backfill_attempts"],
            deliveries=counts["deliveries"],
            avatars=counts["avatars"],
            deliveries_waiting=erased.waiting,
            journal_emptied=erased.journal_emptied,
            files_left=erased.files_left,
        )

    def _picture(self, participant: dict[str, Any] | None) -> str | None:
        address: str | None = None if participant is None else participant["avatar"]
        path = None if address is None else self._avatars.path(Path(address).name)
        if path is None:
            return None
        try:
            return base64.b64encode(path.read_bytes()).decode()
        except OSError:  # removed in this instant, or not to be read: the rest is told all the same
            return None
