"""Imports the messages that are in an account's mailbox at Meta, one conversation after the other."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, NamedTuple, Protocol

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.conversations.read_back import ReadBackService, Sides, identity_of, read_conversation, sides_of
from inboxd.conversations.read_back_store import Joined, ReadConversation
from inboxd.domain.history import HistoryRun
from inboxd.domain.mailbox import ListedConversation, SeenPages
from inboxd.domain.message import Source
from inboxd.domain.run import ConversationOutcome, RunStatus
from inboxd.runs.history import imported_conversations_store as imported_store
from inboxd.runs.history.imported_conversations_store import (
    Imported,
    ImportedConversationStore,
    MessageCounts,
    item_of,
)
from inboxd.runs.history.mailbox import FailedReadError, MailboxReader
from inboxd.runs.history.store import HistoryStore
from inboxd.runs.store import Attempt, record
from inboxd.runs.worker import InterruptedRun, RunWorker
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError
from inboxd.runtime.worker import Schedule

SCHEDULE: Final = Schedule(storage_event="history_waits_for_storage", storage_rest_s=1)
AFTER_START_S: Final = 1.0
"""Rest before the first call of an import that an earlier process began: its last calls count for the pace, too."""
MOST_WALKS: Final = 5
"""How often the list is walked. A conversation that moved up meanwhile is found by the next walk."""
STALE_PAGES: Final = 20
"""After so many pages of the list in a row without a conversation that was not listed yet, it leads nowhere. While one
page is worked on, a whole page of conversations may move up."""
MAX_REASON: Final = 300
_NEW: Final = Imported(None, 0, None)


class Reconciled(Protocol):
    """What reconciliation knows. Every method may raise StorageError."""

    async def healed_since(self, account_id: str, now: int) -> int | None:
        """Since when (ms) it finds what webhooks do not bring to an account, at `now` (ms). None: it does not."""

    async def erased_to(self, account_id: str, api_ids: Collection[str]) -> Mapping[str, int]:
        """Up to when (ms) the messages of these conversations must not come back, by id, if at all."""


class HistoryServices(NamedTuple):
    """What the import workers of all accounts share."""

    imports: HistoryStore
    imported: ImportedConversationStore
    read_back: ReadBackService
    aliases: Mapping[str, str]
    """Every id by which a served account may be named, and its main id."""
    reconciled: Reconciled
    clock: Clock
    random: Callable[[], float]


class _Due(NamedTuple):
    """A conversation of a page that is to be done. Without sides, its participant cannot be told."""

    listed: ListedConversation
    sides: Sides | None
    known: Imported


class HistoryWorker(RunWorker[HistoryRun]):
    """Carries out the history imports of one account.

    The list is walked page by page, after a restart from the top again: what is done is passed over without a call.
    """

    def __init__(self, managed: ManagedAccount, services: HistoryServices) -> None:
        super().__init__(managed, services.imports, services.clock)
        self._imports = services.imports
        self._imported = services.imported
        self._read_back = services.read_back
        self._aliases = services.aliases
        self._reconciled = services.reconciled
        self._mailbox = MailboxReader(managed, services.clock, services.random, self._callable)
        self._own = identity_of(managed.account)
        self._is_new = True
        self._log = logs.get("history").bind(account_id=self.account_id)

    async def _walk(self, run: HistoryRun) -> None:
        self._own = identity_of(self._managed.account)
        goes_on, self._is_new = self._is_new and run.status is RunStatus.RUNNING, False
        try:
            if goes_on:
                await self._wait(self._clock.sleep(AFTER_START_S))
            await self._walk_list(run.id)
        except InterruptedRun:
            return
        except FailedReadError as error:
            await self._end(run.id, RunStatus.FAILED, f"the list of conversations cannot be read: {error}")

    async def _walk_list(self, run_id: str) -> None:
        """Walk the list to its end, and again from the top until a page has nothing left to do.

        A conversation that got a message meanwhile has moved up, past the walk. Raises InterruptedRun, FailedReadError.
        """
        walks, found, after, worked, seen = 0, 0, None, False, SeenPages(STALE_PAGES)
        while (run := await self._still_running(run_id)) is not None:
            if not run.dry_run and run.processed >= (run.max_conversations or run.processed + 1):
                await self._end(run_id, RunStatus.COMPLETED)
                return
            try:
                page = await self._wait(self._mailbox.conversations(after))
            except FailedReadError:
                if after is None or not worked:
                    raise
                after, worked, seen = None, False, SeenPages(STALE_PAGES)  # cursors end: what is done costs no call
                continue
            listed = [one for one in page if one.updated_time is None or one.updated_time >= run.since]
            found += len(listed)
            due, passed = await self._due(run, listed)
            await self._found(run, found if run.dry_run else run.processed + passed + len(due))
            if not run.dry_run:
                await self._do_page(run, due)
            worked = worked or bool(due)
            after = page.after
            if not seen.goes_on(page) and (page.cut_off or after is not None):
                await self._end(run_id, RunStatus.FAILED, "Meta says that the list goes on, but not how to read on")
                return
            if after is None or (walks and page.items and not due):
                walks += 1
                if run.dry_run or not worked or walks >= MOST_WALKS:
                    await self._end(run_id, RunStatus.COMPLETED)
                    return
                after, worked, seen = None, False, SeenPages(STALE_PAGES)

    async def _found(self, run: HistoryRun, total: int) -> None:
        """Store how many conversations there are to do, as far as is known."""
        await self._imported.set_total(run.id, min(total, run.max_conversations or total))

    async def _due(self, run: HistoryRun, listed: list[ListedConversation]) -> tuple[list[_Due], int]:
        """Those of `listed` that have no outcome in the run, without those that an earlier run has imported.

        Those get their outcome here. The second value says how many.
        """
        if run.dry_run or not listed:
            return [], 0
        self._own = self._own.learn([one.participants for one in listed])
        ids = {one.id: one for one in listed}
        done = await self._imported.done(run.id, ids)
        known = await self._known(ids)
        new = [one for one in ids.values() if one.id not in done]
        covered = {one.id for one in new if known.get(one.id, _NEW).covers(one.updated_time, run.since)}
        passed = 0 if run.max_conversations else len(covered)  # the limit is for those that are read
        if passed:
            at = self._clock.now_ms()
            success = ConversationOutcome.SUCCESS
            await self._imports.record_all(
                run.id, [Attempt(item_of(one), None, success, None, None, 0, at) for one in sorted(covered)]
            )
        due = [
            _Due(one, sides_of(one, self.account_id, self._own, self._aliases), known.get(one.id, _NEW))
            for one in new
            if one.id not in covered
        ]
        return due, passed

    async def _known(self, ids: Collection[str]) -> dict[str, Imported]:
        """What is known of these conversations: what was imported, and whose participant was erased."""
        known = dict(await self._imported.known(self.account_id, ids))
        for api_id, at in (await self._reconciled.erased_to(self.account_id, ids)).items():
            one = known.get(api_id, _NEW)
            known[api_id] = one._replace(erased_to=max(at, one.erased_to or 0))
        return known

    async def _do_page(self, run: HistoryRun, due: list[_Due]) -> None:
        """Import the conversations of one page, and store the counts. Raises InterruptedRun."""
        began = self._clock.now_ms()
        counts: Counter[ConversationOutcome] = Counter()
        most = None if run.max_conversations is None else run.max_conversations - run.processed
        try:
            for one in due[:most]:
                counts[await self._import_or_set_aside(run, one)] += 1
                await self._tell_progress(run.id)
                if await self._still_running(run.id) is None:
                    break
        finally:
            if counts:
                await self._imports.add_batch(run.id, began, self._clock.now_ms(), dict(counts))

    async def _import_or_set_aside(self, run: HistoryRun, due: _Due) -> ConversationOutcome:
        """Import one conversation. Whatever is wrong with it, the others go on. Raises InterruptedRun, StorageError."""
        try:
            return await self._import(run, due)
        except (InterruptedRun, StorageError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one conversation
            reason = f"it cannot be stored: {type(error).__name__}: {error}"[:MAX_REASON]
            self._log.warning("history_failed", run_id=run.id, error=reason)
            failed = ConversationOutcome.ERROR
            tried = Attempt(item_of(due.listed.id), None, failed, None, reason, 1, self._clock.now_ms())
            await self._imports.record(run.id, tried)
            return failed

    async def _import(self, run: HistoryRun, due: _Due) -> ConversationOutcome:
        """Import one conversation, in one transaction with its outcome. Raises InterruptedRun."""
        item = item_of(due.listed.id)
        if due.sides is None:
            reason = "the account cannot be told from the participant, or there are several"
            skipped = ConversationOutcome.SKIPPED
            await self._imports.record(run.id, Attempt(item, None, skipped, None, reason, 0, self._clock.now_ms()))
            return skipped
        who, erased_to = due.sides.key.participant_id, due.known.erased_to
        since = run.since if erased_to is None else max(run.since, erased_to + 1)
        try:
            messages, read_at = await self._wait(self._mailbox.messages(due.listed.id, since))
        except FailedReadError as failed:
            error, outcome = failed.error, ConversationOutcome.ERROR
            self._log.warning("history_failed", run_id=run.id, participant_id=who, error=str(error))
            tried = Attempt(item, who, outcome, error.code, str(error), failed.attempts, self._clock.now_ms())
            await self._imports.record(run.id, tried)
            return outcome
        success = Attempt(item, who, ConversationOutcome.SUCCESS, None, None, 1, self._clock.now_ms())
        until = await self._reconciled.healed_since(self.account_id, read_at)
        if erased_to is not None:  # only what is certainly later
            messages = [one for one in messages if one.created_time is not None]
        ours = [one for one in messages if until is None or one.created_time is None or one.created_time < until]
        if not ours and (messages or erased_to is not None):  # of an erased person, or all for reconciliation
            await self._imports.record(run.id, success._replace(participant_id=None))
            return success.outcome
        read = read_conversation(
            due.sides, ours, self._aliases, source=Source.HISTORY, read_at=read_at,
            undated_at=due.listed.updated_time,
        )  # fmt: skip
        done_to = due.listed.updated_time
        if until is not None and len(ours) < len(messages):
            done_to = until - 1  # if reconciliation is switched off, a later import takes the others
        also = partial(_finish, run=run, read=read, listed=due.listed, done_to=done_to, success=success)
        await self._read_back.store(read, emit=run.emit_events, also=also)
        return success.outcome

    async def _end(self, run_id: str, status: RunStatus, reason: str | None = None) -> None:
        run = await self._still_running(run_id)
        if run is not None:
            await self._change(run, status, reason)

    def _tell_state(self, run: HistoryRun, status: RunStatus) -> None:
        has_errors = status is RunStatus.FAILED or (status.finished and run.error_count > 0)
        log = self._log.warning if has_errors else self._log.info
        log(
            "history_state",
            run_id=run.id,
            state=status.value,
            total=run.total,
            errors=run.error_count,
            skipped=run.skipped_count,
            added=run.added_count,
        )


def _finish(
    connection: sqlite3.Connection,
    joined: Joined,
    *,
    run: HistoryRun,
    read: ReadConversation,
    listed: ListedConversation,
    done_to: int | None,
    success: Attempt,
) -> None:
    """Store the outcome of a conversation, what was counted of it, and how far it was imported."""
    if joined.erased_at is not None:  # of an erased person, nothing is noted
        record(connection, run_id=run.id, attempt=success._replace(participant_id=None))
        return
    stubs = [one.mid for one in read.messages if one.content is None]
    unavailable = len(stubs) - imported_store.readable(connection, read.key, stubs)
    added = len({one.message_id for one in joined.added})
    counts = MessageCounts(added, len(read.messages) - added - unavailable, unavailable)
    imported_store.count(connection, run.id, counts)
    imported = Imported(done_to, run.since, None)
    imported_store.mark_imported(connection, read.key, listed.id, imported, success.at)
    record(connection, run_id=run.id, attempt=success)
