"""An account's Graph API against real answers of a real server, good and bad."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import PROFILE_FIELDS, AccountGraph
from inboxd.meta.graph_errors import GraphError
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.people import igsid, person
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.support import ANA, TOKEN, meta


@asynccontextmanager
async def answering(
    database: Database, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[AccountGraph]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with serving(app) as url, meta(url, database, timeout_s=0.5) as platform:
        yield await platform.account()


async def action_of(account: AccountGraph, who: str = ANA, token: str = TOKEN) -> FailureAction:
    with pytest.raises(GraphError) as caught:
        await account.user_profile(who)
    assert token not in str(caught.value)
    return caught.value.action


async def test_profiles_are_read_whole(graph: tuple[GraphServer, str], database: Database) -> None:
    async with meta(graph[1], database) as platform:
        account = await platform.account()
        for number in range(60):
            known = person(igsid(number))
            assert known is not None
            profile = await account.user_profile(known.igsid)
            assert (profile.username, profile.name) == (known.username, known.name)
            assert (profile.profile_pic is not None) == known.has_picture
            assert profile.follower_count == known.follower_count


async def test_the_token_travels_in_the_header_and_the_fields_are_the_documented_ones(database: Database) -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"username": "ana_x", "id": ANA})

    async with answering(database, handler) as client:
        await client.user_profile(ANA)

    (request,) = seen
    assert request.path == f"/v25.0/{ANA}"
    assert dict(request.query) == {"fields": PROFILE_FIELDS}
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(request.url)


@pytest.mark.parametrize(
    ("behaviour", "action"),
    [
        (Behaviour(latency_ms=0, outage=True), FailureAction.RETRY_LATER),
        (Behaviour(latency_ms=0, throttled=True), FailureAction.WAIT_FOR_BUDGET),
        (Behaviour(latency_ms=0, token_expired=True), FailureAction.NEEDS_LOGIN),
        (Behaviour(latency_ms=0, no_consent=(ANA,)), FailureAction.WAIT_FOR_PERSON),
        (Behaviour(latency_ms=0, error_rate=1.0), FailureAction.RETRY_LATER),
        (Behaviour(latency_ms=0, error_rate=1.0, error_code=424242), FailureAction.UNKNOWN),
    ],
)
async def test_moods_of_the_platform(
    graph: tuple[GraphServer, str], database: Database, behaviour: Behaviour, action: FailureAction
) -> None:
    graph[0].behaviour = behaviour
    async with meta(graph[1], database) as platform:
        assert await action_of(await platform.account()) is action


async def test_nobody_of_that_id_and_a_wrong_token(graph: tuple[GraphServer, str], database: Database) -> None:
    async with meta(graph[1], database) as platform:
        assert await action_of(await platform.account(), "42") is FailureAction.GONE
        assert await action_of(await platform.account("wrong-token"), token="wrong-token") is FailureAction.NEEDS_LOGIN


@pytest.mark.parametrize(
    "response",
    [
        lambda: web.Response(status=503, text="<html>sorry</html>"),
        lambda: web.Response(status=200, text="<html>sorry</html>"),
        lambda: web.Response(status=200, text=""),
        lambda: web.Response(status=200, text='{"username": "an'),
        lambda: web.Response(status=200, text='{"username": "  "}'),
        lambda: web.Response(status=200, text='{"username": 5}'),
        lambda: web.Response(status=200, text="[]"),
        lambda: web.Response(status=200, body=b"\xff"),
        lambda: web.Response(status=302, headers={"Location": "https://example.com/"}),
        lambda: web.Response(status=200, body=b" " * (1024 * 1024 + 1)),
    ],
)
async def test_an_answer_that_is_none_is_tried_again_later(
    database: Database, response: Callable[[], web.Response]
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return response()

    async with answering(database, handler) as client:
        assert await action_of(client) is FailureAction.RETRY_LATER


async def test_too_many_requests_said_by_the_edge_is_a_limit_too(database: Database) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=429, text="<html>slow down</html>", headers={"Retry-After": "40"})

    async with answering(database, handler) as client:
        assert await action_of(client) is FailureAction.WAIT_FOR_BUDGET
        assert 39 < client.budget.throttle.stopped_s() <= 40


async def test_an_error_envelope_under_status_200_is_an_error(database: Database) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "x", "code": 230}})

    async with answering(database, handler) as client:
        assert await action_of(client) is FailureAction.WAIT_FOR_PERSON


async def test_nobody_there_and_nobody_answering_are_passing_faults(database: Database) -> None:

    async def handler(_request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    async with answering(database, handler) as client:
        assert await action_of(client) is FailureAction.RETRY_LATER
    async with meta("http://127.0.0.1:1", database) as platform:
        assert await action_of(await platform.account()) is FailureAction.RETRY_LATER


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", ["another host", "the same host"])
async def test_nobody_is_sent_on_with_what_was_asked(database: Database, status: int, elsewhere: str) -> None:
    """The address that an answer names would say what is asked for, and is never asked."""
    seen: list[str] = []

    async def target(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response({"username": "mallory", "access_token": "mallorys-token", "expires_in": 5_000_000})

    other = web.Application()
    other.router.add_route("*", "/{path:.*}", target)
    async with serving(other) as other_url:

        async def handler(request: web.Request) -> web.Response:
            if request.path.startswith("/elsewhere"):
                return await target(request)
            place = "/elsewhere" if elsewhere == "the same host" else f"{other_url}/elsewhere"
            return web.Response(status=status, headers={"Location": place})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        async with serving(app) as url, meta(url, database) as platform:
            account = await platform.account()
            assert await action_of(account) is FailureAction.RETRY_LATER
            with pytest.raises(GraphError):
                await account.refresh_token()
            with pytest.raises(GraphError):
                await platform.client.send("GET", "refresh_access_token", {}, TOKEN, as_form=True)
    assert seen == []


async def test_an_answer_of_a_mebibyte_is_read_and_a_longer_one_is_not(database: Database) -> None:
    profile = json.dumps({"username": "ana_x", "id": ANA}).encode()
    length = 1024 * 1024

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=profile.ljust(length), content_type="application/json")

    async with answering(database, handler) as account:
        assert (await account.user_profile(ANA)).username == "ana_x"
        length += 1
        assert await action_of(account) is FailureAction.RETRY_LATER


@pytest.mark.parametrize("who", ["", "../me", "1/2", "1?fields=id", "ana", "1" * 33])
async def test_an_id_that_meta_could_not_know_is_not_asked_about(
    graph: tuple[GraphServer, str], database: Database, who: str
) -> None:
    """Ids come from webhooks; it would become part of an address, and ask for something else with our token."""
    async with meta(graph[1], database) as platform:
        assert await action_of(await platform.account(), who) is FailureAction.GONE
    assert graph[0].calls == []
