"""Calls that are given up because somebody was erased."""

import asyncio

import pytest
from inboxd.meta.send_client import SendReceipt
from inboxd.meta.single_post import OutcomeUnknownError
from inboxd.sending.calls import CallsUnderWay

from tests.support import ANA, BRUNO


async def never() -> SendReceipt:
    await asyncio.Event().wait()
    raise AssertionError


async def test_only_the_calls_to_whoever_was_erased_are_given_up() -> None:
    calls = CallsUnderWay()
    erased, other = (asyncio.create_task(calls.make(never(), one)) for one in (ANA, BRUNO))
    await asyncio.sleep(0)
    calls.give_up(ANA)
    with pytest.raises(OutcomeUnknownError):
        await erased
    assert not other.done()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


async def test_a_lane_that_ends_while_its_call_is_given_up_ends() -> None:
    calls = CallsUnderWay()
    lane = asyncio.create_task(calls.make(never(), ANA))
    await asyncio.sleep(0)
    calls.give_up(ANA)
    lane.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lane
