"""Deliveries through the real store: exactly once, in any order, and nobody pays for a neighbour."""

import asyncio
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from inboxd.conversations import message_store
from inboxd.conversations.batch_size import BatchSize
from inboxd.conversations.batch_writer import MAX_EVENTS, BatchWriter
from inboxd.conversations.delivery_retries import DeliveryRetries
from inboxd.conversations.event_preparation import EventPreparation, PreparedEvent
from inboxd.conversations.ingest import SCHEDULE, Ingest
from inboxd.conversations.metrics import ConversationMetrics
from inboxd.conversations.pacing import LONGEST_S, MAX_LAG_MS, TRANSACTION_S
from inboxd.conversations.projection import Projection
from inboxd.conversations.search_store import SearchIndexStore
from inboxd.conversations.translate import Translated, translate
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.event import NewEvent
from inboxd.events.store import PARTICIPANT_ERASED
from inboxd.meta.webhook_events import WebhookEvent
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving.store import Inbox
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError, StorageUnavailableError
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.worker import work
from inboxd.simulator.payloads import Conversationalist, Item, delivery, mid_of, without_parties
from inboxd.simulator.story import story
from inboxd.storage.connection import fetch
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, T0, ManualClock, event_log


class Rig:
    """An ingest worker with everything it works on."""

    def __init__(self, database: Database) -> None:
        self.clock = ManualClock()
        self.database = database
        self.metrics = Metrics()
        self.inbox = Inbox(database, self.clock, max_waiting=10_000)
        self.writers: list[ConversationKey] = []
        self.projections: list[Projection] = []
        log, metrics = event_log(self.clock), ConversationMetrics(self.metrics.registry)
        self.writer = BatchWriter(
            database,
            ProfileCache(self.clock, ttl_s=86_400, size=100),
            log,
            self.clock,
            metrics,
            projections=self.projections,
            on_due=self.writers.extend,
            observe=lambda _counts: None,
        )
        self.ingest = Ingest(
            self.inbox,
            EventPreparation({ACCOUNT: ACCOUNT}, self.clock),
            self.writer,
            DeliveryRetries(database, log, self.clock, metrics, lambda: 0.0),
            self.clock,
        )

    async def take(self, *payloads: Any) -> None:
        """Store and process."""
        for payload in payloads:
            await self.inbox.append(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        while await self.ingest.process():
            pass

    async def deliver(self, *items: Item) -> None:
        await self.take(delivery(ACCOUNT, T0, list(items)))

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.database.read(sql)

    async def conversation(self) -> dict[str, Any]:
        return (await self.all("v1_conversations"))[0]

    async def all(self, view: str) -> list[dict[str, Any]]:
        names = [row[1] for row in await self.rows(f"PRAGMA table_info({view})")]
        return [dict(zip(names, row, strict=True)) for row in await self.rows(f"SELECT * FROM {view}")]

    async def state(self) -> Any:
        """Everything that must not depend on order or repetition."""
        return (
            await self.rows(
                "SELECT account_id, participant_id, last_message_at, answered_at, unread_count, read_at, seen_at, "
                "status "
                "FROM conversations ORDER BY 1, 2"
            ),
            await self.rows(
                "SELECT account_id, participant_id, mid, m.sender_id, direction, sent_at, timeline_at, noticed_at, "
                "type, text, "
                "attachments, details, standby, edit_number, edited_at, edited_text, deleted_at, "
                "seen_by_account_at, seen_by_participant_at, reactions "
                "FROM messages m JOIN conversations c ON c.id = conversation_id ORDER BY 1, 2, 3"
            ),
            await self.rows(
                "SELECT kind, account_id, participant_id, happened_at, payload FROM webhook_events ORDER BY 1, 2, 3, 5"
            ),
            await self.rows("SELECT account_id, participant_id, state FROM participants ORDER BY 1, 2"),
        )


@pytest.fixture
def who() -> Conversationalist:
    return Conversationalist(ACCOUNT, ANA, T0)


@pytest.fixture
async def rig(database: Database) -> Rig:
    return Rig(database)


@pytest.fixture
async def fresh_rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Database(tmp_path / "another.sqlite3") as database:
        yield Rig(database)


@pytest.mark.parametrize("seed", range(12))
async def test_any_order_with_any_duplication_ends_in_the_same_state(rig: Rig, fresh_rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    payloads = story(ACCOUNT, T0, people=13, seed=seed)
    items = [(entry, item) for payload in payloads for entry in payload["entry"] for item in entry.get("messaging", [])]
    rest = [payload for payload in payloads if "messaging" not in payload["entry"][0]]

    await rig.take(*payloads)

    await fresh_rig.take(*disordered(items, rest, rng))
    assert await fresh_rig.state() == await rig.state()


def disordered(items: list[tuple[Item, Item]], rest: list[Item], rng: random.Random) -> list[Item]:
    """The same events, cut into other deliveries, shuffled, some of them twice."""
    shuffled = items + rng.choices(items, k=len(items) // 2)
    rng.shuffle(shuffled)
    payloads = [*rest, *rng.choices(rest, k=2)]
    while shuffled:
        count = rng.randint(1, 7)
        batch, shuffled = shuffled[:count], shuffled[count:]
        entries = [{"id": entry["id"], "time": entry["time"], "messaging": [item]} for entry, item in batch]
        payloads.append({"object": "instagram", "entry": entries})
    rng.shuffle(payloads)
    return payloads


async def test_unread_counts_what_came_after_the_last_answer(rig: Rig, who: Conversationalist) -> None:
    await rig.deliver(who.says("one"), who.says("two"))
    assert (await rig.conversation())["unread_count"] == 2

    await rig.deliver(who.answers("hello"))
    assert (await rig.conversation())["unread_count"] == 0

    await rig.deliver(who.says("three"))
    assert (await rig.conversation())["unread_count"] == 1


async def test_a_late_message_from_before_the_answer_is_not_unread(rig: Rig, who: Conversationalist) -> None:
    late, answer = who.says("one"), who.answers("hello")

    await rig.deliver(answer)
    await rig.deliver(late)

    conversation = await rig.conversation()
    assert conversation["unread_count"] == 0
    assert conversation["last_message_at"] == "2026-09-21T14:13:22.000Z"


async def test_seen_by_the_account_reads_up_to_that_message(rig: Rig, who: Conversationalist) -> None:
    one, two, three = who.says("one"), who.says("two"), who.says("three")
    seen = {**who.sees(two), "sender": two["recipient"], "recipient": two["sender"]}

    await rig.deliver(seen, three, two, one)

    assert (await rig.conversation())["unread_count"] == 1
    assert [row["is_read"] for row in await rig.all("v1_messages") if row["content"] != "three"] == [1, 1]


async def test_a_read_that_comes_late_makes_nothing_unread(rig: Rig, who: Conversationalist) -> None:
    one, two = who.says("one"), who.says("two")
    await rig.deliver(one, two)
    for message in (two, one):
        await rig.deliver({**who.sees(message), "sender": message["recipient"], "recipient": message["sender"]})
    assert (await rig.conversation())["unread_count"] == 0


async def test_seen_by_the_participant_marks_the_accounts_messages_read(rig: Rig, who: Conversationalist) -> None:
    answer, later = who.answers("hello"), who.answers("still there?")

    await rig.deliver(who.sees(answer), answer, later)

    assert {row["content"]: row["is_read"] for row in await rig.all("v1_messages")} == {"hello": 1, "still there?": 0}


@pytest.mark.parametrize("order", [1, -1])
async def test_a_deleted_message_keeps_a_tombstone_without_content(
    rig: Rig, who: Conversationalist, order: int
) -> None:
    message = who.says("secret", attachments=[{"type": "image", "payload": {"url": "https://example.com/secret"}}])
    happened = [message, who.edits(message, "secret too"), who.reacts(message), who.unsends(message)]

    await rig.deliver(*happened[::order])

    (row,) = await rig.all("v1_messages")
    assert row["platform_message_id"] == mid_of(message)
    assert row["deleted_at"] is not None
    assert (row["content"], row["attachments"], row["reactions"], row["message_type"]) == (None, "[]", "[]", "deleted")
    assert "secret" not in repr(await rig.rows("SELECT * FROM messages"))
    assert (await rig.conversation())["unread_count"] == 0


async def test_reactions_are_one_per_person_and_can_be_taken_back(rig: Rig, who: Conversationalist) -> None:
    message = who.answers("hello")
    await rig.deliver(message, who.reacts(message, "sad", "😢"), who.reacts(message))
    (row,) = await rig.all("v1_messages")
    assert [reaction["reaction"] for reaction in json.loads(row["reactions"])] == ["love"]

    await rig.deliver(who.unreacts(message))
    (row,) = await rig.all("v1_messages")
    assert [reaction.get("reaction") for reaction in json.loads(row["reactions"])] == [None]


async def test_the_test_button_makes_no_conversation(rig: Rig) -> None:
    for name in ("test_button_instagram_login", "test_button_facebook_login"):
        await rig.take((Path(__file__).parent.parent / "payloads" / f"{name}.json").read_bytes())

    assert await rig.all("v1_conversations") == []
    assert await rig.rows("SELECT DISTINCT kind FROM webhook_events") == [("test",)]


async def test_traffic_of_an_unknown_account_is_kept_under_its_id(rig: Rig) -> None:
    stranger = Conversationalist("17841499999999999", ANA, T0)

    await rig.take(delivery("17841499999999999", T0, [stranger.says("hi"), stranger.answers("hello")]))

    conversation = await rig.conversation()
    assert conversation["client_account_id"] == "17841499999999999"
    assert conversation["unread_count"] == 0


async def test_what_is_no_payload_is_set_aside_and_can_be_retried(rig: Rig, who: Conversationalist) -> None:
    await rig.take(b"this is signed, but no JSON", delivery(ACCOUNT, T0, [who.says("hi")]))

    failed, total = await rig.inbox.page(state="failed", limit=10, offset=0)
    assert total == 1
    assert "not a webhook payload" in (failed[0].error or "")
    assert (await rig.conversation())["unread_count"] == 1

    assert await rig.inbox.retry(failed[0].id)
    await rig.take()
    assert (await rig.inbox.page(state="failed", limit=10, offset=0))[1] == 1


async def test_a_poison_event_stands_alone(rig: Rig, who: Conversationalist, monkeypatch: pytest.MonkeyPatch) -> None:
    real = message_store._message_row

    def poisoned(message: Any) -> Any:
        if message.content is not None and message.content.text == "poison":
            msg = "it is poison"
            raise ValueError(msg)
        return real(message)

    monkeypatch.setattr(message_store, "_message_row", poisoned)
    await rig.take(
        delivery(ACCOUNT, T0, [who.says("before"), who.says("poison"), who.says("after")]),
        delivery(ACCOUNT, T0, [who.says("next delivery")]),
    )
    texts = {row["content"] for row in await rig.all("v1_messages")}
    assert texts == {"before", "after", "next delivery"}

    for seconds in (1, 2):
        ((state, attempts, error),) = await rig.rows("SELECT state, attempts, error FROM deliveries WHERE id = 1")
        assert (state, attempts) == ("pending", seconds)
        assert "event 1: ValueError: it is poison" in error
        rig.clock.now += seconds * 1000
        await rig.take()
    ((state, attempts),) = await rig.rows("SELECT state, attempts FROM deliveries WHERE id = 1")
    assert (state, attempts) == ("failed", 3)

    monkeypatch.undo()
    await rig.inbox.retry(1)
    await rig.take()
    assert {row["content"] for row in await rig.all("v1_messages")} == texts | {"poison"}


async def test_an_event_that_nobody_can_translate_stands_alone(
    rig: Rig, who: Conversationalist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours costs the one event that shows it, and the worker goes on."""

    def failing(event: WebhookEvent, accounts: Mapping[str, str], received_at: int) -> Translated:
        if b"odd" in bytes(event.raw):
            msg = "nobody thought of that"
            raise KeyError(msg)
        return translate(event, accounts, received_at)

    monkeypatch.setattr("inboxd.conversations.event_preparation.translate", failing)
    await rig.deliver(who.says("before"), who.says("odd"), who.says("after"))
    assert {row["content"] for row in await rig.all("v1_messages")} == {"before", "after"}
    ((state, error),) = await rig.rows("SELECT state, error FROM deliveries")
    assert state == "pending"
    assert "event 1: KeyError" in error


async def test_an_event_that_meta_repeats_is_kept_once(rig: Rig, who: Conversationalist) -> None:
    link = who.opens_link("from-the-poster")
    await rig.deliver(link, link)
    await rig.deliver(link)
    assert await rig.rows("SELECT kind FROM webhook_events") == [("referral",)]


async def test_a_refusing_disk_costs_no_attempt(rig: Rig, who: Conversationalist) -> None:
    await rig.inbox.append(json.dumps(delivery(ACCOUNT, T0, [who.says("x" * 60_000)])).encode())
    ((pages,),) = await rig.rows("PRAGMA page_count")

    def limit(count: int) -> Any:
        return lambda connection: fetch(connection, f"PRAGMA max_page_count = {count}") and None

    await rig.database.write(limit(pages))
    with pytest.raises(Exception, match="full"):
        await rig.ingest.process()
    await rig.database.write(limit(100_000))

    await rig.take()
    assert (await rig.conversation())["unread_count"] == 1
    assert await rig.rows("SELECT attempts FROM deliveries") == [(0,)]


async def test_unknown_kinds_are_kept_counted_and_no_error(rig: Rig, who: Conversationalist) -> None:
    hologram = {key: value for key, value in who.says("x").items() if key != "message"} | {"hologram": {}}

    await rig.deliver(hologram)
    await rig.deliver(hologram)

    assert await rig.rows("SELECT kind, reason FROM webhook_events") == [("unknown", "item of no known kind")]
    assert await rig.rows("SELECT state FROM deliveries") == [("done",), ("done",)]
    assert rig.metrics.registry.get_sample_value("inboxd_webhook_events_total", {"kind": "unknown"}) == 2


async def test_odd_numbers_and_characters_go_through(rig: Rig, who: Conversationalist) -> None:
    huge = who.says("nul \x00 and \u202e", referral={"ref": "r", "ad_id": 10**40, "x": 1e300})

    await rig.take(
        delivery(ACCOUNT, T0, [huge]),
        b'{"object":"instagram","entry":[{"id":"1","messaging":[{"sender":{"id":"2"},"recipient":{"id":"1"},'
        b'"timestamp":1,"message":{"mid":"s","text":"\\ud800"}}]}]}',
    )

    assert await rig.rows("SELECT state, error FROM deliveries") == [("done", None), ("done", None)]


async def test_writers_and_new_people_are_told_once_committed(rig: Rig, who: Conversationalist) -> None:
    await rig.deliver(who.answers("hello"))
    assert rig.writers == [ConversationKey(ACCOUNT, ANA)]
    await rig.deliver(who.answers("are you there?"))
    assert rig.writers == [ConversationKey(ACCOUNT, ANA)]
    await rig.deliver(who.says("hi"))
    assert rig.writers == [ConversationKey(ACCOUNT, ANA)] * 2


async def test_a_deleted_conversation_takes_its_messages_along(rig: Rig, who: Conversationalist) -> None:
    await rig.deliver(who.says("hi"))

    def delete(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM conversations")

    await rig.database.write(delete)
    assert await rig.all("v1_messages") == []
    assert await rig.all("messages") == []


@pytest.mark.parametrize("text", [{}, {"text": None}, {"text": ""}, {"text": "hola"}])
@pytest.mark.parametrize("shape", ["with parties", "without parties"])
@pytest.mark.parametrize("order", ["before", "after", "together", "again"])
async def test_a_companion_edit_changes_nothing(
    rig: Rig, who: Conversationalist, text: Item, shape: str, order: str
) -> None:
    message = who.says("hola")
    companion = who.companion(message)
    companion["message_edit"] |= text
    if shape == "without parties":
        companion = without_parties(companion)
    deliveries = {
        "before": [[companion], [message]],
        "after": [[message], [companion]],
        "together": [[companion, message]],
        "again": [[message], [companion], [companion, message]],
    }

    for items in deliveries[order]:
        await rig.deliver(*items)

    (row,) = await rig.all("v1_messages")
    assert (row["content"], row["edited_at"]) == ("hola", None)
    assert await rig.rows("SELECT * FROM webhook_events") == []
    assert rig.metrics.registry.get_sample_value("inboxd_webhook_events_total", {"kind": "edit_companion"})


async def test_a_companion_after_a_real_edit_leaves_the_edit(rig: Rig, who: Conversationalist) -> None:
    message = who.says("hola")
    textless = who.edits(message, "", number=2)

    await rig.deliver(message, who.edits(message, "adiós"), who.companion(message), textless)

    (row,) = await rig.all("v1_messages")
    assert row["content"] == "adiós"
    assert row["edited_at"] is not None


async def test_a_companion_alone_makes_no_conversation(rig: Rig, who: Conversationalist) -> None:
    await rig.deliver(who.companion(who.says("never delivered")))

    assert await rig.all("v1_conversations") == []
    assert await rig.rows("SELECT state FROM deliveries") == [("done",)]


@pytest.mark.parametrize("order", ["early", "late"])
async def test_what_comes_without_parties_finds_its_message(rig: Rig, who: Conversationalist, order: str) -> None:
    question, regretted, answer = who.says("hola"), who.says("never mind"), who.answers("hello")
    messages = [question, regretted, answer]
    happened = [
        without_parties(item)
        for item in (
            who.edits(question, "buenas"),
            who.unsends(regretted),
            who.sees(answer),
            who.reacts(answer, "love"),
        )
    ]
    for items in (happened, messages) if order == "early" else (messages, happened):
        for item in items:
            await rig.deliver(item)

    rows = {row["platform_message_id"]: row for row in await rig.all("v1_messages")}
    assert rows[mid_of(question)]["content"] == "buenas"
    assert rows[mid_of(regretted)]["message_type"] == "deleted"
    assert rows[mid_of(answer)]["is_read"] == 1
    assert [one["by"] for one in json.loads(rows[mid_of(answer)]["reactions"])] == [ANA]
    assert await rig.rows("SELECT count(*) FROM early_changes") == [(0,)]
    assert await rig.rows("SELECT count(*) FROM webhook_events") == [(0,)]
    assert len(await rig.all("v1_conversations")) == 1


async def test_a_mid_of_another_account_is_another_message(rig: Rig, who: Conversationalist) -> None:
    other = "17841400000000002"
    message = who.says("hola")
    await rig.deliver(message)

    await rig.take(delivery(other, T0, [without_parties(who.edits(message, "not theirs"))]))

    assert [row["content"] for row in await rig.all("v1_messages")] == ["hola"]
    assert await rig.rows("SELECT account_id, mid FROM early_changes") == [(other, mid_of(message))]


async def test_a_message_and_a_reaction_in_one_item_both_count(rig: Rig, who: Conversationalist) -> None:
    answer = who.answers("hello")
    both = {**who.says("gracias"), "reaction": who.reacts(answer)["reaction"]}

    await rig.deliver(answer, both)

    rows = {row["content"]: json.loads(row["reactions"]) for row in await rig.all("v1_messages")}
    assert [one["reaction"] for one in rows["hello"]] == ["love"]
    assert rows["gracias"] == []


async def test_messages_without_a_mid_are_messages_of_their_own(rig: Rig, who: Conversationalist) -> None:
    items = [who.says(text) for text in ("one", "two", "three")]
    for item in items:
        item["message"]["mid"] = ""
    del items[2]["message"]["mid"]

    await rig.deliver(*items)
    await rig.deliver(*items)

    assert sorted(row["content"] for row in await rig.all("v1_messages")) == ["one", "three", "two"]


async def test_a_username_in_passing_is_a_first_name(rig: Rig, who: Conversationalist) -> None:
    await rig.deliver(_named(who.says("hola"), "ana_x"))

    (participant,) = await rig.all("v1_participants")
    assert (participant["username"], participant["profile_state"]) == ("ana_x", "pending")
    assert (await rig.conversation())["participant_username"] == "ana_x"
    assert await rig.rows("SELECT next_attempt_at IS NOT NULL FROM participants") == [(1,)]

    await rig.deliver(_named(who.says("again"), "somebody_else"))
    assert [row["username"] for row in await rig.all("v1_participants")] == ["ana_x"]


@pytest.mark.parametrize("username", ["", " ", "x" * 30_000, 7, None, ["ana"], "a\u0000b", {"id": "1"}])
async def test_an_odd_username_is_no_name(rig: Rig, who: Conversationalist, username: Any) -> None:
    await rig.deliver(_named(who.says("hola"), username))

    assert [row["username"] for row in await rig.all("v1_participants")] == [None]
    assert [row["content"] for row in await rig.all("v1_messages")] == ["hola"]


async def test_the_username_of_an_echo_is_the_accounts_own(rig: Rig, who: Conversationalist) -> None:
    await rig.deliver(_named(who.answers("hello"), "shop"))

    assert [row["username"] for row in await rig.all("v1_participants")] == [None]


@pytest.mark.parametrize("second", ["edit", "unsend", "edit and unsend"])
async def test_several_changes_before_the_indexer_has_run(rig: Rig, who: Conversationalist, second: str) -> None:
    message, other = who.says("walrus"), who.says("penguin")
    index = SearchIndexStore(rig.database)
    await rig.deliver(message, other)
    while await index.advance(100):
        pass

    await rig.deliver(who.edits(message, "seal"))
    if "edit" in second:
        await rig.deliver(who.edits(message, "otter", number=2), who.edits(other, "puffin"))
    if "unsend" in second:
        await rig.deliver(who.unsends(message))

    while await index.advance(100):
        pass
    assert await rig.rows("SELECT count(*) FROM deliveries WHERE state <> 'done'") == [(0,)]
    found = {row[0] for row in await rig.rows("SELECT text FROM message_search")}
    expected = {"edit": {"otter", "puffin"}, "unsend": {"penguin"}, "edit and unsend": {"puffin"}}
    assert found == expected[second]


async def test_a_message_that_has_changed_before_it_was_ever_indexed(rig: Rig, who: Conversationalist) -> None:
    edited, unsent = who.says("walrus"), who.says("penguin")
    await rig.deliver(edited, unsent)
    await rig.deliver(who.edits(edited, "seal"), who.unsends(unsent))
    index = SearchIndexStore(rig.database)
    while await index.advance(100):
        pass
    assert await rig.rows("SELECT text FROM message_search") == [("seal",)]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_large_delivery_is_stored_in_several_transactions_and_done_with_the_last(
    rig: Rig, who: Conversationalist, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.writer, "batch_size", BatchSize(smallest=size, largest=size))
    items = [who.says(str(number)) for number in range(30)]

    await rig.take(
        delivery(ACCOUNT, T0, items[:13]),
        delivery(ACCOUNT, T0, items[13:14]),
        b"no JSON",
        delivery(ACCOUNT, T0, items[14:]),
    )

    assert sorted(int(row["content"]) for row in await rig.all("v1_messages")) == list(range(30))
    assert await rig.rows("SELECT state FROM deliveries ORDER BY id") == [("done",), ("done",), ("failed",), ("done",)]


async def test_a_part_of_a_delivery_that_was_refused_is_not_done_with_the_rest(
    rig: Rig, who: Conversationalist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.writer, "batch_size", BatchSize(smallest=3, largest=3))
    write = rig.database.write
    refused = 0

    async def refuse_the_first(transaction: Any) -> Any:
        nonlocal refused
        refused += 1
        if refused == 1:
            msg = "on purpose"
            raise StorageUnavailableError(msg)
        return await write(transaction)

    await rig.inbox.append(json.dumps(delivery(ACCOUNT, T0, [who.says(str(n)) for n in range(11)])).encode())
    with monkeypatch.context() as once:
        once.setattr(rig.database, "write", refuse_the_first)
        with pytest.raises(StorageUnavailableError):
            await rig.ingest.process()
    assert await rig.rows("SELECT state, attempts FROM deliveries") == [("pending", 0)]

    await rig.take()
    assert len(await rig.all("v1_messages")) == 11
    assert await rig.rows("SELECT state FROM deliveries") == [("done",)]


async def test_no_transaction_has_more_events_than_it_may(
    rig: Rig, who: Conversationalist, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    store = rig.writer.store

    async def noting(events: Any, **named: Any) -> None:
        sizes.append(len(events))
        await store(events, **named)

    monkeypatch.setattr(rig.writer, "store", noting)
    monkeypatch.setattr(rig.writer.batch_size, "_event_s", 1e-9)  # as if many could be stored in no time
    await rig.deliver(*(who.says(str(number)) for number in range(2 * MAX_EVENTS)))

    assert sum(sizes) == 2 * MAX_EVENTS
    assert max(sizes) <= MAX_EVENTS


async def test_who_is_late_takes_the_longest_transactions_whoever_waits(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inbox, "pressure", 2.0)
    assert rig.ingest._pacing.transaction_s() == 2 * TRANSACTION_S
    await rig.inbox.append(b"late")
    rig.clock.now += MAX_LAG_MS + 1
    seen: list[float] = []
    monkeypatch.setattr(rig.ingest, "_store", _at_once(lambda: seen.append(rig.ingest._pacing.transaction_s())))
    await rig.ingest.process()
    assert seen == [LONGEST_S]


async def test_who_becomes_late_in_the_middle_of_a_batch_rests_no_more(
    rig: Rig, who: Conversationalist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of many deliveries, and a rest after each transaction: it must not take minutes."""
    monkeypatch.setattr(Inbox, "pressure", 64.0)
    monkeypatch.setattr(rig.writer.batch_size, "fitting", lambda _seconds: 1)
    for number in range(40):
        await rig.inbox.append(json.dumps(delivery(ACCOUNT, T0, [who.says(str(number))])).encode())
    began = rig.clock.now

    await rig.ingest.process()

    assert await rig.rows("SELECT DISTINCT state FROM deliveries") == [("done",)]
    assert rig.clock.now - began < MAX_LAG_MS + 1000


async def test_a_file_that_was_closed_ends_processing(tmp_path: Path) -> None:
    async with Database(tmp_path / "closed") as database:
        rig = Rig(database)
    with pytest.raises(StorageClosedError):
        await asyncio.wait_for(work(rig.ingest, rig.clock, logs.get("ingest"), SCHEDULE), 5)


def _named(item: Item, username: Any) -> Item:
    return {**item, "sender": {**item["sender"], "username": username}}


def _at_once(tell: Callable[[], None]) -> Callable[[object], Awaitable[None]]:
    async def told(_batch: object) -> None:
        tell()

    return told


async def test_a_projections_row_is_committed_exactly_with_the_events(rig: Rig, who: Conversationalist) -> None:
    told: list[list[str]] = []

    def project(connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> Callable[[], None]:
        kinds = [one.kind for one in events]
        assert connection.in_transaction
        assert len(fetch(connection, "SELECT 1 FROM messages", ())) == len(kinds)  # the events are there already
        connection.executemany("INSERT INTO projected VALUES (?)", [(kind,) for kind in kinds])
        return lambda: told.append(kinds)

    await rig.database.execute("CREATE TABLE projected (kind TEXT)")
    rig.projections.append(project)
    rig.projections.append(lambda _connection, _events: None)
    await rig.inbox.append(json.dumps(delivery(ACCOUNT, T0, [who.says("one"), who.says("two")])).encode())
    write = rig.database.write

    async def refuse(transaction: Any) -> Any:
        def refused(connection: sqlite3.Connection) -> None:
            transaction(connection)
            msg = "on purpose"
            raise StorageUnavailableError(msg)

        return await write(refused)

    with pytest.MonkeyPatch.context() as once:
        once.setattr(rig.database, "write", refuse)
        with pytest.raises(StorageUnavailableError):
            await rig.ingest.process()
    assert await rig.rows("SELECT * FROM projected") == []
    assert told == []

    await rig.take()
    assert await rig.rows("SELECT kind FROM projected") == [("message",), ("message",)]
    assert told == [["message", "message"]]


async def test_a_projection_that_raises_fails_only_the_events_it_raises_for(rig: Rig, who: Conversationalist) -> None:
    told: list[str] = []

    def project(connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> Callable[[], None]:
        for one in events:
            mid = one.translated.change.mid if one.translated.change else ""
            connection.execute("INSERT INTO projected VALUES (?)", (mid,))
            if mid == mid_of(poison):
                msg = "it is poison"
                raise ValueError(msg)
        mids = [one.translated.change.mid for one in events if one.translated.change]
        return lambda: told.extend(mids)

    before, poison, after, other = who.says("before"), who.says("poison"), who.says("after"), who.says("other")
    await rig.database.execute("CREATE TABLE projected (mid TEXT)")
    rig.projections.append(project)

    await rig.take(delivery(ACCOUNT, T0, [before, poison, after]), delivery(ACCOUNT, T0, [other]))

    stored = [mid_of(one) for one in (before, after, other)]
    assert await rig.rows("SELECT mid FROM projected") == [(mid,) for mid in stored]
    assert told == stored
    assert {row["content"] for row in await rig.all("v1_messages")} == {"before", "after", "other"}
    assert await rig.rows("SELECT state, attempts, error FROM deliveries ORDER BY id") == [
        ("pending", 1, "event 1: ValueError: it is poison"),
        ("done", 0, None),
    ]


async def test_a_stop_stores_the_batch_in_hand(rig: Rig, who: Conversationalist) -> None:
    for text in ("one", "two"):
        await rig.inbox.append(json.dumps(delivery(ACCOUNT, T0, [who.says(text)])).encode())
    prepare = rig.ingest._preparation.prepare

    def stop(*arguments: Any) -> PreparedEvent:
        rig.ingest.wakeup.stop()
        return prepare(*arguments)

    with pytest.MonkeyPatch.context() as once:
        once.setattr(rig.ingest._preparation, "prepare", stop)
        await asyncio.wait_for(work(rig.ingest, rig.clock, logs.get("ingest"), SCHEDULE), 5)

    assert await rig.rows("SELECT state FROM deliveries ORDER BY id") == [("done",), ("pending",)]
    assert [row["content"] for row in await rig.all("v1_messages")] == ["one"]


async def test_an_arrival_wakes_the_worker(database: Database, who: Conversationalist) -> None:
    rig = Rig(database)
    processed = asyncio.Event()
    rig.projections.append(lambda _connection, _events: processed.set)
    worker = asyncio.create_task(work(rig.ingest, Clock(), logs.get("ingest"), SCHEDULE))
    await asyncio.sleep(0.05)  # it has looked and rests for LOOK_S

    await rig.inbox.append(json.dumps(delivery(ACCOUNT, T0, [who.says("hi")])).encode())
    await asyncio.wait_for(processed.wait(), 5)

    rig.ingest.wakeup.stop()
    await asyncio.wait_for(worker, 5)


@pytest.mark.parametrize(("ahead_ms", "texts"), [(3_600_000, []), (365 * 86_400_000, ["I am here again"])])
async def test_an_erasure_by_a_clock_that_was_ahead_hides_nothing_for_a_year(
    rig: Rig, who: Conversationalist, ahead_ms: int, texts: list[str]
) -> None:
    erased_at = rig.clock.now + ahead_ms
    erased = NewEvent(PARTICIPANT_ERASED, ACCOUNT, erased_at, b"{}", who.participant_id)
    await rig.database.write(lambda connection: event_log(rig.clock).append(connection, [erased]))
    if not texts:  # the clock is right: the message is late
        rig.clock.now = erased_at
    await rig.deliver(who.says("I am here again"))
    assert await rig.rows("SELECT text FROM messages") == [(text,) for text in texts]
