"""The simulated Conversations API says what Meta's says, and tells the same story as the webhooks."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.field_expansion import Fields
from inboxd.simulator.graph_server import CONTROL_PATH, MAILBOX_PATH
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from inboxd.simulator.story import story

from tests.simulator.rig import ANA_NAME, OTHER, PAGE, PAGE_TOKEN, Rig, error_of
from tests.support import ACCOUNT, ANA, T0, TOKEN, decoded


async def test_a_list_and_a_message_look_as_metas_do(rig: Rig) -> None:
    mid = rig.add(text="hola")
    conversation = rig.conversation_id()

    assert await rig.get("me/conversations", platform="instagram") == (
        200,
        {
            "data": [{"id": conversation, "updated_time": "2026-09-21T14:13:20+0000"}],
            "paging": {"cursors": {"before": "YXQ6MA", "after": "YXQ6MQ"}},
        },
    )
    assert await rig.get(mid, fields="id,created_time,from,to,message") == (
        200,
        {
            "id": mid,
            "created_time": "2026-09-21T14:13:20+0000",
            "from": {"username": ANA_NAME, "id": ANA},
            "to": {"data": [{"username": "the.shop", "id": ACCOUNT}]},
            "message": "hola",
        },
    )
    status, found = await rig.get(conversation, fields="messages")
    assert (status, found["messages"]["data"]) == (200, [{"id": mid, "created_time": "2026-09-21T14:13:20+0000"}])
    (listed,) = await rig.listed(fields="participants")
    assert {one["id"] for one in listed["participants"]["data"]} == {ANA, ACCOUNT}


@pytest.mark.parametrize(("own_id", "id_"), [("main", ACCOUNT), ("app_scoped", f"9{ACCOUNT}"), ("page", PAGE)])
async def test_the_account_takes_part_under_one_of_its_ids(rig: Rig, own_id: str, id_: str) -> None:
    rig.add(text="hi", outbound=True)
    rig.behave(own_id=own_id)
    (listed,) = await rig.listed(f"{PAGE}/conversations", token=PAGE_TOKEN, fields="participants")
    assert {"username": "the.shop", "id": id_} in listed["participants"]["data"]


async def test_a_message_that_is_added_may_have_a_webhook(rig: Rig) -> None:
    rig.sender()
    for outbound in (False, True):
        body = {"account_id": ACCOUNT, "participant_id": ANA, "text": "hola", "outbound": outbound, "created_ms": T0}
        mid = (await rig.control("mailbox", body | {"webhook": True}, method="POST"))["id"]
        sender, recipient = (ACCOUNT, ANA) if outbound else (ANA, ACCOUNT)
        assert rig.items()[-1] == {
            "sender": {"id": sender},
            "recipient": {"id": recipient},
            "timestamp": T0,
            "message": {"mid": mid, "text": "hola"} | ({"is_echo": True} if outbound else {}),
        }
        await rig.control("mailbox", body, method="POST")
    assert (len(rig.items()), len(rig.server.mailbox.truth())) == (2, 4)


async def test_each_account_sees_only_its_own(rig: Rig) -> None:
    mid = rig.add(text="hola")
    assert await rig.listed(token="other") == []
    for node in (mid, rig.conversation_id(), rig.conversation_id() + "/messages"):
        assert error_of(await rig.get(node, token="other")) == (400, 100, 33)
    assert error_of(await rig.get(f"{PAGE}/conversations", platform="instagram")) == (400, 3, None)
    assert await rig.listed(f"{ACCOUNT}/conversations"), "the account's own id is another name for me"
    status, found = await rig.get("me/conversations", token=PAGE_TOKEN)
    assert (status, found["data"]) == (200, []), "without a platform they are those of Messenger"


async def test_pages_go_on_and_back(rig: Rig) -> None:
    for number in range(7):
        rig.add(igsid(number), text="hi", created_ms=T0 + number)
    _, first = await rig.get("me/conversations", limit="3")
    _, second = await rig.get("me/conversations", limit="3", after=first["paging"]["cursors"]["after"])
    _, last = await rig.get("me/conversations", limit="3", after=second["paging"]["cursors"]["after"])
    assert [len(page["data"]) for page in (first, second, last)] == [3, 3, 1]
    assert "after=" in first["paging"]["next"]
    assert "next" not in last["paging"]
    _, back = await rig.get("me/conversations", limit="3", before=second["paging"]["cursors"]["before"])
    assert back["data"] == first["data"]
    assert error_of(await rig.get("me/conversations", after="nonsense")) == (400, 100, None)
    assert len(await rig.listed(user_id=igsid(3))) == 1


async def test_an_empty_page_has_a_next_one(rig: Rig) -> None:
    for number in range(3):
        rig.add(igsid(number), text="hi")
    rig.behave(empty_pages=True)
    _, first = await rig.get("me/conversations", limit="2")
    _, empty = await rig.get("me/conversations", limit="2", after=first["paging"]["cursors"]["after"])
    assert empty["data"] == []
    assert empty["paging"]["next"]
    _, last = await rig.get("me/conversations", limit="2", after=empty["paging"]["cursors"]["after"])
    assert len(last["data"]) == 1


async def test_a_message_is_shown_only_after_a_while(rig: Rig) -> None:
    payload = delivery(ACCOUNT, T0, [item := Conversationalist(ACCOUNT, ANA, T0).says("hi")])
    rig.server.mailbox.apply(payload)
    assert await rig.listed() == []
    rig.now[0] += 29
    assert error_of(await rig.get(item["message"]["mid"])) == (400, 9000001, None)
    rig.now[0] += 1
    assert len(await rig.listed()) == 1
    assert (await rig.get(item["message"]["mid"]))[0] == 200


async def test_requests_are_never_listed(rig: Rig) -> None:
    rig.add(text="hello stranger", requests=True)
    assert await rig.listed() == []
    assert len(rig.server.mailbox.truth()) == 1


async def test_details_only_of_the_newest_twenty(rig: Rig) -> None:
    mids = [rig.add(text=str(minute), created_ms=T0 + minute * 60_000) for minute in range(25)]
    listed = await rig.listed(f"{rig.conversation_id()}/messages", fields="id,created_time,message", limit="100")
    assert [one["id"] for one in listed] == mids[::-1]
    assert [("message" in one) for one in listed] == [True] * 20 + [False] * 5
    assert error_of(await rig.get(mids[4], fields="message")) == (400, 9000001, None), "it was not deleted"
    assert (await rig.get(mids[5], fields="message"))[1]["message"] == "5"
    rig.behave(old_details="error")
    path = f"{rig.conversation_id()}/messages"
    assert error_of(await rig.get(path, fields="message", limit="100")) == (400, 9000001, None)
    assert len(await rig.listed(path, fields="id,created_time", limit="100")) == 25


async def test_what_happens_to_a_message_shows(rig: Rig) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    said, regretted, liked = who.says("helo"), who.says("forget it"), who.answers("Hi!")
    items = [said, regretted, liked, who.edits(said, "hello"), who.unsends(regretted), who.reacts(liked)]
    items += [who.reacts(said), who.unreacts(said), who.taps("Hours?", "HOURS", with_mid=False), who.companion(said)]
    rig.server.mailbox.apply(delivery(ACCOUNT, T0, items))
    rig.server.mailbox.apply(delivery(ACCOUNT, T0, items[:2]))
    rig.now[0] += 30
    fields = "from,message,reactions"
    listed = await rig.listed(f"{rig.conversation_id()}/messages", fields=fields)
    assert [one["message"] for one in listed] == ["Hours?", "Hi!", "hello"]
    assert listed[1]["from"]["username"] == "the.shop"
    assert listed[1]["reactions"] == {"data": [{"reaction": "❤️", "users": [{"username": ANA_NAME, "id": ANA}]}]}
    assert "reactions" not in listed[2]
    truth = {one.text: (one.edited, one.unsent) for one in rig.server.mailbox.truth(ACCOUNT)}
    assert truth == {
        "hello": (True, False),
        "forget it": (False, True),
        "Hi!": (False, False),
        "Hours?": (False, False),
    }


async def test_what_moves_a_conversation_up(rig: Rig) -> None:
    mid = rig.add(text="hi")
    rig.server.mailbox.react(mid, ANA, "❤️", T0 + 60_000)
    assert (await rig.listed())[0]["updated_time"] == "2026-09-21T14:13:20+0000"
    rig.behave(changes_move_updated_time=True, unix_times=True)
    assert (await rig.listed())[0]["updated_time"] == T0 // 1000 + 60


async def test_more_than_two_calls_a_second_are_refused(rig: Rig) -> None:
    rig.behave(conversation_calls_per_s=2)
    statuses = [(await rig.get("me/conversations"))[0] for _ in range(3)]
    assert statuses == [200, 200, 400]
    assert error_of(await rig.get("me/conversations")) == (400, 613, 2534040)
    assert rig.server.conversations.refused == 2
    rig.now[0] += 1.01
    assert (await rig.get("me/conversations"))[0] == 200
    assert (await rig.get(ANA, fields="username"))[0] == 200, "profiles are another matter"


async def test_failures_are_worded_as_metas_are(rig: Rig) -> None:
    rig.add(text="hi")
    rig.behave(most_listed=10)
    assert error_of(await rig.get("me/conversations", limit="11")) == (500, 1, None)
    assert "reduce the amount of data" in (await rig.get("me/conversations", limit="11"))[1]["error"]["message"]
    assert (await rig.get("me/conversations", limit="10"))[0] == 200
    rig.behave(conversation_error_rate=1.0)
    assert error_of(await rig.get("me/conversations")) == (500, 1, None)
    rig.behave(messages_edge=False)
    assert error_of(await rig.get(rig.conversation_id() + "/messages")) == (400, 2500, None)
    rig.behave(tools_off=True)
    assert error_of(await rig.get("me/conversations")) == (403, 200, 2534041)
    rig.behave(unknown_message_fields=("story",))
    assert error_of(await rig.get(rig.conversation_id() + "/messages", fields="id,story")) == (400, 100, None)
    assert error_of(await rig.get("me/conversations", fields="nonsense")) == (400, 100, None)
    assert error_of(await rig.get("me/conversations", fields="id{")) == (400, 2500, None)
    assert error_of(await rig.get("aWdfNothing")) == (400, 100, 33)


async def test_tests_can_add_a_message_and_ask_for_the_truth(rig: Rig) -> None:
    body = json.dumps({"account_id": ACCOUNT, "participant_id": ANA, "text": "nobody told you", "created_ms": T0})
    async with rig.session.post(rig.url + MAILBOX_PATH, data=body) as response:
        assert response.status == 201
        mid = (await response.json())["id"]
    async with rig.session.post(rig.url + MAILBOX_PATH, data='{"account": 1}') as response:
        assert response.status == 400
    async with rig.session.get(rig.url + MAILBOX_PATH, params={"account_id": ACCOUNT}) as response:
        (found,) = (await response.json())["messages"]
    assert (found["id"], found["text"], found["unsent"]) == (mid, "nobody told you", False)
    assert (await rig.get(mid, fields="message"))[1]["message"] == "nobody told you"
    async with rig.session.get(rig.url + MAILBOX_PATH, params={"account_id": OTHER}) as response:
        assert await response.json() == {"messages": []}


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def test_webhooks_and_the_api_tell_the_same_story(rig: Rig) -> None:
    assert await rig.sender().send_all(story(ACCOUNT, T0 - 10**7)) == 0
    rig.now[0] += 30
    told: set[str] = set()
    for payload in rig.received:
        for event in decoded(json.dumps(payload).encode()):
            if event.kind in {"message", "echo", "unsupported", "self_message"} and event.body.mid:  # type: ignore[union-attr]
                told.add(event.body.mid)  # type: ignore[union-attr]
    truth = {one.id for one in rig.server.mailbox.truth(ACCOUNT)}
    assert told <= truth
    shown = set()
    for conversation in await rig.listed(limit="500"):
        shown |= {one["id"] for one in await rig.listed(f"{conversation['id']}/messages", limit="500")}
    assert shown == {one.id for one in rig.server.mailbox.truth(ACCOUNT) if not one.unsent}
    assert len(shown) > 60


async def test_a_share_of_webhooks_is_dropped_and_the_mailbox_has_them_all(rig: Rig) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    rig.behave(webhooks_dropped=0.3)
    sender = rig.sender()
    for number in range(200):
        assert await sender.send(delivery(ACCOUNT, T0, [who.says(str(number))]))
    assert 30 <= 200 - len(rig.received) <= 90
    assert sender.faults is not None
    assert sender.faults.dropped == 200 - len(rig.received)
    assert len(rig.server.mailbox.truth()) == 200


async def test_webhooks_come_twice_and_late_and_none_is_lost(rig: Rig) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    rig.behave(webhooks_duplicated=0.3, webhooks_delayed=0.3)
    sender = rig.sender()
    for number in range(100):
        await sender.send(delivery(ACCOUNT, T0, [who.says(str(number))]))
    await sender.flush()
    order = [int(item["message"]["text"]) for item in rig.items()]
    assert set(order) == set(range(100))
    assert len(order) > 110
    assert order != sorted(order)


async def test_only_companions_are_sent_when_messages_are_not_ticked(rig: Rig) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    said = who.says("hi")
    rig.behave(companions_only=True)
    sender = rig.sender()
    await sender.send(delivery(ACCOUNT, T0, [said, who.companion(said)]))
    await sender.send(delivery(ACCOUNT, T0, [who.answers("Hi!"), who.sees(said), who.edits(said, "hello")]))
    (item,) = rig.items()
    assert item == {"timestamp": said["timestamp"], "message_edit": {"mid": said["message"]["mid"], "num_edit": 0}}
    assert [one.text for one in rig.server.mailbox.truth()] == ["hello", "Hi!"]


@pytest.mark.parametrize(("how", "listed"), [("shown", []), ("hidden", ["messages"])])
async def test_webhooks_stop_until_the_account_subscribes_again(rig: Rig, how: str, listed: list[str]) -> None:
    who, sender = Conversationalist(ACCOUNT, ANA, T0), rig.sender()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    path = f"{rig.url}/v25.0/me/subscribed_apps"

    async def subscribe() -> None:
        async with rig.session.post(path, params={"subscribed_fields": "messages"}, headers=headers) as response:
            assert response.status == 200

    await subscribe()
    rig.behave(unsubscribed=how)
    await sender.send(delivery(ACCOUNT, T0, [who.says("lost")]))
    _, answer = await rig.get("me/subscribed_apps")
    assert [name for app in answer["data"] for name in app["subscribed_fields"]] == listed
    assert rig.received == []
    await subscribe()
    await sender.send(delivery(ACCOUNT, T0, [who.says("there again")]))
    assert [item["message"]["text"] for item in rig.items()] == ["there again"]
    assert [one.text for one in rig.server.mailbox.truth()] == ["lost", "there again"]


async def test_it_is_down_for_a_time(rig: Rig) -> None:
    who, sender = Conversationalist(ACCOUNT, ANA, T0), rig.sender()
    async with rig.session.put(rig.url + CONTROL_PATH, data='{"latency_ms": 0, "down_s": 60}') as response:
        assert response.status == 200
    async with rig.session.get(f"{rig.url}/v25.0/me", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        assert response.status == 503
    await sender.send(delivery(ACCOUNT, T0, [who.says("lost")]))
    rig.now[0] += 61
    assert (await rig.get("me"))[0] == 200
    await sender.send(delivery(ACCOUNT, T0, [who.says("there again")]))
    assert [item["message"]["text"] for item in rig.items()] == ["there again"]
    assert len(rig.server.mailbox.truth()) == 2


def test_every_switch_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert documented - {"account_id"} == {field.name for field in msgspec.structs.fields(Behaviour)}


# --- the parameter `fields` -------------------------------------------------------------------------------------------


def test_fields_are_expanded() -> None:
    found = Fields.parse("id, messages.limit(20).after(MA==){id,shares{link}},participants")
    assert list(found) == ["id", "messages", "participants"]
    assert found["messages"].modifiers == {"limit": "20", "after": "MA=="}
    assert list(found["messages"].inner) == ["id", "shares"]
    assert list(found["messages"].inner["shares"].inner) == ["link"]
    assert Fields.parse("") == {}


@pytest.mark.parametrize("text", ["{", "a{", "a}", ".limit(1)", "a.limit(", "a b;", "a" + "{a" * 20, "a%"])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"character|end of string"):
        Fields.parse(text)
