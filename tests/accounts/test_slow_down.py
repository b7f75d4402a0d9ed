"""Meta's usage headers slow calls down: everybody is told, and nobody at a terminal waits for it."""

import json
from pathlib import Path

import msgspec
import pytest
from inboxd.config.schema import BudgetSettings, Settings
from inboxd.simulator.graph_server import Behaviour, GraphServer, Token
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid

from tests.dashboard.test_dashboard import Browser, browser
from tests.runs.backfill.test_api import register, start
from tests.support import ACCOUNT, ADMIN_TOKEN, T0, Client, Json, eventually

__all__ = ["browser"]
OTHER = "17841400000000002"
Simulated = tuple[GraphServer, str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, budget=BudgetSettings(calls_per_second=1))


async def slowed(client: Client, graph: Simulated, percent: int = 94) -> Json:
    graph[0].behaviour = Behaviour(latency_ms=0, usage_percent=percent)
    await client.deliver(Conversationalist(ACCOUNT, igsid(0), T0).says("hi"))

    async def is_slow() -> bool:
        (budget,) = (await client.get("/api/budget"))["budgets"]
        return bool(budget["slowedBy"] > 1)

    await eventually(is_slow)
    (budget,) = (await client.get("/api/budget"))["budgets"]
    assert isinstance(budget, dict)
    return budget


async def test_it_is_told_everywhere(
    client: Client, graph: Simulated, browser: Browser, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await register(client, *range(10, 20))
    budget = await slowed(client, graph)
    assert budget["slowedBy"] == 25
    assert budget["slowedUntil"] is not None

    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
        assert f'inboxd_budget_slowed_by{{account="{ACCOUNT}"}} 25.0' in await response.text()
    await browser.sign_in()
    for path in ("/", "/accounts"):
        assert "25 times slower until" in await browser.get(path)
    told = capsys.readouterr().out
    assert "slowed" in told
    run = await start(client)
    assert run["estimatedDurationSeconds"] >= 200, "ten calls, 25 s apart"

    async def said() -> bool:
        return "times slower" in str((await client.get(run["links"]["self"]))["reason"])

    await eventually(said)
    await client.send("POST", run["links"]["cancel"])


@pytest.mark.parametrize("percent", [94, 100])
async def test_nobody_at_a_terminal_waits_for_it_and_what_was_stored_is_no_failure(
    client: Client, graph: Simulated, percent: int
) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)
    graph[0].behaviour = Behaviour(latency_ms=0, usage_percent=94)
    await slowed(client, graph)
    graph[0].behaviour = Behaviour(latency_ms=0, usage_percent=percent)

    added = await client.send("POST", "/api/accounts", {"token": "other-token"}, status=201)
    checked = await client.send("POST", f"/api/accounts/{OTHER}/check")

    assert added["account"]["id"] == OTHER
    outcomes = {finding["check"]: finding["outcome"] for finding in added["findings"]}
    assert outcomes["token"] == "ok"
    assert "missing" not in outcomes.values(), added["findings"]
    assert "missing" not in {finding["outcome"] for finding in checked["findings"]}
    assert OTHER in json.dumps(await client.get("/api/accounts"))


async def test_who_adds_an_account_while_everything_rests_is_told_at_once(client: Client, graph: Simulated) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)
    graph[0].behaviour = Behaviour(latency_ms=0, throttled=True)
    await client.deliver(Conversationalist(ACCOUNT, igsid(0), T0).says("hi"))

    async def paused() -> bool:
        (budget,) = (await client.get("/api/budget"))["budgets"]
        return bool(budget["pausedUntil"])

    await eventually(paused)
    problem = await client.send("POST", "/api/accounts", {"token": "other-token"}, status=503)
    assert "Graph error 4" in problem["detail"]
    assert "before 20" in problem["detail"]
