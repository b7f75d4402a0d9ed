"""Messages from webhooks and from the Conversations API, in any order: one message, in Meta's state."""

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import (
    READ_BACK_DELAY_MS,
    Content,
    Deleted,
    Direction,
    Edited,
    Message,
    MessageChange,
    ReadBack,
    Sent,
    SentFromHere,
    Source,
    fold,
)

from tests.support import ACCOUNT, ANA, T0

KEY = ConversationKey(ACCOUNT, ANA)
LATER = T0 + 2 * READ_BACK_DELAY_MS


def sent(text: str = "a") -> Sent:
    content = Content(type="text", text=text, details={"referral": {"ref": "x"}})
    return Sent(key=KEY, mid="m", at=T0 + 250, sender_id=ANA, direction=Direction.INBOUND, content=content)


def read(text: str | None = "a", read_at: int = LATER, source: Source = Source.RECONCILED) -> ReadBack:
    content = None if text is None else Content(type="text", text=text)
    who = ANA if content else None
    direction = Direction.INBOUND if content else None
    return ReadBack(
        key=KEY, mid="m", at=T0, source=source, read_at=read_at, sender_id=who, direction=direction, content=content
    )


def edited(text: str, at: int, number: int = 1) -> Edited:
    return Edited(key=KEY, mid="m", at=at, sender_id=ANA, text=text, number=number)


def state(changes: Sequence[MessageChange]) -> Message:
    message = None
    for change in changes:
        message = fold(message, change)
    assert message is not None
    return message


def test_the_webhooks_copy_stays_whichever_comes_first() -> None:
    for order in itertools.permutations([sent(), read()]):
        message = state(order)
        assert message.content == sent().content
        assert (message.source, message.read_at, message.edit) == (Source.WEBHOOK, None, None)
        assert (message.timeline_at, message.listed_at) == (T0 + 250, T0)


def test_a_message_that_only_the_api_knows_is_a_message() -> None:
    message = state([read()])
    assert (message.text, message.direction, message.sender_id) == ("a", Direction.INBOUND, ANA)
    assert (message.timeline_at, message.sent_at, message.source) == (T0, None, Source.RECONCILED)


def test_a_message_without_readable_details_is_a_stub_until_somebody_brings_them() -> None:
    assert state([read(None)]).direction is None
    assert state([read(None)]).timeline_at == T0
    for order in itertools.permutations([read(None), read("a")]):
        assert state(order).text == "a"


def test_history_and_reconciliation_agree_on_the_source() -> None:
    for order in itertools.permutations([read(source=Source.HISTORY), read(source=Source.RECONCILED)]):
        assert state(order).source is Source.RECONCILED


def test_a_missed_edit_is_taken_from_the_api() -> None:
    for order in itertools.permutations([sent("a"), read("b")]):
        assert state(order).text == "b"
    assert state([sent("a"), edited("b", T0 + 1000), read("c")]).text == "c"


def test_a_copy_that_the_api_read_before_the_edit_could_show_there_undoes_nothing() -> None:
    assert state([sent("a"), edited("b", LATER), read("a", LATER + READ_BACK_DELAY_MS - 1)]).text == "b"
    assert state([sent("a"), read("", LATER)]).text == "a"


@pytest.mark.parametrize("text", ["a ", " a", "a\n"])
def test_blanks_are_no_edit(text: str) -> None:
    assert state([sent("a"), read(text)]).edit is None


def test_a_deleted_message_gets_nothing_back() -> None:
    deleted = Deleted(key=KEY, mid="m", at=T0 + 900, sender_id=ANA)
    for order in itertools.permutations([sent(), read(), deleted]):
        message = state(order)
        assert (message.content, message.edit, message.deleted_at) == (None, None, T0 + 900)


@given(st.lists(st.sampled_from("ab"), max_size=3), st.randoms(use_true_random=False))
def test_whatever_is_dropped_doubled_and_reordered_the_text_is_metas(texts: list[str], chance: random.Random) -> None:
    """A message with edits, each long after the one before; webhooks get lost; the API is read after the last edit."""
    gap = 10 * READ_BACK_DELAY_MS
    edits = [edited(text + str(number), T0 + number * gap, number) for number, text in enumerate(texts, 1)]
    webhooks: list[MessageChange] = [sent("original"), *edits]
    truth = edits[-1].text if edits else "original"
    reads: list[MessageChange] = []
    for number in range(len(edits) + 1):
        if number == len(edits) or chance.random() < 0.5:
            text = edits[number - 1].text if number else "original"
            reads.append(read(text, T0 + number * gap + gap // 2))
    arrived = [one for one in webhooks if chance.random() < 0.6] + reads
    arrived += [one for one in arrived if chance.random() < 0.3]
    chance.shuffle(arrived)
    assert state(arrived).text == truth


ours = SentFromHere(key=KEY, mid="m", at=T0 + 100, content=Content(type="text", text="a", details={"long": "x" * 99}))
echo = Sent(
    key=KEY,
    mid="m",
    at=T0 + 250,
    sender_id=ACCOUNT,
    direction=Direction.OUTBOUND,
    content=Content(type="text", text="a"),
)


def listed(text: str, read_at: int, source: Source) -> ReadBack:
    return ReadBack(
        key=KEY,
        mid="m",
        at=T0,
        source=source,
        read_at=read_at,
        sender_id=ACCOUNT,
        direction=Direction.OUTBOUND,
        content=Content(type="text", text=text),
    )


def test_what_was_sent_from_here_is_shown_at_once() -> None:
    message = state([ours])
    assert (message.text, message.direction, message.sender_id) == ("a", Direction.OUTBOUND, ACCOUNT)
    assert (message.timeline_at, message.source, message.sent_at) == (T0 + 100, Source.SENT, None)


def test_the_echo_and_then_the_api_know_better_than_what_was_sent_from_here() -> None:
    found = listed("a", LATER, Source.HISTORY)
    for order in itertools.permutations([ours, found]):
        message = state(order)
        assert (message.source, message.content, message.timeline_at) == (Source.HISTORY, found.content, T0)
    for order in itertools.permutations([ours, found, echo]):
        message = state(order)
        assert (message.source, message.content, message.timeline_at) == (Source.WEBHOOK, echo.content, T0 + 250)


def test_what_was_sent_from_here_undoes_no_edit() -> None:
    edit = Edited(key=KEY, mid="m", at=LATER, sender_id=ACCOUNT, text="b", number=1)
    for order in itertools.permutations([ours, edit]):
        assert state(order).text == "b"


@given(
    st.lists(
        st.sampled_from(
            [
                ours,
                echo,
                listed("a", LATER, Source.RECONCILED),
                listed("b", LATER + 9, Source.HISTORY),
                listed("c", T0 + 300, Source.HISTORY),
                Edited(key=KEY, mid="m", at=T0 + 500, sender_id=ACCOUNT, text="b", number=1),
                Deleted(key=KEY, mid="m", at=T0 + 600, sender_id=ACCOUNT),
            ]
        ),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_what_was_sent_from_here_joins_in_any_order(changes: list[MessageChange], chance: random.Random) -> None:
    again = changes + chance.choices(changes, k=chance.randint(0, 4))
    chance.shuffle(again)
    assert state(again) == state(changes)


@given(st.permutations([sent(), read(), read(None), edited("b", T0 + 500), read("b", LATER + 1)]))
def test_a_copy_once_more_changes_nothing(changes: list[MessageChange]) -> None:
    message = state(changes)
    for change in changes:
        if isinstance(change, ReadBack) and change.content is not None and change.content.text != message.text:
            continue  # an older read of what was edited since
        assert message.apply(change) == message
