"""Until when a participant may be answered, and with which tag."""

import itertools
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.account import DAY_MS
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import (
    Content,
    Deleted,
    Direction,
    Edited,
    MessageChange,
    Reacted,
    ReadBack,
    Seen,
    Sent,
    Source,
)
from inboxd.domain.outbound import SentBy
from inboxd.domain.reply_window import Closed, Opening, ReplyWindow, Tag, opening_of, openings_of

from tests.support import ACCOUNT, ANA, BRUNO, T0

KEY = ConversationKey(ACCOUNT, ANA)
SELF = ConversationKey(ACCOUNT, ACCOUNT)
AD: dict[str, object] = {"referral": {"ref": "spring", "ad_id": 12, "source": "ADS", "type": "OPEN_THREAD"}}
HOUR_MS = DAY_MS // 24


def sent(
    direction: Direction = Direction.INBOUND,
    *,
    key: ConversationKey = KEY,
    kind: str = "text",
    details: dict[str, object] | None = None,
    standby: bool = False,
) -> Sent:
    sender = key.participant_id if direction is Direction.INBOUND else key.account_id
    content = Content(type=kind, text="hi", details=details)
    return Sent(key=key, mid="m", at=T0, sender_id=sender, direction=direction, content=content, standby=standby)


def read_back(direction: Direction | None, source: Source = Source.RECONCILED) -> ReadBack:
    content = None if direction is None else Content(type="text", text="hi")
    sender = None if direction is None else ANA
    told = {"direction": direction, "content": content, "sender_id": sender}
    return ReadBack(key=KEY, mid="m", at=T0, source=source, read_at=T0 + 1, **told)  # type: ignore[arg-type]


def reacted(by: str, reaction: str | None) -> Reacted:
    return Reacted(key=KEY, mid="m", at=T0, by=by, reaction=reaction, emoji=None)


@pytest.mark.parametrize(
    ("change", "opening"),
    [
        (sent(), Opening(T0)),
        (sent(kind="postback"), Opening(T0)),
        (sent(kind="unsupported"), Opening(T0)),
        (sent(details={"quick_reply": {"payload": "S"}}), Opening(T0)),
        (sent(standby=True), Opening(T0)),
        (sent(details=AD), Opening(T0, T0)),
        (sent(details={"referral": {"source": "SHORTLINKS", "ref": "x"}}), Opening(T0)),
        (sent(details={"referral": "ADS"}), Opening(T0)),
        (read_back(Direction.INBOUND), Opening(T0)),
        (read_back(Direction.INBOUND, Source.HISTORY), Opening(T0)),
        (reacted(ANA, "love"), Opening(T0)),
        (reacted(ANA, None), None),
        (reacted(ACCOUNT, "love"), None),
        (sent(Direction.OUTBOUND), None),
        (sent(Direction.OUTBOUND, details=AD), None),
        (sent(key=SELF), None),
        (read_back(Direction.OUTBOUND), None),
        (read_back(None), None),
        (Edited(key=KEY, mid="m", at=T0, sender_id=ANA, text="x", number=1), None),
        (Deleted(key=KEY, mid="m", at=T0, sender_id=ANA), None),
        (Seen(key=KEY, mid="m", at=T0, by_account=False), None),
        (Seen(key=KEY, mid="m", at=T0, by_account=True), None),
    ],
)
def test_what_opens_the_window(change: MessageChange, opening: Opening | None) -> None:
    assert opening_of(change) == opening


changes = st.one_of(
    st.builds(
        lambda key, at, direction, ad: msgspec.structs.replace(
            sent(direction, key=key, details=AD if ad else None), at=at
        ),
        st.sampled_from([KEY, ConversationKey(ACCOUNT, BRUNO)]),
        st.integers(T0, T0 + 5),
        st.sampled_from(Direction),
        st.booleans(),
    ),
    st.builds(lambda at: msgspec.structs.replace(reacted(ANA, "love"), at=at), st.integers(T0, T0 + 5)),
)


@given(st.lists(changes, max_size=6), st.integers(0, 6), st.randoms())
def test_openings_do_not_depend_on_order_and_grouping(found: list[MessageChange], cut: int, random: object) -> None:
    mixed = list(found)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert merged([openings_of(mixed[:cut]), openings_of(mixed[cut:]), openings_of(mixed)]) == openings_of(found)


def merged(several: Iterable[dict[ConversationKey, Opening]]) -> dict[ConversationKey, Opening]:
    together: dict[ConversationKey, Opening] = {}
    for key, opening in itertools.chain.from_iterable(one.items() for one in several):
        together[key] = opening.merged(together.get(key))
    return together


def window(**members: object) -> ReplyWindow:
    return ReplyWindow(**{"customer_wrote_at": T0, **members})  # type: ignore[arg-type]


HUMAN_AGENT = window(human_agent=True)


@pytest.mark.parametrize(
    ("found", "sent_by", "hours", "tag"),
    [
        (window(), SentBy.HUMAN, 0, Tag.RESPONSE),
        (window(), SentBy.AUTOMATION, 23.99, Tag.RESPONSE),
        (window(), SentBy.AUTOMATION, 24, None),
        (window(), SentBy.HUMAN, 24, None),
        (HUMAN_AGENT, SentBy.HUMAN, 23.99, Tag.RESPONSE),
        (HUMAN_AGENT, SentBy.HUMAN, 24, Tag.HUMAN_AGENT),
        (HUMAN_AGENT, SentBy.HUMAN, 7 * 24 - 0.01, Tag.HUMAN_AGENT),
        (HUMAN_AGENT, SentBy.HUMAN, 7 * 24, None),
        (HUMAN_AGENT, SentBy.AUTOMATION, 24, None),
        (window(human_agent=True, human_agent_refused_at=T0 - 1), SentBy.HUMAN, 24, None),
        (window(human_agent=True, human_agent_refused_at=T0 - 1), SentBy.HUMAN, 23, Tag.RESPONSE),
        (window(ad_clicked_at=T0), SentBy.AUTOMATION, 7 * 24 - 0.01, Tag.RESPONSE),
        (window(ad_clicked_at=T0), SentBy.AUTOMATION, 7 * 24, None),
        (window(ad_clicked_at=T0 - 6 * DAY_MS), SentBy.AUTOMATION, 23.99, Tag.RESPONSE),
        (window(ad_clicked_at=T0, refused_at=T0 + 5), SentBy.AUTOMATION, 25, None),
        (window(ad_clicked_at=T0, refused_at=T0 + 5, human_agent=True), SentBy.HUMAN, 25, Tag.HUMAN_AGENT),
        (window(refused_at=T0 + HOUR_MS), SentBy.HUMAN, 2, None),
        (window(refused_at=T0 - 1), SentBy.HUMAN, 2, Tag.RESPONSE),
        (window(refused_at=T0 + HOUR_MS, human_agent=True), SentBy.HUMAN, 2, Tag.HUMAN_AGENT),
        (window(refused_at=T0 + 1, tag_refused_at=T0 + 2, human_agent=True), SentBy.HUMAN, 2, None),
        (window(tag_refused_at=T0 - 1, human_agent=True), SentBy.HUMAN, 30, Tag.HUMAN_AGENT),
        (ReplyWindow(human_agent=True), SentBy.HUMAN, 0, None),
        (ReplyWindow(ad_clicked_at=T0), SentBy.HUMAN, 0, None),
    ],
)
def test_as_what_a_message_may_be_sent(found: ReplyWindow, sent_by: SentBy, hours: float, tag: Tag | None) -> None:
    now = T0 + int(hours * HOUR_MS)
    decision = found.decide(sent_by, now)
    if tag is None:
        assert isinstance(decision, Closed)
        assert decision.words
        assert decision.at is None or decision.at <= now
    else:
        assert decision is tag
        assert (found.expires_at(sent_by) or 0) > now


@given(
    st.builds(
        ReplyWindow,
        customer_wrote_at=st.none() | st.integers(T0, T0 + 9 * DAY_MS),
        ad_clicked_at=st.none() | st.integers(T0, T0 + 9 * DAY_MS),
        refused_at=st.none() | st.integers(T0, T0 + 9 * DAY_MS),
        tag_refused_at=st.none() | st.integers(T0, T0 + 9 * DAY_MS),
        human_agent=st.booleans(),
        human_agent_refused_at=st.none() | st.just(T0),
    ),
    st.sampled_from(SentBy),
    st.integers(T0, T0 + 20 * DAY_MS),
)
def test_a_message_may_be_sent_until_it_expires_and_not_after(found: ReplyWindow, sent_by: SentBy, now: int) -> None:
    """So what waits fails at the right moment."""
    expires_at = found.expires_at(sent_by)
    is_open = isinstance(found.decide(sent_by, now), Tag)
    assert is_open == (expires_at is not None and now < expires_at)
    assert found.can_reply(now) == isinstance(found.decide(SentBy.HUMAN, now), Tag)
    if found.decide(SentBy.AUTOMATION, now) is Tag.RESPONSE:
        assert found.decide(SentBy.HUMAN, now) is Tag.RESPONSE, "never a tag inside the window"
    assert found.decide(SentBy.AUTOMATION, now) is not Tag.HUMAN_AGENT


def test_the_words_say_since_when_and_for_whom() -> None:
    found = (
        HUMAN_AGENT.decide(SentBy.AUTOMATION, T0 + 30 * HOUR_MS),
        HUMAN_AGENT.decide(SentBy.HUMAN, T0 + 8 * DAY_MS),
        window(refused_at=T0 + 5).decide(SentBy.HUMAN, T0 + 6),
    )
    closed = "The reply window closed at 2026-09-22 14:13 UTC, after what the participant last did"
    refused = "The reply window closed at 2026-09-21 14:13 UTC, when Meta refused a message"
    until = "2026-09-28 14:13 UTC"
    assert [isinstance(one, Closed) and one.words for one in found] == [
        f'{closed}. Only a human may answer until {until} ("sentBy": "human").',
        f"{closed}, and the time for human answers ended at {until}. It opens again when they write.",
        f"{refused}. It opens again when they write.",
    ]
