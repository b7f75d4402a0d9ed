"""What the event log tells about accounts: each change once, over the ways on which it happens."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.accounts.choices import choose
from inboxd.accounts.event_recording import UPDATED
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.resources import AccountSettings
from inboxd.accounts.subscription_monitor import SubscriptionMonitor
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.config.schema import EventSettings, Settings
from inboxd.config.secrets import Secrets
from inboxd.domain.account import AccountChange, LoginType
from inboxd.meta.owner import Owner
from inboxd.runtime.clock import iso_utc
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import Behaviour, GraphServer, Token

from tests.accounts.test_api import callback, signed
from tests.accounts.test_manager import DAY_MS, process
from tests.support import ACCOUNT, TOKEN, Client, Json, ManualClock, eventually, instruments

OTHER = "17841400000000002"
Simulated = tuple[GraphServer, str]
Run = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def run(settings: Settings, secrets: Secrets, tmp_path: Path) -> Run:
    """A daemon on the same file at each call."""

    @asynccontextmanager
    async def running(*, token: str | None = TOKEN, ids_only: bool = False) -> AsyncIterator[Client]:
        changed = msgspec.structs.replace(settings, events=EventSettings(ids_only=ids_only))
        known = msgspec.structs.replace(secrets, account_tokens={} if token is None else {ACCOUNT: Secret(token)})
        path = tmp_path / "inboxd.sqlite3"
        async with (
            app.run_daemon(changed, known, path, on_give_up=pytest.fail) as daemon,
            aiohttp.ClientSession() as session,
        ):
            yield Client(session, daemon.public_url, daemon.admin_url, path)

    return running


async def told(client: Client, account_id: str = ACCOUNT) -> list[Json]:
    """The data of the events of an account, which the type can read."""
    page = await client.get(f"/api/events?types=account.updated&accountId={account_id}")
    for event in page["events"]:
        msgspec.convert(event["data"], UPDATED.data)
    return [event["data"] for event in page["events"]]


async def changes(client: Client, account_id: str = ACCOUNT) -> list[str]:
    return [data["change"] for data in await told(client, account_id)]


async def recorded(accounts: AccountManager) -> list[Json]:
    """The data of all events that a part without API has recorded."""
    rows = await accounts._store._database.read("SELECT data FROM events ORDER BY seq")
    return [json.loads(data) for (data,) in rows]


async def subscribed(client: Client) -> None:
    async def known() -> bool:
        return (await client.get(f"/api/accounts/{ACCOUNT}"))["subscribedFields"] is not None

    await eventually(known)


async def test_an_account_is_added_once_and_removed(run: Run, graph: Simulated) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)
    async with run() as client:
        await client.send("POST", "/api/accounts", {"token": "other-token", "name": "second"}, status=201)
        await client.send("POST", "/api/accounts", {"token": "other-token"}, status=201)
        (added,) = await told(client, OTHER)
        assert (added["change"], added["state"], added["username"]) == ("added", "active", "the.shop")
        assert "other-token" not in json.dumps(added)
    async with run() as client:
        assert await changes(client) == ["added"], "a restart is no news"
        await client.send("DELETE", f"/api/accounts/{OTHER}", status=204)
        assert await changes(client, OTHER) == ["added", "removed"]


async def test_a_token_that_ended_is_told_with_the_reason_and_that_it_works_again(run: Run, graph: Simulated) -> None:
    async with run() as client:
        await subscribed(client)
        graph[0].behaviour = Behaviour(latency_ms=1, token_expired=True)
        for _ in range(2):
            await client.send("POST", f"/api/accounts/{ACCOUNT}/check")
        graph[0].behaviour = Behaviour(latency_ms=1)
        await client.send("POST", "/api/accounts", {"token": TOKEN}, status=201)
        found = await told(client)
        assert [data["change"] for data in found] == ["added", "needs_login", "works_again"]
        assert (found[1]["state"], found[2]["state"], found[2]["reason"]) == ("needs_login", "active", None)
        assert "190" in found[1]["reason"]


async def test_an_account_without_a_token_needs_one_until_it_is_given(run: Run) -> None:
    async with run(token=None) as client:
        path = client.database
        (added,) = await told(client)
        assert (added["change"], added["state"]) == ("added", "needs_login")
        assert "inboxd account add" in added["reason"]
    async with run(token=None) as client:
        assert await changes(client) == ["added"], "a restart is no news"
    async with run() as client:
        assert await changes(client) == ["added", "works_again"]
    (path.parent / "storage.key").unlink()
    async with run(token=None) as client:
        assert (await client.get(f"/api/accounts/{ACCOUNT}"))["state"] == "needs_login"
        assert await changes(client) == ["added", "works_again"], "with its key the next start is in order again"


async def test_who_removed_the_app_is_told_once(run: Run) -> None:
    async with run() as client:
        await subscribed(client)
        for _ in range(2):
            await callback(client, "deauthorize", signed(ACCOUNT))
        found = await told(client)
        assert [data["change"] for data in found] == ["added", "deauthorized"]
        assert (found[1]["state"], found[1]["username"]) == ("deauthorized", None)


async def test_a_log_of_ids_has_no_name_and_no_reason(run: Run, graph: Simulated) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)
    async with run(ids_only=True) as client:
        await client.send("POST", "/api/accounts", {"token": "other-token", "name": "second"}, status=201)
        graph[0].behaviour = Behaviour(latency_ms=1, token_expired=True)
        await client.send("POST", f"/api/accounts/{OTHER}/check")
        found = await told(client, OTHER)
        assert [(data["change"], data["username"], data["reason"]) for data in found] == [
            ("added", None, None),
            ("needs_login", None, None),
        ]


async def test_a_refreshed_token_is_told_with_its_end(graph: Simulated, tmp_path: Path) -> None:
    clock = ManualClock()
    async with process(tmp_path, graph[1], clock) as accounts:
        clock.now += 2 * DAY_MS
        await TokenRefresher(accounts.served[ACCOUNT], accounts, clock, instruments()).look()
        added, refreshed = await recorded(accounts)
        assert (added["change"], refreshed["change"]) == ("added", "token_refreshed")
        assert (added["tokenExpiresAt"], refreshed["tokenExpiresAt"] is None) == (None, False)


async def test_a_lost_subscription_is_told_since_when_and_that_it_is_restored(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        monitor = SubscriptionMonitor(accounts.served[ACCOUNT], accounts, clock, instruments())
        await monitor.look()
        seen_at = clock.now
        server.subscriptions.clear()
        clock.now += 3_600_000
        await monitor.look()
        await monitor.look()
        _, lost, restored = await recorded(accounts)
        assert (lost["change"], restored["change"]) == ("subscription_lost", "subscription_restored")
        assert lost["subscriptionSeenAt"] == iso_utc(seen_at)
        assert restored["subscriptionSeenAt"] == iso_utc(seen_at + 3_600_000)


async def test_a_subscription_that_cannot_be_restored_is_told_as_lost_once(
    graph: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = graph
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        metrics = instruments()
        monitor = SubscriptionMonitor(managed, accounts, clock, metrics)
        await monitor.look()
        server.subscriptions.clear()

        async def ignored(*_arguments: object) -> None:
            """Meta answers, and does nothing."""

        monkeypatch.setattr(managed.graph, "subscribe", ignored)
        for _ in range(3):
            clock.now += 3_600_000
            await monitor.look()
        assert [data["change"] for data in await recorded(accounts)] == ["added", "subscription_lost"]
        assert metrics.subscriptions_lost._value.get() == 1


async def test_what_could_not_be_stored_is_told_when_it_is(
    graph: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, graph[1], ManualClock()) as accounts:
        managed, save = accounts.served[ACCOUNT], accounts._store.save

        async def refuse(*_arguments: object) -> None:
            msg = "the disk is full"
            raise StorageUnavailableError(msg)

        monkeypatch.setattr(accounts._store, "save", refuse)
        with pytest.raises(StorageUnavailableError):
            await accounts.update(managed, cause=AccountChange.TOKEN_REFUSED, reason="refused")
        monkeypatch.setattr(accounts._store, "save", save)
        assert [data["change"] for data in await recorded(accounts)] == ["added"]
        await accounts.update(managed, cause=AccountChange.TOKEN_REFUSED, reason="refused")
        assert [data["change"] for data in await recorded(accounts)] == ["added", "needs_login"]


async def test_what_is_chosen_about_an_account_is_kept_and_told_once(run: Run, graph: Simulated) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)
    path = f"/api/accounts/{OTHER}"
    async with run() as client:
        await client.send("POST", "/api/accounts", {"token": "other-token"}, status=201)
        shown = await client.get(path)
        assert (shown["humanAgent"], shown["comments"], shown["humanAgentRefusedAt"]) == (False, False, None)

        for _ in range(2):
            shown = await client.send("PATCH", path, {"humanAgent": True})
            assert (shown["humanAgent"], shown["comments"]) == (True, False)
        shown = await client.send("PATCH", path, {"comments": True})
        assert (shown["humanAgent"], shown["comments"]) == (True, True)
        assert await client.send("PATCH", path, {}) == shown

        found = [data for data in await told(client, OTHER) if data["change"] == "settings_changed"]
        assert [(data["humanAgent"], data["comments"]) for data in found] == [(True, False), (True, True)]
    async with run() as client:
        shown = await client.get(path)
        assert (shown["humanAgent"], shown["comments"]) == (True, True)
        shown = await client.send("PATCH", path, {"comments": False})
        assert (shown["humanAgent"], shown["comments"]) == (True, False)
        for wrong in ({"humanAgent": "yes"}, {"comments": None}, {"token": "x"}):
            await client.send("PATCH", path, wrong, status=422)
        await client.send("PATCH", "/api/accounts/1", {"comments": True}, status=404)


async def test_the_configuration_decides_about_its_accounts(
    settings: Settings, secrets: Secrets, tmp_path: Path, graph: Simulated
) -> None:
    del graph
    path = tmp_path / "inboxd.sqlite3"
    for chosen in (True, False):
        accounts = tuple(msgspec.structs.replace(one, human_agent=chosen, comments=chosen) for one in settings.accounts)
        changed = msgspec.structs.replace(settings, accounts=accounts)
        async with (
            app.run_daemon(changed, secrets, path, on_give_up=pytest.fail) as daemon,
            aiohttp.ClientSession() as session,
        ):
            client = Client(session, daemon.public_url, daemon.admin_url, path)
            refused = await client.send("PATCH", f"/api/accounts/{ACCOUNT}", {"humanAgent": not chosen}, status=409)
            assert "[[accounts]]" in refused["detail"]
            shown = await client.get(f"/api/accounts/{ACCOUNT}")
            assert (shown["humanAgent"], shown["comments"]) == (chosen, chosen)
            assert (await changes(client)).count("settings_changed") == (0 if chosen else 1)


async def test_a_refused_human_agent_is_told_and_forgotten_when_it_is_switched_on_again(
    graph: Simulated, tmp_path: Path
) -> None:
    """The feature may have been granted meanwhile."""
    async with process(tmp_path, graph[1], ManualClock(), configured=False) as accounts:
        owner = Owner(ACCOUNT, None, None, "shop")
        managed = await accounts.add(Secret(TOKEN), LoginType.INSTAGRAM, owner, name="")
        await choose(accounts, managed, AccountSettings(human_agent=True))
        await accounts.update(managed, human_agent_refused_at=7)
        refused = [managed.account.human_agent_refused_at]
        for wanted in (AccountSettings(comments=True), AccountSettings(human_agent=True)):
            await choose(accounts, managed, wanted)
            refused.append(managed.account.human_agent_refused_at)
        assert refused == [7, 7, None]
        found = [data["change"] for data in await recorded(accounts)]
        assert found == ["added", "settings_changed", "human_agent_refused", "settings_changed"]
