"""The client of the Send API against real answers of a real server, good and bad."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from inboxd.domain.account import LoginType
from inboxd.domain.outbound import (
    AttachmentType,
    Button,
    Element,
    OutboundAttachment,
    PartContent,
    QuickReply,
    QuickReplyType,
    Template,
    TemplateType,
)
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.send_bodies import Recipient
from inboxd.meta.send_client import SendClient, SendReceipt
from inboxd.meta.send_errors import BY_SUBCODE, TABLE, SendError, SendFailure, send_row
from inboxd.meta.single_post import NotSentError, OutcomeUnknownError
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.support import ANA, TOKEN, Json, Meta, meta

PAGE = "100000000000001"
TO_ANA = Recipient(ANA)
HELLO = PartContent(text="hola")
SENT = {"recipient_id": ANA, "message_id": "mid.1"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def address_of(one: OutboundAttachment) -> str:
    assert one.url is not None
    return one.url


class Line:
    """One account, and what Meta got from it."""

    def __init__(self, platform: Meta, graph: AccountGraph, login_type: LoginType) -> None:
        self.platform, self.graph = platform, graph
        self.client = SendClient(graph, login_type, page_id=PAGE)
        self.bodies: list[Json] = []
        self.requests: list[web.Request] = []

    async def send(self, content: PartContent = HELLO, recipient: Recipient = TO_ANA, **more: Any) -> SendReceipt:
        return await self.client.message(recipient, content, address_of, **more)


@asynccontextmanager
async def line(
    database: Database, answer: Handler, login_type: LoginType = LoginType.INSTAGRAM, **more: Any
) -> AsyncIterator[Line]:
    got: list[Line] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        got[0].requests.append(request)
        got[0].bodies.append(await request.json())
        return await answer(request)

    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    async with serving(app) as url, meta(url, database, timeout_s=0.5) as platform:
        graph = await platform.account(login_type=login_type, **more)
        got.append(Line(platform, graph, login_type))
        yield got[0]


def answering(fields: object, status: int = 200) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(fields, status=status)

    return answer


def refusing(code: int, subcode: int | None = None, status: int = 400) -> Handler:
    error = {"message": f"(#{code}) token {TOKEN}", "type": "OAuthException", "code": code}
    return answering({"error": error | ({"error_subcode": subcode} if subcode else {})}, status)


@pytest.mark.parametrize(("login_type", "node"), [(LoginType.INSTAGRAM, "me"), (LoginType.FACEBOOK, PAGE)])
async def test_a_message_goes_to_the_node_of_its_product(database: Database, login_type: LoginType, node: str) -> None:
    async with line(database, answering(SENT), login_type) as sending:
        assert await sending.send() == SendReceipt("mid.1", ANA)
        (request,) = sending.requests
    assert request.path == f"/v25.0/{node}/messages"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(request.url)
    assert sending.bodies == [
        {"recipient": {"id": ANA}, "message": {"text": "hola"}, "messaging_type": "RESPONSE"},
    ]


IMAGE = OutboundAttachment(type=AttachmentType.IMAGE, url="https://example.com/1.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            PartContent(attachments=(IMAGE,)),
            {"attachment": {"type": "image", "payload": {"url": "https://example.com/1.jpg"}}},
        ),
        (
            PartContent(attachments=(IMAGE, IMAGE)),
            {"attachments": [{"type": "image", "payload": {"url": "https://example.com/1.jpg"}}] * 2},
        ),
        (
            PartContent(attachments=(OutboundAttachment(type=AttachmentType.LIKE_HEART),)),
            {"attachment": {"type": "like_heart"}},
        ),
        (
            PartContent(attachments=(OutboundAttachment(type=AttachmentType.POST, media_id="17900000000000001"),)),
            {"attachment": {"type": "MEDIA_SHARE", "payload": {"id": "17900000000000001"}}},
        ),
        (
            PartContent(
                text="?", quick_replies=(QuickReply(title="S", payload="SIZE_S"), QuickReply(type=QuickReplyType.EMAIL))
            ),
            {
                "text": "?",
                "quick_replies": [
                    {"content_type": "text", "title": "S", "payload": "SIZE_S"},
                    {"content_type": "user_email"},
                ],
            },
        ),
        (
            PartContent(
                template=Template(
                    type=TemplateType.BUTTON,
                    text="t",
                    buttons=(Button(title="a", url="https://example.com"), Button(title="b", payload="B")),
                )
            ),
            {
                "attachment": {
                    "type": "template",
                    "payload": {
                        "template_type": "button",
                        "text": "t",
                        "buttons": [
                            {"type": "web_url", "url": "https://example.com", "title": "a"},
                            {"type": "postback", "title": "b", "payload": "B"},
                        ],
                    },
                }
            },
        ),
        (
            PartContent(
                template=Template(
                    type=TemplateType.GENERIC,
                    elements=(
                        Element(title="e", subtitle="s", image_url="https://example.com/i", url="https://e.com"),
                    ),
                )
            ),
            {
                "attachment": {
                    "type": "template",
                    "payload": {
                        "template_type": "generic",
                        "elements": [
                            {
                                "title": "e",
                                "subtitle": "s",
                                "image_url": "https://example.com/i",
                                "default_action": {"type": "web_url", "url": "https://e.com"},
                            }
                        ],
                    },
                }
            },
        ),
    ],
)
async def test_what_is_sent_has_the_documented_form(database: Database, content: PartContent, message: Json) -> None:
    async with line(database, answering(SENT)) as sending:
        await sending.send(content)
        assert [one["message"] for one in sending.bodies] == [message]


async def test_tags_answers_and_comments_stand_beside_the_message(database: Database) -> None:
    async with line(database, answering(SENT)) as sending:
        await sending.send(PartContent(text="a", reply_to_mid="mid.0"), human_agent=True)
        await sending.send(recipient=Recipient(comment_id="1800"))
        await sending.client.action(ANA, "react", {"message_id": "mid.0", "reaction": "❤️"})
        await sending.client.action(ANA, "typing_on")
    assert sending.bodies == [
        {
            "recipient": {"id": ANA},
            "message": {"text": "a"},
            "messaging_type": "MESSAGE_TAG",
            "tag": "HUMAN_AGENT",
            "reply_to": {"mid": "mid.0"},
        },
        {"recipient": {"comment_id": "1800"}, "message": {"text": "hola"}},
        {
            "recipient": {"id": ANA},
            "sender_action": "react",
            "payload": {"message_id": "mid.0", "reaction": "❤️"},
        },
        {"recipient": {"id": ANA}, "sender_action": "typing_on"},
    ]


@pytest.mark.parametrize(("code", "subcode"), [*TABLE, *((100, one) for one in BY_SUBCODE)])
async def test_every_error_of_the_table_is_recognised_and_told_in_words(
    database: Database, code: int, subcode: int | None
) -> None:
    async with line(database, refusing(code, subcode)) as sending:
        with pytest.raises(SendError) as caught:
            await sending.send()
    error = caught.value
    assert (error.code, error.subcode, error.send_row) == (code, subcode, send_row(code, subcode))
    assert str(code) in str(error)
    assert TOKEN not in str(error)
    assert "hola" not in str(error)


@pytest.mark.parametrize("code", [0, 7, 1000, 424242])
async def test_an_unlisted_error_may_have_sent_and_is_not_sent_again(database: Database, code: int) -> None:
    async with line(database, refusing(code)) as sending:
        with pytest.raises(SendError) as caught:
            await sending.send()
    assert caught.value.send_row.failure is SendFailure.UNCLEAR_ONCE


async def html(_request: web.Request) -> web.Response:
    return web.Response(text="<html>Sorry, something went wrong</html>", status=500, content_type="text/html")


async def late(_request: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return web.json_response(SENT)


async def elsewhere(request: web.Request) -> web.Response:
    headers = {"Location": str(request.url.with_path("/other"))}
    return web.json_response(SENT, status=307, headers=headers)


async def cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"recipient_id"')
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    "answer",
    [
        html,
        late,
        cut,
        half,
        answering({"recipient_id": ANA}),
        answering({"message_id": ""}),
        answering({"message_id": "x" * 2000}),
        answering({"message_id": 7}),
        answering({"message_id": "a\nb"}),
        answering({"message_id": " mid.1"}),
        answering({"message_id": None}),
        answering({"message_id": True}),
        answering({"message_id": {"id": "mid.1"}}),
        answering({**SENT, "error": {}}),
        answering({**SENT, "error": {"code": "none"}}),
        answering(SENT, status=201),
        elsewhere,
        answering({}, status=204),
        answering({"fine": True}, status=500),
        answering([]),
        answering({"error": "none of Meta's"}),
    ],
)
async def test_an_answer_that_says_nothing_leaves_the_outcome_open(database: Database, answer: Handler) -> None:
    async with line(database, answer) as sending:
        with pytest.raises(OutcomeUnknownError) as caught:
            await sending.send()
        assert len(sending.requests) == 1, "a POST is never repeated"
    assert TOKEN not in str(caught.value)


async def test_a_connection_that_was_open_and_is_cut_leaves_the_outcome_open(database: Database) -> None:
    answers = iter([answering(SENT), cut])

    async def answer(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)

    async with line(database, answer) as sending:
        await sending.send()
        with pytest.raises(OutcomeUnknownError):
            await sending.send()
        assert len(sending.requests) == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "https://127.0.0.1:{port}"])
async def test_a_call_that_found_no_connection_was_not_sent(database: Database, url: str) -> None:
    async with (
        serving(web.Application()) as plain,
        meta(url.format(port=plain.rsplit(":", 1)[1]), database, timeout_s=2) as platform,
    ):
        client = SendClient(await platform.account(), LoginType.INSTAGRAM)
        with pytest.raises(NotSentError):
            await client.message(TO_ANA, HELLO, address_of)


async def test_a_host_that_does_not_even_connect_in_time_got_nothing(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # TLS never begins
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        async with meta(url, database, timeout_s=0.3) as platform:
            client = SendClient(await platform.account(), LoginType.INSTAGRAM)
            with pytest.raises(NotSentError):
                await client.message(TO_ANA, HELLO, address_of)


async def test_without_a_token_nothing_leaves(database: Database) -> None:
    async with line(database, answering(SENT)) as sending:
        sending.graph.token = None
        with pytest.raises(NotSentError) as caught:
            await sending.send()
        assert caught.value.needs_token
        assert not sending.requests


async def test_a_refused_token_stops_all_calls(database: Database) -> None:
    async with line(database, refusing(190, 463)) as sending:
        with pytest.raises(SendError) as caught:
            await sending.send()
        assert caught.value.send_row.failure is SendFailure.TOKEN
        with pytest.raises(NotSentError):
            await sending.send()
        assert len(sending.requests) == 1
        (verdict,) = sending.platform.verdicts
    assert verdict is not None
    assert verdict.action is FailureAction.NEEDS_LOGIN


async def test_a_refused_proof_is_followed_by_the_next_one(database: Database) -> None:
    async def answer(request: web.Request) -> web.Response:
        if "appsecret_proof" in request.query:
            error = {"message": "Invalid appsecret_proof provided in the API argument", "code": 100}
            return web.json_response({"error": error}, status=400)
        return web.json_response(SENT)

    async with line(database, answer, app_secrets=["one", "two"]) as sending:
        assert (await sending.send()).mid == "mid.1"
        assert len(sending.requests) == 3


async def test_a_throttle_that_a_send_trips_stops_every_call(database: Database) -> None:
    async with line(database, refusing(613, 2534040)) as sending:
        with pytest.raises(SendError):
            await sending.send()
        assert sending.graph.budget.wait_s() > 50


async def test_a_limit_of_the_app_stops_all_accounts(database: Database) -> None:
    async with line(database, refusing(4)) as sending:
        with pytest.raises(SendError):
            await sending.send()
        other = await sending.platform.account(account_id="17841400000000002")
        assert other.budget.wait_s() > 50


@pytest.mark.parametrize(("code", "subcode"), [(100, 2534029), (2022, None), (200, 2534041)])
async def test_an_account_that_may_not_send_may_still_read(database: Database, code: int, subcode: int | None) -> None:
    answers = iter([refusing(code, subcode), answering(SENT)])

    async def answer(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)

    async with line(database, answer) as sending:
        with pytest.raises(SendError):
            await sending.send()
        assert sending.graph.sends_throttle.stopped_s() > 3500
        assert sending.graph.budget.wait_s() == 0
        told = [error and error.action for error in sending.platform.verdicts]
        await sending.send()
        assert sending.graph.sends_throttle.stopped_s() == 0
    assert told == ([FailureAction.LACKS_PERMISSION] if code == 200 else [])
    assert sending.platform.verdicts[len(told) :] == ([None] if code == 200 else [])


async def test_what_does_not_fit_into_json_of_ours_is_sent_whole(database: Database) -> None:
    text = 'é👍🏽"\\\u2028 \x00'
    async with line(database, answering(SENT)) as sending:
        await sending.send(PartContent(text=text))
        assert json.loads(json.dumps(sending.bodies[0]))["message"]["text"] == text


@pytest.mark.parametrize("body", ["<html>slow down</html>", "{}", '{"error": "too many"}', ""])
async def test_a_429_that_is_not_metas_stops_all_calls_and_leaves_the_outcome_open(
    database: Database, body: str
) -> None:
    """Something between us and Meta may have passed the request on, and answered itself afterwards."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=429, text=body, headers={"Retry-After": "90"})

    async with line(database, answer) as sending:
        with pytest.raises(SendError) as caught:
            await sending.send()
        assert sending.graph.budget.wait_s() > 80
    assert caught.value.send_row.failure is SendFailure.UNCLEAR
    assert caught.value.action is FailureAction.WAIT_FOR_BUDGET
