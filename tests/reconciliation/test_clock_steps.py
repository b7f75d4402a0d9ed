"""Checks while our wall clock is wrong, and after it was set right."""

import pytest
from aiohttp import web
from inboxd.simulator.errors import graph_error

from tests.reconciliation.world import LISTS, World
from tests.support import ACCOUNT, ANA, BRUNO, T0

DAY_MS = 86_400_000


@pytest.mark.parametrize("ahead_ms", [365 * DAY_MS, -3 * DAY_MS])
async def test_a_clock_that_was_wrong_for_a_while_stops_no_checks(world: World, ahead_ms: int) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        mids = {world.happens(ANA, "one")}
        await world.checked(30)
        world.clock.ahead_ms = ahead_ms
        await world.clock.leap(2 * 3600, step_s=90)
        world.clock.ahead_ms = 0
        await world.clock.leap(60)
        mids.add(world.happens(ANA, "two"))
        await world.clock.leap(2 * 3600, step_s=90)
        assert set(await world.texts()) == mids
        assert world.calls(LISTS) < 40


async def test_what_failed_under_a_wrong_clock_is_tried_again(world: World) -> None:
    async with world.daemon():
        await world.clock.leap(10)
        whole, broken = world.server.conversations.edge, True

        def edge(request: web.Request, caller: object, node: str) -> web.Response:
            if broken:
                return graph_error(500, 1, "An unknown error occurred")
            return whole(request, caller, node)  # type: ignore[arg-type]

        world.server.conversations.edge = edge  # type: ignore[method-assign]
        mid = world.happens(ANA, "one")
        world.clock.ahead_ms = 365 * DAY_MS
        await world.clock.leap(2 * 3600, step_s=90)
        world.clock.ahead_ms, broken = 0, False
        await world.clock.leap(3 * 3600, step_s=90)
        assert set(await world.texts()) == {mid}


async def test_an_account_whose_first_check_was_in_the_future_is_checked(world: World) -> None:
    world.clock.ahead_ms = 365 * DAY_MS
    async with world.daemon():
        await world.clock.leap(1800)
        world.clock.ahead_ms = 0
        await world.clock.leap(60)
        mid = world.happens(ANA, "hello")
        await world.clock.leap(2 * 3600, step_s=90)
        assert set(await world.texts()) == {mid}
        assert world.calls(LISTS) < 40


async def test_a_clock_that_was_never_set_does_not_make_old_messages_new(world: World) -> None:
    world.happens(ANA, "long ago", created_ms=T0 - 100 * DAY_MS)
    world.clock.ahead_ms = 3600_000 - T0
    async with world.daemon():
        await world.clock.leap(1800)
        world.clock.ahead_ms = 0
        await world.clock.leap(60)
        mid = world.happens(BRUNO, "hello")
        await world.clock.leap(2 * 3600, step_s=90)
        assert set(await world.texts()) == {mid}
        state = await world.database.read("SELECT since FROM reconciled_accounts WHERE account_id = ?", (ACCOUNT,))
        assert state[0][0] > T0 - 2 * DAY_MS
