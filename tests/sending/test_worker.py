"""Limits, waiting, accounts that cannot send, and what is set aside."""

import asyncio
from html import unescape
from typing import Any

import aiohttp
import pytest
from inboxd.config.schema import AccountSettings, BudgetSettings, ReconciliationSettings, SendingSettings
from inboxd.domain.outbound import OutboundKind, PartContent, SentBy
from inboxd.sending import store
from inboxd.sending.outbound import NewOutbound, OutboundBody
from inboxd.sending.worker import LANES
from inboxd.simulator.people import igsid

from tests.sending.sending_world import SendingWorld
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, OWN_PAGE, Json, eventually, full_disk

SENT = ("sent", "delivered")


async def private_reply(
    world: SendingWorld, comment_id: str, text: str = "en privado", *, participant_id: str | None = None
) -> str:
    """Put a private reply into the outbox, as the feature that keeps comments does. Returns its id."""
    new = NewOutbound(
        kind=OutboundKind.PRIVATE_REPLY,
        account_id=ACCOUNT,
        participant_id=participant_id,
        comment_id=comment_id,
        sent_by=SentBy.AUTOMATION,
        body=OutboundBody(text=text),
        parts=(PartContent(text=text),),
        requested_by="test",
        expires_at=world.clock.now_ms() + 7 * 86_400_000,
    )
    now = world.clock.now_ms()
    return str(await world.database.write(lambda connection: store.accept(connection, new, now)))


async def woken(world: SendingWorld) -> None:
    """The worker looks: another message was accepted."""
    conversation = await world.wrote(igsid(5))
    await world.becomes(await world.answer(conversation, "toc"), *SENT)


async def test_sends_use_nothing_of_the_hour_of_other_calls_and_do_not_wait_for_it(world: SendingWorld) -> None:
    async with world.sending(budget=BudgetSettings(calls_per_hour=2, calls_per_second=1000)):
        conversation = await world.wrote()
        for number in range(5):
            await world.becomes(await world.answer(conversation, str(number)), *SENT)
        (used,) = [one["used"] for one in (await world.client.get("/api/budget"))["budgets"]]
        assert used <= 2


async def test_the_limit_of_the_hour_holds_over_a_restart_and_says_until_when(world: SendingWorld) -> None:
    limits = SendingSettings(per_second=300, per_hour=3)
    async with world.sending(sending=limits):
        conversation = await world.wrote()
        ids = [await world.answer(conversation, str(number)) for number in range(5)]
        await world.becomes(ids[2], *SENT)
        waiting = await world.waits(ids[3])
        assert waiting["reasonCode"] == "throttled"
        assert "3 sends of this hour" in waiting["reason"]
        assert waiting["waitsUntil"] is not None
    async with world.sending(sending=limits):
        await world.clock.leap(60)
        assert world.really_sent == ["0", "1", "2"]
        await world.becomes(ids[4], *SENT, step_s=120)
        assert world.really_sent == ["0", "1", "2", "3", "4"]


async def test_no_more_messages_leave_in_a_second_than_are_allowed(world: SendingWorld) -> None:
    world.behave(sends_per_s=4)
    async with world.sending(sending=SendingSettings(per_second=4, per_hour=1000)):
        conversations = [await world.wrote(igsid(number)) for number in range(12)]
        ids = [await world.answer(one, "hola") for one in conversations]
        for one in ids:
            await world.becomes(one, *SENT, step_s=0.2)
        assert world.server.sending.ledger.refused == {}
        assert len(world.really_sent) == 12


async def test_one_conversation_does_not_wait_for_another(world: SendingWorld) -> None:
    world.behave(unreachable=(ANA,))
    async with world.sending():
        blocked, free = await world.wrote(ANA), await world.wrote(BRUNO)
        failed = await world.becomes(await world.answer(blocked, "a"), "failed")
        assert failed["reasonCode"] == "unreachable_person"
        await world.becomes(await world.answer(free, "b"), *SENT)
        assert world.really_sent == ["b"]


async def test_after_a_failure_the_next_goes_on_when_the_setting_says_so(world: SendingWorld) -> None:
    world.behave(send_error_code=100, send_error_subcode=2534015, send_error_next=1)
    limits = SendingSettings(per_second=300, per_hour=1000, after_failure="continue")
    async with world.sending(sending=limits):
        conversation = await world.wrote()
        first, second = await world.answer(conversation, "uno"), await world.answer(conversation, "dos")
        await world.becomes(second, *SENT)
        assert (await world.outbound(first))["state"] == "failed"


async def test_what_waits_for_a_token_is_sent_once_there_is_one(world: SendingWorld) -> None:
    world.behave(token_expired=True)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        waiting = await world.waits(outbound_id)
        assert waiting["reasonCode"] == "account_not_callable"
        world.behave(token_expired=False)
        await world.leaping(world.client.send("POST", f"/api/accounts/{ACCOUNT}/check"))
        await world.becomes(outbound_id, *SENT)


async def test_a_host_that_cannot_be_reached_makes_messages_wait_and_nothing_unknown(world: SendingWorld) -> None:
    good = world.url
    world.url = "http://127.0.0.1:9"
    async with world.sending():
        await world.database.execute("SELECT 1")
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        waiting = await world.waits(outbound_id)
        assert (waiting["reasonCode"], waiting["parts"][0]["attempts"]) == ("not_connected", 0)
        await world.clock.leap(600, step_s=10)
        assert (await world.outbound(outbound_id))["state"] == "queued"
    world.url = good
    async with world.sending():
        await world.becomes(outbound_id, *SENT)
        assert world.really_sent == ["buenas"]


async def test_a_refused_tag_is_learned_and_not_tried_again(world: SendingWorld) -> None:
    world.behave(human_agent=False)
    async with world.sending(accounts=(_account(human_agent=True),)):
        conversation = await world.wrote()
        await world.clock.leap(2 * 86_400, step_s=3600)
        failed = await world.becomes(await world.answer(conversation), "failed")
        assert (failed["reasonCode"], failed["metaCode"]) == ("no_permission", 10)
        assert failed["parts"][0]["tag"] == "HUMAN_AGENT"
        shown = await world.client.get(f"/api/messaging/conversations/{conversation['id']}")
        assert (shown["canReply"], shown["humanAgentUntil"]) == (False, None)


async def test_a_human_answers_after_a_day_with_the_tag(world: SendingWorld) -> None:
    world.behave(human_agent=True)
    async with world.sending(accounts=(_account(human_agent=True),)):
        conversation = await world.wrote()
        await world.clock.leap(2 * 86_400, step_s=3600)
        await world.becomes(await world.answer(conversation), *SENT)
        assert [one.tag for one in world.server.sending.ledger.messages] == ["HUMAN_AGENT"]


async def test_meta_closes_the_window_earlier_and_the_tag_is_tried_for_a_human(world: SendingWorld) -> None:
    world.behave(human_agent=True, reply_window_s=60)
    async with world.sending(accounts=(_account(human_agent=True),)):
        conversation = await world.wrote()
        await world.clock.leap(120)
        await world.becomes(await world.answer(conversation), *SENT)
        assert [one.tag for one in world.server.sending.ledger.messages] == ["HUMAN_AGENT"]


def _account(**more: Any) -> Any:
    return AccountSettings(id=ACCOUNT, name="shop", **more)


async def test_a_row_that_cannot_be_read_is_set_aside_and_the_others_go_on(world: SendingWorld) -> None:
    world.behave(send_throttled=True)
    async with world.sending():
        conversation, other = await world.wrote(ANA), await world.wrote(BRUNO)
        poison = await world.answer(conversation, "veneno")
        await world.waits(poison)
        behind = await world.answer(conversation, "detras")
        await world.database.execute(
            "UPDATE outbound_parts SET content = '{\"text\": 7}' WHERE outbound_id = ?", (int(poison),)
        )
        world.behave(send_throttled=False)
        await world.clock.leap(200, step_s=20)
        await world.becomes(await world.answer(other, "sano"), *SENT, step_s=10)
        await world.becomes(behind, *SENT, step_s=10)
        assert sorted(one or "" for one in world.really_sent) == ["detras", "sano"]
    async with world.sending():
        await world.becomes(await world.answer(other, "despues"), *SENT)


@pytest.mark.parametrize("served", [True, False])
async def test_a_row_that_cannot_be_read_and_was_being_sent_keeps_nobody_from_sending(
    world: SendingWorld, capsys: pytest.CaptureFixture[str], *, served: bool
) -> None:
    world.behave(send_throttled=True)
    async with world.sending():
        poison = await world.answer(await world.wrote(ANA), "veneno")
        await world.waits(poison)
        for sql in (
            "UPDATE outbound_parts SET content = '{\"text\": 7}', state = 'sending', attempts = 1, began_at = 1",
            "INSERT INTO outbound_attempts (part_id, began_at) SELECT id, 1 FROM outbound_parts",
            "UPDATE outbound_messages SET state = 'sending'",
        ):
            await world.database.execute(sql)
        if not served:
            await world.database.execute("UPDATE outbound_messages SET account_id = '17841400000000009'")
    world.behave(send_throttled=False)
    async with world.sending():
        await world.becomes(await world.answer(await world.wrote(BRUNO), "sano"), *SENT, step_s=5)
        await world.clock.leap(120, step_s=10)
        found = await world.outbound(poison)
        assert (found["state"], found["parts"][0]["state"]) == ("unknown", "unknown")
        assert world.really_sent == ["sano"]
    crashes = [line for line in capsys.readouterr().out.splitlines() if " sending_crashed " in line]
    assert crashes
    assert all(f"account_id={found['accountId']}" in line for line in crashes), crashes


async def test_an_answer_is_kept_while_the_disk_refuses_it(world: SendingWorld) -> None:
    world.behave(send_answer="late", send_answer_ms=600, echo="never")
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)

        async def being_sent() -> bool:
            await world.clock.leap(0.05)
            return len(world.really_sent) == 1

        await eventually(being_sent)
        with full_disk(world.path):
            await asyncio.sleep(0.9)
            assert (await world.outbound(outbound_id))["state"] == "sending"
        sent = await world.becomes(outbound_id, "sent", step_s=1)
        assert sent["parts"][0]["attempts"] == 1
        assert world.really_sent == ["buenas"]


@pytest.mark.parametrize(("answer_ms", "unknown"), [(300, 0), (3000, 1)])
async def test_a_send_in_flight_is_awaited_for_a_moment_when_the_daemon_stops(
    world: SendingWorld, answer_ms: int, unknown: int
) -> None:
    world.behave(send_answer="late", send_answer_next=1, send_answer_ms=answer_ms, echo="never")
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)

        async def being_sent() -> bool:
            await world.clock.leap(0.05)
            return len(world.really_sent) == 1

        await eventually(being_sent)
    async with world.sending():
        await world.becomes(outbound_id, "sent", step_s=5)
        assert (await world.told("outbound.")).count("outbound.unknown") == unknown
        assert world.really_sent == ["buenas"]


async def test_a_participant_who_is_erased_while_a_message_leaves_stays_erased(world: SendingWorld) -> None:
    world.behave(send_answer="late", send_answer_ms=500, echo="never")
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation = await world.wrote()
        await world.answer(conversation)

        async def being_sent() -> bool:
            await world.clock.leap(0.05)
            return len(world.really_sent) == 1

        await eventually(being_sent)
        await world.leaping(world.client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}"))
        await asyncio.sleep(0.8)
        await world.clock.leap(300, step_s=30)
        assert await world.database.read("SELECT mid, text, source, direction FROM messages") == []
        assert await world.client.conversations() == []
        assert (await world.client.get("/api/messaging/outbound"))["outbound"] == []


async def test_a_removed_account_says_why_its_messages_wait_and_goes_on_when_it_is_back(world: SendingWorld) -> None:
    world.behave(send_throttled=True)
    async with world.sending(accounts=()):
        added = {"token": "the-account-token", "name": "shop"}
        await world.leaping(world.client.send("POST", "/api/accounts", added, status=201))
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        await world.waits(outbound_id)
        await world.clock.leap(60)
        await world.leaping(world.client.send("DELETE", f"/api/accounts/{ACCOUNT}", status=204))
        await world.clock.leap(200, step_s=50)
        waiting = await world.outbound(outbound_id)
        assert waiting["state"] == "queued"
        world.behave(send_throttled=False)
        await world.leaping(world.client.send("POST", "/api/accounts", added, status=201))
        await world.becomes(outbound_id, *SENT, step_s=5)


async def test_what_is_unknown_keeps_nothing_else_from_being_sent(world: SendingWorld) -> None:
    """More answers were not seen than there are lanes, and no call is left with which to look for them."""
    world.behave(send_answer="odd_error_after_sending", echo="never")
    budget = BudgetSettings(calls_per_hour=5, calls_per_second=1000)
    async with world.sending(budget=budget, reconciliation=ReconciliationSettings(every_minutes=0)):
        ids = [await world.answer(await world.wrote(igsid(number))) for number in range(LANES + 2)]
        for one in ids:
            await world.becomes(one, "unknown")
        await world.clock.leap(300, step_s=10)
        world.behave(send_answer="normal")
        other = await world.answer(await world.wrote(igsid(LANES + 5)), "another")
        await world.becomes(other, "sent")
        assert {(await world.outbound(one))["state"] for one in ids} == {"unknown"}


async def test_an_echo_tells_what_became_of_a_message_although_no_call_is_left_to_look_for_others(
    world: SendingWorld,
) -> None:
    world.behave(send_answer="odd_error_after_sending", echo="never")
    budget = BudgetSettings(calls_per_hour=5, calls_per_second=1000)
    async with world.sending(budget=budget, reconciliation=ReconciliationSettings(every_minutes=0)):
        ids = [await world.answer(await world.wrote(igsid(number))) for number in range(LANES + 2)]
        for one in ids:
            await world.becomes(one, "unknown")
        await world.clock.leap(300, step_s=10)
        for who in (LANES + 1, 0):  # one for which no lane is free, and one that waits to be looked for at Meta
            await world.typed("buenas", igsid(who))
            await world.becomes(ids[who], *SENT)


async def test_a_private_reply_opens_the_conversation_with_the_author(world: SendingWorld) -> None:
    async with world.sending():
        await world.clock.leap(5)
        post = world.server.posts.publish(ACCOUNT)
        comment = world.server.posts.write(post.id, BRUNO, "precio?")
        outbound_id = await private_reply(world, comment.id)
        await woken(world)
        sent = await world.becomes(outbound_id, *SENT)
        assert sent["participantPlatformId"] == BRUNO
        (conversation,) = [one for one in await world.client.conversations() if one["participantPlatformId"] == BRUNO]
        assert [one["content"] for one in await world.client.messages(conversation)] == ["en privado"]
        assert "conversation.human_replied" not in await world.told("conversation.")


@pytest.mark.parametrize("echo", ["early", "normal", "doubled"])
async def test_an_unseen_answer_to_a_private_reply_is_found_by_its_echo(world: SendingWorld, echo: str) -> None:
    world.behave(send_answer="dropped", send_answer_next=1, echo=echo)
    async with world.sending():
        await world.clock.leap(5)
        post = world.server.posts.publish(ACCOUNT)
        comment = world.server.posts.write(post.id, BRUNO, "precio?")
        outbound_id = await private_reply(world, comment.id)
        await woken(world)
        found = await world.becomes(outbound_id, "delivered", step_s=2)
        assert found["participantPlatformId"] == BRUNO
        assert world.really_sent.count("en privado") == 1
        assert "conversation.human_replied" not in await world.told("conversation.")


async def test_reactions_typing_and_seen_are_made_at_once(world: SendingWorld) -> None:
    async with world.sending():
        conversation = await world.wrote()
        (message,) = await world.client.messages(conversation)
        path = f"/api/messaging/messages/{message['id']}/reaction"
        assert await world.client.send("PUT", path, {"reaction": "👏"}) == {"success": True}
        (shown,) = await world.client.messages(conversation)
        assert [(one["by"], one["emoji"]) for one in shown["reactions"]] == [(ACCOUNT, "👏")]
        await world.clock.leap(1)
        assert await world.client.send("DELETE", path) == {"success": True}
        (shown,) = await world.client.messages(conversation)
        assert shown["reactions"] == []
        base = f"/api/messaging/conversations/{conversation['id']}"
        await world.client.send("POST", f"{base}/typing", {"on": True})
        await world.client.send("POST", f"{base}/typing", {"on": False})
        await world.client.send("POST", f"{base}/seen")
        actions = [one.action for one in world.server.sending.ledger.actions]
        assert actions == ["react", "unreact", "typing_on", "typing_off", "mark_seen"]
        assert await world.told("message.reaction") == [
            "message.reaction_added",
            "message.reaction_removed",
        ]


async def test_a_refused_reaction_is_a_problem_with_the_reason_and_changes_nothing(world: SendingWorld) -> None:
    world.behave(reactions="none")
    async with world.sending():
        conversation = await world.wrote()
        (message,) = await world.client.messages(conversation)
        path = f"/api/messaging/messages/{message['id']}/reaction"
        problem: Json = await world.client.send("PUT", path, {"reaction": "👏"}, status=409)
        assert "Meta refused it" in problem["detail"]
        await world.client.send("PUT", "/api/messaging/messages/999/reaction", {"reaction": "👏"}, status=404)
        await world.client.send("POST", "/api/messaging/conversations/999/typing", {"on": True}, status=404)
        (shown,) = await world.client.messages(conversation)
        assert shown["reactions"] == []


async def test_the_overview_says_what_failed(world: SendingWorld) -> None:
    world.behave(send_error_code=551, send_error_subcode=1545041)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        await world.becomes(outbound_id, "failed")
        assert "1 message failed in a day. The last: The participant cannot be reached" in await overview(world)
        await world.client.send("POST", f"/api/messaging/outbound/{outbound_id}/cancel")
        assert "failed in a day" not in await overview(world)


async def overview(world: SendingWorld) -> str:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        form = {"token": ADMIN_TOKEN}
        async with session.post(world.client.admin_url + "/sign-in", data=form, headers=OWN_PAGE) as response:
            return unescape(await response.text())


async def test_the_overview_and_the_metrics_say_what_waits(world: SendingWorld) -> None:
    world.behave(send_throttled=True)
    async with world.sending():
        conversation = await world.wrote()
        await world.waits(await world.answer(conversation))
        await world.clock.leap(20 * 60, step_s=60)
        headers = {"Authorization": "Bearer the-admin-token"}
        async with world.client.session.get(world.client.admin_url + "/metrics", headers=headers) as response:
            text = await response.text()
        assert f'inboxd_outbound_waiting{{account="{ACCOUNT}"}} 1.0' in text
        async with world.client.session.get(f"{world.client.admin_url}/", headers=headers) as response:
            page = await response.text()
        assert response.status == 200
        assert "1 message not sent yet" in page
        assert "Waiting to be sent" in page


@pytest.mark.parametrize(
    ("code", "subcode", "reason_code"),
    [(2022, None, "account_restricted"), (368, None, "account_restricted"), (200, 2534041, "no_permission")],
)
async def test_a_restriction_holds_over_a_restart_and_says_the_same_reason(
    world: SendingWorld, code: int, subcode: int | None, reason_code: str
) -> None:
    world.behave(send_error_code=code, send_error_subcode=subcode, send_error_next=1)
    async with world.sending():
        first = await world.answer(await world.wrote())
        before = await world.waits(first)
        assert before["reasonCode"] == reason_code
    async with world.sending():
        calls = world.calls("me/messages")
        second = await world.answer(await world.wrote(BRUNO), "dos")
        for one in (first, second):
            await world.clock.leap(5)
            after = await world.waits(one)
            shown = ("reasonCode", "reason", "metaCode", "metaSubcode")
            assert [after[name] for name in shown] == [before[name] for name in shown]
        assert world.calls("me/messages") == calls, "nothing is tried while Meta restricts the account"
        await world.becomes(second, *SENT, step_s=120)
    async with world.sending():
        await world.becomes(await world.answer(await world.wrote(), "tres"), *SENT)


async def test_a_new_token_ends_a_restriction_also_over_a_restart(world: SendingWorld) -> None:
    world.behave(send_error_code=2022, send_error_next=1)
    async with world.sending():
        outbound_id = await world.answer(await world.wrote())
        await world.waits(outbound_id)
        world.behave(send_error_code=0, send_throttled=True)
        await world.leaping(world.client.send("POST", f"/api/accounts/{ACCOUNT}/check"))
        await world.clock.leap(1)
    world.behave(send_throttled=False)
    async with world.sending():
        waiting = await world.becomes(outbound_id, *SENT, step_s=5, within_s=5)
        assert waiting["reasonCode"] is None


@pytest.mark.parametrize("text", ["yo mismo", "en privado"])
@pytest.mark.parametrize(("answer", "replies"), [("late", 1), ("late", 2), ("dropped", 1)])
async def test_a_private_reply_hides_nobody_else_whom_the_owner_wrote_to(
    world: SendingWorld, answer: str, replies: int, text: str
) -> None:
    world.behave(send_answer=answer, send_answer_ms=300, echo="never")
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        other = await world.wrote(igsid(5))
        post = world.server.posts.publish(ACCOUNT)
        comments = [world.server.posts.write(post.id, igsid(20 + number), "precio?") for number in range(replies)]
        ids = [await private_reply(world, one.id) for one in comments]
        await world.answer(other, "toc")

        async def under_way() -> bool:
            await world.clock.leap(0.05)
            return world.really_sent.count("en privado") == replies

        await eventually(under_way)
        await world.typed(text, igsid(7))
        for one in ids:
            await world.becomes(one, *SENT, "unknown", step_s=1)
        told = [one["participantPlatformId"] for one in await world.events("conversation.human_replied")]
        may_be_ours = (answer, text) == ("dropped", "en privado")
        assert told == ([] if may_be_ours else [igsid(7)])
