"""Answers that come too late: after the app was removed, after the account was, after another token was given."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from inboxd.accounts.check import AccountCheck
from inboxd.accounts.clients import LocalAccounts, NoSuchAccountError
from inboxd.accounts.manager import AccountManager, ConfiguredAccount
from inboxd.accounts.metrics import AccountMetrics
from inboxd.accounts.resources import AccountSettings
from inboxd.accounts.store import Record, StoredAccount
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.domain.account import AccountChange, LoginType
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import RefreshedToken
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.runtime.secret import Secret
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving
from prometheus_client import CollectorRegistry

from tests.accounts.test_manager import DAY_MS, process, token_of
from tests.hostile import PROFILE, HostileGraph
from tests.support import (
    ACCOUNT,
    ANA,
    TOKEN,
    ManualClock,
    eventually,
    instruments,
    no_message,
    slow_disk,
)


class SlowGraph(HostileGraph):
    """Holds its answers back until it is told to give them."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._answer(request)
        await self.go.wait()
        return answer

    async def asked(self, count: int = 1) -> None:
        async def arrived() -> bool:
            return len(self.calls) >= count

        await eventually(arrived)


Slow = tuple[SlowGraph, str]


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    server = SlowGraph()
    async with serving(server.application()) as url:
        yield server, url


async def ended(task: "asyncio.Future[Any]") -> None:
    with suppress(GraphError):
        await task


def state_of(accounts: AccountManager) -> str:
    return accounts.served[ACCOUNT].account.state.value


@pytest.mark.parametrize("answer", ["profile", "no permission", "dead token"])
async def test_a_call_that_is_answered_after_the_app_was_removed_changes_nothing(
    slow: Slow, tmp_path: Path, answer: str
) -> None:
    server, url = slow
    code = {"no permission": 10, "dead token": 190}.get(answer)
    body = PROFILE if code is None else {"error": {"code": code, "message": "no"}}
    server.answers[ANA] = lambda _request: web.json_response(body)
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        served = accounts.served[ACCOUNT]
        call = asyncio.ensure_future(served.graph.user_profile(ANA))
        await server.asked()
        await accounts.app_removed(served, "the owner removed the app")
        server.go.set()
        await ended(call)
        assert (state_of(accounts), served.account.reason) == ("deauthorized", "the owner removed the app")
    async with process(tmp_path, url, clock) as accounts:
        assert (state_of(accounts), token_of(accounts)) == ("deauthorized", None)


async def test_a_check_that_ends_after_the_app_was_removed_changes_nothing(slow: Slow, tmp_path: Path) -> None:
    server, url = slow
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        served = accounts.served[ACCOUNT]
        check = asyncio.ensure_future(AccountCheck(accounts, clock, no_message).check(served))
        await server.asked()
        await accounts.app_removed(served, "the owner removed the app")
        server.go.set()
        await check
        assert state_of(accounts) == "deauthorized"
        assert served.account.username is None


async def test_a_token_that_is_refreshed_after_the_app_was_removed_is_dropped(slow: Slow, tmp_path: Path) -> None:
    server, url = slow
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        served = accounts.served[ACCOUNT]
        clock.now += 2 * DAY_MS
        look = asyncio.ensure_future(TokenRefresher(served, accounts, clock, instruments()).look())
        await server.asked()
        removed = asyncio.ensure_future(accounts.app_removed(served, "the owner removed the app"))
        server.go.set()
        await asyncio.gather(look, removed)
        assert (state_of(accounts), token_of(accounts)) == ("deauthorized", None)
    async with process(tmp_path, url, clock) as accounts:
        assert (state_of(accounts), token_of(accounts)) == ("deauthorized", None)


async def test_what_an_old_token_was_refused_is_not_held_against_the_new_one(slow: Slow, tmp_path: Path) -> None:
    server, url = slow
    server.answers[ANA] = lambda _request: web.json_response({"error": {"code": 10, "message": "no"}})
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        server.go.set()
        served, _ = await AccountCheck(accounts, clock, no_message).add(Secret(TOKEN), LoginType.INSTAGRAM)
        server.go.clear()
        before = len(server.calls)
        call = asyncio.ensure_future(served.graph.user_profile(ANA))
        await server.asked(before + 1)
        served.graph.token = Secret("another")
        server.go.set()
        await ended(call)
        assert state_of(accounts) == "active"
        assert served.graph.profiles_throttle.stopped_s() == 0


@pytest.mark.parametrize("late", ["update", "check", "refresh"])
async def test_an_account_that_was_removed_does_not_come_back(slow: Slow, tmp_path: Path, late: str) -> None:
    server, url = slow
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        server.go.set()
        served, _ = await AccountCheck(accounts, clock, no_message).add(Secret(TOKEN), LoginType.INSTAGRAM)
        server.go.clear()
        before = len(server.calls)
        clock.now += 2 * DAY_MS
        work: asyncio.Future[Any]
        if late == "check":
            work = asyncio.ensure_future(AccountCheck(accounts, clock, no_message).check(served))
            await server.asked(before + 1)
        elif late == "refresh":
            work = asyncio.ensure_future(TokenRefresher(served, accounts, clock, instruments()).look())
            await server.asked(before + 1)
        else:
            work = asyncio.ensure_future(accounts.update(served, subscription_checked_at=clock.now))
        await accounts.remove(served)
        server.go.set()
        await ended(work)
        await accounts.update(served, subscription_checked_at=clock.now)
        assert accounts.served == {}
        assert accounts.aliases == {}
    async with process(tmp_path, url, clock, configured=False) as accounts:
        assert accounts.served == {}


async def test_removing_and_updating_at_the_same_time_a_hundred_times(slow: Slow, tmp_path: Path) -> None:
    server, url = slow
    server.go.set()
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        for number in range(100):
            served, _ = await AccountCheck(accounts, clock, no_message).add(Secret(TOKEN), LoginType.INSTAGRAM)
            updates: list[Any] = [accounts.update(served, subscription_checked_at=clock.now) for _ in range(3)]
            updates.insert(number % 4, accounts.remove(served))
            await asyncio.gather(*updates)
            assert await accounts._store.all() == []
            clock.now += 20_000  # so that what was asked before does not hold up the next check


async def test_whoever_has_no_token_pays_nothing(slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, url = slow
    server.answers[igsid(0)] = lambda _request: web.json_response({"error": {"code": 190, "message": "no"}})
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        graph = accounts.served[ACCOUNT].graph
        record = graph._call_log.record
        dead_when_paid: list[bool] = []

        async def note_and_record(account_id: str, at: float) -> None:
            dead_when_paid.append(graph._dead is not None)
            await record(account_id, at)

        monkeypatch.setattr(graph._call_log, "record", note_and_record)
        calls = [asyncio.ensure_future(graph.user_profile(igsid(number))) for number in range(200)]
        await server.asked(1)
        server.go.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(result, GraphError) for result in results)
        paid = len(await graph._call_log.calls(ACCOUNT))
        assert graph.budget.report().used == paid
        assert paid == len(dead_when_paid) < 200
        assert not any(dead_when_paid), "whoever was still waiting when the token was refused has paid nothing"
        with pytest.raises(GraphError):
            await graph.user_profile(ANA)
        assert len(await graph._call_log.calls(ACCOUNT)) == paid


async def test_a_token_that_is_being_stored_while_the_app_is_removed_is_not_used(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = slow
    async with process(tmp_path, url, ManualClock()) as accounts:
        served = accounts.served[ACCOUNT]
        save, go = accounts._store.save, asyncio.Event()

        async def save_slowly(account: StoredAccount, record: Record) -> None:
            await go.wait()
            await save(account, record)

        monkeypatch.setattr(accounts._store, "save", save_slowly)
        give = asyncio.ensure_future(accounts.update(served, Secret("another"), cause=AccountChange.TOKEN_GIVEN))
        await asyncio.sleep(0)
        remove = asyncio.ensure_future(accounts.app_removed(served, "the owner removed the app"))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(give, remove)
        assert (state_of(accounts), token_of(accounts)) == ("deauthorized", None)


async def test_an_account_that_cannot_be_removed_from_the_file_is_still_served(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = slow

    async def refuse(_account_id: str, _record: Record) -> None:
        msg = "the disk is full"
        raise StorageUnavailableError(msg)

    async with process(tmp_path, url, ManualClock()) as accounts:
        served = accounts.served[ACCOUNT]
        monkeypatch.setattr(accounts._store, "remove", refuse)
        with pytest.raises(StorageUnavailableError):
            await accounts.remove(served)
        assert accounts.served == {ACCOUNT: served}
        assert token_of(accounts) == TOKEN


async def test_a_token_that_was_given_meanwhile_is_not_replaced_by_the_old_ones_successor(
    slow: Slow, tmp_path: Path
) -> None:
    _, url = slow
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        served = accounts.served[ACCOUNT]
        used = served.graph.token
        await accounts.update(served, Secret("another"), cause=AccountChange.TOKEN_GIVEN)
        await accounts.refreshed(served, RefreshedToken(Secret("a successor"), 5_000_000), used)
        assert (token_of(accounts), served.account.token_expires_at) == ("another", None)
    async with process(tmp_path, url, clock) as accounts:
        assert token_of(accounts) == "another"


async def test_a_token_that_was_refused_is_not_used_though_the_disk_refuses_too(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = slow

    async def refuse(_account: StoredAccount, _record: Record) -> None:
        msg = "the disk is full"
        raise StorageUnavailableError(msg)

    async with process(tmp_path, url, ManualClock()) as accounts:
        monkeypatch.setattr(accounts._store, "save", refuse)
        with pytest.raises(StorageUnavailableError):
            await accounts.verdict(ACCOUNT, GraphError("the token is dead", FailureAction.NEEDS_LOGIN))
        assert not accounts.served[ACCOUNT].account.callable
        assert accounts.served[ACCOUNT].account.reason == "the token is dead"


async def test_a_token_of_the_configuration_is_taken_once(slow: Slow, tmp_path: Path) -> None:
    _, url = slow
    clock = ManualClock()
    another = ConfiguredAccount(ACCOUNT, LoginType.INSTAGRAM, "shop", None, Secret("another"))
    async with process(tmp_path, url, clock) as accounts:
        await accounts.renew([another])
        served = accounts.served[ACCOUNT]
        assert token_of(accounts) == "another"
        await accounts.refreshed(served, RefreshedToken(Secret("its successor"), 5_000_000), served.graph.token)
        await accounts.renew([another])
        assert token_of(accounts) == "its successor"
    async with process(tmp_path, url, clock, token="another") as accounts:
        assert token_of(accounts) == "its successor"


async def test_a_dead_token_that_is_told_late_leaves_the_account_active(slow: Slow, tmp_path: Path) -> None:
    server, url = slow
    server.answers[ANA] = lambda request: (
        web.json_response({"error": {"code": 190, "message": "no"}})
        if request.headers["Authorization"] == f"Bearer {TOKEN}"
        else web.json_response(PROFILE)
    )
    clock = ManualClock()
    async with process(tmp_path, url, clock) as accounts:
        served = accounts.served[ACCOUNT]
        call = asyncio.ensure_future(served.graph.user_profile(ANA))
        await server.asked()
        await accounts.update(served, Secret("another"), cause=AccountChange.TOKEN_GIVEN)
        server.go.set()
        await ended(call)
        assert (state_of(accounts), token_of(accounts)) == ("active", "another")
        assert (await served.graph.user_profile(ANA)).username == PROFILE["username"]


async def test_two_who_change_an_account_at_once_both_have_their_way(slow: Slow, tmp_path: Path) -> None:
    _, url = slow
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        slow[0].go.set()
        served, _ = await AccountCheck(accounts, clock, no_message).add(Secret(TOKEN), LoginType.INSTAGRAM)
        async with slow_disk(accounts._store._database):
            changes = [
                asyncio.ensure_future(accounts.update(served, Secret("another"), cause=AccountChange.TOKEN_GIVEN)),
                asyncio.ensure_future(accounts.update(served, subscription_checked_at=4711)),
                asyncio.ensure_future(accounts.update(served, username="renamed")),
            ]
            await asyncio.sleep(0)
        assert await asyncio.gather(*changes) == [True] * 3
        account = served.account
        assert (account.subscription_checked_at, account.username, token_of(accounts)) == (4711, "renamed", "another")
    async with process(tmp_path, url, clock, configured=False) as accounts:
        account = accounts.served[ACCOUNT].account
        assert (account.subscription_checked_at, account.username, token_of(accounts)) == (4711, "renamed", "another")


@pytest.mark.parametrize("given", ["while Meta answers", "while it is being stored", "while the disk is full"])
async def test_a_refresh_never_takes_the_place_of_a_token_that_was_given_later(
    slow: Slow, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = slow
    clock, metrics = ManualClock(), AccountMetrics(CollectorRegistry())
    async with process(tmp_path, url, clock) as accounts:
        served = accounts.served[ACCOUNT]
        clock.now += 2 * DAY_MS
        keeper = TokenRefresher(served, accounts, clock, metrics)

        async def give() -> None:
            await accounts.update(served, Secret("given"), cause=AccountChange.TOKEN_GIVEN)

        if given == "while Meta answers":
            look = asyncio.ensure_future(keeper.look())
            await server.asked()
            await give()
            server.go.set()
            await look
        elif given == "while it is being stored":
            async with slow_disk(accounts._store._database):
                giving = asyncio.ensure_future(give())
                await asyncio.sleep(0)
                late = asyncio.ensure_future(
                    accounts.refreshed(served, RefreshedToken(Secret("refreshed"), 5_184_000), Secret(TOKEN))
                )
                await asyncio.sleep(0)
            await asyncio.gather(giving, late)
        else:
            server.go.set()

            async def full(*_: object, **__: object) -> None:
                msg = "database or disk is full"
                raise StorageUnavailableError(msg)

            with monkeypatch.context() as broken:
                broken.setattr(accounts._store, "save", full)
                with pytest.raises(StorageUnavailableError):
                    await keeper.look()
            await give()
            await keeper.look()
        assert token_of(accounts) == "given"
        assert metrics.token_refreshes.labels("done")._value.get() == 0
    async with process(tmp_path, url, clock) as accounts:
        assert token_of(accounts) == "given"


async def test_whoever_changes_an_account_that_is_removed_meanwhile_is_told_so(slow: Slow, tmp_path: Path) -> None:
    server, url = slow
    server.go.set()
    clock = ManualClock()
    async with process(tmp_path, url, clock, configured=False) as accounts:
        check = AccountCheck(accounts, clock, no_message)
        served, _ = await check.add(Secret(TOKEN), LoginType.INSTAGRAM)
        server.go.clear()
        asked = len(server.calls)
        wanted = AccountSettings(comments=False)
        change = asyncio.ensure_future(LocalAccounts(accounts, check).change(ACCOUNT, wanted))
        await server.asked(asked + 1)
        await accounts.remove(served)
        server.go.set()
        with pytest.raises(NoSuchAccountError):
            await change
