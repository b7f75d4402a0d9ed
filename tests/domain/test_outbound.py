"""What may be sent, how it becomes parts, and what the parts come to."""

import itertools
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.message import Attachment, Content, Direction, Message
from inboxd.domain.outbound import (
    AttachmentType,
    Button,
    Element,
    OutboundAttachment,
    OutboundKind,
    OutboundState,
    PartContent,
    PartState,
    QuickReply,
    QuickReplyType,
    Template,
    TemplateType,
    holds,
    lane_of,
    same_content,
    state_of,
)
from inboxd.domain.outbound_content import ContentError, Draft, parts_of, split_text

from tests.support import ANA, T0

IMAGE = OutboundAttachment(type=AttachmentType.IMAGE, url="https://x.example/a.jpg")
VIDEO = OutboundAttachment(type=AttachmentType.VIDEO, url="https://x.example/a.mp4")
HEART = OutboundAttachment(type=AttachmentType.LIKE_HEART)
POST = OutboundAttachment(type=AttachmentType.POST, media_id="1790")
UPLOADED = OutboundAttachment(type=AttachmentType.FILE, upload_id="abc")
BUTTON = Button(title="Buy", url="https://x.example/buy")
BUTTONS = Template(type=TemplateType.BUTTON, text="Blue or green?", buttons=(BUTTON, Button(title="G", payload="G")))
CARDS = Template(type=TemplateType.GENERIC, elements=(Element(title="Blue", subtitle="10 left", buttons=(BUTTON,)),))
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"


def parts(kind: OutboundKind = OutboundKind.MESSAGE, *, allow_http: bool = False, **draft: Any) -> list[PartContent]:
    return list(parts_of(Draft(**draft), kind, allow_http=allow_http))


def refused(kind: OutboundKind = OutboundKind.MESSAGE, **draft: Any) -> str:
    with pytest.raises(ContentError) as caught:
        parts(kind, **draft)
    return str(caught.value)


def test_a_text_and_attachments_are_sent_in_calls_of_their_own() -> None:
    quick = (QuickReply(title="S"),)
    text = PartContent(text="hi")
    images, video = PartContent(attachments=(IMAGE,) * 2), PartContent(attachments=(VIDEO,))
    assert parts(text="hi") == [text]
    assert parts(text="hi", attachments=(IMAGE, IMAGE, VIDEO)) == [text, images, video]
    assert parts(text="hi", attachments=(IMAGE, IMAGE, VIDEO), attachments_first=True) == [images, video, text]
    with_quick = PartContent(text="hi", quick_replies=quick)
    assert parts(text="hi", attachments=(IMAGE, IMAGE), quick_replies=quick) == [images, with_quick], "else they vanish"
    assert parts(text="  ", attachments=(HEART, POST, UPLOADED)) == [
        PartContent(attachments=(one,)) for one in (HEART, POST, UPLOADED)
    ]
    assert parts(template=CARDS) == [PartContent(template=CARDS)]


def test_ten_images_are_one_message_and_other_files_one_each() -> None:
    sizes = [len(one.attachments) for one in parts(attachments=(IMAGE,) * 12 + (VIDEO,) * 2 + (IMAGE,))]
    assert sizes == [10, 2, 1, 1, 1]


def test_what_is_answered_is_named_by_the_first_part_alone() -> None:
    found = parts(text="hi", attachments=(IMAGE,), reply_to_mid="aWc")
    assert [one.reply_to_mid for one in found] == ["aWc", None]


def test_a_long_text_is_refused_or_split_and_its_quick_replies_come_last() -> None:
    text = "ñ" * 499 + " " + "o" * 600
    assert "1599 bytes" in refused(text=text)
    found = parts(text=text, split=True, quick_replies=(QuickReply(title="S"),))
    assert [one.text for one in found] == ["ñ" * 499, "o" * 600]
    assert [len(one.quick_replies) for one in found] == [0, 1]
    assert [one.text for one in parts(text="ñ" * 500)] == ["ñ" * 500], "1000 bytes are taken"
    assert "at most 25" in refused(text="x " * 9990 + "y" * 8000, split=True)


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        ({}, "nothing to send"),
        ({"text": " \n"}, "nothing to send"),
        ({"text": "a\x00b"}, "control characters"),
        ({"attachments": (OutboundAttachment(type=AttachmentType.IMAGE),)}, "either a url or an uploadId"),
        (
            {"attachments": (OutboundAttachment(type=AttachmentType.AUDIO, url="https://x.example", upload_id="u"),)},
            "either a url or an uploadId",
        ),
        ({"attachments": (OutboundAttachment(type=AttachmentType.FILE, media_id="1"),)}, "either a url or an uploadId"),
        ({"attachments": (OutboundAttachment(type=AttachmentType.POST, url="https://x.example"),)}, "mediaId"),
        ({"attachments": (OutboundAttachment(type=AttachmentType.LIKE_HEART, media_id="1"),)}, "like_heart"),
        ({"attachments": (HEART,) * 21}, "at most 20"),
        ({"quick_replies": (QuickReply(title="S"),)}, "nothing to send"),
        ({"attachments": (IMAGE,), "quick_replies": (QuickReply(title="S"),)}, "need a text"),
        ({"text": "a", "quick_replies": (QuickReply(title=" "),)}, "quickReplies[0]"),
        ({"text": "a", "quick_replies": (QuickReply(title="S"),) * 14}, "13"),
        ({"text": "a", "quick_replies": (QuickReply(type=QuickReplyType.EMAIL, title="Mail"),)}, "user_email"),
        ({"text": "a", "template": CARDS}, "alone"),
        ({"template": Template(type=TemplateType.BUTTON, text="a")}, "1 to 3 buttons"),
        ({"template": Template(type=TemplateType.BUTTON, buttons=(BUTTON,))}, "a text"),
        ({"template": Template(type=TemplateType.GENERIC)}, "1 to 10 elements"),
        ({"template": Template(type=TemplateType.GENERIC, elements=(Element(title="a"),))}, "subtitle"),
        (
            {"template": Template(type=TemplateType.BUTTON, text="a", buttons=(Button(title="b"),))},
            "either a url or a payload",
        ),
        (
            {"template": Template(type=TemplateType.GENERIC, elements=(Element(title="a", image_url="ftp://x"),))},
            "elements[0].imageUrl",
        ),
    ],
)
def test_what_meta_would_not_take_is_refused(draft: dict[str, Any], said: str) -> None:
    assert said in refused(**draft)


@pytest.mark.parametrize(
    "url",
    [
        "http://x.example/a.jpg",
        "https://",
        "https:///a.jpg",
        "https://x.example/a b",
        "https://x.example/ñ",
        "https://x.example:port/",
        "https://[x/",
        "https://user:secret@x.example/",
        "//x.example/a",
        "data:image/png;base64,AAAA",
        "file:///etc/passwd",
        "https://x.example/\r\nHost: y",
        "",
    ],
)
def test_only_https_urls_are_handed_on(url: str) -> None:
    told = refused(attachments=(OutboundAttachment(type=AttachmentType.IMAGE, url=url),))
    assert told.startswith("attachments[0].url: ")
    assert "secret" not in told


def test_http_is_taken_where_the_configuration_says_so() -> None:
    local = OutboundAttachment(type=AttachmentType.IMAGE, url="http://127.0.0.1:9/a.jpg")
    assert parts(attachments=(local,), allow_http=True) == [PartContent(attachments=(local,))]


@pytest.mark.parametrize("kind", [OutboundKind.PRIVATE_REPLY, OutboundKind.COMMENT_REPLY])
def test_a_comment_is_answered_by_one_message_without_files(kind: OutboundKind) -> None:
    assert parts(kind, text="hi") == [PartContent(text="hi")]
    assert "no attachments" in refused(kind, attachments=(IMAGE,))
    assert "answers no message" in refused(kind, text="hi", reply_to_mid="aWc")
    assert "would be 2" in refused(kind, text="x" * 1001, split=True)
    if kind is OutboundKind.COMMENT_REPLY:
        assert "is a text" in refused(kind, template=BUTTONS)
    else:
        assert parts(kind, template=BUTTONS) == [PartContent(template=BUTTONS)]


pieces_of_text = st.lists(
    st.sampled_from(["a", "ñ", " ", "\n", FAMILY, "\U0001f1e9\U0001f1ea", "e\u0301", "\u0301", "한", "\u200d", "\r\n"])
    | st.characters(codec="utf-8"),
    max_size=60,
).map("".join)


@given(pieces_of_text, st.integers(40, 200))
def test_a_split_text_loses_nothing_but_blanks_and_cuts_no_character(text: str, most: int) -> None:
    try:
        found = split_text(text, most)
    except ContentError:
        assert any(len(one.encode()) > most for one in regex.findall(r"\X", text))
        return
    assert all(0 < len(one.encode()) <= most for one in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    borders = {one.start() for one in regex.finditer(r"\X", text)}
    place = 0
    for one in found:
        place = text.index(one, place)
        assert place in borders
        place += len(one)


def test_a_text_is_cut_at_blanks_where_that_is_not_too_early() -> None:
    assert split_text("one two three", 8) == ["one two", "three"]
    assert split_text("one twothree", 8) == ["one twot", "hree"]
    assert split_text("a" * 8 + " b", 8) == ["a" * 8, "b"]
    assert split_text(FAMILY * 3, 60) == [FAMILY * 2, FAMILY]
    with pytest.raises(ContentError, match="one character"):
        split_text("a" + "\u0301" * 600)


STATES = [PartState.QUEUED, PartState.SENDING, PartState.UNKNOWN, PartState.SENT, PartState.FAILED, PartState.CANCELED]


@pytest.mark.parametrize("several", list(itertools.product(STATES, repeat=2)))
def test_what_parts_come_to(several: tuple[PartState, ...]) -> None:
    state = state_of(several, delivered=True, read=True)
    assert state is state_of(several[::-1], delivered=True, read=True)
    if set(several) == {PartState.SENT}:
        assert state is OutboundState.READ
        assert state_of(several, delivered=True) is OutboundState.DELIVERED
        assert state_of(several) is OutboundState.SENT
    elif PartState.UNKNOWN in several:
        assert state is OutboundState.UNKNOWN, "nothing may be said before that is known"
    elif PartState.SENDING in several or set(several) == {PartState.SENT, PartState.QUEUED}:
        assert state is OutboundState.SENDING
    else:
        assert state.value in {one.value for one in several}


def test_what_holds_its_lane() -> None:
    held = {state for state in OutboundState if holds(state, hold_after_failure=True)}
    assert held == {OutboundState.QUEUED, OutboundState.SENDING, OutboundState.UNKNOWN, OutboundState.FAILED}
    assert {state for state in held if not holds(state, hold_after_failure=False)} == {OutboundState.FAILED}
    assert lane_of(OutboundKind.MESSAGE, participant_id=ANA, comment_id=None) == f"p:{ANA}"
    assert lane_of(OutboundKind.PRIVATE_REPLY, participant_id=ANA, comment_id="18") == "c:18"


def message(text: str | None, *kinds: str, read_at: int | None = None, deleted: bool = False) -> Message:
    content = Content(type=kinds[0] if kinds else "text", text=text, attachments=tuple(map(Attachment, kinds)))
    return Message(
        mid="m",
        noticed_at=T0,
        direction=Direction.OUTBOUND,
        content=None if deleted else content,
        deleted_at=T0 if deleted else None,
        read_at=read_at,
    )


@pytest.mark.parametrize(
    ("part", "found", "same"),
    [
        (PartContent(text="señor  x"), message("sen\u0303or x "), True),
        (PartContent(text="ﬁn de año… ½ 🏳️‍🌈\u200b"), message("fin de año... 1⁄2 🏳🌈"), True),
        (PartContent(text="Tom & Ana <3"), message("Tom &amp; Ana &lt;3"), True),
        (PartContent(text="\ufe0f"), message(None, "image"), False),
        (PartContent(text="hi"), message("hi!"), False),
        (PartContent(text="see https://x.example/a?b=1 now"), message("see https://l.instagram.com/?u=x now"), None),
        (PartContent(text="see www.x.example"), message("see http://www.x.example/"), None),
        (PartContent(text="see x.example"), message("see https://x.example"), None),
        (PartContent(text="https://x.example"), message(None, "share"), None),
        (PartContent(text="see https://x.example"), message("see this"), False),
        (PartContent(text="3.50"), message("4.50"), False),
        (PartContent(text="https://x.example"), message("https://x.example", "share"), True),
        (PartContent(text="hi"), message(None, "image"), False),
        (PartContent(text="hi"), message(None, deleted=True), None),
        (PartContent(attachments=(IMAGE, IMAGE)), message(None, "image", "image"), True),
        (PartContent(attachments=(IMAGE, IMAGE)), message(None, "image"), False),
        (PartContent(attachments=(IMAGE,)), message(None, "video"), False),
        (PartContent(attachments=(IMAGE,)), message("", read_at=T0), True),
        (PartContent(attachments=(IMAGE,)), message(""), False),
        (PartContent(attachments=(IMAGE,)), message("hi", "image"), False),
        (PartContent(attachments=(POST,)), message(None, "ig_post"), True),
        (PartContent(attachments=(HEART,)), message(None, "like_heart"), True),
        (PartContent(template=CARDS), message(None, "template"), True),
        (PartContent(template=CARDS), message("Blue"), True),
        (PartContent(template=CARDS), message(None, "image"), False),
        (PartContent(template=BUTTONS), message("something else"), False),
    ],
)
def test_whether_a_message_may_be_what_was_sent(part: PartContent, found: Message, same: bool | None) -> None:  # noqa: FBT001
    assert same_content(part, found) is same


@pytest.mark.parametrize(("more", "same"), [(1000, None), (100_000, False)])
def test_no_text_is_searched_for_links_that_is_much_longer_than_what_was_sent(*, more: int, same: bool | None) -> None:
    """The time of that grows with the square of its length."""
    found = message("look: https://y.example/" + "a" * more)
    assert same_content(PartContent(text="look: https://x.example/a"), found) is same
