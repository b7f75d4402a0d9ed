import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import (
    Attachment,
    Content,
    Deleted,
    Direction,
    Edit,
    Edited,
    Message,
    MessageChange,
    Reacted,
    Reaction,
    Seen,
    Sent,
    SentFromHere,
    fold,
)

from tests.support import ACCOUNT, ANA, T0

KEY = ConversationKey(ACCOUNT, ANA)
times = st.integers(T0, T0 + 5)
texts = st.sampled_from(["a", "b", ""])
contents = st.builds(
    Content,
    type=st.just("text"),
    text=texts,
    attachments=st.sampled_from([(), (Attachment(type="image", url="https://example.com/1"),)]),
)
changes = st.one_of(
    st.builds(
        Sent,
        key=st.just(KEY),
        mid=st.just("m"),
        at=times,
        sender_id=st.sampled_from([ANA, ACCOUNT]),
        direction=st.sampled_from(Direction),
        content=contents,
        standby=st.booleans(),
    ),
    st.builds(
        Edited,
        key=st.just(KEY),
        mid=st.just("m"),
        at=times,
        sender_id=st.just(ANA),
        text=texts,
        number=st.integers(0, 3),
    ),
    st.builds(Deleted, key=st.just(KEY), mid=st.just("m"), at=times, sender_id=st.just(ANA)),
    st.builds(
        Reacted,
        key=st.just(KEY),
        mid=st.just("m"),
        at=times,
        by=st.sampled_from([ANA, ACCOUNT]),
        reaction=st.sampled_from([None, "love", "sad"]),
        emoji=st.none(),
    ),
    st.builds(Seen, key=st.just(KEY), mid=st.just("m"), at=times, by_account=st.booleans()),
    st.builds(SentFromHere, key=st.just(KEY), mid=st.just("m"), at=times, content=contents),
)


def folded(happened: Sequence[MessageChange]) -> Message | None:
    message = None
    for change in happened:
        message = fold(message, change)
    return message


@given(st.lists(changes, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_order_with_any_duplication_gives_the_same_message(
    happened: list[MessageChange], rng: random.Random
) -> None:
    again = happened + rng.choices(happened, k=rng.randint(0, 5))
    rng.shuffle(again)

    assert folded(again) == folded(happened)


@given(st.lists(changes, min_size=1, max_size=6))
def test_a_deleted_message_has_no_content_whatever_else_happened(happened: list[MessageChange]) -> None:
    message = folded([*happened, Deleted(key=KEY, mid="m", at=T0, sender_id=ANA)])

    assert message is not None
    assert message.deleted_at is not None
    assert (message.content, message.edit, message.reactions) == (None, None, ())


def sent(text: str = "hola", *, at: int = T0, direction: Direction = Direction.INBOUND) -> Sent:
    return Sent(key=KEY, mid="m", at=at, sender_id=ANA, direction=direction, content=Content("text", text))


def test_an_edit_before_its_message_shows_and_keeps_its_place() -> None:
    edit = Edited(key=KEY, mid="m", at=T0 + 9, sender_id=ANA, text="new", number=1)

    early = folded([edit])
    whole = folded([edit, sent()])

    assert early is not None
    assert early.timeline_at == T0 + 9
    assert whole is not None
    assert whole.timeline_at == T0
    assert whole.edit is not None
    assert whole.edit.text == "new"


def test_a_reaction_alone_is_not_shown() -> None:
    message = folded([Reacted(key=KEY, mid="m", at=T0, by=ANA, reaction="love", emoji=None)])

    assert message is not None
    assert message.timeline_at is None


def test_an_echo_of_a_received_message_changes_nothing() -> None:
    received = folded([sent()])

    assert folded([sent(), sent(direction=Direction.OUTBOUND)]) == received


@pytest.mark.parametrize("order", [1, -1])
def test_a_standby_copy_never_replaces_the_full_one(order: int) -> None:
    full = sent("with payload")
    poor = Sent(
        key=KEY,
        mid="m",
        at=T0,
        sender_id=ANA,
        direction=Direction.INBOUND,
        content=Content("text", "zzz"),
        standby=True,
    )

    message = folded([full, poor][::order])

    assert message is not None
    assert message.content == full.content


def copy(at: int = T0, *, sender_id: str = ANA, text: str = "hola", direction: Direction = Direction.INBOUND) -> Sent:
    return Sent(key=KEY, mid="m", at=at, sender_id=sender_id, direction=direction, content=Content("text", text))


def edited(number: int, at: int, text: str = "new", sender_id: str = ANA) -> Edited:
    return Edited(key=KEY, mid="m", at=at, sender_id=sender_id, text=text, number=number)


def deleted(at: int, sender_id: str = ANA) -> Deleted:
    return Deleted(key=KEY, mid="m", at=at, sender_id=sender_id)


def reacted(at: int, reaction: str | None, emoji: str | None = None) -> Reacted:
    return Reacted(key=KEY, mid="m", at=at, by=ANA, reaction=reaction, emoji=emoji)


def seen(at: int, *, by_account: bool) -> Seen:
    return Seen(key=KEY, mid="m", at=at, by_account=by_account)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("happened", "facts"),
    [
        # The earliest time that anything is known of is when it was noticed, and the earliest copy when it was sent.
        ([copy(T0), copy(T0 + 5)], {"noticed_at": T0, "sent_at": T0, "timeline_at": T0}),
        ([copy(T0 + 5), edited(1, T0)], {"noticed_at": T0, "sent_at": T0 + 5, "timeline_at": T0 + 5}),
        ([copy(sender_id="1"), copy(sender_id="2")], {"sender_id": "1"}),
        ([edited(1, T0, sender_id="1"), edited(1, T0, sender_id="2")], {"sender_id": "1"}),
        ([deleted(T0, sender_id="1"), deleted(T0, sender_id="2")], {"sender_id": "1"}),
        (
            [copy(direction=Direction.INBOUND), copy(direction=Direction.OUTBOUND)],
            {"direction": Direction.INBOUND},
        ),
        ([copy(text="a"), copy(text="b")], {"content": Content("text", "b")}),
        # Edits are ordered by number, whenever they arrive or say that they happened; then by time, then by text.
        ([edited(1, T0 + 9, "first"), edited(2, T0 + 1, "second")], {"edit": Edit(2, T0 + 1, "second")}),
        ([edited(1, T0 + 1, "z"), edited(1, T0 + 9, "a")], {"edit": Edit(1, T0 + 9, "a")}),
        ([edited(1, T0, "a"), edited(1, T0, "b")], {"edit": Edit(1, T0, "b")}),
        ([deleted(T0 + 3), deleted(T0 + 5)], {"deleted_at": T0 + 3}),
        # Whoever unsends a message wants nothing of it to be seen, whatever Meta repeats or had on its way.
        ([copy(), deleted(T0 + 1)], {"content": None, "timeline_at": T0}),
        ([edited(1, T0), deleted(T0 + 1)], {"edit": None}),
        ([reacted(T0, "love"), deleted(T0 + 1)], {"reactions": ()}),
        ([seen(T0 + 3, by_account=True), seen(T0 + 5, by_account=True)], {"seen_by_account_at": T0 + 3}),
        ([seen(T0 + 3, by_account=False), seen(T0 + 5, by_account=False)], {"seen_by_participant_at": T0 + 3}),
        (
            [seen(T0 + 3, by_account=False), seen(T0 + 5, by_account=True)],
            {"seen_by_participant_at": T0 + 3, "seen_by_account_at": T0 + 5},
        ),
        # The later reaction counts; of the same instant giving one outranks taking it back, then the alphabet decides.
        ([reacted(T0, "sad"), reacted(T0 + 1, "love")], {"reactions": (Reaction(ANA, T0 + 1, "love"),)}),
        ([reacted(T0, "sad"), reacted(T0 + 1, None)], {"reactions": (Reaction(ANA, T0 + 1),)}),
        ([reacted(T0, "sad"), reacted(T0, None)], {"reactions": (Reaction(ANA, T0, "sad"),)}),
        ([reacted(T0, "love"), reacted(T0, "sad")], {"reactions": (Reaction(ANA, T0, "sad"),)}),
        ([reacted(T0, "other", "a"), reacted(T0, "other", "b")], {"reactions": (Reaction(ANA, T0, "other", "b"),)}),
    ],
)
def test_which_of_two_wins_whatever_their_order(
    happened: Sequence[MessageChange], facts: dict[str, Any], order: int
) -> None:
    """The property above holds for a join with every minimum and maximum exchanged: only examples tell them apart."""
    message = folded(happened[::order])

    assert {name: getattr(message, name) for name in facts} == facts
