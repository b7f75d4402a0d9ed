"""Forgetting one person, and telling everything that is known of one (GDPR, articles 15 and 17)."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from inboxd import logs
from inboxd.clock import Clock, iso_utc
from inboxd.domain.conversation import ConversationKey
from inboxd.errors import EX_USAGE, InboxdError
from inboxd.store import mentions
from inboxd.store.avatars import Avatars
from inboxd.store.database import Database
from inboxd.store.people import People
from inboxd.store.profile_cache import ProfileCache

STEP: Final = 200
STEP_REST_S: Final = 0.02
ROUNDS: Final = 50
ROUND_REST_S: Final = 0.2
"""How often and how long is waited: for deliveries that are not understood yet, for whoever reads the journal."""
MERGE_PAGES: Final = 64
BACKUPS: Final = "Backups that were made earlier still hold this person until they are replaced."


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
    note: str = BACKUPS


class Person(msgspec.Struct, frozen=True, rename="camel"):
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


class Forgetter:
    """Erases or exports one person, beside a running daemon's other work or without one."""

    def __init__(self, database: Database, avatars: Avatars, cache: ProfileCache, clock: Clock) -> None:
        self._database = database
        self._people = People(database)
        self._avatars = avatars
        self._cache = cache
        self._clock = clock
        self._log = logs.get("forgetting")

    async def export(self, key: ConversationKey) -> Person | None:
        """Everything about one person, or None when there is nothing."""
        participant = await self._people.part("participant", key)
        conversation = await self._people.part("conversation", key)
        events = await self._people.events(key)
        if participant is None and conversation is None and not events:
            return None
        messages: list[dict[str, Any]] = []
        while page := await self._people.messages(key, limit=STEP, offset=len(messages)):
            messages += page
        return Person(
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
        counts: Counter[str] = Counter()
        waiting = 0
        for attempt in range(ROUNDS if patient else 1):
            if attempt:
                await self._clock.sleep(ROUND_REST_S)
            counts += await self._erase_rows(key)
            waiting = await self._erase_deliveries(key, counts)
            if not waiting:
                break
        counts += await self._erase_rows(key)  # what was understood meanwhile
        counts["events"] += await self._people.erase_mentioning_events(key)
        self._cache.discard(key)
        counts["avatars"] = await self._avatars.sweep()
        await self._rewrite_indexes()
        emptied = await self._empty_journal(ROUNDS if patient else 1)
        self._log.info("participant_forgotten", account_id=key.account_id, rows=counts.total(), waiting=waiting)
        return Erasure(
            messages=counts["messages"],
            conversations=counts["conversations"],
            profiles=counts["profiles"],
            events=counts["events"],
            backfill_attempts=counts["backfill_attempts"],
            deliveries=counts["deliveries"],
            avatars=counts["avatars"],
            deliveries_waiting=waiting,
            journal_emptied=emptied,
        )

    async def _empty_journal(self, rounds: int) -> bool:
        for _ in range(rounds):
            if await self._database.checkpoint():
                return True
            await self._clock.sleep(ROUND_REST_S)
        return False

    async def _erase_rows(self, key: ConversationKey) -> Counter[str]:
        counts: Counter[str] = Counter()
        while removed := await self._people.erase_step(key, STEP):
            counts.update(removed)
            await self._clock.sleep(STEP_REST_S)
        return counts

    async def _erase_deliveries(self, key: ConversationKey, counts: Counter[str]) -> int:
        """Erase the settled deliveries that mention the person; how many that do are not settled."""
        waiting, after = 0, 0
        ids = [key.participant_id]  # which is of one account alone
        while (found := await mentions.find(self._database, ids, after=after, step=STEP)).last_id is not None:
            after = found.last_id
            waiting += found.waiting
            if found.settled:
                await mentions.erase(self._database, found.settled)
                counts["deliveries"] += len(found.settled)
                await self._clock.sleep(STEP_REST_S)
        return waiting

    async def _rewrite_indexes(self) -> None:
        for index in self._people.indexes:
            first = True
            while await self._people.merge_index(index, MERGE_PAGES, first=first):
                first = False
                await self._clock.sleep(STEP_REST_S)

    def _picture(self, participant: dict[str, Any] | None) -> str | None:
        address: str | None = None if participant is None else participant["avatar"]
        path = None if address is None else self._avatars.path(Path(address).name)
        return None if path is None else base64.b64encode(path.read_bytes()).decode()
