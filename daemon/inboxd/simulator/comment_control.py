"""Control of the simulated comments: /_simulator/comments and /_simulator/posts."""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.comment_payloads import comment_payload, mention_payload
from inboxd.simulator.dispatch import Tell
from inboxd.simulator.payloads import Item
from inboxd.simulator.people import igsid
from inboxd.simulator.posts import KeptComment, Post, Posts

COMMENTS_PATH: Final = "/_simulator/comments"
POSTS_PATH: Final = "/_simulator/posts"
FIRST_POST: Final = "17900000000000001"

T = TypeVar("T")


class NewPost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A post to publish. Without `account_id`, somebody publishes it who is no account here."""

    account_id: str | None = None
    media_id: str | None = None
    caption: str = ""
    media_product_type: str = "FEED"
    username: str | None = None
    ad_id: str | None = None
    ad_title: str | None = None
    original_media_id: str | None = None
    live: bool = False
    created_ms: int | None = None
    mentions: tuple[str, ...] = ()
    """Accounts that the caption mentions: a webhook tells each."""
    webhook: bool = True


class NewComment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A comment to write. It is under the first post of `account_id`, unless it says under which."""

    account_id: str | None = None
    media_id: str | None = None
    from_id: str = igsid(1)
    username: str | None = None
    text: str | None = None
    """None: a GIF, a sticker or a photo."""
    parent_id: str | None = None
    created_ms: int | None = None
    mentions: tuple[str, ...] = ()
    """Accounts that it mentions, under somebody else's post: a webhook tells each."""
    webhook: bool = True


class ChangedPost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of a post: its broadcast ends."""

    live: bool


class ChangedComment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What its author makes of a comment. No webhook tells of it."""

    text: str


class CommentControl:
    """Adds, changes and lists posts and comments. `tell` sends webhooks."""

    def __init__(self, posts: Posts, behaviour: Callable[[], Behaviour], tell: Tell) -> None:
        self._posts = posts
        self._behaviour = behaviour
        self._tell = tell

    def add_routes(self, app: web.Application) -> None:
        """Add the control paths."""
        app.router.add_get(POSTS_PATH, self._get_posts)
        app.router.add_post(POSTS_PATH, self._publish)
        app.router.add_patch(POSTS_PATH + "/{id}", self._change_post)
        app.router.add_get(COMMENTS_PATH, self._get_comments)
        app.router.add_post(COMMENTS_PATH, self._write)
        app.router.add_patch(COMMENTS_PATH + "/{id}", self._change_comment)
        app.router.add_delete(COMMENTS_PATH + "/{id}", self._delete_comment)

    async def write(self, new: NewComment) -> KeptComment:
        """Somebody writes a comment. Webhooks tell the account under whose post it is, and those that it mentions.

        Raises LookupError when there is no such post.
        """
        if new.media_id is None and new.account_id is not None:
            post = self._posts.publish(new.account_id, media_id=FIRST_POST, caption="Spring collection 🌷")
        else:
            found = self._posts.post(new.media_id or "")
            if found is None:
                msg = "there is no such post: POST it to " + POSTS_PATH
                raise LookupError(msg)
            post = found
        written = self._posts.write(
            post.id,
            new.from_id,
            new.text,
            username=new.username,
            parent_id=new.parent_id,
            created_ms=new.created_ms,
            live=post.live,
            mentions=set(new.mentions),
        )
        behaviour = self._behaviour()
        if new.webhook and post.account_id is not None:
            await self._tell(comment_payload(post, written, behaviour))
        for account_id in new.mentions if new.webhook else ():
            await self._tell(mention_payload(account_id, post.id, written.id, written.created_ms, behaviour))
        return written

    async def _get_posts(self, _request: web.Request) -> web.Response:
        return _json({"posts": [_shown_post(one) for one in self._posts.all()]})

    async def _publish(self, request: web.Request) -> web.Response:
        new = await _body(request, NewPost)
        properties = {name: value for name, value in msgspec.structs.asdict(new).items() if value is not None}
        del properties["webhook"]
        account_id = properties.pop("account_id", None)
        if account_id is None:
            properties.setdefault("username", "somebody.else")
        post = self._posts.publish(account_id, **properties | {"mentions": set(new.mentions)})
        for mentioned in new.mentions if new.webhook else ():
            await self._tell(mention_payload(mentioned, post.id, None, post.created_ms, self._behaviour()))
        return web.json_response(_shown_post(post), status=201)

    async def _change_post(self, request: web.Request) -> web.Response:
        post = self._posts.post(request.match_info["id"])
        if post is None:
            raise web.HTTPNotFound
        post.live = (await _body(request, ChangedPost)).live
        return web.Response(status=204)

    async def _get_comments(self, request: web.Request) -> web.Response:
        return _json({"comments": self._posts.truth(request.query.get("account_id"))})

    async def _write(self, request: web.Request) -> web.Response:
        try:
            written = await self.write(await _body(request, NewComment))
        except LookupError as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.json_response({"id": written.id, "media_id": written.media_id}, status=201)

    async def _change_comment(self, request: web.Request) -> web.Response:
        comment = self._comment(request)
        comment.text, comment.edited = (await _body(request, ChangedComment)).text, True
        return web.Response(status=204)

    async def _delete_comment(self, request: web.Request) -> web.Response:
        self._comment(request).deleted = True
        return web.Response(status=204)

    def _comment(self, request: web.Request) -> KeptComment:
        found = self._posts.comment(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound
        return found


def _shown_post(post: Post) -> Item:
    return {
        "id": post.id,
        "account_id": post.account_id,
        "caption": post.caption,
        "permalink": post.permalink,
        "media_product_type": post.media_product_type,
        "ad_id": post.ad_id,
        "live": post.live,
    }


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _json(found: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")
