"""The mailbox of the simulated Instagram: every message that exists, whether or not a webhook tells of it."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from inboxd.simulator.payloads import Item, delivery

_MENTION: Final = "story_mention"


@dataclass(slots=True)
class KeptMessage:
    """A message. Times: `created_ms` in ms since the epoch; `arrived_s` in seconds of the mailbox's clock."""

    mid: str
    sender_id: str
    recipient_id: str
    created_ms: int
    arrived_s: float
    text: str | None = None
    attachments: list[Item] = field(default_factory=list)
    """As in webhooks."""
    story: Item | None = None
    """The story that it replies to, as in webhooks."""
    is_unsupported: bool = False
    reactions: dict[str, str] = field(default_factory=dict)
    """Emojis by the id of who reacted."""
    edited: bool = False
    unsent: bool = False


@dataclass(slots=True)
class KeptConversation:
    """A conversation of an account with a participant. A conversation in `requests` is never listed."""

    id: str
    account_id: str
    participant_id: str
    requests: bool = False
    changed_ms: int = 0
    """When something other than a new message changed it."""
    opened_ms: int = 0
    """When the participant last did something that opens the window to answer."""
    ad_ms: int = 0
    """When the participant last came from an ad."""
    messages: dict[str, KeptMessage] = field(default_factory=dict)


class TrueMessage(msgspec.Struct, frozen=True):
    """A message as it really is, for tests. Times in ms since the epoch."""

    id: str
    conversation_id: str
    account_id: str
    participant_id: str
    outbound: bool
    created_ms: int
    text: str | None
    attachments: tuple[str, ...]
    """Their types."""
    reactions: dict[str, str]
    edited: bool
    unsent: bool
    requests: bool


class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message to add. Its conversation is made when there is none."""

    account_id: str
    participant_id: str
    text: str | None = None
    outbound: bool = False
    created_ms: int | None = None
    """Now, when it is not given. A message of the past is visible at once."""
    attachments: tuple[dict[str, Any], ...] = ()
    """As in webhooks."""
    requests: bool = False
    """The conversation is in the folder of requests."""
    webhook: bool = False
    """A webhook tells of it. An outbound message is then as one that was written in the app."""


class Mailbox:
    """All conversations of all accounts. `now` tells the time in seconds since the epoch.

    `opens(account_id)` says whether what participants do now opens the window to answer.
    """

    def __init__(self, now: Callable[[], float], opens: Callable[[str], bool] = lambda _account_id: True) -> None:
        self._now = now
        self._opens = opens
        self._conversations: dict[tuple[str, str], KeptConversation] = {}
        self._by_id: dict[str, KeptConversation] = {}
        self._of_mid: dict[str, KeptConversation] = {}
        self._numbers = itertools.count(1)

    def apply(self, payload: Item) -> None:
        """Let what a webhook payload tells happen. What is already known changes nothing."""
        for entry in payload.get("entry", ()):
            for item in (*entry.get("messaging", ()), *entry.get("standby", ())):
                self._happen(str(entry["id"]), item)

    def add(self, new: NewMessage) -> str:
        """Add a message. Returns its id."""
        parties = (new.account_id, new.participant_id) if new.outbound else (new.participant_id, new.account_id)
        mid = self.new_mid(new.account_id, new.participant_id)
        now_ms = int(self._now() * 1000)
        created_ms = now_ms if new.created_ms is None else new.created_ms
        arrived_s = min(self._now(), created_ms / 1000)
        message = KeptMessage(mid, *parties, created_ms, arrived_s, new.text, attachments=list(new.attachments))
        conversation = self.conversation_with(new.account_id, new.participant_id)
        conversation.requests = conversation.requests or new.requests
        self._keep(conversation, message)
        if not new.outbound and self._opens(new.account_id):
            conversation.opened_ms = max(conversation.opened_ms, created_ms)
        return mid

    def new_mid(self, account_id: str, participant_id: str) -> str:
        """An id for a new message."""
        return f"aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlE{account_id}{participant_id}n{next(self._numbers)}ZD"

    def webhook(self, mid: str) -> Item:
        """The webhook payload that tells of a message. Raises KeyError when there is no such message."""
        conversation = self._of_mid[mid]
        message = conversation.messages[mid]
        known: Item = {"mid": mid, "text": message.text, "attachments": list(message.attachments) or None}
        if message.sender_id == conversation.account_id:
            known["is_echo"] = True
        item = {
            "sender": {"id": message.sender_id},
            "recipient": {"id": message.recipient_id},
            "timestamp": message.created_ms,
            "message": {name: value for name, value in known.items() if value is not None},
        }
        return delivery(conversation.account_id, message.created_ms, [item])

    def edit(self, mid: str, text: str, at_ms: int | None = None) -> None:
        """The sender changes the text."""
        if (message := self.message(mid)) is not None:
            message.text, message.edited = text, True
            self._changed(mid, at_ms)

    def unsend(self, mid: str, at_ms: int | None = None) -> None:
        """The sender takes the message back."""
        if (message := self.message(mid)) is not None:
            message.unsent = True
            self._changed(mid, at_ms)

    def react(self, mid: str, by: str, emoji: str | None, at_ms: int | None = None) -> None:
        """Somebody reacts, or takes the reaction back (`emoji` is None)."""
        if (message := self.message(mid)) is not None:
            message.reactions.pop(by, None)
            if emoji is not None:
                message.reactions[by] = emoji
            self._changed(mid, at_ms)

    def message(self, mid: str) -> KeptMessage | None:
        """The message with this id."""
        conversation = self._of_mid.get(mid)
        return None if conversation is None else conversation.messages[mid]

    def conversation(self, conversation_id: str) -> KeptConversation | None:
        """The conversation with this id."""
        return self._by_id.get(conversation_id)

    def conversation_of(self, mid: str) -> KeptConversation | None:
        """The conversation of a message."""
        return self._of_mid.get(mid)

    def conversations(self, account_id: str) -> list[KeptConversation]:
        """All conversations of an account, in the order in which they began."""
        return [one for one in self._by_id.values() if one.account_id == account_id]

    def conversation_with(self, account_id: str, participant_id: str) -> KeptConversation:
        """The conversation of an account with a participant. It is made when there is none."""
        key = (account_id, participant_id)
        if key not in self._conversations:
            found = KeptConversation(f"aWdfZAG06MTpJR01lc3NhZA2VUaHJlYWQ6{account_id}{participant_id}ZD", *key)
            self._conversations[key] = self._by_id[found.id] = found
        return self._conversations[key]

    def has_conversation(self, account_id: str, participant_id: str) -> bool:
        """Whether the two have ever written to each other."""
        return (account_id, participant_id) in self._conversations

    def truth(self, account_id: str | None = None) -> list[TrueMessage]:
        """Every message that was ever sent, of one account or of all, oldest first."""
        found = [
            _true(conversation, message)
            for conversation in self._by_id.values()
            if account_id in {None, conversation.account_id}
            for message in conversation.messages.values()
        ]
        return sorted(found, key=lambda one: (one.created_ms, one.id))

    def _happen(self, account_id: str, item: Item) -> None:
        at_ms = int(item.get("timestamp") or self._now() * 1000)
        message, edit, reaction = (item.get(name) or {} for name in ("message", "message_edit", "reaction"))
        self._open(account_id, item, at_ms)
        if message.get("is_deleted"):
            self.unsend(message["mid"], at_ms)
        elif message or "postback" in item:
            self._arrive(account_id, item, at_ms)
        elif edit.get("text") is not None and edit.get("num_edit"):
            self.edit(edit["mid"], edit["text"], at_ms)
        elif reaction and "sender" in item:
            emoji = reaction.get("emoji") if reaction.get("action") == "react" else None
            self.react(reaction["mid"], item["sender"]["id"], emoji, at_ms)

    def _open(self, account_id: str, item: Item, at_ms: int) -> None:
        """What a participant really does opens the window to answer. Deletes, edits and reads do not."""
        sender_id = str((item.get("sender") or {}).get("id") or account_id)
        message, reaction = (item.get(name) or {} for name in ("message", "reaction"))
        arrives = bool(message) and not message.get("is_deleted")
        acts = arrives or "postback" in item or "referral" in item or reaction.get("action") == "react"
        if sender_id == account_id or not acts or not self._opens(account_id):
            return
        conversation = self.conversation_with(account_id, sender_id)
        conversation.opened_ms = max(conversation.opened_ms, at_ms)
        referral = message.get("referral") or item.get("referral") or {}
        if referral.get("source") == "ADS":
            conversation.ad_ms = max(conversation.ad_ms, at_ms)

    def _arrive(self, account_id: str, item: Item, at_ms: int) -> None:
        body = item.get("message") or {**item["postback"], "text": item["postback"].get("title")}
        sender_id, recipient_id = str(item["sender"]["id"]), str(item["recipient"]["id"])
        participant_id = recipient_id if sender_id == account_id else sender_id
        # A tap has an id in the mailbox also when its webhook has none.
        mid = body.get("mid") or f"aWdfZAG1faXRlbTptap{account_id}{participant_id}t{at_ms}ZD"
        if mid in self._of_mid:
            return
        message = KeptMessage(
            mid,
            sender_id,
            recipient_id,
            at_ms,
            self._now(),
            text=body.get("text"),
            attachments=list(body.get("attachments") or ()),
            story=(body.get("reply_to") or {}).get("story"),
            is_unsupported=bool(body.get("is_unsupported")),
        )
        self._keep(self.conversation_with(account_id, participant_id), message)

    def _keep(self, conversation: KeptConversation, message: KeptMessage) -> None:
        conversation.messages[message.mid] = message
        self._of_mid[message.mid] = conversation

    def _changed(self, mid: str, at_ms: int | None) -> None:
        conversation = self._of_mid[mid]
        conversation.changed_ms = max(conversation.changed_ms, int(self._now() * 1000) if at_ms is None else at_ms)


def shown_attachments(message: KeptMessage) -> Iterator[Item]:
    """The attachments as the Conversations API shows them. Shared posts, stories and hearts are not shown."""
    for number, one in enumerate(message.attachments, 1):
        url = (one.get("payload") or {}).get("url")
        shown: Item = {"id": f"{number}"}
        match one["type"]:
            case "image":
                data = {"url": url, "preview_url": url, "width": 1080, "height": 1350}
                yield {**shown, "mime_type": "image/jpeg", "image_data": data}
            case "video":
                data = {"url": url, "preview_url": url, "width": 720, "height": 1280}
                yield {**shown, "mime_type": "video/mp4", "video_data": data}
            case "audio":
                yield {**shown, "mime_type": "audio/mp4", "name": "audioclip.mp4", "file_url": url}
            case "file":
                yield {**shown, "mime_type": "application/pdf", "name": "document.pdf", "file_url": url}
            case _:
                pass


def shown_shares(message: KeptMessage) -> list[Item]:
    """The links that were shared. `ig_post` and `ig_reel` are empty here."""
    return [{"link": (one.get("payload") or {}).get("url")} for one in message.attachments if one["type"] == "share"]


def shown_story(message: KeptMessage) -> Item | None:
    """The story that is mentioned or replied to."""
    if message.story is not None:
        return {"reply_to": {"link": message.story.get("url", ""), "id": message.story.get("id", "")}}
    for one in message.attachments:
        if one["type"] == _MENTION:
            return {"mention": {"link": (one.get("payload") or {}).get("url", ""), "id": "17900000000000002"}}
    return None


def _true(conversation: KeptConversation, message: KeptMessage) -> TrueMessage:
    return TrueMessage(
        id=message.mid,
        conversation_id=conversation.id,
        account_id=conversation.account_id,
        participant_id=conversation.participant_id,
        outbound=message.sender_id == conversation.account_id,
        created_ms=message.created_ms,
        text=message.text,
        attachments=tuple(one["type"] for one in message.attachments),
        reactions=dict(message.reactions),
        edited=message.edited,
        unsent=message.unsent,
        requests=conversation.requests,
    )
