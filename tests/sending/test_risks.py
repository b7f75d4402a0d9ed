"""What would harm somebody and is seen nowhere else: one test for each such risk of the outbox."""

import pytest
from aiohttp import web
from inboxd.config.schema import ReconciliationSettings, SendingSettings
from inboxd.http.client import AdminClient
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from inboxd.sending.clients import OutboxClient
from inboxd.sending.input_resources import NewMessage
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.serving import serving

from tests.sending.sending_world import SendingWorld
from tests.sending.test_worker import private_reply
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, Client

SENT = ("sent", "delivered", "read")


async def test_an_old_message_with_the_same_text_is_not_taken_for_the_new_one(world: SendingWorld) -> None:
    async with world.sending():
        await world.wrote()
        await world.typed("ok")
        conversation = await world.wrote(text="¿seguro?")
        world.behave(send_answer="error_before", send_answer_next=1)
        outbound_id = await world.answer(conversation, "ok")
        await world.becomes(outbound_id, "unknown", *SENT)
        await world.becomes(outbound_id, *SENT, step_s=5)
        assert world.really_sent == ["ok"]
        texts = [one["content"] for one in await world.client.messages(conversation)]
        assert sorted(texts) == ["hola", "ok", "ok", "¿seguro?"]


async def test_what_meta_shows_only_after_two_minutes_is_not_sent_again(world: SendingWorld) -> None:
    world.behave(send_answer="error_after_sending", send_answer_next=1, echo="never", visible_after_s=120)
    async with world.sending():
        conversation = await world.wrote()
        await world.clock.leap(300, step_s=60)  # Meta shows what the participant wrote
        outbound_id = await world.answer(conversation)
        await world.becomes(outbound_id, "unknown", *SENT)
        await world.becomes(outbound_id, *SENT, step_s=5)
        assert world.really_sent == ["buenas"]


async def test_the_window_is_decided_again_when_a_message_is_due(world: SendingWorld) -> None:
    world.behave(send_throttled=True)
    settings = SendingSettings(per_second=300, per_hour=100_000, after_failure="continue")
    async with world.sending(sending=settings):
        conversation = await world.wrote()
        first = await world.answer(conversation, "first")
        await world.waits(first)
        second = await world.answer(conversation, "second")
        world.behave(send_throttled=False, send_error_code=10, send_error_subcode=2534022, send_error_next=1)
        for one in (first, second):
            failed = await world.becomes(one, "failed", step_s=10)
            assert failed["reasonCode"] == "window_closed"
        assert world.really_sent == []


async def test_a_request_without_an_answer_is_made_again_with_its_key(client: Client) -> None:
    await client.deliver(Conversationalist(ACCOUNT, ANA, Clock().now_ms()).says("Do you have it in blue?"))
    await client.settled()
    (conversation,) = await client.conversations()
    asked: list[str] = []

    async def cut_once(request: web.Request) -> web.Response:
        """Hand the request on; its first answer never arrives."""
        asked.append(request.path)
        async with client.session.request(
            request.method,
            client.admin_url + request.path_qs,
            data=await request.read(),
            headers={
                name: value for name, value in request.headers.items() if name in {"Authorization", "Idempotency-Key"}
            },
        ) as response:
            body = await response.read()
        if len(asked) == 1 and request.transport is not None:
            request.transport.close()
        return web.Response(body=body, status=response.status, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", cut_once)
    async with serving(app) as url, AdminClient(url, Secret(ADMIN_TOKEN)) as remote:
        accepted = await OutboxClient(remote).answer(conversation["id"], NewMessage(text="Yes"), "one-key")
    assert len(asked) == 2
    (kept,) = (await client.get("/api/messaging/outbound"))["outbound"]
    assert kept["id"] == accepted.id


async def test_a_clock_that_is_set_forward_while_inboxd_restarts_makes_nobody_look_too_early(
    world: SendingWorld,
) -> None:
    world.behave(send_answer="error_after_sending", send_answer_next=1, echo="never")
    async with world.sending():
        conversation = await world.wrote()
        await world.clock.leap(300, step_s=60)
        world.behave(visible_after_s=120)
        outbound_id = await world.answer(conversation)
        await world.becomes(outbound_id, "unknown")
    world.clock.ahead_ms = 3_600_000
    async with world.sending():
        await world.becomes(outbound_id, *SENT, step_s=5)
        assert world.really_sent == ["buenas"]


@pytest.mark.parametrize("ahead_s", [-600, 0, 130, 40_000])
async def test_what_was_sent_into_an_unknown_conversation_is_found_whatever_our_clock_says(
    world: SendingWorld, ahead_s: int
) -> None:
    world.behave(send_answer="error_after_sending", echo="never")
    world.clock.ahead_ms = ahead_s * 1000
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        other = await world.wrote()
        world.happens(BRUNO, "an old one")  # before inboxd knew them
        world.happens(BRUNO, "en privado", outbound=True)
        await world.clock.leap(300, step_s=60)
        post = world.server.posts.publish(ACCOUNT)
        comment = world.server.posts.write(post.id, BRUNO, "precio?")
        outbound_id = await private_reply(world, comment.id, participant_id=BRUNO)
        await world.answer(other, "toc")  # the worker looks
        await world.becomes(outbound_id, *SENT, "failed", step_s=5)
        found = await world.outbound(outbound_id)
        assert found["state"] == "sent"
        (sent,) = [one.message_id for one in world.server.sending.ledger.messages if one.text == "en privado"]
        assert found["parts"][0]["platformMessageId"] == sent
