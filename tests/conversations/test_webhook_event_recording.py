"""Thread control and referrals in the event log: told once, with what could be read."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.config.schema import EventSettings, Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.webhook_event_types import WEBHOOK_EVENT_TYPES

from tests.support import ACCOUNT, ANA, T0, Client, Json

PAYLOADS: Final = Path(__file__).parent.parent / "payloads"
TYPES: Final = ",".join(one.name for one in WEBHOOK_EVENT_TYPES)
DATA: Final = {one.name: one.data for one in WEBHOOK_EVENT_TYPES}


@pytest.fixture
async def thin(settings: Settings, secrets: Secrets, tmp_path: Path) -> AsyncIterator[Client]:
    """A daemon whose log holds ids only."""
    thinner = msgspec.structs.replace(settings, events=EventSettings(ids_only=True))
    path = tmp_path / "thin.sqlite3"
    async with (
        app.run_daemon(thinner, secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, path)


async def logged(client: Client) -> list[Json]:
    """The events of these types, each of which its type can read."""
    await client.settled()
    found: list[Json] = (await client.get(f"/api/events?types={TYPES}"))["events"]
    for event in found:
        msgspec.convert(event["data"], DATA[event["type"]])
    return found


async def post(client: Client, *names: str) -> None:
    for name in names:
        status, answer, _ = await client.post((PAYLOADS / f"{name}.json").read_bytes())
        assert status == 200, answer


async def test_a_repeated_delivery_tells_nothing_new(client: Client) -> None:
    for _ in range(3):
        await post(client, "handover_take", "referral")
        await client.settled()
    assert [event["type"] for event in await logged(client)] == ["handover.changed", "referral.received"]


async def test_each_kind_of_thread_control_is_told(client: Client) -> None:
    sender = {"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0}
    await client.deliver({**sender, "message": {"mid": "first", "text": "hola"}})
    await client.settled()
    await post(client, "handover_pass", "handover_take", "handover_request", "handover_app_roles")
    await post(client, "handovers_plural_in_changes")
    found = [event["data"] for event in await logged(client)]
    (conversation,) = await client.conversations()
    nothing: Json = {
        "participantPlatformId": ANA,
        "conversationId": str(conversation["id"]),
        "previousOwnerAppId": None,
        "newOwnerAppId": None,
        "requestedOwnerAppId": None,
        "metadata": None,
        "appRoles": {},
    }
    assert found[:4] == [
        nothing | {"kind": "pass", "newOwnerAppId": "222", "metadata": "x"},
        nothing | {"kind": "take", "previousOwnerAppId": "1", "newOwnerAppId": "222"},
        nothing | {"kind": "request", "requestedOwnerAppId": "1"},
        nothing | {"kind": "app_roles", "appRoles": {"1": ["primary_receiver"]}},
    ]
    assert len(found) == 5


async def test_a_referral_is_told_with_typed_members_and_not_one_that_came_in_a_message(client: Client) -> None:
    await post(client, "referral", "message_from_ad_with_numeric_ad_id", "postback")
    (event,) = await logged(client)
    assert event["type"] == "referral.received"
    (conversation,) = await client.conversations()
    assert (event["data"]["participantPlatformId"], event["data"]["conversationId"]) == (ANA, conversation["id"])
    referral = event["data"]["referral"]
    assert (referral["ref"], referral["source"], referral["type"]) == ("qr7", "SHORTLINKS", "OPEN_THREAD")


async def test_odd_thread_control_is_told_with_what_could_be_read(client: Client) -> None:
    sender = {"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0}
    roles = {"x" * 500: ["role"], "1": "none", "2": ["a", 7, "y" * 500], **{str(one): [] for one in range(10, 900)}}
    await client.deliver(
        {**sender, "pass_thread_control": "text"},
        {**sender, "take_thread_control": {"new_owner_app_id": {}, "metadata": ["x"]}},
        {**sender, "app_roles": roles},
        {**sender, "referral": [1, 2]},
    )
    passed, taken, listed, referral = [event["data"] for event in await logged(client)]
    assert (passed["kind"], passed["newOwnerAppId"]) == ("pass", None)
    assert (taken["kind"], taken["newOwnerAppId"], taken["metadata"]) == ("take", None, None)
    assert (listed["appRoles"]["1"], listed["appRoles"]["2"], len(listed["appRoles"])) == ([], ["a"], 49)
    assert referral["referral"] is None


async def test_a_log_of_ids_has_no_text_and_no_name(thin: Client) -> None:
    sender = {"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0}
    ad = {"source": "ADS", "ref": "marmalade", "ad_id": "12", "ads_context_data": {"ad_title": "wyvern"}}
    control = {"new_owner_app_id": "2", "metadata": "xylograph"}
    await thin.deliver({**sender, "pass_thread_control": control}, {**sender, "referral": ad})
    handover, referral = await logged(thin)
    text = json.dumps([handover, referral])
    assert not [word for word in ("marmalade", "wyvern", "xylograph") if word in text]
    assert handover["data"]["newOwnerAppId"] == "2"
    assert (referral["data"]["referral"]["adId"], referral["data"]["referral"]["source"]) == ("12", "ADS")
