"""Accounts and their tokens over restarts and months, against the simulated Graph API."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from inboxd.accounts.check import AccountCheck, CheckOutcome, CheckResult
from inboxd.accounts.feature import open_manager
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.metrics import AccountMetrics
from inboxd.accounts.subscription_monitor import SubscriptionMonitor
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.config.schema import AccountSettings, BudgetSettings, Instagram, Settings
from inboxd.config.secrets import Secrets
from inboxd.domain.account import AccountState, LoginType
from inboxd.domain.retry import FailureAction
from inboxd.meta.graph_errors import GraphError
from inboxd.options import account_options
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import ConfigError, StorageUnavailableError
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import Behaviour, GraphServer, Token
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry

from tests.support import ACCOUNT, ANA, T0, TOKEN, ManualClock, TravelClock, event_log, instruments, no_message

PAGE = "100200300400500"
DAY_MS = 86_400_000
Simulated = tuple[GraphServer, str]
KEY = "bm90IGEgc2VjcmV0LCBidXQgMzIgYnl0ZXMgbG9uZyE="


@asynccontextmanager
async def process(
    folder: Path,
    url: str,
    clock: Clock,
    *,
    token: str | None = TOKEN,
    configured: bool = True,
    keys: tuple[str, ...] = (),
) -> AsyncIterator[AccountManager]:
    """The accounts as one process has them."""
    settings = Settings(
        instagram=Instagram(graph_url=url, facebook_graph_url=url),
        budget=BudgetSettings(calls_per_hour=10_000, calls_per_second=1_000_000),
        accounts=(AccountSettings(id=ACCOUNT, name="shop"),) if configured else (),
    )
    secrets = Secrets(
        account_tokens={} if token is None else {ACCOUNT: Secret(token)},
        storage_keys=tuple(Secret(key) for key in keys),
    )
    options = account_options(settings, secrets)
    async with Database(folder / "inboxd.sqlite3") as database, AsyncExitStack() as stack:
        accounts = await open_manager(stack, database, clock, options, event_log(clock))
        await accounts.load(options.configured)
        yield accounts


def outcomes(findings: list[CheckResult]) -> dict[str, CheckOutcome]:
    return {finding.check: finding.outcome for finding in findings}


def token_of(accounts: AccountManager) -> str | None:
    token = accounts.served[ACCOUNT].graph.token
    return None if token is None else token.reveal()


async def test_adding_finds_out_who_it_is_subscribes_and_says_what_is_missing(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        managed, findings = await AccountCheck(accounts, clock, no_message).add(Secret(TOKEN), LoginType.INSTAGRAM)

        account = managed.account
        assert (account.id, account.app_scoped_id, account.username) == (ACCOUNT, f"9{ACCOUNT}", "the.shop")
        assert "messages" in server.subscriptions[ACCOUNT]
        assert outcomes(findings) == {
            "token": CheckOutcome.OK,
            "messages": CheckOutcome.OK,
            "subscription": CheckOutcome.OK,
            "webhooks": CheckOutcome.UNKNOWN,
        }
        assert accounts.aliases == {ACCOUNT: ACCOUNT}

        server.behaviour = Behaviour(latency_ms=0, tools_off=True)
        findings = await AccountCheck(accounts, clock, no_message).check(managed)
        (missing,) = [finding for finding in findings if finding.outcome is CheckOutcome.MISSING]
        assert missing.check == "messages"
        assert "Connected tools" in (missing.remedy or "")

    async with process(tmp_path, url, clock, configured=False) as accounts:
        assert token_of(accounts) == TOKEN, "it is served after a restart too"
        await accounts.remove(accounts.served[ACCOUNT])
    async with process(tmp_path, url, clock, configured=False) as accounts:
        assert accounts.served == {}


async def test_a_page_token_serves_the_linked_account_under_both_ids(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    server.tokens["page-token"] = Token(ACCOUNT, page_id=PAGE)
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        managed, findings = await AccountCheck(accounts, clock, no_message).add(
            Secret("page-token"), LoginType.FACEBOOK
        )
        assert (managed.account.id, managed.account.page_id) == (ACCOUNT, PAGE)
        assert outcomes(findings)["subscription"] is CheckOutcome.OK
        assert accounts.aliases == {ACCOUNT: ACCOUNT, PAGE: ACCOUNT}
        assert managed.account.refresh_due_at() is None, "Page tokens do not end"


async def test_tokens_are_encrypted_at_rest_with_a_key_that_nobody_else_can_read(
    graph: Simulated, tmp_path: Path
) -> None:
    async with process(tmp_path, graph[1], ManualClock()):
        pass
    for path in tmp_path.iterdir():
        assert TOKEN.encode() not in path.read_bytes()
    assert (tmp_path / "storage.key").stat().st_mode & 0o777 == 0o600


async def test_keys_are_rotated_and_a_lost_one_is_told(graph: Simulated, tmp_path: Path) -> None:
    new_key = "YW5vdGhlciBrZXksIGFsc28gMzIgYnl0ZXMgbG9uZy4="
    clock = ManualClock()
    async with process(tmp_path, graph[1], clock, keys=(KEY,), configured=False) as accounts:
        await AccountCheck(accounts, clock, no_message).add(Secret(TOKEN), LoginType.INSTAGRAM)
    async with process(tmp_path, graph[1], clock, keys=(new_key, KEY), configured=False) as accounts:
        assert token_of(accounts) == TOKEN
    async with process(tmp_path, graph[1], clock, keys=(new_key,), configured=False) as accounts:
        assert token_of(accounts) == TOKEN
    async with process(tmp_path, graph[1], clock, keys=(KEY,), configured=False) as accounts:
        assert token_of(accounts) is None
        assert accounts.served[ACCOUNT].account.state is AccountState.NEEDS_LOGIN
    async with process(tmp_path, graph[1], clock, keys=(new_key,), configured=False) as accounts:
        assert token_of(accounts) == TOKEN, "a start with the wrong key loses nothing"
        assert accounts.served[ACCOUNT].account.callable
    with pytest.raises(ConfigError, match="storage_key is not a Fernet key"):
        async with process(tmp_path, graph[1], clock, keys=("short",)):
            pass


async def test_a_refreshed_token_wins_over_the_configured_one_until_that_is_a_new_one(
    graph: Simulated, tmp_path: Path
) -> None:
    server, url = graph
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        await accounts.refreshed(managed, await managed.graph.refresh_token())
        refreshed = token_of(accounts)
        assert refreshed != TOKEN
    async with process(tmp_path, url, clock) as accounts:
        assert token_of(accounts) == refreshed
    server.tokens["new-login"] = Token(ACCOUNT)
    async with process(tmp_path, url, clock, token="new-login") as accounts:
        assert token_of(accounts) == "new-login"
        assert accounts.served[ACCOUNT].account.token_expires_at is None
    async with process(tmp_path, url, clock, configured=False) as accounts:
        assert accounts.served == {}, "it no longer stands in the configuration"


async def test_a_dead_token_needs_a_login_also_after_a_restart_and_a_new_one_mends_it(
    graph: Simulated, tmp_path: Path
) -> None:
    server, url = graph
    clock = ManualClock()
    del server.tokens[TOKEN]
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        found = await AccountCheck(accounts, clock, no_message).check(managed)
        assert outcomes(found) == {"token": CheckOutcome.MISSING}
        assert managed.account.state is AccountState.NEEDS_LOGIN
    server.calls.clear()
    clock.now += 20_000
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        assert not managed.account.callable

        server.tokens["new-login"] = Token(ACCOUNT)
        told: list[bool] = []
        managed.listeners.append(lambda: told.append(True))
        await AccountCheck(accounts, clock, no_message).add(Secret("new-login"), LoginType.INSTAGRAM)
        assert accounts.served[ACCOUNT].account.callable
        assert told, "whoever waits is woken"
        assert (await managed.graph.user_profile(ANA)).username


async def test_a_token_is_kept_alive_for_a_year(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    clock = ManualClock()
    server._now = lambda: clock.now / 1000
    server.tokens[TOKEN] = Token(ACCOUNT, issued_at=T0 / 1000)
    server.behaviour = Behaviour(latency_ms=0)
    refreshes = []
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        keeper = TokenRefresher(managed, accounts, clock, instruments())
        for _ in range(365):
            before = token_of(accounts)
            await keeper.look()
            if token_of(accounts) != before:
                refreshes.append((clock.now - T0) // DAY_MS)
            assert managed.account.state is AccountState.ACTIVE
            clock.now += DAY_MS
    assert refreshes[:3] == [1, 31, 61]
    assert len(refreshes) == 13


async def test_a_refresh_that_fails_is_tried_daily_warned_of_and_ends_with_the_token(
    graph: Simulated, tmp_path: Path
) -> None:
    server, url = graph
    clock = ManualClock()
    server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=1)
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        managed.account = msgspec.structs.replace(managed.account, token_expires_at=T0 + 40 * DAY_MS)
        keeper = TokenRefresher(managed, accounts, clock, instruments())
        tries: list[int] = []
        warned = 0
        while managed.account.callable:
            before = len(server.calls)
            await keeper.look()
            tries += [(clock.now - T0) // DAY_MS] * (len(server.calls) > before)
            warned += keeper._warned_at == clock.now
            clock.now += 3_600_000
        assert tries == list(range(10, 40))
        assert warned == 7
        assert "expired" in (managed.account.reason or "")


async def test_an_outage_does_not_put_a_refresh_off_for_a_day(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        keeper = TokenRefresher(accounts.served[ACCOUNT], accounts, clock, instruments())
        clock.now += 2 * DAY_MS
        server.behaviour = Behaviour(latency_ms=0, outage=True)
        await keeper.look()
        assert token_of(accounts) == TOKEN
        server.behaviour = Behaviour(latency_ms=0)
        await keeper.look()
        assert token_of(accounts) == TOKEN, "not at once either: the host may answer all but this"
        assert 0 < keeper._rest_s() <= 600
        clock.now += 600_000
        await keeper.look()
        assert token_of(accounts) != TOKEN


async def test_a_lost_subscription_is_noticed_within_the_hour_and_made_again(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    clock = ManualClock()
    metrics = AccountMetrics(CollectorRegistry())
    async with process(tmp_path, url, clock) as accounts:
        keeper = SubscriptionMonitor(accounts.served[ACCOUNT], accounts, clock, metrics)
        assert keeper._rest_s() <= 0
        await keeper.look()
        assert "messages" in server.subscriptions[ACCOUNT]
        assert 0 < keeper._rest_s() <= 3600

        server.subscriptions.clear()
        clock.now += 3_600_000
        assert keeper._rest_s() <= 0
        await keeper.look()
        assert "messages" in server.subscriptions[ACCOUNT]
        assert metrics.subscriptions_lost._value.get() == 1


async def test_who_removed_the_app_is_found_by_any_id_and_stays_stopped(graph: Simulated, tmp_path: Path) -> None:
    clock = ManualClock()
    async with process(tmp_path, graph[1], clock) as accounts:
        managed = accounts.served[ACCOUNT]
        await AccountCheck(accounts, clock, no_message).check(managed)
        assert accounts.find(f"9{ACCOUNT}") is managed
        assert accounts.find(ACCOUNT) is managed
        assert accounts.find("1") is None
        await accounts.app_removed(managed, "removed")
        assert token_of(accounts) is None
    async with process(tmp_path, graph[1], clock) as accounts:
        managed = accounts.served[ACCOUNT]
        assert managed.account.state is AccountState.DEAUTHORIZED
        assert token_of(accounts) is None, "the configured token is the one that was taken back"


async def test_a_refreshed_token_is_not_forgotten_while_the_disk_refuses(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        keeper = TokenRefresher(managed, accounts, clock, instruments())
        save = accounts._store.save

        async def refuse(*_stored: object) -> None:
            msg = "the disk is full"
            raise StorageUnavailableError(msg)

        clock.now += 2 * DAY_MS
        accounts._store.save = refuse  # type: ignore[assignment,method-assign]
        with pytest.raises(StorageUnavailableError):
            await keeper.look()
        assert token_of(accounts) == TOKEN, "not used before it is durable"
        assert TOKEN not in server.tokens

        accounts._store.save = save  # type: ignore[method-assign]
        await keeper.look()
        assert token_of(accounts) in server.tokens


async def test_another_product_for_the_same_account_is_another_host(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    server.tokens["page-token"] = Token(ACCOUNT, page_id=PAGE)
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        await AccountCheck(accounts, clock, no_message).add(Secret(TOKEN), LoginType.INSTAGRAM, name="shop")
        clock.now += 20_000
        managed, _ = await AccountCheck(accounts, clock, no_message).add(Secret("page-token"), LoginType.FACEBOOK)
        assert (managed.account.login_type, managed.account.name) == (LoginType.FACEBOOK, "shop")
        assert (await managed.graph.owner()).page_id == PAGE
        assert list(accounts.served) == [ACCOUNT]


async def test_a_permission_that_is_back_is_noticed_after_a_restart_too(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    clock = ManualClock()
    server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=10)
    async with process(tmp_path, url, clock) as accounts:
        with pytest.raises(GraphError):
            await accounts.served[ACCOUNT].graph.user_profile(ANA)
        assert accounts.served[ACCOUNT].account.state is AccountState.LACKS_PERMISSION
    server.behaviour = Behaviour(latency_ms=0)
    async with process(tmp_path, url, clock) as accounts:
        await accounts.served[ACCOUNT].graph.user_profile(ANA)
        assert accounts.served[ACCOUNT].account.reason is None


async def test_a_call_before_a_restart_counts_from_the_latest_moment_at_which_it_can_have_ended(
    graph: Simulated, tmp_path: Path
) -> None:
    _, url = graph
    clock = TravelClock()
    async with process(tmp_path, url, clock) as accounts:
        await accounts.served[ACCOUNT].graph.user_profile(ANA)
    made_at = clock.now_ms()
    await clock.travel(60)
    async with process(tmp_path, url, clock) as accounts:
        resets_at = accounts.served[ACCOUNT].graph.budget.report().resets_at
    longest_ms = (10 + 5) * 1000  # the time that a call is given, and what may lie between its record and its start
    assert resets_at == pytest.approx(made_at + longest_ms + 3_600_000, abs=2)


async def test_a_new_reason_is_told(graph: Simulated, tmp_path: Path) -> None:
    """Whoever has granted one thing and lacks another one sees which."""
    async with process(tmp_path, graph[1], ManualClock()) as accounts:
        for reason in ("one thing", "another one"):
            await accounts.verdict(ACCOUNT, GraphError(reason, FailureAction.LACKS_PERMISSION))
            assert accounts.served[ACCOUNT].account.reason == reason
    async with process(tmp_path, graph[1], ManualClock()) as accounts:
        assert accounts.served[ACCOUNT].account.reason == "another one"


async def test_new_app_secrets_are_used_for_new_accounts_too(graph: Simulated, tmp_path: Path) -> None:
    server, url = graph
    server._app_secret = "a new one"
    server.behaviour = Behaviour(latency_ms=0, require_proof=True)
    async with process(tmp_path, url, ManualClock(), configured=False) as accounts:
        accounts.use_app_secrets([Secret("an old one")])
        with pytest.raises(GraphError, match="appsecret_proof"):
            await accounts.owner_of(Secret(TOKEN), LoginType.INSTAGRAM)
        accounts.use_app_secrets([Secret("a new one")])
        assert (await accounts.owner_of(Secret(TOKEN), LoginType.INSTAGRAM)).id == ACCOUNT
