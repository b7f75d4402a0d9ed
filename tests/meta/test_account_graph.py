"""How an account's calls heed what Meta answers: throttling, dead tokens, proofs, doubt."""

import asyncio

import pytest
from aiohttp import web
from inboxd.domain.account import LoginType
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import MANY_PEOPLE
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.owner import Owner
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import Behaviour, GraphServer, Token
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, APP_SECRET, OTHER_APP_SECRET, TOKEN, TravelClock, eventually, meta, slow_disk

OTHER = "17841400000000002"
PAGE = "100200300400500"
CALM = Behaviour(latency_ms=0)
Simulated = tuple[GraphServer, str]


async def test_app_wide_throttling_stops_all_accounts_and_grows(graph: Simulated, database: Database) -> None:
    server, url = graph
    server.tokens["other-token"] = Token(OTHER)
    server.behaviour = Behaviour(latency_ms=0, throttled=True)
    clock = TravelClock()
    async with meta(url, database, clock) as platform:
        one, other = await platform.account(), await platform.account("other-token", OTHER)
        pauses = []
        for _ in range(4):
            with pytest.raises(GraphError, match="Graph error 4"):
                await one.user_profile(ANA)
            report = other.budget.report()
            assert report.paused_until is not None
            pauses.append((report.paused_until - clock.now_ms()) // 1000)
            await clock.travel(pauses[-1])
        assert pauses == [60, 120, 240, 480]

        server.behaviour = CALM
        await other.user_profile(ANA)
        assert platform.traffic.app.strikes == 0
        assert await platform.ledger.stops() == {}


async def test_throttling_of_one_account_lets_the_others_go_on(graph: Simulated, database: Database) -> None:
    server, url = graph
    server.tokens["other-token"] = Token(OTHER)
    server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=80002)
    async with meta(url, database, TravelClock()) as platform:
        one, other = await platform.account(), await platform.account("other-token", OTHER)
        with pytest.raises(GraphError):
            await one.user_profile(ANA)
        assert one.budget.report().paused_until is not None
        server.behaviour = CALM
        assert (await other.user_profile(ANA)).username


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-Business-Use-Case-Usage": '{"1":[{"call_count":100,"estimated_time_to_regain_access":17}]}'}, 17 * 60),
        ({"X-Business-Use-Case-Usage": '{"1":[{"call_count":96,"estimated_time_to_regain_access":0}]}'}, 60),
        ({"X-App-Usage": '{"call_count":95}'}, 60),
        ({"Retry-After": "90"}, 90),
    ],
)
async def test_headers_stop_calls_also_when_the_call_succeeded(
    database: Database, headers: dict[str, str], seconds: int
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"username": "ana_x"}, headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    clock = TravelClock()
    async with serving(app) as url, meta(url, database, clock) as platform:
        account = await platform.account()
        await account.user_profile(ANA)
        assert account.budget.report().paused_until == pytest.approx(clock.now_ms() + seconds * 1000, abs=2)


async def test_being_blocked_for_policy_is_waited_for_long(graph: Simulated, database: Database) -> None:
    server, url = graph
    server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=368)
    clock = TravelClock()
    async with meta(url, database, clock) as platform:
        account = await platform.account()
        pauses = []
        for _ in range(7):
            with pytest.raises(GraphError):
                await account.user_profile(ANA)
            pauses.append(account.budget.throttle.stopped_s() / 3600)
            await clock.travel(pauses[-1] * 3600)
        assert pauses == [1, 2, 4, 8, 16, 24, 24]


async def test_a_dead_token_stops_all_calls_until_there_is_a_new_one(graph: Simulated, database: Database) -> None:
    server, url = graph
    server.behaviour = Behaviour(latency_ms=0, token_expired=True)
    async with meta(url, database) as platform:
        account = await platform.account()
        for _ in range(3):
            with pytest.raises(GraphError) as caught:
                await account.user_profile(ANA)
            assert caught.value.action is FailureAction.NEEDS_LOGIN
        assert len(server.calls) == 1
        assert [error and error.subcode for error in platform.verdicts] == [463]

        server.behaviour = CALM
        server.tokens["new-token"] = Token(ACCOUNT)
        account.token = Secret("new-token")
        assert (await account.user_profile(ANA)).username


async def test_many_people_who_do_not_exist_are_trouble_with_the_account(graph: Simulated, database: Database) -> None:
    server, url = graph
    server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=100, error_subcode=33)
    clock = TravelClock()
    async with meta(url, database, clock) as platform:
        account = await platform.account()
        actions = []
        for number in range(MANY_PEOPLE):
            with pytest.raises(GraphError) as caught:
                await account.user_profile(igsid(number))
            actions.append(caught.value.action)
        assert actions == [FailureAction.RETRY_LATER] * (MANY_PEOPLE - 1) + [FailureAction.LACKS_PERMISSION]
        assert account.profiles_throttle.stopped_s() == 900

        await clock.travel(900)
        server.behaviour = CALM
        await account.user_profile(ANA)
        assert account.profiles_throttle.strikes == 0
        assert platform.verdicts[-1] is None


async def test_a_missing_permission_for_profiles_does_not_stop_the_other_calls(
    graph: Simulated, database: Database
) -> None:
    server, url = graph
    server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=10)
    async with meta(url, database, TravelClock()) as platform:
        account = await platform.account()
        with pytest.raises(GraphError):
            await account.user_profile(ANA)
        assert account.profiles_throttle.stopped_s() == 3600
        server.behaviour = CALM
        assert (await account.owner()).id == ACCOUNT


@pytest.mark.parametrize("required", [False, True])
async def test_the_secret_that_proves_the_token_is_found(database: Database, required: bool) -> None:  # noqa: FBT001
    server = GraphServer({TOKEN: ACCOUNT}, app_secret=APP_SECRET)
    server.behaviour = Behaviour(latency_ms=0, require_proof=required)
    async with serving(server.application()) as url, meta(url, database) as platform:
        account = await platform.account(app_secrets=[OTHER_APP_SECRET, APP_SECRET])
        assert (await account.user_profile(ANA)).username
        assert (await account.user_profile(ANA)).username
        assert len(server.calls) == 3, "the wrong one is tried once"


async def test_a_proof_that_nobody_can_make_blames_the_account_and_not_the_person(database: Database) -> None:
    server = GraphServer({TOKEN: ACCOUNT}, app_secret="yet another secret")
    server.behaviour = Behaviour(latency_ms=0, require_proof=True)
    async with serving(server.application()) as url, meta(url, database) as platform:
        account = await platform.account(app_secrets=[APP_SECRET])
        with pytest.raises(GraphError, match="appsecret_proof") as caught:
            await account.user_profile(ANA)
        assert caught.value.action is FailureAction.LACKS_PERMISSION


async def test_both_login_types_tell_whose_a_token_is(graph: Simulated, database: Database) -> None:
    server, url = graph
    server.tokens["page-token"] = Token(ACCOUNT, page_id=PAGE)
    async with meta(url, database) as platform:
        assert await (await platform.account()).owner() == Owner(ACCOUNT, f"9{ACCOUNT}", None, "the.shop")
        page = await platform.account("page-token", login_type=LoginType.FACEBOOK)
        assert await page.owner() == Owner(ACCOUNT, None, PAGE, "the.shop")
        with pytest.raises(GraphError, match="no Instagram professional account"):
            await (await platform.account(login_type=LoginType.FACEBOOK)).owner()


async def test_an_owner_in_a_list_is_read_too(database: Database) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": 91, "user_id": int(ACCOUNT), "username": "shop"}]})

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with serving(app) as url, meta(url, database) as platform:
        assert await (await platform.account()).owner() == Owner(ACCOUNT, "91", None, "shop")


@pytest.mark.parametrize("wants_parameter", [False, True])
async def test_a_token_is_refreshed_and_never_stands_in_a_url(
    graph: Simulated,
    database: Database,
    wants_parameter: bool,  # noqa: FBT001
) -> None:
    server, url = graph
    server.behaviour = Behaviour(latency_ms=0, refresh_wants_parameter=wants_parameter)
    async with meta(url, database) as platform:
        account = await platform.account()
        new = await account.refresh_token()
        assert new.token.reveal() in server.tokens
        assert new.expires_in_s == 60 * 86_400
        assert not any(TOKEN in call for call in server.calls)


async def test_a_subscription_is_made_and_read_back(graph: Simulated, database: Database) -> None:
    async with meta(graph[1], database) as platform:
        account = await platform.account()
        assert await account.subscribed_fields() == ()
        await account.subscribe()
        assert "messages" in await account.subscribed_fields()
        await account.subscribe(fields={"comments", "messages"})
        assert await account.subscribed_fields() == ("comments", "messages")


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": {"id": "1"}}, {"data": "messages"}])
async def test_an_answer_without_a_list_of_subscriptions_is_no_lost_subscription(
    database: Database, answer: dict[str, object]
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with serving(app) as url, meta(url, database) as platform:
        account = await platform.account()
        with pytest.raises(GraphError, match="no list"):
            await account.subscribed_fields()


async def test_a_host_that_is_down_gets_one_probe_at_a_time(graph: Simulated, database: Database) -> None:
    server, url = graph
    server.behaviour = Behaviour(latency_ms=0, outage=True)
    clock = TravelClock()
    async with meta(url, database, clock) as platform:
        account = await platform.account()
        for _ in range(5):
            with pytest.raises(GraphError):
                await account.user_profile(ANA)
        rests = []
        for _ in range(8):
            rests.append(platform.client.circuit.stopped_s())
            await clock.travel(rests[-1])
            with pytest.raises(GraphError):
                await account.user_profile(ANA)
        assert rests == [5, 10, 20, 30, 30, 30, 30, 30], "it must be found within a minute that the host is back"
        assert account.budget.report().used == 5, "who asks whether the host is back pays nothing"

        server.behaviour = CALM
        await clock.travel(30)
        await account.user_profile(ANA)
        assert platform.client.circuit.stopped_s() == 0
        server.calls.clear()
        await account.user_profile(ANA)
        assert len(server.calls) == 1, "nobody asks any more whether the host is back"


@pytest.mark.parametrize(("code", "everybody"), [(4, True), (80002, False)])
async def test_a_stop_outlives_the_process_and_ends_with_the_first_good_answer(
    graph: Simulated,
    database: Database,
    code: int,
    everybody: bool,  # noqa: FBT001
) -> None:
    server, url = graph
    server.tokens["other-token"] = Token(OTHER)
    clock = TravelClock()
    server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=code)
    async with meta(url, database, clock) as platform:
        account = await platform.account()
        with pytest.raises(GraphError):
            await account.user_profile(ANA)
        stopped_s = max(account.budget.throttle.stopped_s(), platform.traffic.app.stopped_s())
    assert stopped_s > 0

    server.behaviour = CALM
    await clock.travel(10)
    async with meta(url, database, clock) as platform:
        account, other = await platform.account(), await platform.account("other-token", OTHER)
        until = clock.now_ms() + (stopped_s - 10) * 1000
        for one, is_stopped in ((account, True), (other, everybody)):
            report = one.budget.report()
            assert (report.paused_until is not None) == is_stopped
            assert report.paused_until is None or report.paused_until == pytest.approx(until, abs=5)
        made = len(server.calls)
        call = asyncio.ensure_future(account.user_profile(ANA))
        await clock.travel(stopped_s - 11)
        assert len(server.calls) == made, "stopped, in the new process too"
        await clock.travel(2)
        assert (await call).username

    async with meta(url, database, clock) as platform:
        account = await platform.account()
        assert account.budget.report().paused_until is None
        assert (account.budget.throttle.strikes, platform.traffic.app.strikes) == (0, 0)


async def test_a_call_that_was_being_written_down_when_another_was_throttled_waits(database: Database) -> None:
    asked: list[asyncio.Event] = []

    async def handler(_request: web.Request) -> web.Response:
        asked.append(asyncio.Event())
        throttled = len(asked) == 1
        await asked[-1].wait()
        error = {"error": {"code": 80002, "message": "too many calls"}}
        return web.json_response(error if throttled else {"username": "ana_x"})

    async def reached() -> bool:
        return len(asked) == 1

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    clock = TravelClock()
    async with serving(app) as url, meta(url, database, clock) as platform:
        account = await platform.account()
        first = asyncio.ensure_future(account.user_profile(ANA))
        await eventually(reached)
        async with slow_disk(database):
            second = asyncio.ensure_future(account.user_profile(igsid(1)))

            async def paid() -> bool:
                return account.budget.report().used == 2

            async def stopped() -> bool:
                return account.budget.throttle.stopped_s() > 0

            await eventually(paid)
            asked[0].set()
            await eventually(stopped)
        with pytest.raises(GraphError, match="80002"):
            await first
        await clock.travel(account.budget.throttle.stopped_s() - 1)
        assert len(asked) == 1, "Meta had said stop before it was sent"
        await clock.travel(2)

        async def sent() -> bool:
            return len(asked) == 2

        await eventually(sent)
        asked[1].set()
        assert (await second).username == "ana_x"
        assert len(await platform.ledger.calls(ACCOUNT)) == 3, "what was written down is paid, and so is the new one"


async def test_a_refusal_of_an_old_token_that_comes_late_does_not_stop_the_new_one(database: Database) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bearer {TOKEN}":
            return web.json_response({"username": "ana_x"})
        asked.set()
        await go.wait()
        return web.json_response({"error": {"code": 190, "error_subcode": 463, "message": "expired"}})

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with serving(app) as url, meta(url, database) as platform:
        account = await platform.account()
        late = asyncio.ensure_future(account.user_profile(ANA))
        await asked.wait()
        account.token = Secret("new-token")
        go.set()
        with pytest.raises(GraphError) as caught:
            await late
        assert caught.value.action is FailureAction.NEEDS_LOGIN
        assert platform.verdicts == []
        assert (await account.user_profile(ANA)).username == "ana_x"


async def test_a_restart_does_not_begin_the_pace_of_conversations_anew(graph: Simulated, database: Database) -> None:
    graph[0].behaviour = CALM
    clock = TravelClock()
    async with meta(graph[1], database, clock) as platform:
        first = await platform.account()
        assert first.conversations_throttle.wait_s() == 0
        await first.user_profile(ANA)
    async with meta(graph[1], database, clock) as platform:
        restarted = await platform.account()
        assert restarted.conversations_throttle.wait_s() == 1
        await clock.travel(1)
        assert restarted.conversations_throttle.wait_s() == 0
