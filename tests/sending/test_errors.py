"""What becomes of a message after each error of the table of the Send API."""

import pytest
from inboxd.meta.send_errors import BY_SUBCODE, TABLE, SendFailure, send_row

from tests.sending.sending_world import SendingWorld

ROWS = [*TABLE, *((100, one) for one in BY_SUBCODE), (213, None)]
SENT = ("sent", "delivered")
ENDS = {SendFailure.REFUSED, SendFailure.CLOSED, SendFailure.NO_TAG}
WAITS = {SendFailure.THROTTLED, SendFailure.STOPPED, SendFailure.RESTRICTED, SendFailure.TOKEN}


def rows(*failures: SendFailure) -> list[tuple[int, int | None]]:
    return [one for one in ROWS if send_row(*one).failure in failures]


def fails_once(world: SendingWorld, code: int, subcode: int | None) -> None:
    world.behave(send_error_code=code, send_error_subcode=subcode, send_error_next=1)


@pytest.mark.parametrize(("code", "subcode"), rows(*ENDS))
async def test_a_refused_message_has_failed_with_the_reason_and_holds_its_conversation_back(
    world: SendingWorld, code: int, subcode: int | None
) -> None:
    fails_once(world, code, subcode)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id, behind = await world.answer(conversation, "uno"), await world.answer(conversation, "dos")
        failed = await world.becomes(outbound_id, "failed")
        assert (failed["metaCode"], failed["metaSubcode"]) == (code, subcode)
        assert failed["reasonCode"] == send_row(code, subcode).reason_code
        assert str(code) in failed["reason"]
        await world.clock.leap(600, step_s=60)
        assert world.really_sent == []
        waiting = await world.outbound(behind)
        assert (waiting["state"], waiting["waitsFor"]) == ("queued", outbound_id)
        if send_row(code, subcode).failure is SendFailure.CLOSED:
            shown = await world.client.get(f"/api/messaging/conversations/{conversation['id']}")
            assert shown["canReply"] is False
            await world.wrote(text="otra cosa")  # that opens it again
        await world.client.send("POST", f"/api/messaging/outbound/{outbound_id}/retry")
        await world.becomes(outbound_id, *SENT)
        await world.becomes(behind, *SENT)
        assert world.really_sent == ["uno", "dos"]


@pytest.mark.parametrize(("code", "subcode"), rows(*(WAITS - {SendFailure.TOKEN})))
async def test_a_message_waits_while_the_account_is_throttled_or_stopped_and_shows_until_when(
    world: SendingWorld, code: int, subcode: int | None
) -> None:
    fails_once(world, code, subcode)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        waiting = await world.waits(outbound_id)
        assert (waiting["state"], waiting["reasonCode"]) == ("queued", send_row(code, subcode).reason_code)
        assert waiting["waitsUntil"] is not None
        assert world.really_sent == []
        sent = await world.becomes(outbound_id, *SENT, step_s=600)
        assert world.really_sent == ["buenas"]
        assert sent["parts"][0]["attempts"] == 1


@pytest.mark.parametrize(("code", "subcode"), rows(SendFailure.TOKEN))
async def test_a_message_waits_for_a_valid_token(world: SendingWorld, code: int, subcode: int | None) -> None:
    fails_once(world, code, subcode)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        await world.waits(outbound_id)
        await world.clock.leap(3600, step_s=60)
        waiting = await world.outbound(outbound_id)
        assert (waiting["state"], waiting["reasonCode"]) == ("queued", "account_not_callable")
        assert waiting["reason"].endswith(").")
        assert world.really_sent == []


@pytest.mark.parametrize(("code", "subcode"), rows(SendFailure.MEDIA))
async def test_a_file_that_could_not_be_fetched_is_tried_once_more(
    world: SendingWorld, code: int, subcode: int | None
) -> None:
    async with world.sending():
        conversation = await world.wrote()
        fails_once(world, code, subcode)
        once = await world.answer(conversation, "una vez")
        await world.becomes(once, *SENT, step_s=10)
        world.behave(send_error_code=code, send_error_subcode=subcode, send_error_next=0)
        always = await world.answer(conversation, "siempre")
        failed = await world.becomes(always, "failed", step_s=10)
        assert (failed["reasonCode"], failed["parts"][0]["attempts"]) == ("bad_media", 2)
        assert world.really_sent == ["una vez"]


@pytest.mark.parametrize(("code", "subcode"), rows(SendFailure.UNCLEAR))
async def test_what_may_have_been_sent_is_sent_again_only_when_it_is_not_there(
    world: SendingWorld, code: int, subcode: int | None
) -> None:
    fails_once(world, code, subcode)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        unknown = await world.becomes(outbound_id, "unknown")
        assert (unknown["metaCode"], unknown["metaSubcode"]) == (code, subcode)
        await world.clock.leap(100, step_s=10)
        assert world.really_sent == []
        sent = await world.becomes(outbound_id, *SENT, step_s=10)
        assert sent["parts"][0]["attempts"] == 2
        assert world.really_sent == ["buenas"]


@pytest.mark.parametrize(("code", "subcode"), [*rows(SendFailure.UNCLEAR_ONCE), (424242, None)])
async def test_what_may_have_been_sent_and_is_not_there_has_failed(
    world: SendingWorld, code: int, subcode: int | None
) -> None:
    fails_once(world, code, subcode)
    async with world.sending():
        conversation = await world.wrote()
        outbound_id = await world.answer(conversation)
        failed = await world.becomes(outbound_id, "failed", step_s=10)
        assert (failed["reasonCode"], failed["metaCode"], failed["metaSubcode"]) == ("not_delivered", code, subcode)
        assert world.really_sent == []


def test_every_failure_has_a_test() -> None:
    assert {send_row(*one).failure for one in ROWS} == set(SendFailure)
