"""Why somebody has no name, as API, dashboard and log say it, with a real daemon in each situation."""

import msgspec
import pytest
from inboxd.config.schema import BudgetSettings, Settings
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid

from tests.dashboard.test_dashboard import Browser, browser
from tests.support import ACCOUNT, T0, Client, Json, eventually

__all__ = ["browser"]
OTHER = "17841400000000002"
LAST = igsid(30)
Simulated = tuple[GraphServer, str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, budget=BudgetSettings(calls_per_hour=12, calls_per_second=5))


async def arrange(client: Client, graph: Simulated, situation: str) -> str:
    """Make it so; whose account the person then writes to."""
    server, _ = graph
    moods = {
        "stop": Behaviour(latency_ms=0, throttled=True),
        "login": Behaviour(latency_ms=0, token_expired=True),
        "slowness": Behaviour(latency_ms=0, usage_percent=94),
        "answer": Behaviour(latency_ms=20_000),
    }

    async def subscribed() -> bool:
        return (await client.get("/api/accounts"))["accounts"][0]["subscribedFields"] is not None

    await eventually(subscribed)
    server.behaviour = moods.get(situation, Behaviour(latency_ms=0))
    many = 14 if situation == "budget" else 2
    if situation != "answer":
        await client.deliver(*(Conversationalist(ACCOUNT, igsid(number), T0).says("hi") for number in range(many)))
        await client.settled()
    if situation == "budget":

        async def used_up() -> bool:
            return bool((await client.get("/api/budget"))["budgets"][0]["remaining"] == 0)

        await eventually(used_up)
    return OTHER if situation == "account" else ACCOUNT


@pytest.mark.parametrize("situation", ["account", "login", "stop", "budget", "slowness", "answer", "backfill"])
async def test_the_reason_is_true_in_api_dashboard_and_log(
    client: Client, graph: Simulated, browser: Browser, situation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    account = await arrange(client, graph, situation)
    if situation == "backfill":
        body = {"clientAccountId": ACCOUNT, "participantPlatformId": LAST}
        await client.send("POST", "/api/messaging/conversations", body, status=201)
    else:
        await client.deliver(Conversationalist(account, LAST, T0).says("hi"), account_id=account)
    await client.settled()
    found: Json = {}

    async def told() -> bool:
        found.update(await client.get(f"/api/participants/{account}/{LAST}"))
        return bool(found["waitingFor"] == situation)

    await eventually(told)
    assert found["profileState"] == "pending"
    assert found["reason"]
    assert (found["waitingUntil"] is not None) is (situation in {"stop", "budget", "slowness"})
    if found["waitingUntil"]:
        assert found["waitingUntil"][:16] in found["reason"]
    (conversation,) = [one for one in await client.conversations() if one["participantPlatformId"] == LAST]
    assert conversation["metadata"]["profileReason"][:12] == found["reason"][:12]
    await browser.sign_in()
    sentence = found["reason"][1:12]
    assert sentence in await browser.get("/inbox")
    assert sentence in await browser.get(f"/inbox/{conversation['id']}")
    if situation in {"login", "stop", "budget", "slowness"}:
        output = capsys.readouterr().out
        assert "profiles_wait" in output
        assert f"waiting_for={situation}" in output
    graph[0].behaviour = Behaviour(latency_ms=0)
