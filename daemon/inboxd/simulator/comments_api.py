"""The simulated API of posts, comments and mentions: reading them, answering, hiding and deleting."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.caller import Caller
from inboxd.simulator.comment_payloads import comment_payload
from inboxd.simulator.dispatch import Dispatch, Done
from inboxd.simulator.errors import RefusedError, missing, refused
from inboxd.simulator.fates import Fate
from inboxd.simulator.field_expansion import Field, Fields
from inboxd.simulator.graph_reading import page, parsed, require_known, time_of
from inboxd.simulator.outgoing import body_of
from inboxd.simulator.payloads import Item
from inboxd.simulator.posts import OWN_NAME, KeptComment, Post, Posts
from inboxd.simulator.sent import Ledger, SentComment

COMMENT_FIELDS: Final = frozenset({
    "id", "from", "hidden", "like_count", "media", "parent_id", "replies", "text", "timestamp", "user", "username",
    "legacy_instagram_comment_id",
})  # fmt: skip
MEDIA_FIELDS: Final = frozenset({
    "id", "caption", "comments", "comments_count", "is_comment_enabled", "like_count", "media_product_type",
    "media_type", "media_url", "owner", "permalink", "shortcode", "thumbnail_url", "timestamp", "username",
})  # fmt: skip
MENTIONED_FIELDS: Final = MEDIA_FIELDS - {"comments"} | {"children"}
MOST_PER_PAGE: Final = 50
_PLAIN: Final = "id,timestamp,text"


class CommentsApi:
    """Answers the calls about `posts`. What is published is in `ledger`."""

    def __init__(
        self,
        posts: Posts,
        behaviour: Callable[[], Behaviour],
        dispatch: Dispatch,
        ledger: Ledger,
    ) -> None:
        self._posts = posts
        self._behaviour = behaviour
        self._dispatch = dispatch
        self._ledger = ledger

    def knows(self, node: str, fields: str) -> bool:
        """Whether a read of `node` is about a post, a comment or a mention."""
        known = self._posts.comment(node) is not None or self._posts.post(node) is not None
        return known or fields.startswith(("mentioned_comment", "mentioned_media"))

    def node(self, request: web.Request, caller: Caller, node: str) -> web.Response:
        """GET /{comment}, /{post}, or /{account}?fields=mentioned_…."""
        return self._answer(lambda: self._node(request, caller, node))

    def comments(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /{post}/comments: those that reply to none, newest first. There are none of ads."""
        return self._answer(lambda: self._comments(request, caller, request.match_info["node"]))

    def replies(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /{comment}/replies."""
        return self._answer(lambda: self._replies(request, caller, request.match_info["node"]))

    def hide(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /{comment}?hide=true. The account's own comments stay visible all the same."""
        return self._answer(lambda: self._hide(request, caller, request.match_info["node"]))

    def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Answer DELETE /{comment}."""
        return self._answer(lambda: self._delete(caller, request.match_info["node"]))

    async def publish(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /{comment}/replies, /{post}/comments or /{account}/mentions."""
        try:
            self._check_permission()
            body = await body_of(request)
            node, edge = request.match_info["node"], request.path.rpartition("/")[2]
            text = body.get("message")
            if not isinstance(text, str) or not text:
                raise refused(1 if body.get("attachment_url") else 100, "The parameter message is required")
            if edge == "mentions":
                media_id, parent_id = self._mention_to_answer(caller, node, body)
            elif edge == "replies":
                parent = self._to_answer(caller, node)
                media_id, parent_id = parent.media_id, parent.id
            else:
                media_id, parent_id = self._own_post(caller, node, "post").id, None
            return await self._dispatch.carry_out(
                request, lambda fate: self._written(caller, media_id, parent_id, text, fate)
            )
        except RefusedError as error:
            self._ledger.refuse(error.response.body)  # type: ignore[arg-type] # a JSON answer
            return error.response

    def _answer(self, make: Callable[[], Item]) -> web.Response:
        try:
            self._check_permission()
            return web.json_response(make())
        except RefusedError as error:
            return error.response

    def _check_permission(self) -> None:
        if not self._behaviour().comments_permission:
            raise refused(10, "Application does not have permission for this action", status=403)

    # What may be seen and answered

    def _own_post(self, caller: Caller, node: str, method: str = "get") -> Post:
        post = self._posts.post(node)
        if post is None or post.account_id != caller.account_id:
            raise missing(node, method)
        return post

    def _own_comment(self, caller: Caller, node: str, method: str = "get") -> tuple[Post, KeptComment]:
        """A comment under a post of the caller that is still there. Comments of a broadcast end with it."""
        comment = self._posts.comment(node)
        post = None if comment is None else self._posts.post(comment.media_id)
        if comment is None or post is None or post.account_id != caller.account_id or self._posts.is_gone(comment):
            raise missing(node, method)
        if comment.live and not post.live:
            raise missing(node, method)
        return post, comment

    def _to_answer(self, caller: Caller, node: str) -> KeptComment:
        _, comment = self._own_comment(caller, node, "post")
        if comment.live:
            raise refused(100, "Comments on live video cannot be replied to")
        if comment.hidden:
            raise refused(100, "Hidden comments cannot be replied to")
        return comment

    def _mention_to_answer(self, caller: Caller, node: str, body: Item) -> tuple[str, str | None]:
        if not caller.is_account(node):
            raise missing(node, "post")
        media_id, comment_id = str(body.get("media_id")), body.get("comment_id")
        if comment_id is not None:
            return media_id, self._mentioned_comment(caller, str(comment_id)).id
        return self._mentioned_post(caller, media_id).id, None

    def _mentioned_comment(self, caller: Caller, comment_id: str) -> KeptComment:
        comment = self._posts.comment(comment_id)
        if comment is None or caller.account_id not in comment.mentions or self._posts.is_gone(comment):
            raise refused(10, "User is not mentioned in the comment")
        return comment

    def _mentioned_post(self, caller: Caller, media_id: str) -> Post:
        post = self._posts.post(media_id)
        if post is None or caller.account_id not in post.mentions:
            raise refused(10, "User is not mentioned in the media")
        return post

    # Reading

    def _node(self, request: web.Request, caller: Caller, node: str) -> Item:
        fields = parsed(request.query.get("fields", ""))
        if fields.keys() & {"mentioned_comment", "mentioned_media"}:
            return self._mentions(caller, node, fields)
        if self._posts.comment(node) is not None:
            post, comment = self._own_comment(caller, node)
            return self._shown_comment(post, comment, fields or parsed(_PLAIN))
        return self._shown_post(self._own_post(caller, node), fields or parsed("id"), MEDIA_FIELDS)

    def _comments(self, request: web.Request, caller: Caller, node: str) -> Item:
        post, fields = self._own_post(caller, node), parsed(request.query.get("fields", _PLAIN))
        top = [one for one in self._posts.under(post.id) if one.parent_id is None and post.ad_id is None]
        listed = page(top, request.query, request, self._behaviour(), MOST_PER_PAGE)
        return {**listed, "data": [self._shown_comment(post, one, fields) for one in listed["data"]]}

    def _replies(self, request: web.Request, caller: Caller, node: str) -> Item:
        post, comment = self._own_comment(caller, node)
        fields = parsed(request.query.get("fields", _PLAIN))
        listed = page(self._replies_to(comment), request.query, request, self._behaviour(), MOST_PER_PAGE)
        return {**listed, "data": [self._shown_comment(post, one, fields) for one in listed["data"]]}

    def _replies_to(self, comment: KeptComment) -> list[KeptComment]:
        return [one for one in reversed(self._posts.under(comment.media_id)) if one.parent_id == comment.id]

    def _mentions(self, caller: Caller, node: str, fields: Fields) -> Item:
        """What others said about the account. Of them only the name is told, never an id."""
        if not caller.is_account(node):
            raise missing(node)
        shown: Item = {"id": caller.account_id}
        if "mentioned_comment" in fields:
            asked = fields["mentioned_comment"]
            comment = self._mentioned_comment(caller, asked.modifiers.get("comment_id", ""))
            post = self._posts.post(comment.media_id)
            if post is not None:
                found = self._shown_comment(post, comment, asked.inner or parsed(_PLAIN))
                shown["mentioned_comment"] = {name: value for name, value in found.items() if name != "from"}
        if "mentioned_media" in fields:
            asked = fields["mentioned_media"]
            media = self._mentioned_post(caller, asked.modifiers.get("media_id", ""))
            shown["mentioned_media"] = self._shown_post(media, asked.inner or parsed("id"), MENTIONED_FIELDS)
        return shown

    def _shown_comment(self, post: Post, comment: KeptComment, fields: Fields) -> Item:
        require_known(fields, COMMENT_FIELDS)
        own = comment.from_id == post.account_id
        known: Item = {
            "from": {"id": comment.from_id, "username": comment.username},
            "hidden": comment.hidden,
            "like_count": 0,
            "parent_id": comment.parent_id,
            "text": comment.text or None,
            "timestamp": time_of(comment.created_ms, self._behaviour()),
            "user": {"id": comment.from_id} if own else None,
            "username": comment.username,
            "legacy_instagram_comment_id": comment.id,
        }
        if "media" in fields:
            inner = fields["media"].inner or parsed("id")
            known["media"] = self._shown_post(post, inner, MEDIA_FIELDS)
        if "replies" in fields and (replies := self._replies_to(comment)):
            inner = fields["replies"].inner or parsed(_PLAIN)
            known["replies"] = {"data": [self._shown_comment(post, one, inner) for one in replies]}
        return {"id": comment.id, **_asked(known, fields)}

    def _shown_post(self, post: Post, fields: Fields, allowed: frozenset[str]) -> Item:
        require_known(fields, allowed)
        picture = f"https://scontent.cdninstagram.com/v/{post.id}.jpg?_nc_ht=Simulated"
        known: Item = {
            "caption": post.caption or None,
            "comments_count": len(self._posts.under(post.id)),
            "is_comment_enabled": True,
            "like_count": 0,
            "media_product_type": post.media_product_type,
            "media_type": post.media_type,
            "media_url": picture if post.media_type == "IMAGE" else picture.replace(".jpg", ".mp4"),
            "owner": None if post.account_id is None else {"id": post.account_id},
            "permalink": post.permalink,
            "shortcode": post.permalink.rstrip("/").rpartition("/")[2],
            "thumbnail_url": picture if post.media_type == "VIDEO" else None,
            "timestamp": time_of(post.created_ms, self._behaviour()),
            "username": post.username,
        }
        if "comments" in fields:
            known["comments"] = self._inner_comments(post, fields["comments"])
        return {"id": post.id, **_asked(known, fields)}

    def _inner_comments(self, post: Post, asked: Field) -> Item:
        inner = asked.inner or parsed(_PLAIN)
        top = [one for one in self._posts.under(post.id) if one.parent_id is None]
        return {"data": [self._shown_comment(post, one, inner) for one in top[:MOST_PER_PAGE]]}

    # Acting

    def _hide(self, request: web.Request, caller: Caller, node: str) -> Item:
        post, comment = self._own_comment(caller, node, "post")
        wanted = request.query.get("hide")
        if wanted not in {"true", "false"}:
            raise refused(100, "The parameter hide is required")
        comment.hidden = wanted == "true" and comment.from_id != post.account_id
        return {"success": True}

    def _delete(self, caller: Caller, node: str) -> Item:
        _, comment = self._own_comment(caller, node, "delete")
        if comment.live:
            raise refused(100, "Comments on live video cannot be deleted")
        comment.deleted = True
        return {"success": True}

    def _written(self, caller: Caller, media_id: str, parent_id: str | None, text: str, fate: Fate) -> Done:
        """The comment exists from here on. Under the account's own posts a webhook tells of it."""
        written = self._posts.write(media_id, caller.account_id, text, parent_id=parent_id, username=OWN_NAME)
        post = self._posts.post(media_id)
        self._ledger.comments.append(
            SentComment(
                comment_id=written.id,
                account_id=caller.account_id,
                media_id=media_id,
                parent_id=written.parent_id,
                text=text,
                sent_ms=written.created_ms,
                answer=fate.answer,
                echo=fate.echo,
            )
        )
        is_own = post is not None and post.account_id == caller.account_id
        echoes = (comment_payload(post, written, self._behaviour()),) if post is not None and is_own else ()
        return Done({"id": written.id}, {}, echoes)


def _asked(known: Item, fields: Fields) -> Item:
    """What was asked for of what there is: Meta leaves out the rest."""
    return {name: value for name, value in known.items() if name in fields and value is not None}
