"""Pushing to real receivers: order, other lanes and endpoints, retries, rests, restarts."""

import asyncio
import ipaddress
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from inboxd.domain import forwarding as rules
from inboxd.forwarding.endpoint import Endpoint, EndpointState
from inboxd.forwarding.feeder import PROBE_PAGE
from inboxd.forwarding.progress_store import ProgressStore, RetryState
from inboxd.forwarding.target import BadUrlError
from inboxd.forwarding.window import MAX_ITEMS
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from standardwebhooks import Webhook

from tests.forwarding.conftest import KEY, House, forwarding_house
from tests.forwarding.receivers import Json, Receiver, receiving
from tests.support import ACCOUNT, T0, TravelClock, eventually

HOUR = 3600
DAY = 24 * HOUR


def texts(events: list[Json]) -> list[str]:
    return [event["data"]["text"] for event in events]


def by_conversation(events: list[Json]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for event in events:
        found.setdefault(event["data"]["conversation"], []).append(event["data"]["text"])
    return found


def in_order(events: list[Json]) -> bool:
    return all(
        [int(text.split()[1]) for text in some] == sorted(int(text.split()[1]) for text in some)
        for some in by_conversation(events).values()
    )


async def delivered(receiver: Receiver, count: int, *, within_s: float = 20) -> None:
    async def there() -> bool:
        return len(receiver.delivered) >= count

    await eventually(there, within_s=within_s)


async def flowing(house: House, travel: TravelClock, endpoint: Endpoint) -> None:
    """Let little time pass until everything is delivered: what is pushed needs the time of the machine."""

    async def done() -> bool:
        await travel.travel(2)
        return (await house.service.standing(endpoint)).behind_by == 0

    await eventually(done)


# --- order and lanes --------------------------------------------------------------------------------------------------


async def test_each_conversation_keeps_its_order_and_several_go_at_a_time(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url)
    sent = [text for _ in range(20) for text in await house.happen(20, conversations=7)]
    await delivered(receiver, 400)

    assert Counter(texts(receiver.delivered)) == Counter(sent), "each once"
    assert in_order(receiver.delivered)
    assert 1 < receiver.most_at_once <= 8
    await house.caught_up(endpoint)


async def test_one_that_hangs_holds_only_its_own_conversation(house: House, receiver: Receiver) -> None:
    receiver.respond = lambda _request, event: "hang" if event["data"]["conversation"] == 1 else 200
    await house.endpoint(receiver.url)
    await house.happen(60, conversations=6)

    await delivered(receiver, 50)
    assert len(by_conversation(receiver.events)[1]) == 1


async def test_a_dead_endpoint_delays_no_other(house: House, receiver: Receiver) -> None:
    async with receiving() as hanging, receiving() as refusing:
        hanging.respond = lambda _request, _event: "hang"
        refusing.respond = lambda _request, _event: 500
        for url in (hanging.url, refusing.url, "http://127.0.0.1:9/nobody"):
            await house.endpoint(url)
        alive = await house.endpoint(receiver.url)
        for _ in range(10):
            await house.happen(20, conversations=5)
        await delivered(receiver, 200)
        await house.caught_up(alive)
        assert hanging.delivered == []


async def test_only_what_is_wanted_is_pushed(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url, event_types=["message.*"], account_ids=[ACCOUNT])
    await house.happen(kind="account.updated")
    await house.happen(account="17841400000000002")
    wanted = await house.happen(kind="message.sent")
    await delivered(receiver, 1)
    await house.happen(kind="account.updated")

    async def passed() -> bool:
        return (await house.service.standing(endpoint)).behind_by == 0

    await eventually(passed)
    assert texts(receiver.events) == wanted


async def test_the_rate_limit_is_kept(traveling: House, travel: TravelClock, receiver: Receiver) -> None:
    await traveling.endpoint(receiver.url, rate_limit=2.0)
    await traveling.happen(40, conversations=40)
    await travel.travel(5, settle_s=0.02)
    assert 9 <= len(receiver.delivered) <= 12
    await travel.travel(30, settle_s=0.02)
    assert len(receiver.delivered) == 40


# --- what receivers answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [500, 404, 302, 400, "reset"])
async def test_a_failure_is_tried_again_and_what_is_behind_it_waits(
    traveling: House, travel: TravelClock, receiver: Receiver, answer: int | str
) -> None:
    endpoint = await traveling.endpoint(receiver.url)
    bad = {"text 0"}
    receiver.respond = lambda _request, event: answer if event["data"]["text"] in bad else 200
    await traveling.happen(10, conversations=2)
    await travel.travel(2)

    assert by_conversation(receiver.delivered) == {2: [f"text {number}" for number in (1, 3, 5, 7, 9)]}
    failures, total = await ProgressStore(traveling.core.database).failures(endpoint.id, None, limit=10, offset=0)
    assert total == 5
    assert [row.state for row in failures] == [RetryState.RETRYING] + [RetryState.WAITING] * 4
    assert (await traveling.now(endpoint)).cursor == 10, "the others do not wait"

    bad.clear()
    await travel.travel(10)
    assert by_conversation(receiver.delivered)[1] == [f"text {number}" for number in (0, 2, 4, 6, 8)]
    assert (await traveling.service.standing(endpoint)).behind_by == 0
    assert len(receiver.ids) == len(set(receiver.ids)) == 10


async def test_what_waits_behind_one_comes_in_order_however_much_it_is(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    bad = True
    receiver.respond = lambda _request, event: 422 if bad and event["data"]["text"] == "text 0" else 200
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(1)
    await travel.travel(2)
    for _ in range(7):
        await traveling.happen(20)
        await travel.travel(0.2)
    assert receiver.delivered == []

    bad = False
    await travel.travel(30)
    await flowing(traveling, travel, endpoint)
    assert texts(receiver.delivered) == [f"text {number}" for number in range(141)]


async def test_redirects_are_not_followed(traveling: House, travel: TravelClock, receiver: Receiver) -> None:
    async with receiving() as other:
        target = other.url
        receiver.respond = lambda _request, _event: web.Response(status=307, headers={"Location": target})
        await traveling.endpoint(receiver.url)
        await traveling.happen()
        await travel.travel(60)
        assert len(receiver.bodies) > 1
        assert other.bodies == []


async def test_a_large_answer_is_read_only_at_its_beginning(house: House, receiver: Receiver) -> None:
    receiver.respond = lambda _request, _event: web.Response(text="\x1b[31mred\x00" + "x" * 10_000_000)
    endpoint = await house.endpoint(receiver.url)
    await house.happen(3)
    await house.caught_up(endpoint)
    attempts, _ = await ProgressStore(house.core.database).attempts(endpoint.id, limit=10, offset=0)
    assert {(one.status, len(one.response or "")) for one in attempts} == {(200, 1023)}
    assert all((one.response or "").startswith("[31mred") for one in attempts)


async def test_a_receiver_that_is_slow_to_answer_counts_as_failed(house: House, receiver: Receiver) -> None:
    receiver.respond = lambda _request, _event: "hang"
    endpoint = await house.endpoint(receiver.url, timeout_s=0.2)
    await house.happen()

    async def noted() -> bool:
        return bool((await house.now(endpoint)).last_error)

    await eventually(noted)
    assert (await house.now(endpoint)).last_error == "no answer within 0.2 s"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honored_by_the_whole_endpoint(
    traveling: House, travel: TravelClock, receiver: Receiver, status: int, form: str
) -> None:
    when = "600" if form == "seconds" else "Mon, 21 Sep 2026 14:23:20 GMT"  # ten minutes after T0
    busy = True

    def respond(_request: web.Request, _event: Json) -> Any:
        return web.Response(status=status, headers={"Retry-After": when}) if busy else 200

    receiver.respond = respond
    assert T0 == 1_790_000_000_000
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(1)
    await travel.travel(2)
    assert len(receiver.bodies) == 1
    await traveling.happen(20, conversations=20)
    await travel.travel(500)
    assert len(receiver.bodies) == 1, "nothing is pushed while the receiver asked for a rest"

    busy = False
    await travel.travel(120)
    assert len(receiver.delivered) == 21
    assert (await traveling.now(endpoint)).state is EndpointState.OK


async def test_410_disables_at_once_and_enabling_goes_on(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, _event: 410
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(30, conversations=3)
    await travel.travel(10)

    stored = await traveling.now(endpoint)
    assert stored.state is EndpointState.DISABLED
    assert "410" in (stored.disabled_reason or "")
    asked = len(receiver.bodies)
    assert asked <= 8
    await traveling.happen(5)
    await travel.travel(HOUR)
    assert len(receiver.bodies) == asked, "nothing more is pushed"
    assert traveling.feature.overview is not None
    assert ["410" in need.text for need in (await traveling.feature.overview()).needs] == [True]

    receiver.respond = lambda _request, _event: 200
    await traveling.service.change(stored, enabled=True)
    await flowing(traveling, travel, endpoint)
    assert len(receiver.delivered) == 35
    assert in_order(receiver.delivered)


# --- an endpoint that fails as a whole --------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [500, "reset", "nobody"])
async def test_a_failing_endpoint_rests_and_then_gets_everything(
    traveling: House, travel: TravelClock, receiver: Receiver, answer: int | str
) -> None:
    endpoint = await traveling.endpoint("http://127.0.0.1:9/nobody" if answer == "nobody" else receiver.url)
    receiver.respond = lambda _request, _event: answer
    for _ in range(20):
        await traveling.happen(50, conversations=25)
    await travel.travel(5 * 60)

    failing = await traveling.now(endpoint)
    assert failing.state is EndpointState.FAILING
    standing = await traveling.service.standing(failing)
    assert standing.behind_by == 1000
    probes = 5  # after 5 s, 30 s, 2 min and 5 min, and one that may begin at the end
    assert standing.retries <= MAX_ITEMS + probes * PROBE_PAGE, "what was in memory, and a page for each probe"
    assert len(receiver.bodies) < 20, "one at a time is tried"

    receiver.respond = lambda _request, _event: 200
    if answer == "nobody":
        await traveling.service.change(failing, url=receiver.url)
    await travel.travel(20 * 60)
    await flowing(traveling, travel, endpoint)
    assert Counter(texts(receiver.delivered)) == Counter(f"text {number}" for number in range(1000))
    assert in_order(receiver.delivered)
    recovered = await traveling.now(endpoint)
    assert (recovered.state, recovered.failing_since) == (EndpointState.OK, None)


async def test_a_few_bad_conversations_do_not_stop_the_others(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, event: 500 if event["data"]["conversation"] <= 4 else 200
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(4, conversations=4)
    await travel.travel(3)
    assert (await traveling.now(endpoint)).state is EndpointState.FAILING, "nothing else was tried"
    await traveling.happen(100, conversations=20)
    await travel.travel(20 * 60)
    await delivered(receiver, 80)


async def test_after_three_days_without_a_success_it_is_disabled(
    traveling: House, travel: TravelClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PROBE_S", 6 * 3600.0)
    receiver.respond = lambda _request, _event: 500
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(20, conversations=10)
    await travel.travel(2.9 * DAY, settle_s=0.001)
    assert (await traveling.now(endpoint)).state is EndpointState.FAILING
    await travel.travel(0.8 * DAY, settle_s=0.001)
    stored = await traveling.now(endpoint)
    assert stored.state is EndpointState.DISABLED
    assert "3 days" in (stored.disabled_reason or "")

    receiver.respond = lambda _request, _event: 200
    await traveling.service.change(stored, enabled=True)
    await flowing(traveling, travel, endpoint)
    assert Counter(texts(receiver.delivered)) == Counter(f"text {number}" for number in range(20))
    assert in_order(receiver.delivered)


async def test_an_event_that_fails_for_its_whole_schedule_is_given_up_and_can_be_retried(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, event: 422 if event["data"]["text"] == "text 0" else 200
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(3)
    await travel.travel(2.9 * DAY, settle_s=0.001)
    assert receiver.delivered == [], "what is behind it waits"
    await travel.travel(0.8 * DAY, settle_s=0.001)
    await travel.travel(5)
    assert texts(receiver.delivered) == ["text 1", "text 2"]
    progress = ProgressStore(traveling.core.database)
    (row,), total = await progress.failures(endpoint.id, RetryState.FAILED, limit=10, offset=0)
    assert (total, row.attempts) == (1, 13)
    assert (await traveling.service.standing(endpoint)).failures == 1

    receiver.respond = lambda _request, _event: 200
    assert not await traveling.service.retry(endpoint, "evt_nothing")
    assert await traveling.service.retry(endpoint, row.item_id)
    await travel.travel(5)
    assert texts(receiver.delivered) == ["text 1", "text 2", "text 0"]
    assert (await progress.failures(endpoint.id, None, limit=10, offset=0)) == ([], 0)


async def test_a_sample_that_arrives_ends_the_rest(traveling: House, travel: TravelClock, receiver: Receiver) -> None:
    receiver.respond = lambda _request, _event: 503
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(10, conversations=10)
    await travel.travel(HOUR)
    receiver.respond = lambda _request, _event: 200
    assert (await traveling.service.test(endpoint, None)).answer.error is None
    await flowing(traveling, travel, endpoint)
    assert len(receiver.delivered) == 11


# --- restarts ---------------------------------------------------------------------------------------------------------


async def test_a_restart_goes_on_where_it_was_and_sends_nothing_twice(tmp_path: Path, receiver: Receiver) -> None:
    path = tmp_path / "inboxd.sqlite3"
    receiver.respond = lambda _request, event: "hang" if event["data"]["conversation"] == 3 else 200
    async with forwarding_house(path, Clock()) as house:
        await house.endpoint(receiver.url)
        await house.happen(100, conversations=10)
        await delivered(receiver, 90)
        await house.happen(60, conversations=10)
    first = len(receiver.delivered)
    receiver.respond = lambda _request, _event: 200
    async with forwarding_house(path, Clock()) as house:
        (endpoint,) = await house.service.all()
        await house.caught_up(endpoint)
    assert 90 <= first < 160
    assert max(Counter(receiver.ids).values()) == 1
    assert len(receiver.ids) == 160
    assert in_order(receiver.delivered)


# --- where it may connect ---------------------------------------------------------------------------------------------


async def test_a_name_that_leads_to_a_metadata_address_later_is_not_connected_to(
    traveling: House, travel: TravelClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receiver.url.split(":")[2]
    addresses = {"receiver.example": "127.0.0.1"}
    real = asyncio.get_running_loop().getaddrinfo

    async def resolve(host: Any, asked: Any, **more: Any) -> Any:
        if host not in addresses:
            return await real(host, asked, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses[host], asked or 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve, raising=False)
    endpoint = await traveling.endpoint(f"http://receiver.example:{port.replace('/hook', '')}/hook")
    addresses["receiver.example"] = "169.254.169.254"
    await traveling.happen()
    await travel.travel(2)
    assert receiver.bodies == []
    assert (await traveling.now(endpoint)).last_error == "inboxd does not connect to the address of this host"


async def test_networks_can_be_narrowed(tmp_path: Path, receiver: Receiver) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
    async with forwarding_house(tmp_path / "inboxd.sqlite3", Clock(), networks=networks) as house:
        with pytest.raises(BadUrlError, match="allow_networks"):
            await house.endpoint(receiver.url)
        with pytest.raises(BadUrlError):
            await house.endpoint("http://[fd00:ec2::254]/")
        assert (await house.endpoint("http://10.1.2.3/hook")).enabled


# --- bounds and secrets -----------------------------------------------------------------------------------------------


async def test_attempts_are_bounded(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url)
    for _ in range(13):
        await house.happen(200, conversations=50)
    await house.caught_up(endpoint)
    await house.happen(1)
    await house.caught_up(endpoint)
    _, total = await ProgressStore(house.core.database).attempts(endpoint.id, limit=1, offset=0)
    assert total <= 1000
    assert len(receiver.delivered) == 2601


async def test_nothing_of_a_secret_or_a_url_is_logged(
    house: House, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.respond = lambda _request, _event: 500
    endpoint = await house.endpoint(f"{receiver.url}/secret-path?token=very-secret")
    await house.happen(10, conversations=10)

    async def failing() -> bool:
        return (await house.now(endpoint)).state is EndpointState.FAILING

    await eventually(failing)
    await house.service.rotate(await house.now(endpoint), 60)
    await house.service.delete(await house.now(endpoint))
    out = "".join(capsys.readouterr())
    assert "endpoint_failing" in out
    assert endpoint.secret is not None
    for secret in ("very-secret", "secret-path", endpoint.secret.reveal()):
        assert secret not in out


async def test_secrets_outlive_the_storage_key_that_they_were_encrypted_with(
    tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    path, new = tmp_path / "inboxd.sqlite3", Secret("bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE=")
    async with forwarding_house(path, Clock()) as house:
        made = await house.endpoint(receiver.url)
    async with forwarding_house(path, Clock(), keys=[new, KEY]):
        pass
    async with forwarding_house(path, Clock(), keys=[new]) as house:
        assert (await house.now(made)).secret == made.secret
        await house.happen()
        await house.caught_up(made)
        assert made.secret is not None
        assert Webhook(made.secret.reveal()).verify(receiver.bodies[0], receiver.headers[0])
    assert "endpoint_secret_unreadable" not in "".join(capsys.readouterr())
    async with forwarding_house(path, Clock()):
        pass
    assert "endpoint_secret_unreadable" in "".join(capsys.readouterr())


async def test_networks_can_be_narrowed_while_the_daemon_runs(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    endpoint = await traveling.endpoint(receiver.url)
    (rule,) = traveling.feature.reload
    rule.apply({"forward.allow_networks": ("10.0.0.0/8",)})
    await traveling.happen()
    await travel.travel(2)
    assert receiver.bodies == []
    assert "does not connect" in ((await traveling.now(endpoint)).last_error or "")
    rule.apply({"forward.allow_networks": ()})
    await flowing(traveling, travel, endpoint)
    assert len(receiver.delivered) == 1
