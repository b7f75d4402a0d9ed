"""Accounts that are removed, added again and erased, and participants who are erased, while messages leave."""

import asyncio
from typing import Any

import pytest
from inboxd.config.schema import ReconciliationSettings
from inboxd.conversations.read_back import ReadBackService
from inboxd.conversations.read_back_store import Joined
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.send_client import SendReceipt
from inboxd.meta.send_errors import SendError
from inboxd.meta.single_post import NotSentError
from inboxd.runtime.secret import Secret
from inboxd.sending.channels import DirectMessages
from inboxd.sending.delivery_store import Begun

from tests.sending.sending_world import SendingWorld
from tests.support import ACCOUNT, ANA, BRUNO, eventually

SENT = ("sent", "delivered")
ADDED = {"token": "the-account-token", "name": "shop"}


def workers() -> list[str]:
    """The workers of the account that run, by name."""
    return sorted(name for name in (task.get_name() for task in asyncio.all_tasks()) if name.endswith(f":{ACCOUNT}"))


async def account_erased(world: SendingWorld) -> None:
    """The account is erased with everybody in it."""
    deletion = await world.client.send("POST", "/api/deletions", {"accountId": ACCOUNT}, status=202)

    async def erased() -> bool:
        await world.clock.leap(1)
        status: str = (await world.client.get(f"/api/deletions/{deletion['code']}"))["status"]
        return status == "completed"

    await eventually(erased)


async def being_sent(world: SendingWorld, count: int = 1) -> None:
    """Wait until Meta has so many messages."""

    async def there() -> bool:
        await world.clock.leap(0.05)
        return len(world.really_sent) == count

    await eventually(there)


async def test_an_account_that_is_added_again_while_it_is_removed_is_served(world: SendingWorld) -> None:
    world.behave(send_answer="late", send_answer_ms=700, send_answer_next=1, echo="never")
    async with world.sending(accounts=()):
        await world.leaping(world.client.send("POST", "/api/accounts", ADDED, status=201))
        running = workers()
        conversation = await world.wrote()
        first = await world.answer(conversation, "uno")
        await being_sent(world)
        removing = asyncio.create_task(world.client.send("DELETE", f"/api/accounts/{ACCOUNT}", status=204))

        async def gone() -> bool:
            return not (await world.client.get("/api/accounts"))["accounts"]

        await eventually(gone)
        await world.leaping(world.client.send("POST", "/api/accounts", ADDED, status=201))
        await removing
        assert workers() == running
        second = await world.answer(conversation, "dos")
        await world.becomes(second, *SENT, step_s=1, within_s=5)
        assert (await world.outbound(first))["state"] in SENT
        assert world.really_sent == ["uno", "dos"]
        base = f"/api/messaging/conversations/{conversation['id']}"
        await world.client.send("POST", f"{base}/typing", {"on": True})


async def test_an_echo_that_comes_after_the_erasure_brings_nothing_back(world: SendingWorld) -> None:
    world.behave(echo="never")
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation = await world.wrote()
        sent = await world.becomes(await world.answer(conversation), "sent")
        echo = world.item(ACCOUNT, ANA, "buenas", is_echo=True)
        echo["message"]["mid"] = sent["parts"][0]["platformMessageId"]
        await world.clock.leap(2)
        await world.erased(ANA)
        await world.sent(echo)
        assert await world.client.conversations() == []
        assert await world.told("conversation", "message") == []
        assert await world.database.read("SELECT id FROM deliveries WHERE instr(CAST(body AS TEXT), 'buenas')") == []
        await world.wrote()  # who writes again is there again
        assert len(await world.client.conversations()) == 1


async def test_what_was_sent_is_found_though_the_latest_messages_were_deleted_meanwhile(world: SendingWorld) -> None:
    world.behave(send_answer="error_after_sending", send_answer_next=1, echo="never")
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation, other = await world.wrote(ANA), await world.wrote(BRUNO)
        outbound_id = await world.answer(conversation)
        await world.becomes(outbound_id, "unknown")
        await world.client.send("DELETE", f"/api/messaging/conversations/{other['id']}", status=204)
        await world.becomes(outbound_id, "sent", step_s=5)
        assert world.really_sent == ["buenas"]


async def test_what_was_sent_is_found_though_its_conversation_was_deleted_meanwhile(world: SendingWorld) -> None:
    world.behave(send_answer="error_after_sending", send_answer_next=1, echo="never")
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation = await world.wrote(ANA)
        outbound_id = await world.answer(conversation)
        await world.becomes(outbound_id, "unknown")
        await world.client.send("DELETE", f"/api/messaging/conversations/{conversation['id']}", status=204)
        await world.becomes(outbound_id, "sent", "failed", step_s=5)
        assert (await world.outbound(outbound_id))["state"] == "sent"
        assert world.really_sent == ["buenas"]


async def test_what_is_read_of_an_account_that_is_erased_meanwhile_is_not_stored(
    world: SendingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.behave(send_answer="error_after_sending", send_answer_next=1, echo="never")
    store, read = ReadBackService.store, asyncio.Event()

    async def erased_meanwhile(self: ReadBackService, *found: Any, **more: Any) -> Joined:
        for table in ("outbound_messages", "conversations"):
            await world.database.execute(f"DELETE FROM {table}")
        read.set()
        return await store(self, *found, **more)

    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation = await world.wrote(ANA)
        await world.becomes(await world.answer(conversation), "unknown")
        monkeypatch.setattr(ReadBackService, "store", erased_meanwhile)

        async def was_read() -> bool:
            await world.clock.leap(5)
            return read.is_set()

        await eventually(was_read)
        await world.clock.leap(5)
        assert await world.client.conversations() == []


@pytest.mark.parametrize("whole_account", [False, True])
async def test_nothing_leaves_for_somebody_whose_erasure_was_answered(
    world: SendingWorld, monkeypatch: pytest.MonkeyPatch, *, whole_account: bool
) -> None:
    """A connection may take long to come about, and what waits for it has been begun before the erasure."""
    send, begun, connected = DirectMessages.send, asyncio.Event(), asyncio.Event()

    async def slowly(self: DirectMessages, one: Begun) -> SendReceipt:
        begun.set()
        await connected.wait()
        return await send(self, one)

    monkeypatch.setattr(DirectMessages, "send", slowly)
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation, other = await world.wrote(ANA), await world.wrote(BRUNO)
        await world.answer(conversation, "para ana")
        kept = await world.answer(other, "para bruno")

        async def is_begun() -> bool:
            await world.clock.leap(0.05)
            return begun.is_set()

        await eventually(is_begun)
        await (account_erased(world) if whole_account else world.erased(ANA))
        connected.set()
        if not whole_account:
            await world.becomes(kept, *SENT)
        await world.clock.leap(300, step_s=30)
        assert world.really_sent == ([] if whole_account else ["para bruno"])
        assert len(await world.client.conversations()) == (0 if whole_account else 1)


async def test_what_waits_in_a_conversation_that_is_deleted_fails_and_says_why(world: SendingWorld) -> None:
    world.behave(send_throttled=True)
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation = await world.wrote()
        first, behind = [await world.answer(conversation, text) for text in ("uno", "dos")]
        await world.waits(first)
        await world.client.send("DELETE", f"/api/messaging/conversations/{conversation['id']}", status=204)
        world.behave(send_throttled=False)
        failed = await world.becomes(first, "failed", step_s=10)
        assert failed["reason"].startswith("The conversation was deleted here.")
        await world.client.send("POST", f"/api/messaging/outbound/{first}/cancel")
        await world.becomes(behind, "failed", step_s=10)
        again = await world.answer(await world.wrote(text="hola otra vez"), "tres")
        await world.client.send("POST", f"/api/messaging/outbound/{behind}/cancel")
        await world.becomes(again, *SENT, step_s=5)
        assert world.really_sent == ["tres"]


async def test_what_waits_and_what_is_unknown_say_that_the_account_is_not_served(world: SendingWorld) -> None:
    world.behave(send_answer="error_after_sending", send_answer_next=1, echo="never")
    async with world.sending(accounts=(), reconciliation=ReconciliationSettings(every_minutes=0)):
        await world.leaping(world.client.send("POST", "/api/accounts", ADDED, status=201))
        unknown = await world.answer(await world.wrote(ANA), "uno")
        await world.becomes(unknown, "unknown")
        world.behave(send_throttled=True)
        waiting = await world.answer(await world.wrote(BRUNO), "dos")
        await world.waits(waiting)
        await world.leaping(world.client.send("DELETE", f"/api/accounts/{ACCOUNT}", status=204))
        for one, state, code in ((unknown, "unknown", "answer_not_seen"), (waiting, "queued", "account_not_callable")):
            found = await world.outbound(one)
            assert (found["state"], found["reasonCode"]) == (state, code)
            assert "not served" in found["reason"]
            assert found["metaCode"] == (2 if state == "unknown" else None)
        world.behave(send_throttled=False)
        await world.leaping(world.client.send("POST", "/api/accounts", ADDED, status=201))
        for one in (unknown, waiting):
            await world.becomes(one, *SENT, step_s=5)
        assert sorted(one or "" for one in world.really_sent) == ["dos", "uno"]


@pytest.mark.parametrize("what", ["refused", "no token"])
async def test_a_token_that_was_replaced_while_the_old_one_was_refused_is_used_at_once(
    world: SendingWorld, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    send, refused, given = DirectMessages.send, asyncio.Event(), asyncio.Event()

    async def told_late(self: DirectMessages, one: Begun) -> SendReceipt:
        try:
            return await send(self, one)
        except (SendError, NotSentError):
            refused.set()
            await given.wait()
            raise

    monkeypatch.setattr(DirectMessages, "send", told_late)
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        conversation = await world.wrote()
        world.behave(token_expired=what == "refused")
        if what == "no token":
            monkeypatch.setattr(AccountGraph, "require_token", _no_token)
        outbound_id = await world.answer(conversation)

        async def is_refused() -> bool:
            await world.clock.leap(0.05)
            return refused.is_set()

        await eventually(is_refused)
        monkeypatch.undo()
        world.behave(token_expired=False)
        await world.leaping(world.client.send("POST", f"/api/accounts/{ACCOUNT}/check"))
        await world.clock.leap(1)
        given.set()
        await world.becomes(outbound_id, *SENT, step_s=1, within_s=5)


def _no_token(_graph: AccountGraph) -> Secret:
    msg = "there is no token for this account"
    raise GraphError(msg, FailureAction.NEEDS_LOGIN)


async def test_an_echo_that_comes_after_its_account_was_erased_brings_nothing_back(world: SendingWorld) -> None:
    world.behave(echo="never")
    async with world.sending(reconciliation=ReconciliationSettings(every_minutes=0)):
        await world.becomes(await world.answer(await world.wrote()), "sent")
        echo = world.item(ACCOUNT, ANA, "buenas", is_echo=True)
        await world.clock.leap(2)
        await account_erased(world)
        await world.sent(echo)
        assert await world.client.conversations() == []
        assert await world.database.read("SELECT id FROM deliveries WHERE instr(CAST(body AS TEXT), 'buenas')") == []
        await world.clock.leap(2)
        await world.wrote()  # whoever writes afterwards is there
