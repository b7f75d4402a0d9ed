"""Checks when Meta answers oddly: lists without an end, pages that nobody can read, times that cannot be."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from inboxd.simulator.errors import graph_error
from inboxd.simulator.payloads import Conversationalist, mid_of
from inboxd.simulator.people import igsid

from tests.reconciliation.world import LISTS, World
from tests.support import ACCOUNT, ANA, BRUNO

Handler = Callable[..., web.Response]
YEAR_MS = 365 * 86_400_000


def instead(world: World, method: str, odd: Callable[[Handler, web.Request, tuple[Any, ...]], web.Response]) -> None:
    """From now on `odd` answers in the place of a method of the simulated Conversations API."""
    whole: Handler = getattr(world.server.conversations, method)
    setattr(world.server.conversations, method, lambda request, *more: odd(whole, request, more))


def changed(response: web.Response, change: Callable[[dict[str, Any]], None]) -> web.Response:
    """The same answer, changed."""
    body = json.loads(response.body)  # type: ignore[arg-type]
    change(body)
    return web.json_response(body, status=response.status)


def goes_on(request: web.Request, *, by: list[str]) -> Callable[[dict[str, Any]], None]:
    """There is always a next page: the cursors `by`, over and over."""

    def change(body: dict[str, Any]) -> None:
        after = request.query.get("after")
        cursor = by[(by.index(after) + 1) % len(by)] if after in by else by[0]
        body["paging"] = {"cursors": {"after": cursor}, "next": f"https://graph.example/next?after={cursor}"}

    return change


def from_the_top(request: web.Request) -> web.Request:
    """The same request for the first page."""
    return request.clone(rel_url=request.rel_url.without_query_params("after"))


async def finished(world: World) -> int:
    rows = await world.database.read("SELECT count(*) FROM reconciliation_checks WHERE finished_at IS NOT NULL")
    return int(rows[0][0])


@pytest.mark.parametrize("cursors", [["A", "B"], [f"c{number}" for number in range(5000)]], ids=["circle", "endless"])
async def test_messages_without_an_end_keep_no_other_conversation_back(world: World, cursors: list[str]) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        odd, other = world.happens(ANA, "odd"), world.happens(BRUNO, "other")
        node = world.server.mailbox.conversation_with(ACCOUNT, ANA).id

        def edge(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            if more[1] != node:
                return whole(request, *more)
            return changed(whole(from_the_top(request), *more), goes_on(request, by=cursors))

        instead(world, "edge", edge)
        await world.clock.leap(3 * 3600, step_s=60)
        assert await world.texts() == {odd: "odd", other: "other"}
        assert await finished(world) > 5, "checks come to an end"
        assert world.calls("/messages") < 60


@pytest.mark.parametrize("cursors", [["A", "B"], [f"c{number}" for number in range(5000)]], ids=["circle", "endless"])
async def test_a_list_without_an_end_does_not_take_all_calls(world: World, cursors: list[str]) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        mids = {world.happens(igsid(number), "hello"): "hello" for number in range(5)}

        def listed(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            return changed(whole(from_the_top(request), *more), goes_on(request, by=cursors))

        instead(world, "listed", listed)
        await world.clock.leap(6 * 3600, step_s=60)
        assert await world.texts() == mids
        assert await finished(world) > 5, "checks come to an end"
        assert world.calls(LISTS) < 6 * 40 * 0.6 + 40, "about half of what reconciliation may spend"


@pytest.mark.parametrize("status", [200, 502])
async def test_a_conversation_for_which_meta_breaks_down_keeps_no_other_back(world: World, status: int) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        odd, other = world.happens(ANA, "odd"), world.happens(BRUNO, "other")
        node = world.server.mailbox.conversation_with(ACCOUNT, ANA).id
        broken = True

        def edge(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            if more[1] == node and broken:
                return web.Response(status=status, text="<html>Sorry</html>", content_type="text/html")
            return whole(request, *more)

        instead(world, "edge", edge)
        await world.clock.leap(3600, step_s=30)
        assert set(await world.texts()) == {other}
        checks = await finished(world)
        assert checks > 0, "checks come to an end"
        await world.clock.leap(12 * 3600, step_s=180)
        assert world.calls("/messages") < 40, "less and less often"
        assert await finished(world) > checks + 5
        broken = False
        await world.clock.leap(7 * 3600, step_s=180)
        assert set(await world.texts()) == {odd, other}


async def test_a_lookup_for_which_meta_breaks_down_is_given_up(world: World) -> None:
    async with world.daemon():
        await world.checked(20)

        def node(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            if more[1] == "mid-of-nobody":
                return web.Response(status=502, text="<html>Sorry</html>", content_type="text/html")
            return whole(request, *more)

        instead(world, "node", node)
        await world.sent({"timestamp": world.clock.now_ms(), "read": {"mid": "mid-of-nobody"}})
        await world.clock.leap(4 * 3600, step_s=60)
        assert 0 < world.calls("mid-of-nobody") <= 4
        checks = await finished(world)
        mid = world.happens(ANA, "hello")
        await world.clock.leap(3700, step_s=60)
        assert await world.texts() == {mid: "hello"}
        assert await finished(world) > checks


@pytest.mark.parametrize("ahead_ms", [2 * 3_600_000, 30 * YEAR_MS])
async def test_a_time_of_the_future_does_not_hide_what_comes_later(world: World, ahead_ms: int) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        mids = [world.happens(ANA, "one")]
        wrong = (world.clock.now_ms() + ahead_ms) // 1000

        def listed(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            def change(body: dict[str, Any]) -> None:
                for one in body["data"]:
                    one["updated_time"] = wrong

            return changed(whole(request, *more), change) if wrong else whole(request, *more)

        instead(world, "listed", listed)
        await world.checked(30)
        wrong = 0
        mids.append(world.happens(ANA, "two"))
        await world.checked(75)
        assert set(await world.texts()) == set(mids)


async def test_what_has_no_time_does_not_bring_back_who_was_erased(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        old = world.happens(ANA, "forget me")

        def edge(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            def change(body: dict[str, Any]) -> None:
                for one in body["data"]:
                    if one["id"] == old:
                        del one["created_time"]

            return changed(whole(request, *more), change)

        instead(world, "edge", edge)
        await world.checked()
        assert set(await world.texts()) == {old}
        await world.erased(ANA)
        await world.clock.leap(5)
        again = world.happens(ANA, "it is me again", created_ms=world.clock.now_ms())
        await world.checked(75)
        assert await world.texts() == {again: "it is me again"}


async def test_an_answer_to_what_was_erased_does_not_bring_it_back(world: World) -> None:
    async with world.daemon():
        await world.checked(20)
        ana = Conversationalist(ACCOUNT, ANA, world.clock.now_ms())
        old = ana.says("forget me")
        await world.sent(old)
        await world.checked(20)
        await world.erased(ANA)
        await world.clock.leap(5)
        ana.now = world.clock.now_ms()
        answer = ana.answers("an answer", reply_to={"mid": mid_of(old)})
        await world.sent(answer)
        await world.checked(75)
        assert await world.texts() == {mid_of(answer): "an answer"}


async def test_who_is_erased_while_they_are_read_stays_erased(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        await world.sent(Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("hello"))
        world.happens(ANA, "forget me")
        before = world.calls("/messages")
        world.behave(latency_ms=500)  # of real time: the clock stands still meanwhile
        while world.calls("/messages") == before:
            await world.clock.leap(1)
        await world.erased(ANA)
        await world.checked(75)
        assert await world.texts() == {}
        assert await world.client.conversations() == []
        rows = await world.database.read("SELECT * FROM listed_conversations WHERE participants IS NOT NULL")
        assert rows == []


async def test_who_is_erased_while_nobody_knew_which_side_they_are_leaves_no_name(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)

        def listed(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            def change(body: dict[str, Any]) -> None:
                for one in body["data"]:
                    one["participants"]["data"][0] = {"id": "1234567", "username": "somebody"}

            return changed(whole(request, *more), change)

        instead(world, "listed", listed)
        await world.sent(Conversationalist(ACCOUNT, ANA, world.clock.now_ms()).says("hello"))
        await world.checked()
        found = await world.database.read("SELECT participant_id, participants FROM listed_conversations")
        assert [(one[0], ANA in one[1]) for one in found] == [(None, True)]
        await world.erased(ANA)
        assert await world.database.read("SELECT participants FROM listed_conversations") == [(None,)]


async def test_a_conversation_that_is_not_read_to_its_end_stays_due(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        shown = world.happens(ANA, "on the first page")
        cut_off = True

        def edge(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            def change(body: dict[str, Any]) -> None:
                body["paging"] = {"next": "https://graph.example/next"}  # there is more, and no cursor

            return changed(whole(request, *more), change) if cut_off else whole(request, *more)

        instead(world, "edge", edge)
        await world.checked(30)
        assert await world.texts() == {shown: "on the first page"}
        assert len(await world.due()) == 1
        cut_off = False
        await world.clock.leap(3 * 3600, step_s=90)
        assert await world.due() == []


async def test_a_throttle_in_the_middle_is_not_held_against_the_conversation(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        mids = {world.happens(ANA, "one"), world.happens(BRUNO, "two")}
        throttled = True

        def edge(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            if throttled:
                return graph_error(400, 613, "Calls to this API have exceeded the rate limit")
            return whole(request, *more)

        instead(world, "edge", edge)
        await world.checked(30)
        assert await world.database.read("SELECT count(*) FROM listed_conversations WHERE attempts > 0") == [(0,)]
        throttled = False
        await world.clock.leap(2 * 3600, step_s=90)
        assert set(await world.texts()) == mids


async def test_what_is_shown_late_is_found_behind_newer_messages(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        start, hidden = world.clock.now_ms() // 1000 * 1000, True
        late = world.happens(ANA, "late", created_ms=start)
        for number in range(5):
            world.happens(ANA, f"early {number}", created_ms=start + 10_000 + number * 1000)

        def edge(whole: Handler, request: web.Request, more: tuple[Any, ...]) -> web.Response:
            def change(body: dict[str, Any]) -> None:
                body["data"] = [one for one in body["data"] if one["id"] != late or not hidden]

            return changed(whole(request, *more), change)

        instead(world, "edge", edge)
        await world.checked(30)
        assert late not in await world.texts()
        hidden = False
        for number in range(18):
            world.happens(ANA, f"new {number}")
            await world.clock.leap(1)
        await world.checked(75)
        assert late in await world.texts()
