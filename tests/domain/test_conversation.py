import pytest
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.domain.profile import InvalidProfileError

from tests.support import ACCOUNT, ANA, T0


def conversation(**facts: int | None) -> Conversation:
    marks = {"last_message_at": None, "answered_at": None, "read_at": None, "seen_at": None} | facts
    return Conversation(
        id=1,
        key=ConversationKey(ACCOUNT, ANA),
        participant_username="old",
        participant_name="Old",
        participant_profile_pic="https://example.com/old",
        unread_count=0,
        status=ConversationStatus.OPEN,
        metadata={},
        created_at=T0,
        updated_at=T0,
        last_message_at=marks["last_message_at"],
        answered_at=marks["answered_at"],
        read_at=marks["read_at"],
        seen_at=marks["seen_at"],
    )


def test_a_profile_gives_name_and_face_and_moves_the_update_time() -> None:
    updated = conversation().update_participant_profile(" ana_x ", "https://example.com/new", name="Ana", at=T0 + 5)

    assert updated.participant_username == "ana_x"
    assert updated.participant_profile_pic == "https://example.com/new"
    assert updated.participant_name == "Ana"
    assert updated.updated_at == T0 + 5


def test_the_update_time_moves_even_when_the_clock_does_not() -> None:
    assert conversation().update_participant_profile("ana_x", None, at=T0 - 1000).updated_at > T0


def test_a_person_without_a_picture_is_complete() -> None:
    assert conversation().update_participant_profile("ana_x", None, at=T0).participant_profile_pic is None


@pytest.mark.parametrize("blank", ["", "   ", "\n"])
def test_a_blank_username_is_refused(blank: str) -> None:
    with pytest.raises(InvalidProfileError, match="blank"):
        conversation().update_participant_profile(blank, None, at=T0)


def test_platform_id() -> None:
    assert conversation().key.platform_id == f"{ACCOUNT}_{ANA}"


def test_an_inbound_message_is_read_once_answered_or_seen() -> None:
    assert not conversation().is_read(inbound=True, sent_at=T0)
    assert conversation(answered_at=T0).is_read(inbound=True, sent_at=T0)
    assert conversation(read_at=T0).is_read(inbound=True, sent_at=T0)
    assert not conversation(seen_at=T0).is_read(inbound=True, sent_at=T0)


def test_an_outbound_message_is_read_once_the_participant_has_seen_it() -> None:
    assert conversation(seen_at=T0).is_read(inbound=False, sent_at=T0)
    assert not conversation(seen_at=T0).is_read(inbound=False, sent_at=T0 + 1)
    assert not conversation(answered_at=T0, read_at=T0).is_read(inbound=False, sent_at=T0)
