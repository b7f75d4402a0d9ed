"""Reading an account's mailbox: by answers as Meta prints them, and by those of the simulated Instagram."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from inboxd.domain.account import LoginType
from inboxd.domain.budget import Priority
from inboxd.domain.mailbox import Detail, ListedMessage, Page
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.conversations_client import MESSAGES, ConversationsClient, PageSize
from inboxd.meta.graph_errors import GraphError
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.graph_server import GraphServer, Token
from inboxd.simulator.mailbox import NewMessage
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.hostile import ODD
from tests.support import ACCOUNT, ANA, T0, TOKEN, TravelClock, meta

PAGE = "100200300400500"
CONVERSATION = "aWdfZAG06MTpJR01lc3NhZA2VUaHJlYWQ6A"
MESSAGE = {
    "id": "aWdfZAG1fA",
    "created_time": "2026-10-01T10:00:00+0000",
    "from": {"username": "ana_x", "id": "7000000000000001"},
    "to": {"data": [{"username": "shop", "id": "17841400000000001"}]},
    "message": "hola",
}
DELETED = {"error": {"message": "This message was deleted", "type": "OAuthException", "code": 9000001}}
TOO_MUCH = {
    "error": {
        "message": "(#1) Please reduce the amount of data you're asking for, then retry your request",
        "type": "OAuthException",
        "code": 1,
    }
}
UNKNOWN = {"error": {"message": "An unknown error occurred", "type": "OAuthException", "code": 1}}
UNKNOWN_FIELD = {"error": {"message": "(#100) Tried accessing nonexisting field (story)", "code": 100}}
UNKNOWN_PATH = {"error": {"message": "Unknown path components: /messages", "code": 2500}}
TOOLS_OFF = {
    "error": {"message": "(#200) The account owner has disabled access", "code": 200, "error_subcode": 2534041}
}
Asked = list[tuple[str, dict[str, str]]]
Answering = Callable[[str, dict[str, str]], Any]


@asynccontextmanager
async def client_of(
    database: Database, answer: Answering, login_type: LoginType = LoginType.INSTAGRAM
) -> AsyncIterator[tuple[ConversationsClient, Asked]]:
    """A client, and what it asked: paths and parameters. An answer with `error` has the status 500."""
    asked: Asked = []

    async def handler(request: web.Request) -> web.Response:
        path, query = request.path.removeprefix("/v25.0/"), dict(request.query)
        asked.append((path, query))
        found = answer(path, query)
        return web.json_response(found, status=500 if "error" in found else 200)

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with serving(app) as url, meta(url, database, HastyClock()) as platform:
        graph = await platform.account(login_type=login_type)
        yield ConversationsClient(graph, login_type, page_id=PAGE), asked


class HastyClock(TravelClock):
    """Nobody waits for the pace."""

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


async def messages_of(
    client: ConversationsClient, conversation_id: str = CONVERSATION, **options: Any
) -> list[ListedMessage]:
    """All messages, page by page."""
    found: list[ListedMessage] = []
    after = None
    while True:
        page: Page[ListedMessage] = await client.messages(conversation_id, after=after, **options)
        assert not page.cut_off
        found += page
        after = page.after
        if after is None:
            return found


# --- answers as they are printed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login_type", "path"), [(LoginType.INSTAGRAM, "me/conversations"), (LoginType.FACEBOOK, f"{PAGE}/conversations")]
)
async def test_the_list_is_asked_for_as_each_product_wants_it(
    database: Database, login_type: LoginType, path: str
) -> None:
    printed = {
        "data": [{"id": CONVERSATION, "updated_time": "2026-10-01T10:00:00+0000"}],
        "paging": {"cursors": {"before": "B", "after": "A"}, "next": "https://graph.instagram.com/…"},
    }
    async with client_of(database, lambda *_: printed, login_type) as (client, asked):
        page = await client.conversations(after="CURSOR", limit=7, user_id=ANA)
        assert (page.items[0].id, page.items[0].updated_time, page.after) == (CONVERSATION, 1_790_848_800_000, "A")
        ((asked_path, query),) = asked
        assert asked_path == path
        assert query == {
            "platform": "instagram",
            "fields": "id,updated_time,participants",
            "after": "CURSOR",
            "limit": "7",
            "user_id": ANA,
        }
        assert not list(await client.conversations(user_id="no id")), "there is none with nobody"
        assert len(asked) == 1


async def test_a_single_message_as_it_is_printed(database: Database) -> None:
    async with client_of(database, lambda *_: MESSAGE) as (client, asked):
        found = await client.message("aWdfZAG1fA", priority=Priority.LIVE)
        assert (found.text, found.detail) == ("hola", Detail.READABLE)
        assert asked[0][0] == "aWdfZAG1fA"
        with pytest.raises(GraphError, match="another message"):
            await client.message("aWdfZAG1fB")
        with pytest.raises(GraphError, match="not an id"):
            await client.message("../me")
        assert len(asked) == 2


@pytest.mark.parametrize("code", [{"code": 9000001}, {"code": 100, "error_subcode": 9000001}, {"code": 803}])
async def test_what_meta_says_of_an_old_message_never_means_that_it_was_deleted(
    database: Database, code: dict[str, int]
) -> None:
    async with client_of(database, lambda *_: {"error": {**DELETED["error"], **code}}) as (client, _):
        assert await client.message("aWdfZAG1fA") == ListedMessage("aWdfZAG1fA", None, Detail.UNAVAILABLE)


async def test_an_id_that_may_be_valid_during_an_outage_is_asked_for_again_later(database: Database) -> None:
    async with client_of(database, lambda *_: {"error": {"code": 100, "error_subcode": 33, "message": ""}}) as (
        client,
        _,
    ):
        with pytest.raises(GraphError) as caught:
            await client.message("aWdfZAG1fA")
        assert caught.value.action is FailureAction.RETRY_LATER


async def test_a_page_that_fails_because_of_old_messages_is_read_without_details(database: Database) -> None:
    def answer(_path: str, query: dict[str, str]) -> Any:
        if query["fields"] != "id,created_time":
            return DELETED
        return {"data": [{"id": "aWdfZAG1fA", "created_time": "2026-10-01T10:00:00+0000"}]}

    async with client_of(database, answer) as (client, asked):
        page = await client.messages(CONVERSATION, after="A", limit=20)
        assert [(one.id, one.detail) for one in page] == [("aWdfZAG1fA", Detail.UNAVAILABLE)]
        assert [query["after"] for _, query in asked] == ["A", "A"]


async def test_the_page_shrinks_until_meta_can_make_it_and_grows_again(database: Database) -> None:
    most = 5

    def answer(_path: str, query: dict[str, str]) -> Any:
        return TOO_MUCH if int(query["limit"]) > most else {"data": []}

    async with client_of(database, answer) as (client, asked):
        await client.conversations(limit=50)
        assert [int(query["limit"]) for _, query in asked] == [50, 25, 12, 6, 3]
        asked.clear()
        await client.conversations(limit=50)
        assert [int(query["limit"]) for _, query in asked] == [3], "what did not work is not tried each time"
        most = 1000
        for _ in range(60):
            await client.conversations(limit=50)
        assert asked[-1][1]["limit"] == "50"
        most = 0
        with pytest.raises(GraphError, match="too much data") as caught:
            await client.conversations(limit=50)
        assert caught.value.action is FailureAction.RETRY_LATER


async def test_an_answer_that_is_too_large_for_us_shrinks_the_page_too(database: Database) -> None:
    def answer(_path: str, query: dict[str, str]) -> Any:
        return {"data": [{"id": CONVERSATION, "x": "x" * (1024 * 1024 if int(query["limit"]) > 10 else 1)}]}

    async with client_of(database, answer) as (client, asked):
        assert len(list(await client.conversations(limit=20))) == 1
        assert len(asked) == 2


async def test_answers_that_are_too_large_do_not_stop_the_calls_of_all_accounts(database: Database) -> None:
    whole = {"data": [{"id": CONVERSATION, "x": "x" * 1024 * 1024}]}
    async with client_of(database, lambda *_: whole) as (client, asked):
        with pytest.raises(GraphError, match="larger than") as caught:
            await client.messages(CONVERSATION, limit=200)
        assert caught.value.of_host is False, "the host has answered"
        assert len(asked) >= 6
        assert client._graph.circuit.open_since is None


async def test_a_page_over_which_meta_breaks_down_again_and_again_becomes_smaller(database: Database) -> None:
    async with client_of(database, lambda *_: UNKNOWN) as (client, asked):
        for _ in range(8):
            with pytest.raises(GraphError):
                await client.conversations(limit=100)
        assert [int(query["limit"]) for _, query in asked] == [100, 100, 50, 25, 12, 6, 5, 5]


async def test_a_sporadic_failure_is_the_callers_and_does_not_change_what_is_asked(database: Database) -> None:
    answers: Iterator[Any] = iter([UNKNOWN, {"data": []}])
    async with client_of(database, lambda *_: next(answers)) as (client, asked):
        with pytest.raises(GraphError) as caught:
            await client.conversations()
        assert (caught.value.action, caught.value.too_large) == (FailureAction.RETRY_LATER, False)
        await client.conversations()
        assert asked[0] == asked[1]


async def test_an_owner_who_switched_access_off_is_a_matter_for_a_person(database: Database) -> None:
    async with client_of(database, lambda *_: TOOLS_OFF) as (client, asked):
        with pytest.raises(GraphError) as caught:
            await client.messages(CONVERSATION)
        assert caught.value.action is FailureAction.LACKS_PERMISSION
        assert len(asked) == 1, "no other form of the request helps"


@pytest.mark.parametrize("edge", [True, False])
@pytest.mark.parametrize("fields", [True, False])
async def test_the_form_that_works_is_found_once(database: Database, edge: bool, fields: bool) -> None:  # noqa: FBT001
    def answer(path: str, query: dict[str, str]) -> Any:
        if path.endswith("/messages") and not edge:
            return UNKNOWN_PATH
        if "story" in query["fields"] and not fields:
            return UNKNOWN_FIELD
        listed = {"data": [MESSAGE], "paging": {"cursors": {"after": "A"}, "next": "https://a.example/"}}
        return listed if edge else {"id": CONVERSATION, "messages": listed}

    async with client_of(database, answer) as (client, asked):
        first = await client.messages(CONVERSATION)
        assert (first.items[0].text, first.after) == ("hola", "A")
        asked.clear()
        await client.messages(CONVERSATION, after="MORE", limit=5)
        ((path, query),) = asked
        wanted = "id,created_time,from,to,message"
        wanted += ",attachments,shares{link},story,reactions,is_unsupported" if fields else ""
        if edge:
            assert (path, query) == (f"{CONVERSATION}/messages", {"fields": wanted, "limit": "5", "after": "MORE"})
        else:
            assert (path, query) == (CONVERSATION, {"fields": f"messages.limit(5).after(MORE){{{wanted}}}"})


async def test_no_form_that_works_is_the_first_refusal(database: Database) -> None:
    async with client_of(database, lambda *_: UNKNOWN_FIELD) as (client, asked):
        with pytest.raises(GraphError, match="Graph error 100"):
            await client.messages(CONVERSATION)
        assert len(asked) == 4


@pytest.mark.parametrize("number", range(len(ODD)))
async def test_an_odd_answer_is_a_page_or_an_error(database: Database, number: int) -> None:
    async with client_of(database, lambda *_: {"data": ODD[number] if isinstance(ODD[number], list) else [None]}) as (
        client,
        _,
    ):
        page = await client.conversations()
        assert not page.items


def test_a_page_has_at_least_one_item_and_not_too_many() -> None:
    size = PageSize()
    assert [size.of(wanted) for wanted in (-5, 0, 1, 50, 10_000)] == [1, 1, 1, 50, 200]
    assert not size.shrink(1)
    assert size.of(50) == 1


# --- the simulated Instagram ------------------------------------------------------------------------------------------


class Rig:
    """A simulated Instagram that moves with a clock of its own, and a client of one account."""

    def __init__(self, server: GraphServer, graph: AccountGraph, now: list[float], login_type: LoginType) -> None:
        self.server = server
        self.graph = graph
        self.now = now
        self.client = ConversationsClient(graph, login_type, page_id=PAGE)

    def behave(self, **switches: Any) -> None:
        self.server.behaviour = Behaviour(latency_ms=0, conversation_calls_per_s=0, **switches)

    def add(self, participant_id: str = ANA, **message: Any) -> str:
        return self.server.mailbox.add(NewMessage(ACCOUNT, participant_id, **{"created_ms": T0, **message}))

    def conversation_id(self, participant_id: str = ANA) -> str:
        return self.server.mailbox.conversation_with(ACCOUNT, participant_id).id


@asynccontextmanager
async def rig_of(database: Database, login_type: LoginType = LoginType.INSTAGRAM) -> AsyncIterator[Rig]:
    now = [T0 / 1000 + 3600]
    page_id = PAGE if login_type is LoginType.FACEBOOK else None
    server = GraphServer({TOKEN: Token(ACCOUNT, page_id=page_id)}, now=lambda: now[0])
    async with serving(server.application()) as url, meta(url, database, HastyClock()) as platform:
        rig = Rig(server, await platform.account(login_type=login_type), now, login_type)
        rig.behave()
        yield rig


@pytest.mark.parametrize("login_type", LoginType)
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"unordered": True},
        {"empty_pages": True},
        {"most_listed": 3},
        {"unix_times": True},
        {"messages_edge": False},
    ],
)
async def test_every_message_is_read_once_whatever_the_quirks(
    database: Database, login_type: LoginType, switches: dict[str, Any]
) -> None:
    async with rig_of(database, login_type) as rig:
        rig.behave(**switches)
        for number in range(12):
            for minute in range(number):
                rig.add(igsid(number), text=f"{number} {minute}", created_ms=T0 + minute * 60_000)
        listed: list[str] = []
        after = None
        while True:
            page = await rig.client.conversations(after=after, limit=5)
            listed += [one.id for one in page]
            after = page.after
            if after is None:
                break
        read = [one for conversation in listed for one in await messages_of(rig.client, conversation, limit=5)]
        truth = {one.id: (one.text, one.created_ms) for one in rig.server.mailbox.truth()}
        assert len(listed) == len(set(listed)) == 11
        assert len(read) == len(truth)
        assert {one.id: (one.text, one.created_time) for one in read} == truth


@pytest.mark.parametrize("old", ["omitted", "error"])
@pytest.mark.parametrize("limit", [7, MESSAGES, 100])
async def test_only_the_newest_have_details_and_all_have_ids(database: Database, old: str, limit: int) -> None:
    async with rig_of(database) as rig:
        rig.behave(old_details=old)
        mids = [rig.add(text=f"{minute}", created_ms=T0 + minute * 60_000) for minute in range(50)]
        read = await messages_of(rig.client, rig.conversation_id(), limit=limit)
        assert [one.id for one in read] == mids[::-1]
        readable = [one for one in read if one.detail is Detail.READABLE]
        # Where a page with one old message fails, the newer ones on it have no details either.
        assert len(readable) == (14 if (old, limit) == ("error", 7) else 20)
        assert all(one.created_time is not None for one in read)
        assert (await rig.client.message(mids[-1])).text == "49"
        assert (await rig.client.message(mids[0])).detail is Detail.UNAVAILABLE
        assert (await rig.client.message(mids[30])).text == "30", "single ones are read singly"


@pytest.mark.parametrize(
    ("login_type", "switch", "shown"),
    [
        (LoginType.INSTAGRAM, "login", False),
        (LoginType.FACEBOOK, "login", True),
        (LoginType.INSTAGRAM, "always", True),
        (LoginType.FACEBOOK, "never", False),
    ],
)
async def test_attachments_are_shown_or_left_out(
    database: Database,
    login_type: LoginType,
    switch: str,
    shown: bool,  # noqa: FBT001
) -> None:
    async with rig_of(database, login_type) as rig:
        rig.behave(attachments=switch)
        url = "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=1"
        for kind in ("image", "audio", "share", "story_mention"):
            rig.add(attachments=({"type": kind, "payload": {"url": url}},))
        read = await messages_of(rig.client, rig.conversation_id())
        kinds = sorted(one.type for message in read for one in message.attachments or ())
        assert kinds == (["audio", "image"] if shown else [])
        assert [message.shares for message in read if message.shares] == [(url,)]
        assert [message.story.link for message in read if message.story] == [url]


async def test_nothing_of_a_refused_edge_is_lost_when_fields_are_unknown(database: Database) -> None:
    async with rig_of(database) as rig:
        rig.behave(unknown_message_fields=("story", "reactions"), messages_edge=False)
        rig.add(text="hola")
        assert [one.text for one in await messages_of(rig.client, rig.conversation_id())] == ["hola"]


async def test_the_pace_is_one_that_the_simulated_instagram_allows(database: Database) -> None:
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=5, visible_after_s=0)
    server.mailbox.add(NewMessage(ACCOUNT, ANA, text="hola"))
    async with serving(server.application()) as url, meta(url, database) as platform:
        client = ConversationsClient(await platform.account(), LoginType.INSTAGRAM)
        for _ in range(5):
            await client.conversations()
        assert server.conversations.refused == 0
        assert len(server.calls) == 5
