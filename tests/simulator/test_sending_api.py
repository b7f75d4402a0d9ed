"""The simulated Send API takes and refuses what Meta's does, and each send leaves its message once."""

import asyncio
import hashlib
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from inboxd.simulator.payloads import Conversationalist, delivery, without_parties
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving

from tests.simulator.rig import PAGE, PAGE_TOKEN, Json, Rig, error_of
from tests.support import ACCOUNT, ANA, T0, TOKEN, eventually

PNG = b"\x89PNG a picture"
HOUR_MS = 3_600_000


@pytest.fixture
async def writes(rig: Rig) -> Rig:
    """Ana wrote an hour ago."""
    rig.add(text="hola")
    return rig


def payload_of(rig: Rig, *items: Json) -> Json:
    return delivery(ACCOUNT, items[-1]["timestamp"], list(items))


async def echoes(rig: Rig) -> list[Json]:
    return [item for item in rig.items() if item.get("message", {}).get("is_echo")]


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "token"), [("me", TOKEN), (ACCOUNT, TOKEN), ("me", PAGE_TOKEN), (PAGE, PAGE_TOKEN)])
async def test_a_text_is_sent_with_both_login_types(writes: Rig, path: str, token: str) -> None:
    status, answer = await writes.send("claro que sí", path=path, token=token, messaging_type="RESPONSE")
    assert (status, set(answer)) == (200, {"recipient_id", "message_id"})
    assert answer["recipient_id"] == ANA

    (sent,) = await writes.sent()
    assert sent["message_id"] == answer["message_id"]
    assert (sent["text"], sent["recipient_id"], sent["messaging_type"]) == ("claro que sí", ANA, "RESPONSE")
    assert writes.server.mailbox.message(answer["message_id"]) is not None


async def test_a_form_is_as_good_as_json(writes: Rig) -> None:
    form = {"recipient": json.dumps({"id": ANA}), "message": json.dumps({"text": "hola"}), "access_token": TOKEN}
    status, _ = await writes.post("me/messages", form=form)
    assert (status, [one["text"] for one in await writes.sent()]) == (200, ["hola"])


async def test_the_wrong_node_is_refused(writes: Rig) -> None:
    assert error_of(await writes.send("x", path=ACCOUNT, token=PAGE_TOKEN)) == (400, 3, None)
    assert error_of(await writes.send("x", path=writes.conversation_id())) == (400, 100, 33)
    assert error_of(await writes.send("x", path=PAGE)) == (400, 100, 33)
    assert await writes.sent() == []


async def test_the_conversations_api_shows_it_after_a_while(writes: Rig) -> None:
    _, answer = await writes.send("gracias")
    assert (await writes.get(answer["message_id"]))[1]["error"]["code"] == 9000001
    writes.now[0] += 31
    status, found = await writes.get(answer["message_id"], fields="from,to,message")
    assert (status, found["message"], found["from"]["id"]) == (200, "gracias", ACCOUNT)
    assert [one["id"] for one in found["to"]["data"]] == [ANA]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"message": {"text": "x"}}, (400, 100, None)),
        ({"recipient": {"id": ANA}}, (400, 100, None)),
        ({"recipient": {"id": ANA}, "message": {}}, (400, 100, 2534015)),
        ({"recipient": {"id": ANA}, "message": {"text": "ñ" * 501}}, (400, 100, 2534038)),
        ({"recipient": {"id": ANA}, "message": {"text": "x"}, "sender_action": "typing_on"}, (400, 100, 2018014)),
        ({"recipient": {"id": "42"}, "message": {"text": "x"}}, (400, 100, 2534014)),
        ({"recipient": {"id": igsid(9)}, "message": {"text": "x"}}, (400, 10, 2534022)),
        (
            {
                "recipient": {"id": ANA},
                "message": {"text": "x"},
                "messaging_type": "MESSAGE_TAG",
                "tag": "ACCOUNT_UPDATE",
            },
            (400, 100, None),
        ),
        ({"recipient": {"id": ANA}, "message": {"text": "x"}, "tag": "HUMAN_AGENT"}, (400, 100, None)),
        ({"recipient": {"id": ANA}, "message": {"attachment": {"type": "sticker"}}}, (400, 100, 2534015)),
        (
            {"recipient": {"id": ANA}, "message": {"attachment": {"type": "image", "payload": {"attachment_id": "1"}}}},
            (400, 100, 2018074),
        ),
        (
            {"recipient": {"id": ANA}, "message": {"text": "x", "quick_replies": [{"content_type": "text"}]}},
            (400, 100, 2534015),
        ),
    ],
)
async def test_what_meta_refuses_is_refused(writes: Rig, body: Json, error: tuple[int, int, int | None]) -> None:
    assert error_of(await writes.post("me/messages", body)) == error
    found = await writes.control("sent")
    assert (found["messages"], sum(found["refused"].values())) == ([], 1)
    assert len(writes.server.mailbox.conversations(ACCOUNT)) == 1


async def test_a_text_of_exactly_1000_bytes_is_sent(writes: Rig) -> None:
    assert (await writes.send("ñ" * 500))[0] == 200


async def test_templates_and_quick_replies(writes: Rig) -> None:
    button = {"type": "postback", "title": "Hablar", "payload": "AGENT"}

    def template(**payload: Any) -> Json:
        return {"attachment": {"type": "template", "payload": payload}}

    assert (await writes.send(template(template_type="button", text="¿Qué?", buttons=[button] * 3)))[0] == 200
    assert (await writes.send(template(template_type="button", text="x", buttons=[button] * 4)))[0] == 400
    assert (await writes.send(template(template_type="button", text="x" * 641, buttons=[button])))[0] == 400
    element = {"title": "Azul", "subtitle": "20 €"}
    assert (await writes.send(template(template_type="generic", elements=[element] * 10)))[0] == 200
    assert (await writes.send(template(template_type="generic", elements=[element] * 11)))[0] == 400
    assert (await writes.send(template(template_type="generic", elements=[{"title": "Azul"}])))[0] == 400
    reply = {"content_type": "text", "title": "S", "payload": "SIZE_S"}
    assert (await writes.send({"text": "¿Talla?", "quick_replies": [reply] * 13}))[0] == 200
    assert (await writes.send({"text": "¿Talla?", "quick_replies": [reply] * 14}))[0] == 400
    found = [(one["template"], one["quick_replies"]) for one in await writes.sent()]
    assert found == [("button", 0), ("generic", 0), (None, 13)]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def files() -> Any:
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response(body=b"video", content_type="video/mp4")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(8 * 1024 * 1024 + 1), content_type="image/png")

    async def moved(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/a.png")

    app = web.Application()
    app.router.add_get("/slow.mp4", slow)
    app.router.add_get("/large.png", large)
    app.router.add_get("/moved.png", moved)
    for name, content_type in (
        ("a.png", "image/png"), ("a.heic", "image/heic"), ("a.pdf", "application/pdf"), ("a.m4a", "audio/mp4"),
    ):  # fmt: skip

        async def give(_request: web.Request, content_type: str = content_type) -> web.Response:
            return web.Response(body=PNG, content_type=content_type)

        app.router.add_get(f"/{name}", give)
    async with serving(app) as url:
        yield url


def file(kind: str, url: str) -> Json:
    return {"type": kind, "payload": {"url": url}}


async def test_files_are_really_fetched(writes: Rig, files: str) -> None:
    writes.behave(echo="early")
    writes.sender()
    pictures = {"attachments": [file("image", f"{files}/a.png")] * 2}
    for message in (pictures, {"attachment": file("file", f"{files}/a.pdf")}, {"attachment": {"type": "like_heart"}}):
        assert (await writes.send(message))[0] == 200

    first, second, third = await writes.sent()
    assert [one["sha256"] for one in first["media"]] == [hashlib.sha256(PNG).hexdigest()] * 2
    assert (second["media"][0]["content_type"], third["media"]) == ("application/pdf", [])
    seen = [one["message"]["attachments"] for one in await echoes(writes)]
    assert [[one["type"] for one in message] for message in seen] == [["image", "image"], ["file"], ["like_heart"]]
    assert seen[0][0]["payload"]["url"].startswith("https://lookaside.fbsbx.com/"), "an address of Meta's, not ours"
    assert "payload" not in seen[2][0]


@pytest.mark.parametrize(
    ("kind", "path", "subcode"),
    [
        ("image", "none.png", 2018008),
        ("image", "moved.png", 2018008),
        ("image", "a.heic", 2534080),
        ("image", "a.pdf", 2018047),
        ("image", "large.png", 2018109),
        ("video", "slow.mp4", 2018294),
        ("video", "a.m4a", 2018047),
    ],
)
async def test_bad_files_are_refused(writes: Rig, files: str, kind: str, path: str, subcode: int) -> None:
    writes.behave(media_timeout_s=2)
    answer = await writes.send({"attachment": file(kind, f"{files}/{path}")})
    assert error_of(answer) == (400, 100, subcode)
    assert await writes.sent() == []


async def test_a_text_drops_the_attachment_beside_it(writes: Rig, files: str) -> None:
    status, _ = await writes.send({"text": "mira", "attachment": file("image", f"{files}/a.png")})
    (sent,) = await writes.sent()
    assert (status, sent["text"], sent["attachments"], sent["media"]) == (200, "mira", [], [])


# --- windows ----------------------------------------------------------------------------------------------------------


async def test_the_window_is_open_for_a_day(writes: Rig) -> None:
    writes.now[0] = T0 / 1000 + 86_399
    assert (await writes.send("x"))[0] == 200
    writes.now[0] += 2
    assert error_of(await writes.send("x")) == (400, 10, 2534022)


async def test_only_what_the_participant_really_does_opens_it(rig: Rig) -> None:
    sender, ana = rig.sender(), Conversationalist(ACCOUNT, ANA, T0)
    first = ana.says("hola")
    await sender.send(payload_of(rig, first))
    rig.now[0] = T0 / 1000 + 90_000
    ana.now = T0 + 90_000_000
    answered = ana.answers("hi")
    for item in (ana.edits(first, "hola?"), ana.companion(first), answered, ana.sees(answered), ana.unsends(first)):
        await sender.send(payload_of(rig, item))
        assert error_of(await rig.send("x")) == (400, 10, 2534022)
    await sender.send(payload_of(rig, ana.unreacts(answered)))
    assert error_of(await rig.send("x")) == (400, 10, 2534022)
    await sender.send(payload_of(rig, ana.reacts(answered)))
    assert (await rig.send("x"))[0] == 200


@pytest.mark.parametrize("what", ["tap", "link", "message"])
async def test_taps_and_links_and_messages_open_it(rig: Rig, what: str) -> None:
    ana = Conversationalist(ACCOUNT, ANA, int(rig.now[0] * 1000))
    item = {"tap": ana.taps("Hours?", "H"), "link": ana.opens_link("qr"), "message": ana.says("hi")}[what]
    assert error_of(await rig.send("x")) == (400, 10, 2534022)
    await rig.sender().send(payload_of(rig, item))
    assert (await rig.send("x"))[0] == 200


async def test_an_ad_opens_it_for_longer(rig: Rig) -> None:
    await rig.sender().send(payload_of(rig, Conversationalist(ACCOUNT, ANA, T0).comes_from_ad("info")))
    rig.now[0] = T0 / 1000 + 6 * 86_400
    assert (await rig.send("x"))[0] == 200
    rig.behave(ad_window_s=86_400)
    assert error_of(await rig.send("x")) == (400, 10, 2534022)


async def test_the_window_may_need_a_subscription(rig: Rig) -> None:
    rig.behave(window_needs_subscription=True)
    rig.add(text="hola", created_ms=int(rig.now[0] * 1000))
    assert error_of(await rig.send("x")) == (400, 10, 2534022)
    await rig.post("me/subscribed_apps", subscribed_fields="messages")
    assert error_of(await rig.send("x")) == (400, 10, 2534022), "only what comes from now on"
    await rig.sender().send(payload_of(rig, Conversationalist(ACCOUNT, ANA, int(rig.now[0] * 1000)).says("there?")))
    assert (await rig.send("x"))[0] == 200


async def test_the_tag_of_a_human_agent(writes: Rig) -> None:
    tag = {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"}
    writes.now[0] = T0 / 1000 + 6 * 86_400
    assert error_of(await writes.send("x", **tag)) == (403, 10, None)
    writes.behave(human_agent_refusal="window")
    assert error_of(await writes.send("x", **tag)) == (400, 10, 2534022)
    writes.behave(human_agent=True)
    assert (await writes.send("x", **tag))[0] == 200
    assert error_of(await writes.send("x")) == (400, 10, 2534022)
    writes.now[0] += 2 * 86_400
    assert error_of(await writes.send("x", **tag)) == (400, 10, 2534022)
    assert [one["tag"] for one in await writes.sent()] == ["HUMAN_AGENT"]


# --- actions ----------------------------------------------------------------------------------------------------------


async def test_actions_are_answered_without_a_message(writes: Rig) -> None:
    mid = writes.add(text="¿y bien?")

    async def act(action: str, **payload: str) -> tuple[int, Json]:
        body = {"recipient": {"id": ANA}, "sender_action": action} | ({"payload": payload} if payload else {})
        return await writes.post("me/messages", body)

    for action in ("typing_on", "typing_off", "mark_seen"):
        assert await act(action) == (200, {"recipient_id": ANA})
    assert await act("react", message_id=mid, reaction="🎉") == (200, {"recipient_id": ANA})
    assert writes.server.mailbox.truth()[-1].reactions == {ACCOUNT: "🎉"}
    assert await act("unreact", message_id=mid) == (200, {"recipient_id": ANA})
    assert writes.server.mailbox.truth()[-1].reactions == {}
    assert error_of(await act("react", message_id="unknown", reaction="love")) == (400, 100, 2534015)
    writes.behave(reactions="none")
    assert error_of(await act("react", message_id=mid, reaction="love")) == (500, 2, None)
    actions = (await writes.control("sent"))["actions"]
    assert [one["action"] for one in actions] == ["typing_on", "typing_off", "mark_seen", "react", "unreact"]
    assert await writes.sent() == []


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_sends_have_limits_of_their_own(writes: Rig) -> None:
    writes.behave(sends_per_s=2, calls_per_window=1)
    assert [(await writes.send("x"))[0] for _ in range(2)] == [200, 200]
    assert error_of(await writes.send("x")) == (400, 613, 2534040)
    writes.now[0] += 2
    assert (await writes.send("x"))[0] == 200
    writes.behave(send_throttled=True)
    assert error_of(await writes.send("x")) == (400, 613, 2534040)
    assert (await writes.get(ANA))[0] == 200, "other calls are not throttled"


async def test_errors_apply_to_the_next_sends_only(writes: Rig) -> None:
    writes.behave(send_error_code=100, send_error_subcode=2534037, send_error_next=2)
    answers = [await writes.send("x") for _ in range(3)]
    assert [status for status, _ in answers] == [400, 400, 200]
    assert error_of(answers[0]) == (400, 100, 2534037)
    assert len(await writes.sent()) == 1
    writes.behave(unreachable=(ANA,))
    assert error_of(await writes.send("x")) == (400, 551, 1545041)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "sent"),
    [
        ("normal", 200, 1),
        ("late", 200, 1),
        ("slow", 200, 1),
        ("error_after_sending", 500, 1),
        ("odd_error_after_sending", 500, 1),
        ("html_after_sending", 502, 1),
        ("no_id", 200, 1),
        ("dropped", None, 1),
        ("error_before", 500, 0),
        ("cut_before", None, 0),
    ],
)
async def test_a_message_is_sent_whatever_the_answer_says(writes: Rig, how: str, status: int | None, sent: int) -> None:
    writes.behave(send_answer=how, send_answer_ms=50, send_answer_next=1)
    body = {"recipient": {"id": ANA}, "message": {"text": "x"}}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found: int | None = None
    text = ""
    try:
        async with writes.session.post(f"{writes.url}/v25.0/me/messages", json=body, headers=headers) as response:
            found, text = response.status, await response.text()
    except aiohttp.ClientError:
        pass
    assert found == status
    assert ("message_id" in text) == (status == 200 and how != "no_id")
    assert [one["answer"] for one in await writes.sent()] == [how] * sent
    assert (await writes.send("y"))[0] == 200, "only the next send was answered so"


async def test_who_does_not_wait_for_the_answer_does_not_stop_it(writes: Rig) -> None:
    writes.behave(send_answer="late", send_answer_ms=5000)
    sending = asyncio.ensure_future(writes.send("x"))

    async def is_sent() -> bool:
        return len(await writes.sent()) == 1

    await eventually(is_sent)
    assert not sending.done()
    sending.cancel()
    await asyncio.wait([sending])
    assert await is_sent()


# --- echoes -----------------------------------------------------------------------------------------------------------


async def test_an_echo_looks_as_instagrams(writes: Rig) -> None:
    writes.sender()
    writes.behave(echo="early")
    first = writes.server.mailbox.truth()[0].id
    _, answer = await writes.send({"text": "sí", "metadata": "m"}, reply_to={"mid": first})
    at_ms = int(writes.now[0] * 1000)
    assert await echoes(writes) == [
        {
            "sender": {"id": ACCOUNT},
            "recipient": {"id": ANA},
            "timestamp": at_ms,
            "message": {"mid": answer["message_id"], "is_echo": True, "text": "sí", "reply_to": {"mid": first}},
        }
    ]
    writes.behave(echo="early", echo_metadata=True)
    await writes.send({"text": "sí", "metadata": "m"})
    assert (await echoes(writes))[-1]["message"]["metadata"] == "m"


@pytest.mark.parametrize(("when", "before", "after"), [("early", 1, 1), ("normal", 0, 1), ("doubled", 1, 2)])
async def test_an_echo_comes_before_or_after_the_answer(writes: Rig, when: str, before: int, after: int) -> None:
    writes.sender()
    writes.behave(echo=when, echo_after_ms=400)
    await writes.send("x")
    assert len(await echoes(writes)) == before

    async def come() -> bool:
        return len(await echoes(writes)) == after

    await eventually(come)


async def test_an_echo_may_come_late_or_never(writes: Rig) -> None:
    writes.sender()
    writes.behave(echo="late", echo_late_ms=60_000, echo_next=1)
    await writes.send("late")
    writes.behave(echo="never")
    await writes.send("never")
    writes.behave(echo="early")
    await writes.send("early")
    assert [one["message"]["text"] for one in await echoes(writes)] == ["early"]
    assert [one["echo"] for one in await writes.sent()] == ["late", "never", "early"]


async def test_companions_of_echoes_have_no_text(writes: Rig) -> None:
    writes.sender()
    writes.behave(echo="early", echo_companions=True)
    _, answer = await writes.send("x")
    assert writes.items()[-1] == without_parties(
        {"timestamp": int(writes.now[0] * 1000), "message_edit": {"mid": answer["message_id"], "num_edit": 0}}
    )


async def test_any_means_each_in_its_turn(writes: Rig) -> None:
    writes.sender()
    writes.behave(send_answer="any", send_answer_ms=1, echo="any", echo_after_ms=1, echo_late_ms=1, sends_per_s=0)
    for number in range(80):
        try:
            await writes.send(str(number))
        except (aiohttp.ClientError, json.JSONDecodeError):
            continue
    sent = await writes.sent()
    assert {one["answer"] for one in sent} == {
        "normal", "late", "slow", "error_after_sending", "odd_error_after_sending", "html_after_sending", "no_id",
        "dropped",
    }  # fmt: skip
    assert {one["echo"] for one in sent} == {"normal", "early", "late", "never", "doubled"}
    assert len({one["text"] for one in sent}) == len(sent) < 80


async def test_the_customer_reads_and_answers(writes: Rig) -> None:
    writes.sender()
    writes.behave(customer_reads_ms=20, customer_answers_ms=100)
    await writes.send("one moment")
    _, answer = await writes.send("yes, it is there")

    async def answered() -> bool:
        return any("text" in item.get("message", {}) and item["sender"]["id"] == ANA for item in writes.items())

    await eventually(answered)
    said = [item for item in writes.items() if item.get("sender", {}).get("id") == ANA]
    assert [item["read"]["mid"] for item in said if "read" in item][-1] == answer["message_id"]
    assert len([item for item in said if "message" in item]) == 1, "one answer to several messages in a row"
    assert writes.server.mailbox.truth()[-1].participant_id == ANA
