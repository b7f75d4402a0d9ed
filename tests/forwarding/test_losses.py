"""What is pruned or erased before it was pushed: it is told, and never pushed from memory."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from inboxd.forwarding.progress_store import ProgressStore
from inboxd.storage.personal_data import Subject
from structlog.testing import capture_logs

from tests.forwarding.conftest import House
from tests.forwarding.receivers import Receiver
from tests.support import ACCOUNT, ANA, TravelClock, eventually


async def test_what_was_pruned_is_counted_and_the_rest_is_pushed(
    traveling: House, travel: TravelClock, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.respond = lambda _request, _event: 503
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.service.change(endpoint, enabled=False)
    await traveling.happen(20)
    await traveling.core.database.execute("DELETE FROM events WHERE seq <= 15")
    await traveling.core.database.execute("UPDATE event_log SET pruned_to = 15")
    receiver.respond = lambda _request, _event: 200
    await traveling.service.change(await traveling.now(endpoint), enabled=True)
    await travel.travel(5)

    assert [event["data"]["text"] for event in receiver.delivered] == [f"text {number}" for number in range(15, 20)]
    out = "".join(capsys.readouterr())
    assert "events_no_longer_kept" in out
    assert "count=15" in out
    assert 'inboxd_forwarding_lost_total{endpoint="' in traveling.core.metrics.rendered("")[0].decode()


async def test_an_event_that_was_erased_meanwhile_is_not_pushed(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, event: 422 if event["data"]["text"] == "text 0" else 200
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(4)
    await travel.travel(2)
    assert receiver.delivered == []
    await traveling.core.database.execute("DELETE FROM events WHERE seq IN (1, 2)")
    receiver.respond = lambda _request, _event: 200
    await travel.travel(60)
    assert [event["data"]["text"] for event in receiver.delivered] == ["text 2", "text 3"]
    _, total = await ProgressStore(traveling.core.database).failures(endpoint.id, None, limit=5, offset=0)
    assert total == 0


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_set_makes_no_rest_longer(
    traveling: House, travel: TravelClock, receiver: Receiver, hours: int
) -> None:
    receiver.respond = lambda _request, _event: "reset"
    await traveling.endpoint(receiver.url)
    await traveling.happen(10, conversations=5)
    await travel.travel(2)
    travel.wall_ms += hours * 3_600_000
    receiver.respond = lambda _request, _event: 200
    await travel.travel(60)
    assert sorted(event["data"]["text"] for event in receiver.delivered) == [f"text {number}" for number in range(10)]


async def test_an_endpoint_can_be_removed_while_it_answers_nothing(house: House, receiver: Receiver) -> None:
    receiver.respond = lambda _request, _event: "hang"
    endpoint = await house.endpoint(receiver.url)
    await house.happen(3, conversations=3)

    async def pushed() -> bool:
        return len(receiver.bodies) == 3

    await eventually(pushed)
    with capture_logs() as logged:
        await house.service.delete(endpoint)
    assert [one["event"] for one in logged] == ["endpoint_deleted"]
    assert await house.service.get(endpoint.id) is None
    for table in ("webhook_retries", "webhook_attempts"):
        assert await house.core.database.read(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_what_nobody_wants_is_passed_over_at_once(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inboxd.events.store.SCAN", 10)
    endpoint = await house.endpoint(receiver.url, event_types=["message.sent"])
    await house.happen(95)
    await house.happen(1, kind="message.sent")
    await house.caught_up(endpoint)
    assert [event["data"]["text"] for event in receiver.delivered] == ["text 95"]


def erased(
    erase: Callable[[sqlite3.Connection, Subject, int], Counter[str]], subject: Subject, connection: sqlite3.Connection
) -> int:
    return erase(connection, subject, 1).total()


async def test_answers_go_when_a_person_is_erased_and_memory_is_dropped(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url)
    other = "17841400000000002"
    await house.happen(2)
    await house.happen(1, account=other)
    await house.caught_up(endpoint)
    subject = Subject(ACCOUNT, ANA, frozenset({ANA}))
    for one in house.feature.personal_data:
        if one.erase is not None:
            while await house.core.database.write(partial(erased, one.erase, subject)):
                pass
        if one.forget is not None:
            one.forget(subject)

    attempts, _ = await ProgressStore(house.core.database).attempts(endpoint.id, limit=10, offset=0)
    assert sorted((one.account_id, one.response) for one in attempts) == [
        (ACCOUNT, None), (ACCOUNT, None), (other, "fine"),
    ]  # fmt: skip
    await house.happen(1)

    async def goes_on() -> bool:
        return len(receiver.delivered) == 4

    await eventually(goes_on)
