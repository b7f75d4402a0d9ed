"""What was sent, as the content of a message in the conversation, until its echo or the API shows it."""

from typing import Final

from inboxd.domain.message import Attachment, Content
from inboxd.domain.outbound import AttachmentType, OutboundAttachment, PartContent, Template

_SHOWN_AS: Final = {AttachmentType.POST: "share"}
"""The types that webhooks name otherwise."""


def content_of(part: PartContent) -> Content:
    """The content, named as the echo will name it."""
    details: dict[str, object] = {}
    if part.reply_to_mid is not None:
        details["reply_to"] = {"mid": part.reply_to_mid}
    attachments = tuple(_attachment(one) for one in part.attachments)
    if part.template is not None:
        attachments = (_template(part.template),)
    kind = attachments[0].type if attachments else "text"
    return Content(type=kind, text=part.text, attachments=attachments, details=details or None)


def _attachment(one: OutboundAttachment) -> Attachment:
    kind = _SHOWN_AS.get(one.type, one.type.value)
    return Attachment(type=kind, url=one.url, payload=None if one.url is None else {"url": one.url})


def _template(template: Template) -> Attachment:
    title = template.text or next((one.title for one in template.elements), None)
    return Attachment(type="template", title=title)
