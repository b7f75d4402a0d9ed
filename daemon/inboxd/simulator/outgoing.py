"""The body of a call to the Send API, checked as Meta checks it."""

import json
from typing import Any, Final, NamedTuple

from aiohttp import web

from inboxd.simulator.errors import refused
from inboxd.simulator.payloads import Item

LONGEST_TEXT: Final = 1000
"""Bytes of UTF-8."""
MOST_IMAGES: Final = 10
MOST_QUICK_REPLIES: Final = 13
LONGEST_TITLE: Final = 80
LONGEST_BUTTON_TEXT: Final = 640
MOST_BUTTONS: Final = 3
MOST_ELEMENTS: Final = 10
FILES: Final = ("image", "video", "audio", "file")
"""Attachments that Meta fetches."""
ACTIONS: Final = ("typing_on", "typing_off", "mark_seen", "react", "unreact")
_TYPES: Final = ("RESPONSE", "UPDATE", "MESSAGE_TAG")
_INVALID: Final = 2534015


class Outgoing(NamedTuple):
    """What a call wants to send, and to whom. One of `recipient_id` and `comment_id` is set."""

    recipient_id: str | None
    comment_id: str | None
    text: str | None
    attachments: tuple[Item, ...]
    """Each with `type` and perhaps `payload`."""
    quick_replies: tuple[Item, ...]
    reply_to: str | None
    messaging_type: str | None
    tag: str | None
    metadata: str | None
    action: str | None
    payload: Item
    """Of the action."""

    @property
    def template(self) -> str | None:
        """The kind of the template, if one is sent."""
        found = [one["payload"]["template_type"] for one in self.attachments if one["type"] == "template"]
        return found[0] if found else None


async def body_of(request: web.Request) -> Item:
    """The parameters of a POST: JSON or form fields whose values may be JSON, beside the query."""
    found: Item = {name: _value(text) for name, text in request.query.items()}
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.read() or b"{}")
        except ValueError as error:
            raise refused(100, "The request body is not valid JSON") from error
        except ConnectionError as error:  # the caller is gone
            raise web.HTTPBadRequest from error
        if not isinstance(body, dict):
            raise refused(100, "The request body must be a JSON object")
        return found | body
    return found | {name: _value(str(text)) for name, text in (await request.post()).items()}


def outgoing(body: Item) -> Outgoing:
    """What the parameters say. Raises RefusedError for what Meta refuses whoever the recipient is."""
    recipient = body.get("recipient")
    if not isinstance(recipient, dict) or not (recipient.get("id") or recipient.get("comment_id")):
        raise refused(100, "The parameter recipient is required")
    message, action = body.get("message"), body.get("sender_action")
    if message is not None and action is not None:
        raise refused(100, "Cannot have both message and sender_action", subcode=2018014)
    if message is None and action is None:
        raise refused(100, "The parameter message is required")
    if action is not None and action not in ACTIONS:
        raise refused(100, f"Param sender_action must be one of {{{', '.join(ACTIONS).upper()}}}")
    _check_tag(body.get("messaging_type"), body.get("tag"))
    content = message if isinstance(message, dict) else {}
    text = _text(content)
    # Beside a text, an attachment is dropped without a word.
    attachments = () if text is not None else _attachments(content)
    if action is None and text is None and not attachments:
        raise _invalid("The message is empty")
    reply_to = body.get("reply_to")
    return Outgoing(
        recipient_id=_identifier(recipient.get("id")),
        comment_id=_identifier(recipient.get("comment_id")),
        text=text,
        attachments=attachments,
        quick_replies=_quick_replies(content),
        reply_to=_identifier(reply_to.get("mid")) if isinstance(reply_to, dict) else None,
        messaging_type=body.get("messaging_type"),
        tag=body.get("tag"),
        metadata=content.get("metadata"),
        action=action,
        payload=body.get("payload") or {},
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in {"{", "["} else text
    except ValueError:
        return text


def _identifier(found: Any) -> str | None:
    return str(found) if found else None


def _invalid(why: str) -> Exception:
    return refused(100, f"Invalid message data: {why}", subcode=_INVALID)


def _check_tag(messaging_type: Any, tag: Any) -> None:
    if messaging_type is not None and messaging_type not in _TYPES:
        raise refused(100, f"Param messaging_type must be one of {{{', '.join(_TYPES)}}}")
    if (messaging_type == "MESSAGE_TAG") != (tag is not None):
        raise refused(100, "A tag needs the messaging_type MESSAGE_TAG, which needs a tag")
    if tag is not None and tag != "HUMAN_AGENT":
        raise refused(100, "The message tag is invalid or deprecated")


def _text(content: Item) -> str | None:
    text = content.get("text")
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        raise _invalid("text is no string")
    if len(text.encode()) > LONGEST_TEXT:
        message = "Length of param message[text] must be less than or equal to 1000"
        raise refused(100, message, subcode=2534038)
    return text


def _attachments(content: Item) -> tuple[Item, ...]:
    several = content.get("attachments")
    found = several if isinstance(several, list) else [several or content.get("attachment")]
    wanted = [one for one in found if one]
    if not all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in wanted):
        raise _invalid("an attachment has no type")
    if len(wanted) > 1 and ({one["type"] for one in wanted} != {"image"} or len(wanted) > MOST_IMAGES):
        raise _invalid("several attachments must be images, ten at most")
    for one in wanted:
        _check_attachment(one, one.get("payload") or {})
    return tuple({"type": one["type"], "payload": one.get("payload") or {}} for one in wanted)


def _check_attachment(attachment: Item, payload: Item) -> None:
    match attachment["type"]:
        case "template":
            _check_template(payload)
        case "like_heart":
            pass
        case "MEDIA_SHARE":
            if not payload.get("id"):
                raise _invalid("a shared post needs its id")
        case kind if kind in FILES:
            if not (payload.get("url") or payload.get("attachment_id")):
                raise _invalid(f"the {kind} has neither url nor attachment_id")
        case _:
            raise _invalid("unknown type of attachment")


def _check_template(payload: Item) -> None:
    match payload.get("template_type"):
        case "button":
            buttons = payload.get("buttons") or []
            if not 0 < len(payload.get("text") or "") <= LONGEST_BUTTON_TEXT or not buttons:
                raise _invalid("a button template needs a text of 640 characters at most, and a button")
            _check_buttons(buttons)
        case "generic":
            elements = payload.get("elements") or []
            if not 1 <= len(elements) <= MOST_ELEMENTS:
                raise _invalid("a generic template has 1 to 10 elements")
            for element in elements:
                too_long = any(len(element.get(name) or "") > LONGEST_TITLE for name in ("title", "subtitle"))
                if not element.get("title") or too_long or len(element) < 2:
                    raise _invalid("an element needs a title of 80 characters at most, and another property")
                _check_buttons(element.get("buttons") or [])
        case "product":
            if not payload.get("elements"):
                raise refused(100, "The product is not in the catalog", subcode=2018320)
        case _:
            raise _invalid("unknown template_type")


def _check_buttons(buttons: list[Item]) -> None:
    if len(buttons) > MOST_BUTTONS:
        raise _invalid("there are more than 3 buttons")
    for button in buttons:
        wanted = {"web_url": "url", "postback": "payload"}.get(button.get("type", ""))
        if wanted is None or not button.get(wanted) or not button.get("title"):
            raise _invalid("a button is a web_url with url or a postback with payload, and has a title")


def _quick_replies(content: Item) -> tuple[Item, ...]:
    found = content.get("quick_replies") or []
    if len(found) > MOST_QUICK_REPLIES:
        raise _invalid("there are more than 13 quick replies")
    for one in found:
        titled = one.get("title") and one.get("payload") and len(one["payload"]) <= LONGEST_TEXT
        if one.get("content_type") not in {"user_email", "user_phone_number"} and not titled:
            raise _invalid("a quick reply needs a title and a payload of 1000 characters at most")
    return tuple(found)
