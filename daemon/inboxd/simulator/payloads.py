"""Webhook items of every kind, as Instagram sends them."""

import itertools
from typing import Any, Final

Item = dict[str, Any]

MEDIA: Final = ("image", "video", "audio", "file", "share", "ig_post", "ig_reel", "reel", "story_mention")
BARE: Final = ("like_heart", "ephemeral", "fallback")
"""Attachment types that come without any payload."""


class Conversationalist:
    """Makes the items of the conversation of one participant with one account, with new mids and a clock of its own.

    Two for the same conversation need different numbers for their messages.
    """

    def __init__(self, account_id: str, participant_id: str, started_at: int, *, first_number: int = 1) -> None:
        self.account_id = account_id
        self.participant_id = participant_id
        self.now = started_at
        self._numbers = itertools.count(first_number)

    def says(self, text: str, **message: Any) -> Item:
        """The participant writes."""
        return self._in(message={"mid": self._mid(), "text": text, **message})

    def answers(self, text: str, **message: Any) -> Item:
        """The account writes: an echo."""
        return self._out(message={"mid": self._mid(), "text": text, "is_echo": True, **message})

    def sends(self, kind: str, **payload: Any) -> Item:
        """The participant sends an attachment."""
        attachment: Item = {"type": kind}
        if kind not in BARE:
            attachment["payload"] = {
                "url": f"https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id={self.now}",
                **payload,
            }
        return self._in(message={"mid": self._mid(), "attachments": [attachment]})

    def sends_unsupported(self) -> Item:
        """The participant sends something that the API does not support."""
        return self._in(message={"mid": self._mid(), "is_unsupported": True})

    def replies_to_story(self, text: str) -> Item:
        """The participant answers a story of the account."""
        story = {"id": "17900000000000001", "url": "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=story"}
        return self.says(text, reply_to={"story": story})

    def comes_from_ad(self, text: str) -> Item:
        """The participant writes after tapping an ad."""
        ad = {"ad_title": "Spring sale", "photo_url": "https://lookaside.fbsbx.com/ads/?asset_id=spring"}
        origin = {"ref": "spring", "ad_id": 6_000_000_001, "source": "ADS", "type": "OPEN_THREAD"}
        return self.says(text, referral={**origin, "ads_context_data": ad})

    def taps(self, title: str, payload: str, *, with_mid: bool = True) -> Item:
        """The participant taps an ice breaker or a button."""
        mid = {"mid": self._mid()} if with_mid else {}
        return self._in(postback={**mid, "title": title, "payload": payload})

    def opens_link(self, ref: str) -> Item:
        """The participant opens the thread by an ig.me link."""
        return self._in(referral={"ref": ref, "source": "SHORTLINKS", "type": "OPEN_THREAD"})

    def opts_in(self) -> Item:
        """The participant opts in."""
        return self._in(optin={"type": "notification_messages", "payload": "news"})

    def edits(self, item: Item, text: str, number: int = 1) -> Item:
        """The sender of `item` changes its text."""
        return self._as_sender_of(item, message_edit={"mid": mid_of(item), "text": text, "num_edit": number})

    def companion(self, item: Item) -> Item:
        """What accompanies nearly every message of a participant: a `message_edit` that is no edit."""
        return self._as_sender_of(item, message_edit={"mid": mid_of(item), "num_edit": 0})

    def unsends(self, item: Item) -> Item:
        """The sender of `item` unsends it."""
        return self._as_sender_of(item, message={"mid": mid_of(item), "is_deleted": True})

    def reacts(self, item: Item, reaction: str = "love", emoji: str = "\u2764\ufe0f") -> Item:
        """The participant reacts to `item`."""
        return self._in(reaction={"mid": mid_of(item), "action": "react", "reaction": reaction, "emoji": emoji})

    def unreacts(self, item: Item) -> Item:
        """The participant takes the reaction back."""
        return self._in(reaction={"mid": mid_of(item), "action": "unreact"})

    def sees(self, item: Item) -> Item:
        """The participant has seen `item`."""
        return self._in(read={"mid": mid_of(item)})

    def hands_over(self) -> Item:
        """Another app takes the thread."""
        return self._in(pass_thread_control={"previous_owner_app_id": "111", "new_owner_app_id": "222", "metadata": ""})

    def notes_to_self(self, text: str) -> Item:
        """The account writes to itself."""
        ends = {"sender": {"id": self.account_id}, "recipient": {"id": self.account_id}}
        message = {"mid": self._mid(), "text": text, "is_echo": True, "is_self": True}
        return {**ends, "timestamp": self._tick(), "message": message}

    def _in(self, **body: Any) -> Item:
        return self._item(self.participant_id, self.account_id, body)

    def _out(self, **body: Any) -> Item:
        return self._item(self.account_id, self.participant_id, body)

    def _as_sender_of(self, item: Item, **body: Any) -> Item:
        return self._item(item["sender"]["id"], item["recipient"]["id"], body)

    def _item(self, sender: str, recipient: str, body: Item) -> Item:
        return {"sender": {"id": sender}, "recipient": {"id": recipient}, "timestamp": self._tick(), **body}

    def _tick(self) -> int:
        self.now += 1000
        return self.now

    def _mid(self) -> str:
        return f"aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlE{self.account_id}{self.participant_id}x{next(self._numbers)}ZD"


def without_parties(item: Item) -> Item:
    """The item without sender and recipient, as Meta sometimes sends it."""
    return {name: value for name, value in item.items() if name not in {"sender", "recipient"}}


def mid_of(item: Item) -> str:
    """The mid of a message or postback item."""
    mid: str = (item.get("message") or item["postback"])["mid"]
    return mid


def comment(participant_id: str, username: str, text: str, number: int) -> Item:
    """A `changes` element: a comment under a post."""
    value = {
        "from": {"id": participant_id, "username": username},
        "comment_id": f"180000000000{number:05d}",
        "text": text,
        "media": {"id": "17900000000000001", "media_product_type": "FEED"},
    }
    return {"field": "comments", "value": value}


def delivery(account_id: str, time: int, items: list[Item], *, field: str = "messaging") -> Item:
    """A whole payload with one entry; `field` is messaging, standby or changes."""
    return {"object": "instagram", "entry": [{"id": account_id, "time": time, field: items}]}


def test_button() -> Item:
    """What the Test button of the App Dashboard sends."""
    value = {
        "sender": {"id": "12334"},
        "recipient": {"id": "23245"},
        "timestamp": "1527459824",
        "message": {"mid": "random_mid", "text": "random_text"},
    }
    return {
        "object": "instagram",
        "entry": [{"id": "0", "time": 1_790_000_000, "changes": [{"field": "messages", "value": value}]}],
    }
