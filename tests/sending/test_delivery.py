"""Sending: each message once on the other side, or failed and not there."""

from typing import Any

import pytest

from tests.sending.sending_world import SendingWorld
from tests.support import eventually

SENT = ("sent", "delivered", "read")


async def test_an_answer_is_sent_and_in_its_conversation_once_before_and_after_its_echo(world: SendingWorld) -> None:
    world.behave(echo="never")
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        sent = await world.becomes(outbound_id, "sent")
        (part,) = sent["parts"]
        assert world.really_sent == ["buenas"]
        assert sent["reason"] is None
        _, message = await world.client.messages(conversation)
        assert (message["content"], message["senderType"], message["source"]) == ("buenas", "user", "sent")
        assert message["platformMessageId"] == part["platformMessageId"]
        assert message["id"] == part["messageId"]

        world.behave(echo="normal")
        other = await world.answer(conversation, "otra vez")
        delivered = await world.becomes(other, "delivered")
        assert delivered["parts"][0]["deliveredAt"] is not None
        assert len(await world.client.messages(conversation)) == 3
        assert await world.told("message.sent", "outbound.") == [
            "outbound.queued",
            "message.sent",
            "outbound.sent",
            "outbound.queued",
            "message.sent",
            "outbound.sent",
            "outbound.delivered",
        ]


@pytest.mark.parametrize("echo", ["normal", "early", "late", "never", "doubled"])
@pytest.mark.parametrize(
    "answer",
    [
        "normal",
        "late",
        "slow",
        "error_after_sending",
        "odd_error_after_sending",
        "html_after_sending",
        "no_id",
        "dropped",
        "error_before",
        "cut_before",
    ],
)
async def test_whatever_becomes_of_the_answer_and_the_echo_it_is_there_once(
    world: SendingWorld, answer: str, echo: str
) -> None:
    world.behave(send_answer=answer, send_answer_next=1, send_answer_ms=700, echo=echo, echo_late_ms=1500)
    async with world.sending(timeout_s=0.4):
        conversation = await world.wrote()
        first = await world.answer(conversation, "uno")
        second = await world.answer(conversation, "dos")
        await world.becomes(first, *SENT, step_s=2)
        await world.becomes(second, *SENT, step_s=2)
        assert world.really_sent == ["uno", "dos"]
        texts = [one["content"] for one in await world.client.messages(conversation)]
        assert texts == ["hola", "uno", "dos"]
        assert "conversation.human_replied" not in await world.told("conversation.")


@pytest.mark.parametrize("answer", ["error_after_sending", "dropped", "error_before"])
async def test_two_equal_texts_are_two_messages_whatever_becomes_of_the_first_answer(
    world: SendingWorld, answer: str
) -> None:
    world.behave(send_answer=answer, send_answer_next=1, echo="never")
    async with world.sending():
        conversation = await world.wrote()
        ids = [await world.answer(conversation, "ok") for _ in range(2)]
        found = [await world.becomes(one, *SENT, step_s=5) for one in ids]
        assert world.really_sent == ["ok", "ok"]
        assert len({one["parts"][0]["platformMessageId"] for one in found}) == 2
        assert len(await world.client.messages(conversation)) == 3


async def test_what_never_arrives_has_failed_after_three_attempts_and_is_not_there(world: SendingWorld) -> None:
    world.behave(send_answer="error_before")
    async with world.sending():
        conversation = await world.wrote()
        failed = await world.becomes(await world.answer(conversation), "failed", step_s=10)
        assert failed["reasonCode"] == "not_delivered"
        assert failed["reason"].startswith("It did not arrive, after 3 attempts. The last answer: ")
        assert "found out" not in failed["reason"]
        assert failed["parts"][0]["attempts"] == 3
        assert world.really_sent == []
        assert len(await world.client.messages(conversation)) == 1


async def test_an_error_after_which_messages_were_seen_is_not_followed_by_a_second_attempt(world: SendingWorld) -> None:
    world.behave(send_error_code=1, send_error_subcode=1357046, send_error_status=500)
    async with world.sending():
        conversation = await world.wrote()
        failed = await world.becomes(await world.answer(conversation), "failed", step_s=10)
        assert (failed["reasonCode"], failed["parts"][0]["attempts"]) == ("not_delivered", 1)
        assert (failed["metaCode"], failed["metaSubcode"]) == (1, 1357046)


async def test_nothing_is_sent_again_while_the_conversation_cannot_be_read(world: SendingWorld) -> None:
    world.behave(send_answer="dropped", send_answer_next=1, echo="never", conversation_error_rate=1.0)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        behind = await world.answer(conversation, "luego")
        await world.becomes(outbound_id, "unknown")
        await world.clock.leap(3 * 3600, step_s=60)
        unknown = await world.outbound(outbound_id)
        assert unknown["state"] == "unknown"
        assert unknown["waitsUntil"] is not None
        waiting = await world.outbound(behind)
        assert (waiting["state"], waiting["reasonCode"], waiting["waitsFor"]) == ("queued", "behind", outbound_id)
        await world.clock.leap(24 * 3600, step_s=600)
        left = await world.outbound(outbound_id)
        assert (left["state"], left["reasonCode"]) == ("unknown", "unresolved")
        assert world.really_sent == ["buenas"]


async def test_a_late_echo_resolves_what_was_left_to_a_person(world: SendingWorld) -> None:
    world.behave(send_answer="dropped", send_answer_next=1, echo="late", echo_late_ms=4000, conversation_error_rate=1.0)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        await world.becomes(outbound_id, "unknown")
        found = await world.becomes(outbound_id, "delivered", step_s=600)
        assert found["parts"][0]["platformMessageId"]


@pytest.mark.parametrize("answer", ["normal", "error_after_sending", "error_before"])
async def test_a_human_who_writes_in_the_app_meanwhile_is_noticed_and_not_taken_for_us(
    world: SendingWorld, answer: str
) -> None:
    world.behave(send_answer=answer, send_answer_next=1, echo="normal", echo_after_ms=300)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation, "del bot")
        await world.becomes(outbound_id, "unknown", "sent")
        await world.typed("del telefono")
        await world.becomes(outbound_id, *SENT, step_s=2)
        assert sorted(one or "" for one in world.really_sent) == ["del bot"]
        texts = [one["content"] for one in await world.client.messages(conversation)]
        assert sorted(texts) == ["del bot", "del telefono", "hola"]
        assert "conversation.human_replied" in await world.told("conversation.")
        shown = await world.client.get(f"/api/messaging/conversations/{conversation['id']}")
        assert shown["automationPausedUntil"] is not None


async def test_the_same_text_typed_in_the_app_at_the_same_time_stays_two_messages(world: SendingWorld) -> None:
    world.behave(send_answer="error_after_sending", send_answer_next=1, echo="normal", echo_after_ms=300)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation, "ok")
        await world.becomes(outbound_id, "unknown", "sent", *SENT)
        await world.typed("ok")
        await world.becomes(outbound_id, "delivered", step_s=2)

        async def all_there() -> bool:
            await world.clock.leap(0.1)
            return [one["content"] for one in await world.client.messages(conversation)] == ["hola", "ok", "ok"]

        await eventually(all_there)
        assert world.really_sent == ["ok"]


async def test_a_human_elsewhere_is_told_of_and_automation_pauses(world: SendingWorld) -> None:
    async with world.sending():
        conversation = await world.wrote()
        await world.typed("yo mismo")
        (event,) = await world.events("conversation.human_replied")
        assert event["conversation"]["id"] == conversation["id"]
        shown = await world.client.get(f"/api/messaging/conversations/{conversation['id']}")
        assert shown["automationPausedUntil"] == event["conversation"]["automationPausedUntil"]
        await world.clock.leap(600, step_s=60)
        await world.typed("yo otra vez")
        first, second = (one["automationPausedUntil"] for one in await world.events("conversation.human_replied"))
        assert first < second, "each answer that moves the end of the pause is told: no other event is needed for it"
        shown = await world.client.get(f"/api/messaging/conversations/{conversation['id']}")
        assert shown["automationPausedUntil"] == second


async def test_what_the_participant_has_seen_is_read(world: SendingWorld) -> None:
    world.behave(customer_reads_ms=50)
    async with world.sending():
        conversation = await world.wrote()
        read = await world.becomes(await world.answer(conversation), "read")
        assert read["parts"][0]["deliveredAt"] is not None
        assert (await world.told("outbound."))[-1] == "outbound.read"


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ({"attachments": [{"type": "like_heart"}]}, [(None, ("like_heart",))]),
        (
            {"text": "mira", "attachments": [{"type": "like_heart"}]},
            [("mira", ()), (None, ("like_heart",))],
        ),
    ],
)
async def test_a_text_with_an_attachment_is_two_calls_in_order(
    world: SendingWorld, body: dict[str, Any], calls: list[tuple[str | None, tuple[str, ...]]]
) -> None:
    async with world.sending():
        conversation = await world.wrote()
        path = f"/api/messaging/conversations/{conversation['id']}/messages"
        accepted = await world.client.send("POST", path, body, status=202)
        await world.becomes(accepted["id"], "delivered")
        ledger = world.server.sending.ledger.messages
        assert [(one.text, one.attachments) for one in ledger] == calls


async def test_the_echo_of_the_first_part_does_not_stop_the_second(world: SendingWorld) -> None:
    world.behave(echo="late", echo_late_ms=400)
    async with world.sending():
        conversation = await world.wrote()
        path = f"/api/messaging/conversations/{conversation['id']}/messages"
        body = {"text": "uno", "attachments": [{"type": "image", "url": "https://127.0.0.1:9/1.jpg"}]}
        accepted = await world.client.send("POST", path, body, status=202)

        async def first_is_delivered() -> bool:
            await world.clock.leap(0.05)
            return (await world.outbound(accepted["id"]))["parts"][0]["deliveredAt"] is not None

        await eventually(first_is_delivered)
        failed = await world.becomes(accepted["id"], "failed", step_s=5)
        assert (failed["reasonCode"], failed["parts"][1]["attempts"]) == ("bad_media", 2)
