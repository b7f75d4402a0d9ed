"""The traffic monitor with a real file and accounts that are served: what it counts, says once, and forgets."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from inboxd.accounts.feature import open_manager
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.domain.retry import GONE_REST_S
from inboxd.domain.traffic import COMPANION, HOUR_MS, TrafficCause
from inboxd.maintenance import traffic_store as store
from inboxd.maintenance.metrics import TrafficMetrics
from inboxd.maintenance.traffic_monitor import MAX_UNSERVED, TrafficMonitor
from inboxd.options import account_options
from inboxd.runtime import logs
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.support import ACCOUNT, ANA, T0, ManualClock, event_log

STRANGER = "17841499999999999"


class Rig:
    """A monitor, its clock, and what it said."""

    def __init__(self, database: Database, accounts: Any, clock: ManualClock) -> None:
        self.database = database
        self.accounts = accounts
        self.clock = clock
        self.registry = CollectorRegistry()
        self.metrics = TrafficMetrics(self.registry)
        self.begin()

    def begin(self) -> None:
        """A new start of the daemon."""
        self.monitor = TrafficMonitor(self.database.read, self.accounts, self.clock, self.metrics, silent_after_hours=6)

    def see(self, account_id: str = ACCOUNT, **kinds: int) -> None:
        self.monitor.observe(Counter({(account_id, kind): count for kind, count in kinds.items()}))

    async def look(self) -> list[tuple[str, Any]]:
        """One look; what was logged of it."""
        with capture_logs() as lines:
            self.monitor._log = logs.get("traffic")
            await self.monitor.look()
        return [(line["event"], (line["cause"], line["account_id"])) for line in lines if "cause" in line]

    def measured(self, cause: TrafficCause) -> float:
        value = self.registry.get_sample_value("inboxd_traffic_findings", {"cause": cause.value})
        assert value is not None
        return value

    async def people(self, state: str, count: int, *, next_attempt_at: int | None) -> None:
        for number in range(count):
            await self.database.execute(
                "INSERT INTO participants (account_id, participant_id, state, next_attempt_at, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, 1, 1)",
                (ACCOUNT, f"{state}{number}", state, next_attempt_at),
            )


@pytest.fixture
async def rig(database: Database, settings: Settings, secrets: Secrets) -> AsyncIterator[Rig]:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        options = account_options(settings, secrets)
        accounts = await open_manager(stack, database, clock, options, event_log(clock))
        await accounts.load(options.configured)
        yield Rig(database, accounts, clock)


async def test_a_stranger_is_said_once_and_its_end_too(rig: Rig) -> None:
    rig.see(STRANGER, message=3)
    assert await rig.look() == [("traffic_unusual", ("unserved", STRANGER))]
    rig.see(STRANGER, message=1)
    assert await rig.look() == []
    assert rig.measured(TrafficCause.UNSERVED) == 1
    rig.clock.now += 25 * HOUR_MS
    assert await rig.look() == [("traffic_usual_again", ("unserved", STRANGER))]
    assert rig.measured(TrafficCause.UNSERVED) == 0


async def test_whoever_is_served_is_no_stranger_by_any_of_its_names(rig: Rig) -> None:
    rig.accounts.aliases["page"] = ACCOUNT
    rig.see("page", message=1)
    rig.see(ACCOUNT, message=1)
    rig.see("0", test=1)
    rig.see("", unknown=1)
    rig.see("not-an-id", message=1)
    rig.see("123", unknown=1)
    assert await rig.look() == []
    (only,) = rig.monitor.traffic
    assert (only.account_id, only.events, only.messages) == (ACCOUNT, 2, 2)


async def test_strangers_are_bounded(rig: Rig) -> None:
    for number in range(3 * MAX_UNSERVED):
        rig.clock.now += 1
        rig.see(str(10_000 + number), message=1)
        rig.see(ACCOUNT, message=1)
    await rig.look()
    assert rig.measured(TrafficCause.UNSERVED) == MAX_UNSERVED
    assert rig.monitor.traffic[-1].events == 3 * MAX_UNSERVED  # the account that is served is never forgotten
    assert str(10_000 + 3 * MAX_UNSERVED - 1) in {one.account_id for one in rig.monitor.traffic}


async def test_only_companions(rig: Rig) -> None:
    rig.monitor.observe({(ACCOUNT, COMPANION): 6, (ACCOUNT, "seen"): 3})
    assert await rig.look() == [("traffic_unusual", ("companions_only", ACCOUNT))]
    rig.see(message=1)
    assert await rig.look() == [("traffic_usual_again", ("companions_only", ACCOUNT))]


async def test_silence_and_that_it_outlives_a_restart(rig: Rig) -> None:
    for _ in range(24 * 8):
        rig.see(message=1)
        rig.clock.now += HOUR_MS
    assert await rig.look() == []
    rig.clock.now += 6 * HOUR_MS
    assert await rig.look() == [("traffic_unusual", ("silent", ACCOUNT))]
    rig.see(message=1)
    assert await rig.look() == [("traffic_usual_again", ("silent", ACCOUNT))]


async def test_since_when_is_said_as_long_as_it_lasts(rig: Rig) -> None:
    rig.see(STRANGER, message=1)
    rig.monitor.observe({(ACCOUNT, COMPANION): 3})
    gone_since = rig.clock.now - 10
    await rig.people("unavailable", 12, next_attempt_at=gone_since + GONE_REST_S * 1000)
    for _ in range(2):
        rig.clock.now += 10 * 60_000
        rig.see(STRANGER, message=1)
        rig.monitor.observe({(ACCOUNT, COMPANION): 3})
        await rig.look()
        assert {one.cause: one.since for one in rig.monitor.findings} == {
            TrafficCause.UNSERVED: T0,
            TrafficCause.COMPANIONS_ONLY: T0,
            TrafficCause.UNAVAILABLE: gone_since,
        }
    rig.see(message=1)
    rig.clock.now += 25 * HOUR_MS
    await rig.look()
    assert rig.monitor.findings == []
    rig.monitor.observe({(ACCOUNT, COMPANION): 5})
    rig.see(STRANGER, message=1)
    await rig.look()
    assert [one.since for one in rig.monitor.findings] == [rig.clock.now] * 2


async def test_silence_is_noticed_after_a_clock_that_was_ahead(rig: Rig) -> None:
    for _ in range(24 * 8):
        rig.see(message=1)
        rig.clock.now += HOUR_MS
    await rig.look()
    rig.clock.now += 365 * 24 * HOUR_MS
    rig.see(message=1)
    await rig.look()
    rig.clock.now -= 365 * 24 * HOUR_MS
    assert await rig.look() == []
    corrected_at = rig.clock.now
    rig.clock.now += 7 * HOUR_MS
    assert await rig.look() == [("traffic_unusual", ("silent", ACCOUNT))]
    assert [one.since for one in rig.monitor.findings] == [corrected_at]


async def test_what_was_usual_is_found_out_after_a_start_with_a_clock_that_was_ahead(rig: Rig) -> None:
    for number in range(24 * 8):
        await rig.database.execute(
            "INSERT INTO conversations (account_id, participant_id, last_message_at, created_at, updated_at)"
            " VALUES (?, ?, ?, 1, 1)",
            (ACCOUNT, str(number), T0 + number * HOUR_MS),
        )
    now = T0 + 24 * 8 * HOUR_MS
    rig.clock.now = now + 365 * 24 * HOUR_MS
    rig.begin()
    rig.see(message=1)
    assert await rig.look() == []
    rig.clock.now = now
    assert await rig.look() == []
    rig.clock.now += 7 * HOUR_MS
    assert await rig.look() == [("traffic_unusual", ("silent", ACCOUNT))]


async def test_what_was_usual_is_taken_from_the_file(rig: Rig) -> None:
    await rig.look()
    for number in range(24 * 8):
        await rig.database.execute(
            "INSERT INTO conversations (account_id, participant_id, last_message_at, created_at, updated_at)"
            " VALUES (?, ?, ?, 1, 1)",
            (ACCOUNT, str(number), T0 + number * HOUR_MS),
        )
    await rig.database.execute(
        "INSERT INTO conversations (account_id, participant_id, last_message_at, created_at, updated_at)"
        " VALUES (?, ?, ?, 1, 1)",
        (ACCOUNT, ANA, 4_000_000_000_000),  # a clock that was wrong
    )
    rig.clock.now = T0 + 24 * 8 * HOUR_MS + 12 * HOUR_MS
    rig.begin()
    assert await rig.look() == []
    rig.clock.now += HOUR_MS
    assert await rig.look() == [("traffic_unusual", ("silent", ACCOUNT))]


async def test_a_restart_makes_nothing_red_and_nothing_green(rig: Rig) -> None:
    stranger = "17841499999999999"
    for account in (ACCOUNT, stranger):
        await rig.database.execute(
            "INSERT INTO conversations (account_id, participant_id, last_message_at, created_at, updated_at)"
            " VALUES (?, ?, ?, 1, 1)",
            (account, ANA, rig.clock.now - 60_000),
        )
    rig.begin()
    rig.monitor.observe({(ACCOUNT, COMPANION): 6})

    assert await rig.look() == [("traffic_unusual", ("unserved", stranger))]


async def test_many_who_do_not_exist(rig: Rig) -> None:
    later = rig.clock.now + GONE_REST_S * 1000
    await rig.people("unavailable", 12, next_attempt_at=later - 10)
    await rig.people("failed", 50, next_attempt_at=later - 10)
    assert await rig.look() == [("traffic_unusual", ("unavailable", ACCOUNT))]
    rig.clock.now += HOUR_MS
    assert await rig.look() == [("traffic_usual_again", ("unavailable", ACCOUNT))]


async def test_memory_is_bounded_over_years(rig: Rig) -> None:
    for _ in range(24 * 400):
        rig.see(message=1)
        rig.clock.now += HOUR_MS
    assert len(rig.monitor._counts[ACCOUNT].hours) <= 14 * 24


async def test_the_file_is_asked_by_index(database: Database) -> None:
    plans = []
    for sql, parameters in ((store._HOURS, (0, 1, 1)), (store._UNAVAILABLE, ("1", 1))):
        plans.append(" ".join(str(row[3]) for row in await database.read(f"EXPLAIN QUERY PLAN {sql}", parameters)))
    assert "USING COVERING INDEX conversations_by_activity" in plans[0]
    assert "USING INDEX participants_due" in plans[1]


async def test_who_was_not_served_a_day_ago_is_not_taken_from_the_file(rig: Rig) -> None:
    await rig.database.execute(
        "INSERT INTO conversations (account_id, participant_id, last_message_at, created_at, updated_at)"
        " VALUES (?, ?, ?, 1, 1)",
        (STRANGER, ANA, T0 - 25 * HOUR_MS),
    )
    await rig.look()
    assert [one.account_id for one in rig.monitor.traffic] == [ACCOUNT]


async def test_what_is_older_than_a_day_does_not_count(rig: Rig) -> None:
    rig.see(message=3)
    rig.clock.now += 23 * HOUR_MS
    rig.see(message=2)
    await rig.look()
    assert [one.events for one in rig.monitor.traffic] == [5]
    rig.clock.now += 2 * HOUR_MS
    await rig.look()
    assert [one.events for one in rig.monitor.traffic] == [2]
