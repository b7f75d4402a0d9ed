"""Raw fan-out: an endpoint of the kind `meta` gets Meta's deliveries byte for byte, with Meta's own signature."""

import asyncio
import json
from typing import Any

import pytest
from inboxd.forwarding.endpoint import Endpoint, EndpointKind
from inboxd.forwarding.progress_store import ProgressStore, RetryState
from inboxd.forwarding.service import BadEndpointError
from inboxd.meta.signature import HEADER, SignatureVerifier, Verdict, digest_of, sign
from inboxd.receiving.store import Inbox
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.forwarding.conftest import House
from tests.forwarding.receivers import Json, Receiver
from tests.support import ACCOUNT, ANA, APP_SECRET, T0, Client, TravelClock, eventually

PATH = "/api/webhook-endpoints"
OTHER = "17841400000000002"


def body_of(number: int, account: str = ACCOUNT) -> bytes:
    return json.dumps({"object": "instagram", "entry": [{"id": account, "number": number, "emoji": "é 🦦"}]}).encode()


async def arrive(house: House, *bodies: bytes) -> list[int]:
    inbox = Inbox(house.core.database, house.core.clock, max_waiting=100)
    return [await inbox.append(body, digest_of(sign(body, APP_SECRET))) for body in bodies]


async def came(receiver: Receiver, count: int) -> None:
    async def there() -> bool:
        return len(receiver.bodies) >= count

    await eventually(there)


async def test_a_second_app_behind_one_callback_gets_what_meta_sent(client: Client, receiver: Receiver) -> None:
    made = await client.send("POST", PATH, {"url": receiver.url, "kind": "meta"}, status=201)
    assert (made["secret"], made["eventTypes"]) == (None, [])
    ana = Conversationalist(ACCOUNT, ANA, T0)
    sent = [json.dumps(delivery(ACCOUNT, T0, [ana.says(f"día {number} 🦦")]), indent=1).encode() for number in range(5)]
    for body in sent:
        assert (await client.post(body))[0] == 200
    await came(receiver, 5)

    assert receiver.bodies == sent
    verifier = SignatureVerifier([APP_SECRET])
    for body, headers in zip(receiver.bodies, receiver.headers, strict=True):
        assert verifier.check(headers[HEADER.lower()], body) is Verdict.VALID
        assert headers["content-type"] == "application/json"


async def test_what_cannot_be_processed_is_handed_on_too(client: Client, receiver: Receiver) -> None:
    await client.send("POST", PATH, {"url": receiver.url, "kind": "meta"}, status=201)
    assert (await client.post(b'{"entry": "nothing that inboxd knows"}'))[0] == 200
    await came(receiver, 1)
    assert receiver.bodies == [b'{"entry": "nothing that inboxd knows"}']


async def test_an_endpoint_that_leads_back_to_inboxd_makes_no_circle(client: Client) -> None:
    url = f"{client.public_url}/webhooks/instagram"
    made = await client.send("POST", PATH, {"url": url, "kind": "meta"}, status=201)
    ana = Conversationalist(ACCOUNT, ANA, T0)
    assert (await client.post(json.dumps(delivery(ACCOUNT, T0, [ana.says("once")])).encode()))[0] == 200

    async def refused() -> bool:
        return bool((await client.send("GET", f"{PATH}/{made['id']}/attempts"))["total"])

    await eventually(refused)
    (attempt, *_) = (await client.send("GET", f"{PATH}/{made['id']}/attempts"))["attempts"]
    assert (attempt["status"], attempt["delivered"]) == (508, False)
    assert (await client.send("GET", "/api/deliveries"))["total"] == 1


async def test_accounts_are_told_apart_by_any_of_their_ids(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url, kind=EndpointKind.META, account_ids=[ACCOUNT])
    ours, other, alias = body_of(1), body_of(2, OTHER), body_of(3, "90010")
    await arrive(house, ours, other, alias, b"[]", b"nothing")
    await came(receiver, 2)

    async def passed() -> bool:
        return (await house.service.standing(endpoint)).behind_by == 0

    await eventually(passed)
    assert receiver.bodies == [ours, alias]


async def test_one_that_is_refused_does_not_hold_the_others(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    bad = True

    def respond(_request: Any, event: Json) -> int:
        return 422 if bad and event["entry"][0]["number"] == 2 else 200

    receiver.respond = respond
    endpoint = await traveling.endpoint(receiver.url, kind=EndpointKind.META)
    await arrive(traveling, *(body_of(number) for number in range(6)))
    await travel.travel(2)
    assert [event["entry"][0]["number"] for event in receiver.delivered] == [0, 1, 3, 4, 5]
    (row,), _ = await ProgressStore(traveling.core.database).failures(endpoint.id, None, limit=5, offset=0)
    assert (row.item_id, row.state) == ("dlv_3", RetryState.RETRYING)

    bad = False
    await travel.travel(10)
    assert receiver.delivered[-1]["entry"][0]["number"] == 2
    assert len(receiver.delivered) == 6


async def saved(house: House, endpoint: Endpoint, cursor: int) -> None:
    async def there() -> bool:
        return (await house.now(endpoint)).cursor == cursor

    await eventually(there)


async def test_ids_that_are_given_again_are_not_missed(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url, kind=EndpointKind.META)
    assert await arrive(house, body_of(1), body_of(2)) == [1, 2]
    await saved(house, endpoint, 2)
    await house.core.database.execute("DELETE FROM deliveries WHERE id = 2")
    assert await arrive(house, body_of(3)) == [2]
    await saved(house, endpoint, 2)
    await house.core.database.execute("DELETE FROM deliveries")
    assert (await house.now(endpoint)).cursor == 0
    assert await arrive(house, body_of(4)) == [1]
    await came(receiver, 4)
    await asyncio.sleep(0.1)
    assert [event["entry"][0]["number"] for event in receiver.events] == [1, 2, 3, 4]


async def test_what_expired_before_it_was_sent_is_told(
    traveling: House, travel: TravelClock, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.respond = lambda _request, _event: 503
    endpoint = await traveling.endpoint(receiver.url, kind=EndpointKind.META)
    await arrive(traveling, *(body_of(number) for number in range(20)))
    await travel.travel(3600)
    await traveling.core.database.execute("DELETE FROM deliveries WHERE id <= 15")
    receiver.respond = lambda _request, _event: 200

    async def caught_up() -> bool:
        await travel.travel(600)
        return (await traveling.service.standing(endpoint)).behind_by == 0

    await eventually(caught_up)
    assert sorted(event["entry"][0]["number"] for event in receiver.delivered) == list(range(15, 20))
    assert "events_no_longer_kept" in "".join(capsys.readouterr())


async def test_there_are_no_samples_because_only_meta_can_sign_one(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url, kind=EndpointKind.META)
    with pytest.raises(BadEndpointError, match="only Meta can sign"):
        await house.service.test(endpoint, None)
