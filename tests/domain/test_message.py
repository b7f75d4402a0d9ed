import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import (
    Attachment,
    Content,
    Deleted,
    Direction,
    Edited,
    Message,
    MessageChange,
    Reacted,
    Seen,
    Sent,
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
