"""A restore of an older backup under a working endpoint, a resting one and NATS; a long time in which nothing ran."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.domain import forwarding as rules
from inboxd.events.restored_store import continue_numbers
from inboxd.forwarding import recorder
from inboxd.forwarding.endpoint import EndpointState
from inboxd.runtime.clock import Clock
from inboxd.storage import backup

from tests.forwarding.conftest import PatientClock, forwarding_house
from tests.forwarding.receivers import Receiver, receiving
from tests.support import eventually

DAY = 86_400


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and probes follow within parts of a second."""
    monkeypatch.setattr(rules, "SCHEDULE", (0.02,) * 1000)
    monkeypatch.setattr(rules, "PROBES", (0.02,))
    monkeypatch.setattr(rules, "_SINCE_FIRST", (0.02,))
    monkeypatch.setattr(rules, "PROBE_S", 0.05)
    monkeypatch.setattr(recorder, "SAVE_S", 0.05)


def kept(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))


@pytest.mark.usefixtures("quick")
async def test_endpoints_go_on_after_a_restore_and_no_id_is_given_twice(tmp_path: Path, receiver: Receiver) -> None:
    path, copy = tmp_path / "inboxd.sqlite3", tmp_path / "backup.sqlite3"
    async with receiving() as late:
        late.respond = lambda _request, _event: 503
        async with forwarding_house(path, Clock()) as house:
            working = await house.endpoint(receiver.url)
            resting = await house.endpoint(late.url)
            await house.happen(3)
            await house.caught_up(working)

            async def failed() -> bool:
                return (await house.now(resting)).failing_since is not None

            await eventually(failed)
            kept(path, copy)
            await house.happen(2)  # lost by the restore
            await house.caught_up(working)
            number = house.number
        backup.restore(copy, path, prepare=continue_numbers)

        async with forwarding_house(path, Clock()) as house:
            house.number = number
            await house.happen(2)
            await house.caught_up(working)
            late.respond = lambda _request, _event: 200
            await house.caught_up(resting)
            assert (await house.now(resting)).lost == (await house.now(working)).lost == 0
    assert receiver.texts == [f"text {number}" for number in range(7)]
    assert late.texts == [f"text {number}" for number in (0, 1, 2, 5, 6)]
    told = {(event["id"], event["data"]["text"]) for event in [*receiver.events, *late.events]}
    assert len(told) == len({one for one, _ in told}) == 7, "no id for two events"


async def test_an_endpoint_is_not_disabled_for_the_days_in_which_nothing_ran(
    tmp_path: Path, receiver: Receiver
) -> None:
    """The receiver goes before inboxd when the machine is turned off, and comes after it days later."""
    receiver.respond = lambda _request, _event: 503
    path, clock = tmp_path / "inboxd.sqlite3", PatientClock()
    async with forwarding_house(path, clock) as house:
        endpoint = await house.endpoint(receiver.url)
        await house.happen(6, conversations=6)
        await clock.travel(2)
        assert (await house.now(endpoint)).state is EndpointState.FAILING
    clock.house = None
    clock.wall_ms += 5 * DAY * 1000
    async with forwarding_house(path, clock) as house:
        await clock.travel(1000)
        assert (await house.now(endpoint)).state is EndpointState.FAILING
        receiver.respond = lambda _request, _event: 200
        await clock.travel(1000)
        assert sorted(receiver.texts) == [f"text {number}" for number in range(6)]
