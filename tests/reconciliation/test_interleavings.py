"""Whatever is dropped, doubled, late, imported and reconciled, in any order: the state is Meta's, each message once."""

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inboxd.conversations import early_changes_store as early_changes
from inboxd.conversations import message_store, read_back_store
from inboxd.conversations.event_recording import record_changes
from inboxd.conversations.read_back import Sides, read_conversation
from inboxd.conversations.translate import changes_of, translate
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.mailbox import Detail, ListedMessage, ListedReaction, Party
from inboxd.domain.message import Source
from inboxd.domain.own_identity import OwnIdentity
from inboxd.domain.reconciliation import Cause
from inboxd.meta import webhook_decoding
from inboxd.profiles import store as profiles
from inboxd.reconciliation import healing_store
from inboxd.simulator.mailbox import KeptMessage, Mailbox
from inboxd.simulator.payloads import Conversationalist, Item, delivery
from inboxd.storage.migrations import migrate

from tests.support import ACCOUNT, ANA, BRUNO, T0, ManualClock, event_log

ALIASES = {ACCOUNT: ACCOUNT}
SETTLED_MS = 10 * 60_000
WHAT = ["say", "say", "say", "answer", "edit", "react", "unsend", "reconcile", "reconcile", "import", "late", "wait"]
FATES = ["comes", "comes", "dropped", "twice", "late"]


TOLD = """
SELECT message_id, count(*) FROM events WHERE type IN ('message.received', 'message.sent') GROUP BY message_id
"""


def unexplained(_mid: str, _at: int) -> Cause:
    return Cause.NOT_DELIVERED


class Both:
    """Meta on one side, the store on the other."""

    def __init__(self, connection: sqlite3.Connection, chance: random.Random, *, other_ids: bool) -> None:
        self.connection, self.chance, self.other_ids = connection, chance, other_ids
        self.clock = ManualClock()
        self.log = event_log(self.clock)
        self.mailbox = Mailbox(lambda: self.clock.now / 1000)
        self.people = {who: Conversationalist(ACCOUNT, who, T0) for who in (ANA, BRUNO)}
        self.late: list[Item] = []
        self.imported = False
        self.told: list[Item] = []
        connection.execute(
            "INSERT INTO reconciled_accounts (account_id, since, checked_to) VALUES (?, ?, ?)", (ACCOUNT, T0, T0)
        )

    def step(self, what: str, fate: str) -> None:
        """Something happens. `fate` is that of its webhook."""
        self.clock.now += self.chance.randint(300, 120_000)
        who = self.chance.choice(list(self.people))
        person = self.people[who]
        person.now = self.clock.now
        mids = [one.id for one in self.mailbox.truth() if one.participant_id == who and not one.unsent]
        match what:
            case "say":
                self.happens(person.says(self.chance.choice("ab")), fate)
            case "answer":
                self.happens(person.answers(self.chance.choice("ab")), fate)
            case "edit" | "react" | "unsend" if mids and not self.other_ids:
                self.change(what, fate, who, self.chance.choice(mids))
            case "reconcile":
                self.read(Source.RECONCILED)
            case "import":
                self.imported = True
                self.read(Source.HISTORY)
            case "late":
                self.deliver_late()
            case _:
                self.clock.now += SETTLED_MS

    def change(self, what: str, fate: str, who: str, mid: str) -> None:
        """The participant changes their message, or reacts to a message."""
        if what == "react":
            reaction = {"mid": mid, "action": "react", "reaction": "love", "emoji": "❤"}
            self.happens(self.item(who, reaction=reaction), fate)
        elif self.truth(mid).sender_id != who:
            return
        elif what == "edit":
            number = sum(event.get("message_edit", {}).get("mid") == mid for event in self.told) + 1
            edit = {"mid": mid, "text": f"edited {number}", "num_edit": number}
            self.happens(self.item(who, message_edit=edit), fate)
        else:  # the API does not tell of it, so its webhook must come
            fate = "late" if fate == "dropped" else fate
            self.happens(self.item(who, message={"mid": mid, "is_deleted": True}), fate)

    def item(self, who: str, **body: Any) -> Item:
        return {"sender": {"id": who}, "recipient": {"id": ACCOUNT}, "timestamp": self.clock.now, **body}

    def truth(self, mid: str) -> KeptMessage:
        found = self.mailbox.message(mid)
        assert found is not None
        return found

    def happens(self, item: Item, fate: str) -> None:
        self.told.append(item)
        self.mailbox.apply(delivery(ACCOUNT, self.clock.now, [item]))
        if fate == "late":
            self.late.append(item)
        for _ in range({"comes": 1, "twice": 2}.get(fate, 0)):
            self.arrives(item)

    def deliver_late(self) -> None:
        self.chance.shuffle(self.late)
        while self.late:
            self.arrives(self.late.pop())

    def arrives(self, item: Item) -> None:
        """A webhook, stored as ingest does."""
        now = self.clock.now
        body = json.dumps(delivery(ACCOUNT, now, [item])).encode()
        translated = [translate(event, ALIASES, now) for event in webhook_decoding.decode(body)]
        changes = changes_of((1, one) for one in translated)
        keys = {one.key for one in translated if one.key is not None}
        applied = message_store.apply_changes(
            self.connection, keys, [(None, change) for _, change in changes.changes], now
        )
        profiles.ensure(self.connection, [key for key, _ in applied.created], now)
        joined = early_changes.join(self.connection, changes.partyless, changes.arrived, now)
        record_changes(self.connection, self.log, applied.created, [*applied.changed, *joined], now)

    def read(self, source: Source) -> None:
        """All conversations are read, as far as the API shows them."""
        now = self.clock.now
        for one in self.mailbox.conversations(ACCOUNT):
            key = ConversationKey(ACCOUNT, one.participant_id)
            sides = Sides(key, OwnIdentity(frozenset({ACCOUNT})), None)
            kept = [message for message in one.messages.values() if not message.unsent and message.created_ms < now]
            shown = [self.shown(message) for message in kept]
            self.chance.shuffle(shown)
            read = read_conversation(sides, shown, ALIASES, source=source, read_at=now)
            joined = read_back_store.join(self.connection, read, now)
            if source is Source.RECONCILED:
                record_changes(self.connection, self.log, joined.created, joined.changed, now)
                healing_store.record(self.connection, ACCOUNT, joined, check_id=1, now=now, cause_of=unexplained)
        healing_store.note_late(self.connection, ACCOUNT, now)

    def shown(self, message: KeptMessage) -> ListedMessage:
        who = ACCOUNT if message.recipient_id == ACCOUNT else message.recipient_id
        return ListedMessage(
            id=f"api-{message.mid}" if self.other_ids else message.mid,
            created_time=message.created_ms // 1000 * 1000,
            detail=Detail.READABLE,
            sender=Party(message.sender_id),
            recipients=(Party(who),),
            text=message.text,
            reactions=tuple(ListedReaction(emoji, (Party(by),)) for by, emoji in message.reactions.items()) or None,
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    """An empty database with the newest schema."""
    path = tmp_path_factory.mktemp("schema") / "empty.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, Path(path))
    return connection


STEPS = st.lists(st.tuples(st.sampled_from(WHAT), st.sampled_from(FATES)), max_size=25)


@settings(max_examples=400)
@given(steps=STEPS, chance=st.randoms(use_true_random=False), other_ids=st.booleans())
def test_the_state_is_metas_and_each_message_is_there_once(
    template: sqlite3.Connection, steps: Sequence[tuple[str, str]], chance: random.Random, *, other_ids: bool
) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    template.backup(connection)
    both = Both(connection, chance, other_ids=other_ids)
    for what, fate in steps:
        both.step(what, fate)
    ends: list[Callable[[], None]] = [both.deliver_late, lambda: both.read(Source.RECONCILED)]
    for end in chance.sample(ends, len(ends)) if not other_ids else ends:
        both.clock.now += SETTLED_MS
        end()
    both.clock.now += SETTLED_MS
    both.read(Source.RECONCILED)

    truth = both.mailbox.truth()
    rows = both.query("SELECT sender_platform_id, content, message_type = 'deleted' FROM v1_messages")
    assert Counter(rows) == Counter(
        ((ACCOUNT if one.outbound else one.participant_id), None if one.unsent else one.text, int(one.unsent))
        for one in truth
    )
    if not other_ids:
        shown = dict(both.query("SELECT platform_message_id, reactions FROM v1_messages"))
        for one in truth:
            here = {each["by"]: each.get("emoji") for each in json.loads(shown[one.id])}
            assert here == ({} if one.unsent else one.reactions)
    if not both.imported:
        told = both.query(TOLD)
        assert {count for _, count in told} <= {1}
        seen, delivered, healed = both.query("SELECT sum(seen), sum(delivered), sum(healed) FROM completeness_hours")[0]
        assert (seen or 0) == (delivered or 0) + (healed or 0)
        if not any(one.unsent for one in truth):
            assert (seen or 0) == len(truth) == len(told)
    connection.close()
