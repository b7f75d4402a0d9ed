"""What others are told of a change: what really changed, once, whatever the order in which changes arrive."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import (
    Content,
    Deleted,
    Direction,
    Edited,
    Message,
    MessageChange,
    Reacted,
    Reaction,
    Seen,
    Sent,
    fold,
)
from inboxd.domain.message_facts import Fact, MessageFact, facts

from tests.support import ACCOUNT, ANA, T0

KEY = ConversationKey(ACCOUNT, ANA)
LOVE = Reaction(by=ANA, at=T0 + 4, reaction="love", emoji="x")


def sent(
    text: str = "hi",
    *,
    direction: Direction = Direction.INBOUND,
    at: int = T0,
    standby: bool = False,
    kind: str = "text",
) -> Sent:
    sender = ANA if direction is Direction.INBOUND else ACCOUNT
    content = Content(type=kind, text=text)
    return Sent(key=KEY, mid="m", at=at, sender_id=sender, direction=direction, content=content, standby=standby)


def edited(text: str = "hello", number: int = 1, at: int = T0 + 2) -> Edited:
    return Edited(key=KEY, mid="m", at=at, sender_id=ANA, text=text, number=number)


def deleted(at: int = T0 + 3) -> Deleted:
    return Deleted(key=KEY, mid="m", at=at, sender_id=ANA)


def reacted(reaction: str | None = "love", at: int = T0 + 4) -> Reacted:
    return Reacted(key=KEY, mid="m", at=at, by=ANA, reaction=reaction, emoji="x" if reaction else None)


def seen(*, by_account: bool, at: int = T0 + 5) -> Seen:
    return Seen(key=KEY, mid="m", at=at, by_account=by_account)


def told(*changes: MessageChange) -> list[list[MessageFact]]:
    """The facts of each change, one after the other."""
    message: Message | None = None
    found = []
    for change in changes:
        before, message = message, fold(message, change)
        found.append(facts(before, message))
    return found


RECEIVED = MessageFact(Fact.RECEIVED, T0)
EDITED = MessageFact(Fact.EDITED, T0 + 2)
DELETED = MessageFact(Fact.DELETED, T0 + 3)
ADDED = MessageFact(Fact.REACTION_ADDED, T0 + 4, reaction=LOVE)
READ = MessageFact(Fact.READ, T0 + 5, read_by_account=False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([sent()], [[RECEIVED]], id="received"),
        pytest.param([sent(), sent()], [[RECEIVED], []], id="received twice"),
        pytest.param([sent(direction=Direction.OUTBOUND)], [[MessageFact(Fact.SENT, T0)]], id="sent"),
        pytest.param([sent(kind="postback")], [[MessageFact(Fact.POSTBACK, T0)]], id="postback"),
        pytest.param([sent(), edited()], [[RECEIVED], [EDITED]], id="edited"),
        pytest.param([edited(), sent()], [[EDITED], [RECEIVED]], id="edited before it arrived"),
        pytest.param([sent(), edited("b", 2), edited("a", 1)], [[RECEIVED], [EDITED], []], id="an older edit late"),
        pytest.param([sent(), deleted()], [[RECEIVED], [DELETED]], id="deleted"),
        pytest.param([deleted(), sent()], [[DELETED], []], id="deleted before it arrived"),
        pytest.param([sent(), deleted(), edited(), reacted()], [[RECEIVED], [DELETED], [], []], id="after a delete"),
        pytest.param([sent(), reacted(), deleted()], [[RECEIVED], [ADDED], [DELETED]], id="a reaction goes with it"),
        pytest.param([sent(), reacted()], [[RECEIVED], [ADDED]], id="reaction"),
        pytest.param([reacted(), sent()], [[ADDED], [RECEIVED]], id="reaction before it arrived"),
        pytest.param(
            [sent(), reacted(), reacted(None, T0 + 6)],
            [
                [RECEIVED],
                [ADDED],
                [MessageFact(Fact.REACTION_REMOVED, T0 + 6, reaction=msgspec.structs.replace(LOVE, at=T0 + 6))],
            ],
            id="reaction taken back, told with what it was",
        ),
        pytest.param([sent(), reacted(None, T0 + 6), reacted()], [[RECEIVED], [], []], id="taken back, then late"),
        pytest.param(
            [sent(), reacted("wow"), reacted(at=T0 + 5)],
            [
                [RECEIVED],
                [
                    MessageFact(
                        Fact.REACTION_ADDED, T0 + 4, reaction=Reaction(by=ANA, at=T0 + 4, reaction="wow", emoji="x")
                    )
                ],
                [MessageFact(Fact.REACTION_ADDED, T0 + 5, reaction=msgspec.structs.replace(LOVE, at=T0 + 5))],
            ],
            id="another reaction",
        ),
        pytest.param([sent(), reacted(), reacted(at=T0 + 9)], [[RECEIVED], [ADDED], []], id="the same reaction again"),
        pytest.param([sent(), seen(by_account=False)], [[RECEIVED], [READ]], id="read"),
        pytest.param([seen(by_account=False), sent()], [[READ], [RECEIVED]], id="read before it arrived"),
        pytest.param(
            [sent(), seen(by_account=False), seen(by_account=False, at=T0 + 1)],
            [[RECEIVED], [READ], []],
            id="read before, as it turns out",
        ),
        pytest.param(
            [sent(), seen(by_account=True)],
            [[RECEIVED], [MessageFact(Fact.READ, T0 + 5, read_by_account=True)]],
            id="read by the account",
        ),
        pytest.param(
            [sent("h", standby=True), sent("hi, all of it")],
            [[RECEIVED], [MessageFact(Fact.UPDATED, T0)]],
            id="a more complete copy",
        ),
        pytest.param([sent("hi"), sent("h", standby=True)], [[RECEIVED], []], id="a less complete copy"),
        pytest.param(
            [sent(direction=Direction.OUTBOUND), sent()],
            [[MessageFact(Fact.SENT, T0)], [MessageFact(Fact.UPDATED, T0)]],
            id="an echo turns out to be received",
        ),
    ],
)
def test_what_a_change_tells(changes: list[MessageChange], expected: list[list[MessageFact]]) -> None:
    assert told(*changes) == expected


CHANGES = st.lists(
    st.one_of(
        st.builds(
            sent,
            st.sampled_from(["a", "b"]),
            direction=st.sampled_from(Direction),
            at=st.integers(T0, T0 + 2),
            standby=st.booleans(),
        ),
        st.builds(edited, st.sampled_from(["c", "d"]), st.integers(1, 3), st.integers(T0, T0 + 3)),
        st.builds(deleted, st.integers(T0, T0 + 3)),
        st.builds(reacted, st.sampled_from(["love", "wow", None]), st.integers(T0, T0 + 3)),
        st.builds(seen, by_account=st.booleans(), at=st.integers(T0, T0 + 3)),
    ),
    min_size=1,
    max_size=12,
)


@given(CHANGES, st.randoms(use_true_random=False))
def test_changes_that_are_known_tell_nothing_in_any_order(changes: list[MessageChange], chance: object) -> None:
    again = [*changes, *changes]
    chance.shuffle(again)  # type: ignore[attr-defined]
    assert told(*changes, *again)[len(changes) :] == [[]] * len(again)


@given(CHANGES)
def test_each_thing_happens_once_at_most(changes: list[MessageChange]) -> None:
    found = [one.fact for some in told(*changes) for one in some]
    arrivals = [fact for fact in found if fact in {Fact.RECEIVED, Fact.SENT, Fact.POSTBACK}]
    assert len(arrivals) <= 1
    assert found.count(Fact.DELETED) <= 1
    assert found.count(Fact.READ) <= 2
    if Fact.DELETED in found:
        assert found[-1] is Fact.DELETED, "what is deleted tells nothing more"
