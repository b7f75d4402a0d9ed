"""The simulated Send API: POST /{me, account or page}/messages."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
from aiohttp import web

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.caller import Caller
from inboxd.simulator.customer import Customer
from inboxd.simulator.dispatch import Dispatch, Done
from inboxd.simulator.errors import RefusedError, missing, refused
from inboxd.simulator.fates import Fate
from inboxd.simulator.mailbox import Mailbox
from inboxd.simulator.media_fetching import fetched
from inboxd.simulator.outgoing import FILES, Outgoing, body_of, outgoing
from inboxd.simulator.payloads import Item, delivery, without_parties
from inboxd.simulator.people import person
from inboxd.simulator.posts import Posts
from inboxd.simulator.sent import FetchedMedia, Ledger, SentAction, SentMessage

HUMAN_AGENT_S: Final = 7 * 86_400.0
PRIVATE_REPLY_S: Final = 7 * 86_400.0
_OUTSIDE: Final = "This message is sent outside of allowed window."


class SendingApi:
    """Answers the calls of the Send API. What is sent is in `mailbox` and in `ledger`.

    `now` tells the time in seconds since the epoch. `running` must be a cleanup context of the server.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        posts: Posts,
        behaviour: Callable[[], Behaviour],
        dispatch: Dispatch,
        customer: Customer,
        now: Callable[[], float],
    ) -> None:
        self._mailbox = mailbox
        self._posts = posts
        self._behaviour = behaviour
        self._dispatch = dispatch
        self._customer = customer
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._recent: dict[tuple[str, str], deque[float]] = {}
        self.ledger = Ledger()

    async def running(self, _app: web.Application) -> AsyncIterator[None]:
        """A cleanup context: files are fetched within it."""
        async with aiohttp.ClientSession() as self._session:
            yield

    async def messages(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /{node}/messages."""
        try:
            _check_node(request.match_info.get("node", "me"), caller)
            wanted = outgoing(await body_of(request))
            self._pace(caller, wanted)
            recipient_id = self._recipient(caller, wanted)
            if wanted.action is not None:
                return self._act(caller, recipient_id, wanted)
            self._check_reply_to(wanted)
            media = await self._fetched(wanted)
            return await self._dispatch.carry_out(
                request, lambda fate: self._send(caller, recipient_id, wanted, media, fate)
            )
        except RefusedError as error:
            self.ledger.refuse(error.response.body)  # type: ignore[arg-type] # a JSON answer
            return error.response

    def _pace(self, caller: Caller, wanted: Outgoing) -> None:
        behaviour = self._behaviour()
        limits = [("sends", behaviour.sends_per_s, 1.0)]
        if wanted.comment_id is not None:
            limits.append(("private replies", behaviour.private_replies_per_h, 3600.0))
        for name, most, within_s in limits:
            recent = self._recent.setdefault((caller.account_id, name), deque())
            while recent and recent[0] <= self._now() - within_s:
                recent.popleft()
            recent.append(self._now())
            if behaviour.send_throttled or 0 < most < len(recent):
                raise refused(613, "Calls to this API have exceeded the rate limit", subcode=2534040)

    def _recipient(self, caller: Caller, wanted: Outgoing) -> str:
        """Whom the call writes to. Raises RefusedError when it must not."""
        behaviour = self._behaviour()
        if behaviour.tools_off:
            raise refused(200, "The account owner has disabled access to direct messages", status=403, subcode=2534041)
        if wanted.comment_id is not None:
            return self._commenter(caller, wanted)
        who = wanted.recipient_id or ""
        if who in behaviour.unreachable:
            raise refused(551, "This person isn't available right now.", subcode=1545041)
        if person(who) is None and not self._mailbox.has_conversation(caller.account_id, who):
            raise refused(100, "No matching user found", subcode=2534014)
        if wanted.action != "mark_seen":
            self._check_window(caller, who, wanted.tag)
        return who

    def _check_window(self, caller: Caller, who: str, tag: str | None) -> None:
        behaviour = self._behaviour()
        if not self._mailbox.has_conversation(caller.account_id, who):
            raise refused(10, _OUTSIDE, subcode=2534022)
        conversation = self._mailbox.conversation_with(caller.account_id, who)
        since_s = self._now() - conversation.opened_ms / 1000
        since_ad_s = self._now() - conversation.ad_ms / 1000
        if tag is not None:
            if not behaviour.human_agent and behaviour.human_agent_refusal == "permission":
                raise refused(10, "Application does not have permission for this action", status=403)
            if not behaviour.human_agent or since_s > HUMAN_AGENT_S:
                raise refused(10, _OUTSIDE, subcode=2534022)
        elif since_s > behaviour.reply_window_s and since_ad_s > behaviour.ad_window_s:
            raise refused(10, _OUTSIDE, subcode=2534022)

    def _commenter(self, caller: Caller, wanted: Outgoing) -> str:
        """Who wrote the comment that a private reply answers."""
        comment = self._posts.comment(wanted.comment_id or "")
        post = None if comment is None else self._posts.post(comment.media_id)
        late_s = 0.0 if comment is None else self._now() - comment.created_ms / 1000
        if (
            comment is None
            or post is None
            or self._posts.is_gone(comment)
            or post.account_id != caller.account_id
            or comment.from_id == caller.account_id
            or late_s > PRIVATE_REPLY_S
            or (comment.live and not post.live)
        ):
            raise refused(100, "The comment is invalid for a private reply", subcode=2534025)
        if comment.private_reply is not None:
            subcode = self._behaviour().used_comment_subcode
            raise refused(100, "The comment has already been replied to", subcode=subcode)
        if wanted.action is not None or wanted.quick_replies or wanted.template not in {None, "button"}:
            raise refused(100, "Invalid message data: a private reply is a text or a button template", subcode=2534015)
        if wanted.text is None and wanted.template is None:
            raise refused(100, "Invalid message data: a private reply has no attachment", subcode=2534015)
        return comment.from_id

    def _check_reply_to(self, wanted: Outgoing) -> None:
        unknown = wanted.reply_to is not None and self._mailbox.message(wanted.reply_to) is None
        if unknown and self._behaviour().unknown_reply_to == "refused":
            raise refused(100, "Invalid message data: the message to reply to is unknown", subcode=2534015)

    async def _fetched(self, wanted: Outgoing) -> tuple[FetchedMedia, ...]:
        found = []
        for one in wanted.attachments:
            if one["type"] == "MEDIA_SHARE" and self._posts.post(str(one["payload"]["id"])) is None:
                raise refused(100, "Invalid message data: no such post", subcode=2534015)
            if one["type"] not in FILES:
                continue
            if "url" not in one["payload"] or self._session is None:
                raise refused(100, "The attachment_id is invalid", subcode=2018074)
            url, timeout_s = str(one["payload"]["url"]), self._behaviour().media_timeout_s
            found.append(await fetched(self._session, one["type"], url, timeout_s))
        return tuple(found)

    def _act(self, caller: Caller, recipient_id: str, wanted: Outgoing) -> web.Response:
        """A sender action. No webhook tells of it."""
        mid, reaction = wanted.payload.get("message_id"), wanted.payload.get("reaction")
        if wanted.action in {"react", "unreact"}:
            known = self._behaviour().reactions
            if known == "none":
                raise refused(2, "Service temporarily unavailable", status=500)
            if wanted.action == "react" and (not reaction or (known == "love" and reaction != "love")):
                raise refused(100, "Param payload[reaction] must be one of {LOVE}")
            conversation = self._mailbox.conversation_of(str(mid))
            if conversation is None or conversation.participant_id != recipient_id:
                raise refused(100, "Invalid message id", subcode=2534015)
            emoji = "\u2764\ufe0f" if reaction == "love" else reaction
            self._mailbox.react(str(mid), caller.account_id, emoji if wanted.action == "react" else None)
        at_ms = int(self._now() * 1000)
        done = SentAction(caller.account_id, recipient_id, str(wanted.action), at_ms, mid, reaction)
        self.ledger.actions.append(done)
        return web.json_response({"recipient_id": recipient_id})

    def _send(
        self, caller: Caller, recipient_id: str, wanted: Outgoing, media: tuple[FetchedMedia, ...], fate: Fate
    ) -> Done:
        """The message exists from here on."""
        mid = self._mailbox.new_mid(caller.account_id, recipient_id)
        at_ms = int(self._now() * 1000)
        if wanted.comment_id is not None:
            self._commenter(caller, wanted)  # another call may have been faster
            self._posts.answered_privately(wanted.comment_id, mid)
        message = self._message(mid, wanted)
        item = {
            "sender": {"id": caller.account_id},
            "recipient": {"id": recipient_id},
            "timestamp": at_ms,
            "message": message,
        }
        payload = delivery(caller.account_id, at_ms, [item])
        self._mailbox.apply(payload)
        self._mailbox.conversation_with(caller.account_id, recipient_id).requests = False
        self.ledger.messages.append(_sent(payload, wanted, media, fate))
        self._customer.got(caller.account_id, recipient_id, mid)
        echoes = [payload]
        if self._behaviour().echo_companions:
            companion = without_parties({"timestamp": at_ms, "message_edit": {"mid": mid, "num_edit": 0}})
            echoes.append(delivery(caller.account_id, at_ms, [companion]))
        answer = {"recipient_id": recipient_id}
        return Done(answer | {"message_id": mid}, answer, tuple(echoes))

    def _message(self, mid: str, wanted: Outgoing) -> Item:
        """The message as its echo has it. An echo has no `app_id`."""
        message: Item = {"mid": mid, "is_echo": True}
        if wanted.text is not None:
            message["text"] = wanted.text
        shown = [self._shown(mid, number, one) for number, one in enumerate(wanted.attachments)]
        if shown:
            message["attachments"] = shown
        if wanted.reply_to is not None and self._mailbox.message(wanted.reply_to) is not None:
            message["reply_to"] = {"mid": wanted.reply_to}
        if self._behaviour().echo_metadata and wanted.metadata is not None:
            message["metadata"] = wanted.metadata
        return message

    def _shown(self, mid: str, number: int, attachment: Item) -> Item:
        """An attachment as webhooks show it: files under an address of Meta's."""
        payload = attachment["payload"]
        match attachment["type"]:
            case "like_heart":
                return {"type": "like_heart"}
            case "MEDIA_SHARE":
                post = self._posts.post(str(payload["id"]))
                link = "" if post is None else post.permalink
                title = "" if post is None else post.caption
                return {"type": "ig_post", "payload": {"url": link, "title": title, "ig_post_media_id": payload["id"]}}
            case "template":
                elements = payload.get("elements") or [{"title": payload.get("text"), "buttons": payload["buttons"]}]
                return {"type": "template", "payload": {"generic": {"elements": elements}}}
            case kind:
                url = f"https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id={mid[-12:]}{number}&signature=Simulated"
                return {"type": kind, "payload": {"url": url}}


def _check_node(node: str, caller: Caller) -> None:
    """Refuse a node that is not the caller's. With Facebook Login, the account's own id is the wrong one."""
    if caller.is_own_node(node):
        return
    if node == caller.account_id:
        raise refused(3, "Application does not have the capability to make this API call.")
    raise missing(node, "post")


def _sent(payload: Item, wanted: Outgoing, media: tuple[FetchedMedia, ...], fate: Fate) -> SentMessage:
    """The entry of the ledger for a message with this echo."""
    item = payload["entry"][0]["messaging"][0]
    return SentMessage(
        message_id=item["message"]["mid"],
        account_id=item["sender"]["id"],
        recipient_id=item["recipient"]["id"],
        comment_id=wanted.comment_id,
        sent_ms=item["timestamp"],
        text=wanted.text,
        attachments=tuple(one["type"] for one in wanted.attachments),
        media=media,
        template=wanted.template,
        quick_replies=len(wanted.quick_replies),
        reply_to=wanted.reply_to,
        messaging_type=wanted.messaging_type,
        tag=wanted.tag,
        metadata=wanted.metadata,
        answer=fate.answer,
        echo=fate.echo,
    )
