"""Whose conversation, and which way: section by section of the platform's direction rule."""

import json
from pathlib import Path

import pytest
from inboxd.conversations.translate import Translated, sides, translate
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Direction, Reacted, Sent
from inboxd.simulator.payloads import Conversationalist, Item, delivery

from tests.support import ACCOUNT, ANA, T0, decoded

KEY = ConversationKey(ACCOUNT, ANA)
DAY = 86_400_000
IN_2090 = 3_786_912_000_000
PAGE = "100200300400500"
KNOWN = {ACCOUNT: ACCOUNT, PAGE: ACCOUNT}
NOBODY: dict[str, str] = {}
PAYLOADS = Path(__file__).parent.parent / "payloads"


@pytest.fixture
def who() -> Conversationalist:
    return Conversationalist(ACCOUNT, ANA, T0)


def meaning(item: Item, accounts: dict[str, str] = KNOWN, *, entry_id: str = ACCOUNT) -> Translated:
    (event,) = decoded(json.dumps(delivery(entry_id, T0, [item])).encode())
    return translate(event, accounts, T0)


@pytest.mark.parametrize("accounts", [KNOWN, NOBODY])
@pytest.mark.parametrize("entry_id", [ACCOUNT, ANA, "1029384756", ""])
def test_messages_and_echoes_find_their_side_whatever_the_entry_says(
    who: Conversationalist, accounts: dict[str, str], entry_id: str
) -> None:
    received = meaning(who.says("hi"), accounts, entry_id=entry_id)
    answered = meaning(who.answers("hello"), accounts, entry_id=entry_id)

    for translated, direction in ((received, Direction.INBOUND), (answered, Direction.OUTBOUND)):
        assert translated.key == KEY
        assert isinstance(translated.change, Sent)
        assert translated.change.direction is direction


def test_a_page_id_names_the_account_it_is_linked_to() -> None:
    who = Conversationalist(PAGE, ANA, T0)

    for item in (who.says("hi"), who.answers("hello"), who.sees(who.answers("hello"))):
        assert meaning(item, entry_id=PAGE).key == KEY


@pytest.mark.parametrize("accounts", [KNOWN, NOBODY])
def test_reactions_and_seen_of_both_sides(who: Conversationalist, accounts: dict[str, str]) -> None:
    theirs = who.reacts(who.answers("hello"))
    ours = {**theirs, "sender": theirs["recipient"], "recipient": theirs["sender"]}

    for item, by in ((theirs, ANA), (ours, ACCOUNT)):
        translated = meaning(item, accounts)
        assert translated.key == KEY
        assert isinstance(translated.change, Reacted)
        assert translated.change.by == by


def test_an_echo_whose_recipient_is_the_account_went_out_all_the_same() -> None:
    (event,) = decoded((PAYLOADS / "echo_whose_recipient_is_the_account_and_entry_has_no_time.json").read_bytes())

    assert sides(event, KNOWN) == (KEY, Direction.OUTBOUND)


def test_between_two_accounts_of_ours_the_echo_decides(who: Conversationalist) -> None:
    both = {ACCOUNT: ACCOUNT, ANA: ANA}

    assert meaning(who.answers("hello"), both).key == KEY
    assert meaning(who.says("hi"), both).key == KEY


def test_a_note_to_self_is_a_thread_of_the_account_with_itself(who: Conversationalist) -> None:
    translated = meaning(who.notes_to_self("boxes"))

    assert translated.key == ConversationKey(ACCOUNT, ACCOUNT)
    assert not translated.participant_wrote


@pytest.mark.parametrize(
    ("make", "wrote"),
    [
        (lambda who: who.says("hi"), True),
        (lambda who: who.taps("Hours?", "HOURS"), True),
        (lambda who: who.answers("hello"), False),
        (lambda who: who.sees(who.answers("hello")), False),
        (lambda who: who.reacts(who.answers("hello")), False),
        (lambda who: who.opens_link("qr"), False),
    ],
)
def test_only_writing_and_tapping_open_the_profile(make: object, wrote: bool, who: Conversationalist) -> None:  # noqa: FBT001 - a table
    assert meaning(make(who)).participant_wrote is wrote  # type: ignore[operator]  # a lambda of the table


def test_copies_of_a_postback_without_mid_are_recognised(who: Conversationalist) -> None:
    tap = who.taps("Hours?", "HOURS", with_mid=False)
    later = who.taps("Hours?", "HOURS", with_mid=False)

    mids = [change.mid for item in (tap, tap, later) if (change := meaning(item).change) is not None]

    assert mids[0] == mids[1] != mids[2]


def test_a_missing_time_is_the_time_of_arrival(who: Conversationalist) -> None:
    item = {key: value for key, value in who.says("hi").items() if key != "timestamp"}
    (event,) = decoded(json.dumps({"object": "instagram", "entry": [{"id": ACCOUNT, "messaging": [item]}]}).encode())

    change = translate(event, KNOWN, received_at=T0 + 7).change

    assert change is not None
    assert change.at == T0 + 7


@pytest.mark.parametrize(
    ("told", "sent_at", "received_at", "at"),
    [
        (T0 + DAY, None, T0, T0 + DAY),
        (T0 + DAY + 1, None, T0, T0),
        (IN_2090, T0 - 5, T0, T0 - 5),
        (IN_2090, IN_2090, T0, T0),
        (None, IN_2090, T0, T0),
        (T0, T0 + 5, T0 - 90 * DAY, T0),  # our clock is behind
        (T0 + 2 * DAY, T0, T0 - 90 * DAY, T0),
        (T0, T0 + 5, 1_000, T0),  # and was never set
        (T0, None, 1_000, 1_000),
    ],
)
def test_a_time_in_the_future_is_as_good_as_none(
    told: int | None, sent_at: int | None, received_at: int, at: int, who: Conversationalist
) -> None:
    for item in (who.says("hi"), who.sees(who.says("hi"))):
        for parties in (True, False):
            said = dict(item)
            said.pop("timestamp")
            if told is not None:
                said["timestamp"] = told
            if not parties and "read" in said:
                del said["sender"], said["recipient"]
            entry = {"id": ACCOUNT, "messaging": [said]} | ({} if sent_at is None else {"time": sent_at})
            (event,) = decoded(json.dumps({"object": "instagram", "entry": [entry]}).encode())
            translated = translate(event, KNOWN, received_at)
            change = translated.change or translated.partyless
            assert change is not None
            assert change.at == at


def test_copies_of_a_message_without_mid_and_without_any_time_are_recognised(who: Conversationalist) -> None:
    for item in (who.says("hi"), who.taps("Hours?", "HOURS", with_mid=False)):
        item.pop("timestamp")
        item.get("message", {}).pop("mid", None)
        body = json.dumps({"object": "instagram", "entry": [{"id": ACCOUNT, "messaging": [item]}]}).encode()
        mids = set()
        for received_at in (T0, T0 + 7):
            change = translate(decoded(body)[0], KNOWN, received_at).change
            assert change is not None
            assert change.at == received_at
            mids.add(change.mid)
        assert len(mids) == 1


def test_who_writes_to_itself_is_no_participant_who_wrote() -> None:
    item = Conversationalist(ACCOUNT, ACCOUNT, T0).says("a note")

    translated = meaning(item)
    assert translated.key == ConversationKey(ACCOUNT, ACCOUNT)
    assert not translated.participant_wrote
