"""What accounts do when Meta's answers about them are absurd: nothing raises but GraphError, and no token is lost."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from inboxd.accounts.check import AccountCheck
from inboxd.accounts.resources import AccountResource, BudgetResource
from inboxd.accounts.subscription_monitor import SubscriptionMonitor
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.domain.account import Account, LoginType
from inboxd.meta.graph_errors import GraphError
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.accounts.test_manager import DAY_MS, process, token_of
from tests.hostile import ABSENT, ERROR, ME, ODD, PROFILE, HostileGraph, Json, encoded, replaced
from tests.support import ACCOUNT, ANA, ManualClock, TravelClock, instruments, meta, no_message

SEED = 20261124
Hostile = tuple[HostileGraph, str]


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    server = HostileGraph()
    async with serving(server.application()) as url:
        yield server, url


def shown(account: Account) -> str:
    return AccountResource.of(account).updated_at


@pytest.mark.parametrize("value", [value for value in ODD if value is not ABSENT] + [5_184_000, "5184000", 5_184_000.0])
async def test_a_new_token_is_kept_whatever_is_said_of_its_end(hostile: Hostile, tmp_path: Path, value: object) -> None:
    server, url = hostile
    clock = ManualClock()
    server.answers["refresh_access_token"] = encoded({"access_token": "the-new-one", "expires_in": value})
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        keeper = TokenRefresher(managed, accounts, clock, instruments())
        clock.now += 2 * DAY_MS
        await keeper.look()
        assert token_of(accounts) == "the-new-one"
        assert shown(managed.account)
        assert managed.account.callable
        assert (managed.account.refresh_due_at() or 0) > clock.now, "not again at once"
        if str(value) in {"5184000", "5184000.0"}:
            assert managed.account.token_expires_at == clock.now + 5_184_000_000
    async with process(tmp_path, url, clock) as accounts:
        assert token_of(accounts) == "the-new-one", "and it is durable"


@pytest.mark.parametrize("value", ODD)
async def test_what_cannot_be_a_token_does_not_replace_one(hostile: Hostile, tmp_path: Path, value: object) -> None:
    server, url = hostile
    clock = ManualClock()
    answer = replaced({"access_token": "", "expires_in": 5_184_000}, "access_token", value)
    server.answers["refresh_access_token"] = encoded(answer)
    async with process(tmp_path, url, clock) as accounts:
        before = token_of(accounts)
        clock.now += 2 * DAY_MS
        await TokenRefresher(accounts.served[ACCOUNT], accounts, clock, instruments()).look()
        found = token_of(accounts)
        assert found == before or (found is not None and found.isprintable() and found.isascii())


async def test_no_value_about_an_account_raises_anything_but_graph_errors(hostile: Hostile, tmp_path: Path) -> None:
    server, url = hostile
    clock = ManualClock()
    chance = random.Random(SEED)
    answers: list[tuple[str, Json]] = [("me", replaced(ME, name, value)) for name in ME for value in ODD]
    answers += [("me", {"data": value}) for value in ODD] + [("me", {"data": [value]}) for value in ODD]
    answers += [("subscribed_apps", {"data": value}) for value in ODD]
    for name in ("subscribed_fields", "id"):
        usual = {"subscribed_fields": ["messages"], "id": "1"}
        answers += [("subscribed_apps", {"data": [replaced(usual, name, value)]}) for value in ODD]
    answers += [("subscribed_apps", {"data": [{"subscribed_fields": [value, "messages"]}]}) for value in ODD]
    answers += [("conversations", {"data": value}) for value in ODD]
    chance.shuffle(answers)
    async with process(tmp_path, url, clock) as accounts:
        managed = accounts.served[ACCOUNT]
        check, keeper = (
            AccountCheck(accounts, clock, no_message),
            SubscriptionMonitor(managed, accounts, clock, instruments()),
        )
        for path, answer in answers:
            server.answers = {path: encoded(answer)}
            clock.now += 1000  # conversations are read at most twice in a second
            assert await check.check(managed)
            await keeper.look()
            assert shown(managed.account)
            assert managed.account.id == ACCOUNT
        server.answers = {}
        findings = await check.check(managed)
        assert findings[0].outcome.value == "ok"


@pytest.mark.parametrize("login_type_field", ["instagram_business_account", "id"])
async def test_no_value_about_a_page_raises_anything_but_graph_errors(
    hostile: Hostile, database: Database, login_type_field: str
) -> None:
    server, url = hostile
    usual = {"id": "1", "instagram_business_account": {"id": ACCOUNT, "username": "the.shop"}}
    async with meta(url, database) as platform:
        page = await platform.account(login_type=LoginType.FACEBOOK)
        for value in ODD:
            server.answers["me"] = encoded(replaced(usual, login_type_field, value))
            try:
                owner = await page.owner()
            except GraphError:
                continue
            assert owner.id.isdigit()


async def test_no_value_in_an_error_raises_anything_but_graph_errors(hostile: Hostile, database: Database) -> None:
    server, url = hostile
    errors: list[Json] = [{"error": replaced(ERROR, name, value)} for name in ERROR for value in ODD]
    errors += [{"error": value} for value in ODD]
    errors += [replaced({"error_type": "OAuthException", "code": 400}, name, value) for name in ("error_type", "code")
               for value in ODD]  # fmt: skip
    clock = TravelClock()
    async with meta(url, database, clock) as platform:
        account = await platform.account()
        for error in errors:
            for status in (200, 400, 500):
                server.answers[ANA] = lambda _request, error=error, status=status: web.Response(  # type: ignore[misc]
                    status=status, body=encoded(error), content_type="application/json"
                )
                account.forgive()
                platform.client.circuit.reset()
                account.budget.throttle.reset()
                platform.traffic.app.reset()
                with pytest.raises(GraphError) as caught:
                    await account.user_profile(ANA)
                assert caught.value.code is None or 0 <= caught.value.code < 2**31
                assert str(caught.value).isprintable()
        server.answers[ANA] = encoded(PROFILE)
        account.forgive()
        platform.client.circuit.reset()
        assert (await account.user_profile(ANA)).username == "ana_x"


async def test_no_header_stops_an_account_for_longer_than_meta_ever_does(hostile: Hostile, database: Database) -> None:
    server, url = hostile
    texts = ["1" * 30, "-1", "1e300", "NaN", "Infinity", "x", '"x"', "[" * 4000, "null", "true", "[[]]", "9" * 5000]
    headers = [{name: text} for name in ("X-App-Usage", "X-Business-Use-Case-Usage", "Retry-After") for text in texts]
    for text in texts:
        for member in ("call_count", "total_time", "estimated_time_to_regain_access"):
            headers.append({"X-App-Usage": f'{{"{member}":{text}}}'})
            headers.append({"X-Business-Use-Case-Usage": f'{{"1":[{{"{member}":{text},"type":"instagram"}}]}}'})
    clock = TravelClock()
    async with meta(url, database, clock) as platform:
        account = await platform.account()
        for fields in headers:
            server.answers[ANA] = lambda _request, fields=fields: web.json_response(PROFILE, headers=fields)  # type: ignore[misc]
            assert (await account.user_profile(ANA)).username == "ana_x"
            report = account.budget.report()
            assert BudgetResource.of(ACCOUNT, report).slowed_by <= 50
            stopped_s = account.budget.throttle.stopped_s() + platform.traffic.app.stopped_s()
            assert stopped_s <= 60, fields
            account.budget.throttle.reset()
            platform.traffic.app.reset()
