"""Answers of the Conversations API as Meta's documentation and live reports print them, and odd ones."""

from typing import Any

import pytest
from inboxd.domain.mailbox import (
    Detail,
    ListedAttachment,
    ListedConversation,
    ListedMessage,
    ListedReaction,
    ListedStory,
    Page,
    Party,
    StoryKind,
)
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.mailbox_decoding import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_ITEMS,
    conversations_page,
    listed_message,
    messages_page,
    node_id,
    time_ms,
)

from tests.hostile import ABSENT, ODD, replaced

AT = 1_790_848_800_000
ANA = Party("7000000000000001", "ana_x")
SHOP = Party("17841400000000001", "shop")
CONVERSATIONS: dict[str, Any] = {
    "data": [
        {
            "id": "aWdfZAG06MTpJR01lc3NhZA2VUaHJlYWQ6A",
            "updated_time": "2026-10-01T10:00:00+0000",
            "participants": {
                "data": [
                    {"id": "17841400000000001", "username": "shop"},
                    {"id": "7000000000000001", "username": "ana_x"},
                ]
            },
        }
    ],
    "paging": {
        "cursors": {"before": "QVFIU1", "after": "QVFIU2"},
        "next": "https://graph.instagram.com/v25.0/me/conversations?after=QVFIU2&access_token=IGAA",
    },
}
MESSAGE: dict[str, Any] = {
    "id": "aWdfZAG1fA",
    "created_time": "2026-10-01T10:00:00+0000",
    "from": {"username": "ana_x", "id": "7000000000000001"},
    "to": {"data": [{"username": "shop", "id": "17841400000000001"}]},
    "message": "hola",
}
WITH_EVERYTHING: dict[str, Any] = {
    **MESSAGE,
    "message": "",
    "attachments": {
        "data": [
            {
                "id": "1",
                "mime_type": "image/jpeg",
                "image_data": {
                    "url": "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=1",
                    "preview_url": "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=2",
                    "width": 1080,
                    "height": 1350,
                },
            },
            {"id": "2", "mime_type": "audio/mp4", "file_url": "https://a.example/3"},
            {"id": "3", "mime_type": "application/pdf", "name": "terms.pdf", "size": 1200, "file_url": "https://a.example/b"},
            {"id": "4", "mime_type": "video/mp4", "video_data": {"url": "https://a.example/c", "width": 1}},
            {"generic_template": {"title": "Update the app", "cta": {"title": "Open"}}},
        ]
    },
    "shares": {"data": [{"link": "https://www.instagram.com/p/C1/"}, {}]},
    "story": {"mention": {"link": "https://a.example/story", "id": "18000000000000001"}},
    "reactions": {"data": [{"reaction": "❤️", "users": [{"id": "7000000000000001", "username": "ana_x"}]}]},
    "is_unsupported": True,
}  # fmt: skip


def test_a_conversation_as_it_is_printed() -> None:
    assert conversations_page(CONVERSATIONS) == Page(
        (ListedConversation("aWdfZAG06MTpJR01lc3NhZA2VUaHJlYWQ6A", AT, (SHOP, ANA)),), after="QVFIU2"
    )


def test_a_message_as_it_is_printed() -> None:
    assert listed_message(MESSAGE) == ListedMessage(
        "aWdfZAG1fA", AT, Detail.READABLE, sender=ANA, recipients=(SHOP,), text="hola"
    )


def test_a_message_with_everything() -> None:
    found = listed_message(WITH_EVERYTHING)

    assert found is not None
    assert found.text is None
    assert found.attachments == (
        ListedAttachment(
            "image",
            "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=1",
            mime_type="image/jpeg",
            preview_url="https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=2",
            width=1080,
            height=1350,
        ),
        ListedAttachment("audio", "https://a.example/3", mime_type="audio/mp4"),
        ListedAttachment("file", "https://a.example/b", mime_type="application/pdf", name="terms.pdf", size=1200),
        ListedAttachment("video", "https://a.example/c", mime_type="video/mp4", width=1),
        ListedAttachment("template", title="Update the app"),
    )
    assert found.shares == ("https://www.instagram.com/p/C1/",)
    assert found.story == ListedStory(StoryKind.MENTION, "18000000000000001", "https://a.example/story")
    assert found.reactions == (ListedReaction("❤️", (ANA,)),)
    assert found.is_unsupported


def test_attachments_and_reactions_that_were_left_out_are_not_said_to_be_none() -> None:
    found = listed_message(MESSAGE)
    assert found is not None
    assert found.attachments is None
    assert found.reactions is None
    empty = listed_message({**MESSAGE, "attachments": {"data": []}, "reactions": {"data": []}})
    assert empty is not None
    assert empty.attachments == ()
    assert empty.reactions == ()


def test_the_link_of_a_story_that_expired_is_empty() -> None:
    found = listed_message({**MESSAGE, "story": {"reply_to": {"link": "", "id": "18000000000000001"}}})
    assert found is not None
    assert found.story == ListedStory(StoryKind.REPLY, "18000000000000001", None)


@pytest.mark.parametrize(
    "old",
    [
        {"id": "aWdfZAG1fA", "created_time": "2026-10-01T10:00:00+0000"},
        {"id": "aWdfZAG1fA", "created_time": "2026-10-01T10:00:00+0000", "error": {"code": 9000001}, "message": ""},
    ],
)
def test_a_message_of_which_only_the_id_is_shown(old: dict[str, Any]) -> None:
    assert listed_message(old) == ListedMessage("aWdfZAG1fA", AT, Detail.UNAVAILABLE)


def test_messages_come_by_both_forms() -> None:
    paging = {"cursors": {"after": "MA"}, "next": "https://graph.instagram.com/x?after=MA"}
    edge = messages_page({"data": [MESSAGE], "paging": paging})
    node = messages_page({"id": "aWdfZAG06", "messages": {"data": [MESSAGE], "paging": paging}})
    assert edge == node
    assert edge.after == "MA"
    assert [one.text for one in edge] == ["hola"]
    assert messages_page({"id": "aWdfZAG06"}) == Page(()), "a conversation without messages has no such field"


@pytest.mark.parametrize("answer", [{}, {"data": {}}, {"data": "x"}, {"id": "aWdf", "messages": []}, {"messages": {}}])
def test_what_is_no_list_is_an_error(answer: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match="no list of messages"):
        messages_page(answer)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("2026-10-01T10:00:00+0000", AT),
        ("2026-10-01T10:00:00+00:00", AT),
        ("2026-10-01T10:00:00Z", AT),
        ("2026-10-01T10:00:00.500+0000", AT + 500),
        ("2026-10-01T12:00:00+0200", AT),
        ("2026-10-01T10:00:00", AT),
        (AT // 1000, AT),
        (str(AT // 1000), AT),
        (AT, AT),
        (float(AT // 1000), AT),
        (EARLIEST_MS - 1, None),
        (EARLIEST_MS, EARLIEST_MS),
        (LATEST_MS - 1, LATEST_MS - 1),
        (LATEST_MS, None),
        ("0001-01-01T00:00:00+1400", None),
        ("9999-12-31T23:59:59-1400", None),
        ("2026-13-01T10:00:00+0000", None),
        ("١٧٩٠٨٤٨٨٠٠", None),
        ("yesterday", None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        ("9" * 6000, None),
        (None, None),
        ({}, None),
    ],
)
def test_a_time_comes_in_both_forms(told: Any, expected: int | None) -> None:
    assert time_ms(told) == expected


@pytest.mark.parametrize("id_", ["aWdfZAG1f-_=", "t_10150", "m_mid.$cAAE:1", "12345", "a" * 1024])
def test_an_id_that_can_stand_in_a_path(id_: str) -> None:
    assert node_id(id_) == id_


@pytest.mark.parametrize(
    "id_", ["", ".", "..", "../me", "a/b", "a?b", "a#b", "a%2e", "a b", "ä", "a\n", "a" * 1025, 5, None]
)
def test_an_id_that_cannot(id_: Any) -> None:  # fmt: skip
    assert node_id(id_) is None


@pytest.mark.parametrize(
    ("paging", "after", "cut_off"),
    [
        (None, None, False),
        ({"cursors": {"after": "A"}}, None, False),
        ({"cursors": {"after": "A"}, "next": ""}, None, False),
        ({"cursors": {"after": "A"}, "next": "https://a.example/?after=B"}, "A", False),
        ({"next": "https://a.example/?limit=2&after=B"}, "B", False),
        ({"next": "https://a.example/?limit=2"}, None, True),
        ({"next": "https://[", "cursors": []}, None, True),
        ({"next": 7, "cursors": {"after": 7}}, None, True),
        ({"next": "x", "cursors": {"after": "A){id}"}}, None, True),
        ({"next": "x", "cursors": {"after": "A" * 5000}}, None, True),
        ({"next": "x", "cursors": {"after": "THIS"}}, None, True),
    ],
)
def test_the_next_page_is_read_from_its_cursor_alone(paging: Any, after: str | None, cut_off: bool) -> None:  # noqa: FBT001
    """An empty page has a next one, too. A page that is its own next one would be read for ever."""
    found = messages_page({"data": [], "paging": paging}, requested_after="THIS")
    assert (found.after, found.cut_off) == (after, cut_off)


@pytest.mark.parametrize("odd", [one for one in ODD if one is not ABSENT])
def test_an_odd_item_is_set_aside_and_the_others_survive(odd: Any) -> None:
    page = messages_page({"data": [MESSAGE, odd, {"id": odd, "message": "x"}, MESSAGE]})
    sound = listed_message(MESSAGE)
    assert page.items[0] == page.items[-1] == sound
    assert len(page.items) + page.set_aside == 4


@pytest.mark.parametrize("name", [*WITH_EVERYTHING])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_member_of_a_message_leaves_the_others_as_they_are(name: str, odd: Any) -> None:
    found, sound = listed_message(replaced(WITH_EVERYTHING, name, odd)), listed_message(WITH_EVERYTHING)
    assert sound is not None
    if name == "id":
        assert found is None or found.text == sound.text
        return
    assert found is not None
    changed = {"from": "sender", "to": "recipients", "message": "text"}.get(name, name)
    for other in ("created_time", "sender", "attachments", "shares", "story", "reactions", "is_unsupported"):
        if other != changed:
            assert getattr(found, other) == getattr(sound, other)


def test_no_page_and_no_message_has_more_parts_than_can_be_held() -> None:
    many = messages_page({"data": [MESSAGE] * (MAX_ITEMS + 5)})
    assert (len(many.items), many.set_aside) == (MAX_ITEMS, 5)
    found = listed_message(
        {**MESSAGE, "shares": {"data": [{"link": "https://a.example/"}] * 9999}, "message": "x" * 99_999}
    )
    assert found is not None
    assert len(found.shares) == 50
    assert found.text is None


def test_half_a_character_becomes_what_webhooks_make_of_it() -> None:
    found = listed_message({**MESSAGE, "message": "cut \ud83d\nand\tgo on"})
    assert found is not None
    assert found.text == "cut ?\nand\tgo on", "the lines stay as they are"
