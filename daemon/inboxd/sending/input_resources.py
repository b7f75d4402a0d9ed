"""What the API takes to send something."""

from typing import Annotated, Final

from msgspec import Meta

from inboxd.domain.outbound import OutboundAttachment, QuickReply, SentBy, Template
from inboxd.domain.outbound_content import MAX_ATTACHMENTS, MAX_QUICK_REPLIES, MAX_TEXT, Draft
from inboxd.http.resource import MetaId, Resource
from inboxd.sending.outbound import OutboundBody

_TEXT: Final = "Up to 1000 bytes of UTF-8; more with `split`."
_SPLIT: Final = "Whether a longer text is sent in several messages."
_FIRST: Final = "Whether the attachments are sent before the text. With quick replies they always are."
_REPLY_TO: Final = "The id of the message that it answers, as it is in the same conversation."
_SENT_BY: Final = "`human` if a human wrote it: only then may it be sent after the reply window, for some accounts."
_COMMENT: Final = "The comment to answer in private, in place of a participant."
_PARTICIPANT: Final = "The participant to write to."


class NewMessage(Resource, frozen=True, forbid_unknown_fields=True):
    """What to send. A text, attachments, or both; or a template."""

    text: Annotated[str, Meta(max_length=MAX_TEXT, description=_TEXT)] | None = None
    attachments: Annotated[tuple[OutboundAttachment, ...], Meta(max_length=MAX_ATTACHMENTS)] = ()
    quick_replies: Annotated[tuple[QuickReply, ...], Meta(max_length=MAX_QUICK_REPLIES)] = ()
    template: Template | None = None
    reply_to: Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)", description=_REPLY_TO)] | None = None
    split: Annotated[bool, Meta(description=_SPLIT)] = False
    attachments_first: Annotated[bool, Meta(description=_FIRST)] = False
    sent_by: Annotated[SentBy, Meta(description=_SENT_BY)] = SentBy.AUTOMATION

    @property
    def outbound_body(self) -> OutboundBody:
        """What is stored of it."""
        return OutboundBody(
            text=self.text,
            attachments=self.attachments,
            quick_replies=self.quick_replies,
            template=self.template,
            reply_to=self.reply_to,
        )

    def draft(self, reply_to_mid: str | None) -> Draft:
        """It, to be checked. `reply_to_mid` is Meta's id of the message that it answers."""
        return Draft(
            text=self.text,
            attachments=self.attachments,
            attachments_first=self.attachments_first,
            quick_replies=self.quick_replies,
            template=self.template,
            reply_to_mid=reply_to_mid,
            split=self.split,
        )


class NewDirectMessage(NewMessage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send, and to whom: a participant, or the author of a comment."""

    account_id: MetaId
    participant_platform_id: Annotated[str, Meta(max_length=64, description=_PARTICIPANT)] | None = None
    comment_id: Annotated[str, Meta(max_length=64, description=_COMMENT)] | None = None
