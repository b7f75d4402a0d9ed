"""The bodies of the Send API ("Send messages"): from what is to be sent to the JSON that Meta takes."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from inboxd.domain.outbound import (
    AttachmentType,
    Button,
    Element,
    OutboundAttachment,
    PartContent,
    QuickReply,
    QuickReplyType,
    Template,
    TemplateType,
)

_ONE: Final = 1

Json = dict[str, Any]
AddressOf = Callable[[OutboundAttachment], str]
"""The address from which Meta may fetch an attachment. Raises ValueError when there is none any more."""


class Recipient(NamedTuple):
    """To whom a message goes: a participant, or the author of a comment."""

    participant_id: str | None = None
    comment_id: str | None = None

    def body(self) -> Json:
        """As Meta takes it."""
        if self.participant_id is not None:
            return {"id": self.participant_id}
        return {"comment_id": self.comment_id}


def message_body(recipient: Recipient, content: PartContent, address_of: AddressOf, *, human_agent: bool) -> Json:
    """The body that sends one part. Raises ValueError for an attachment that can no longer be fetched."""
    body: Json = {"recipient": recipient.body(), "message": _message(content, address_of)}
    if recipient.participant_id is not None:
        body["messaging_type"] = "MESSAGE_TAG" if human_agent else "RESPONSE"
    if human_agent:
        body["tag"] = "HUMAN_AGENT"
    if content.reply_to_mid is not None:
        body["reply_to"] = {"mid": content.reply_to_mid}
    return body


def action_body(participant_id: str, action: str, payload: Json | None = None) -> Json:
    """The body of a sender action: `typing_on`, `typing_off`, `mark_seen`, `react`, `unreact`."""
    body: Json = {"recipient": {"id": participant_id}, "sender_action": action}
    return body if payload is None else {**body, "payload": payload}


def _message(content: PartContent, address_of: AddressOf) -> Json:
    message: Json = {}
    if content.template is not None:
        message["attachment"] = {"type": "template", "payload": _template(content.template)}
    elif len(content.attachments) == _ONE:
        message["attachment"] = _attachment(content.attachments[0], address_of)
    elif content.attachments:
        message["attachments"] = [_attachment(one, address_of) for one in content.attachments]
    else:
        message["text"] = content.text
    if content.quick_replies:
        message["quick_replies"] = _quick_replies(content.quick_replies)
    return message


def _attachment(one: OutboundAttachment, address_of: AddressOf) -> Json:
    if one.type is AttachmentType.LIKE_HEART:
        return {"type": "like_heart"}
    if one.type is AttachmentType.POST:
        return {"type": "MEDIA_SHARE", "payload": {"id": one.media_id}}
    return {"type": one.type.value, "payload": {"url": address_of(one)}}


def _quick_replies(replies: Sequence[QuickReply]) -> list[Json]:
    return [
        {"content_type": one.type.value}
        if one.type is not QuickReplyType.TEXT
        else {"content_type": "text", "title": one.title, "payload": one.payload or one.title}
        for one in replies
    ]


def _template(template: Template) -> Json:
    if template.type is TemplateType.BUTTON:
        return {"template_type": "button", "text": template.text, "buttons": [_button(one) for one in template.buttons]}
    return {"template_type": "generic", "elements": [_element(one) for one in template.elements]}


def _button(one: Button) -> Json:
    if one.url is not None:
        return {"type": "web_url", "url": one.url, "title": one.title}
    return {"type": "postback", "title": one.title, "payload": one.payload or one.title}


def _element(one: Element) -> Json:
    element: Json = {"title": one.title}
    if one.subtitle is not None:
        element["subtitle"] = one.subtitle
    if one.image_url is not None:
        element["image_url"] = one.image_url
    if one.url is not None:
        element["default_action"] = {"type": "web_url", "url": one.url}
    if one.buttons:
        element["buttons"] = [_button(button) for button in one.buttons]
    return element
