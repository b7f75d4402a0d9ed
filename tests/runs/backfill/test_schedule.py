"""The schedule over days: cron moments, jitter, downtime."""

from typing import Any

import pytest
from inboxd.conversations import store as conversations
from inboxd.domain.backfill import BackfillRun
from inboxd.domain.conversation import ConversationKey, ConversationStatus
from inboxd.domain.run import RunStatus
from inboxd.profiles import store as profiles
from inboxd.runs.backfill.schedule import BackfillSchedule, ScheduleOptions
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.cron import next_after
from inboxd.runs.moments_store import MomentStore
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.storage.database import Database

from tests.support import ACCOUNT, T0, ManualClock, event_log

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
OTHER = "17841400000000002"


class Rig:
    def __init__(self, database: Database, *, jitter: float = 0.0, skip: tuple[str, ...] = ()) -> None:
        self.clock = ManualClock()
        self.database = database
        self.backfills = BackfillStore(database, event_log(self.clock))
        self.moments = MomentStore(database)
        self.schedule = BackfillSchedule(
            BackfillService(self.backfills, self.clock),
            self.backfills,
            self.moments,
            lambda: {ACCOUNT, OTHER},
            self.clock,
            lambda: jitter,
            ScheduleOptions(expression="0 3 * * *", jitter_s=1800, batch_size=10, skip_accounts=skip),
        )

    async def lacks_a_profile(self, account_id: str) -> None:
        key = ConversationKey(account_id, "7000000000000001")

        def transaction(connection: object) -> None:
            profiles.register(connection, key, None, None, T0)  # type: ignore[arg-type]
            conversations.create(
                connection,  # type: ignore[arg-type]
                key,
                status=ConversationStatus.OPEN,
                unread_count=0,
                metadata={},
                now=T0,
            )

        await self.database.write(transaction)

    async def begun(self) -> list[str]:
        runs, _ = await self.backfills.page(account_id=None, status=None, limit=100, offset=0)
        return [run.account_id for run in runs]


def test_cron_expressions_are_in_utc() -> None:
    assert next_after("0 3 * * *", T0) % DAY_MS == 3 * HOUR_MS


async def test_a_run_begins_once_a_night_for_whoever_lacks_profiles(database: Database) -> None:
    rig = Rig(database)
    await rig.lacks_a_profile(ACCOUNT)
    for _ in range(24 * 4):
        await rig.schedule.poll()
        rig.clock.now += HOUR_MS // 4
    assert await rig.begun() == [ACCOUNT], "the other one misses nothing"
    rig.clock.now += DAY_MS
    await rig.schedule.poll()
    assert await rig.begun() == [ACCOUNT], "the first one is not finished yet"


async def test_a_run_that_has_ended_is_not_begun_again_in_the_same_night(database: Database) -> None:
    """Whoever has no profile to be had would be asked about every minute."""
    rig = Rig(database)
    await rig.schedule.poll()
    await rig.lacks_a_profile(ACCOUNT)
    rig.clock.now = next_after("0 3 * * *", T0)
    await rig.schedule.poll()
    run = await rig.backfills.active(ACCOUNT)
    assert run is not None
    await rig.backfills.set_status(run.id, RunStatus.COMPLETED, rig.clock.now)
    for _ in range(60):
        rig.clock.now += 60_000
        await rig.schedule.poll()
    assert await rig.begun() == [ACCOUNT]


async def test_missed_nights_are_caught_up_once(database: Database) -> None:
    rig = Rig(database)
    await rig.schedule.poll()
    await rig.lacks_a_profile(ACCOUNT)
    await rig.lacks_a_profile(OTHER)
    rig.clock.now += 10 * DAY_MS

    rig = Rig(database, skip=(OTHER,))
    rig.clock.now = T0 + 10 * DAY_MS
    for _ in range(3):
        await rig.schedule.poll()
    assert await rig.begun() == [ACCOUNT]
    begun_at = await rig.moments.at("backfill")
    assert begun_at == rig.clock.now


async def test_a_clock_that_went_back_does_not_stop_the_schedule(database: Database) -> None:
    rig = Rig(database)
    rig.clock.now = T0 + 100 * DAY_MS
    await rig.schedule.poll()
    await rig.lacks_a_profile(ACCOUNT)
    rig.clock.now = T0
    for _ in range(2):
        await rig.schedule.poll()
        rig.clock.now += DAY_MS
    assert await rig.begun() == [ACCOUNT]


async def test_jitter_begins_later(database: Database) -> None:
    rig = Rig(database, jitter=1.0)
    await rig.schedule.poll()
    await rig.lacks_a_profile(ACCOUNT)
    rig.clock.now = next_after("0 3 * * *", T0)
    await rig.schedule.poll()
    assert await rig.begun() == []
    rig.clock.now += 1_800_000
    await rig.schedule.poll()
    assert await rig.begun() == [ACCOUNT]


async def test_a_storage_error_at_one_account_costs_no_account_its_night(database: Database) -> None:
    rig = Rig(database)
    await rig.schedule.poll()
    for account_id in (ACCOUNT, OTHER):
        await rig.lacks_a_profile(account_id)
    create, refused = rig.backfills.create, [ACCOUNT]

    async def refuse(run: BackfillRun, **more: Any) -> BackfillRun:
        if run.account_id in refused:
            msg = "the disk is full"
            raise StorageUnavailableError(msg)
        return await create(run, **more)

    rig.backfills.create = refuse  # type: ignore[method-assign]
    rig.clock.now = next_after("0 3 * * *", T0)
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            await rig.schedule.poll()
        assert await rig.begun() == [OTHER], "whoever can have a run has one, and no second"
        rig.clock.now += 60_000
    refused.clear()
    await rig.schedule.poll()
    await rig.schedule.poll()
    assert sorted(await rig.begun()) == [ACCOUNT, OTHER]


async def test_a_night_that_never_ended_is_followed_by_the_next_one(database: Database) -> None:
    rig = Rig(database)
    await rig.schedule.poll()
    await rig.lacks_a_profile(ACCOUNT)
    create = rig.backfills.create

    async def refuse(*_arguments: Any, **_more: Any) -> BackfillRun:
        msg = "the disk is full"
        raise StorageUnavailableError(msg)

    rig.backfills.create = refuse  # type: ignore[method-assign]
    rig.clock.now = next_after("0 3 * * *", T0)
    with pytest.raises(StorageUnavailableError):
        await rig.schedule.poll()
    rig.clock.now += DAY_MS
    await rig.lacks_a_profile(OTHER)
    rig.backfills.create = create  # type: ignore[method-assign]
    await rig.schedule.poll()
    assert sorted(await rig.begun()) == [ACCOUNT, OTHER]
