"""The client for comments, mentions and the media they stand under, of one account.

Every call waits for the account's budget, at the priority that the caller gives. Later code may rely on every value:
what Meta leaves out or sends in an odd form becomes None. Sources: the references of `IG Comment`, its edge `replies`,
`IG Media`, and of `mentioned_comment` and `mentioned_media` of `IG User`.
"""

from typing import Any, Final

import msgspec

from inboxd.domain.budget import Priority
from inboxd.domain.comment import Post
from inboxd.domain.retry import FailureAction
from inboxd.meta import answers
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.graph_errors import GraphError, unusable
from inboxd.meta.mailbox_decoding import time_ms

_REPLY_FIELDS: Final = "id,text,timestamp,username,from,hidden,like_count"
COMMENT_FIELDS: Final = (
    f"id,text,timestamp,username,from,hidden,like_count,parent_id,media{{id}},replies{{{_REPLY_FIELDS}}}",
    "id,text,timestamp,username,from,hidden,like_count,parent_id,media{id}",
    "id,text,timestamp,username,hidden",
)
"""What may be read of a comment, the most first. Versions of the API refuse some combinations."""
MEDIA_FIELDS: Final = (
    "id,permalink,media_type,media_product_type,thumbnail_url,media_url,caption,username,timestamp",
    "id,permalink,media_type,thumbnail_url,media_url,caption,username,timestamp",
)
_MENTIONED_COMMENT: Final = (
    "mentioned_comment.comment_id({}){{id,text,timestamp,username,media{{id,permalink,caption,username}}}}"
)
_MENTIONED_MEDIA: Final = (
    "mentioned_media.media_id({}){{id,permalink,media_type,media_url,thumbnail_url,caption,username,timestamp}}"
)
MAX_TEXT: Final = 10_000
MAX_NAME: Final = 255
MAX_WORD: Final = 50
MOST_LIKES: Final = 10**12
MOST_REPLIES: Final = 200
PAGE: Final = 50
MOST_PAGES: Final = 5
MAX_CURSOR: Final = 4096
_BAD_PARAMETER: Final = 100
_UNKNOWN_ERROR: Final = 1
_OBJECT_MISSING: Final = 33
_NOT_MENTIONED: Final = 10


class ReadComment(msgspec.Struct, frozen=True, kw_only=True):
    """A comment as Meta shows it. Times in ms."""

    id: str
    text: str | None
    author_id: str | None
    author_username: str | None
    at: int | None
    hidden: bool | None
    like_count: int | None
    media_id: str | None
    parent_id: str | None
    replies: "tuple[ReadComment, ...]" = ()
    post: Post | None = None
    """Of a mention: the post of somebody else, as far as Meta shows it."""


class CommentsClient:
    """Reads and changes the comments of one account. Every method raises GraphError."""

    def __init__(self, graph: AccountGraph, account_id: str) -> None:
        self._graph = graph
        self._account_id = account_id
        self._comment_forms, self._media_forms = list(COMMENT_FIELDS), list(MEDIA_FIELDS)

    async def comment(self, comment_id: str, priority: Priority) -> ReadComment:
        """A comment under media of the account, with the replies to it where Meta shows them."""
        fields = await self._read(_node(comment_id), self._comment_forms, priority)
        found = _comment(fields)
        if found is None or found.id != comment_id:
            msg = "another comment than the requested one"
            raise unusable(msg)
        return found

    async def all_replies(self, comment_id: str, priority: Priority) -> tuple[list[ReadComment], bool]:
        """The replies to a comment, and whether these are all."""
        path, wanted = f"{_node(comment_id)}/replies", {"fields": _REPLY_FIELDS, "limit": str(PAGE)}
        found: list[ReadComment] = []
        for _ in range(MOST_PAGES):
            answer = await self._graph.request("GET", path, wanted, priority)
            found += _comments(answer)
            paging = _fields(answer.get("paging"))
            after = answers.word(_fields(paging.get("cursors")).get("after"), MAX_CURSOR)
            if "next" not in paging:
                return found, isinstance(answer.get("data"), list)
            if after is None:
                break
            wanted["after"] = after
        return found, False

    async def media(self, media_id: str, priority: Priority) -> Post:
        """A post of the account."""
        return _post(media_id, await self._read(_node(media_id), self._media_forms, priority))

    async def mention(self, comment_id: str, priority: Priority) -> ReadComment:
        """A comment of somebody else that mentions the account."""
        wanted = {"fields": _MENTIONED_COMMENT.format(_node(comment_id))}
        fields = _fields(
            (await self._graph.request("GET", self._account_id, wanted, priority)).get("mentioned_comment")
        )
        found = _comment(fields)
        if found is None or found.id != comment_id:
            msg = "no mention where one was requested"
            raise unusable(msg)
        media = _fields(fields.get("media"))
        post = None if found.media_id is None else _post(found.media_id, media)
        return msgspec.structs.replace(found, post=post)

    async def mentioned_media(self, media_id: str, priority: Priority) -> Post:
        """A post of somebody else whose caption, or a comment under it, mentions the account."""
        wanted = {"fields": _MENTIONED_MEDIA.format(_node(media_id))}
        fields = (await self._graph.request("GET", self._account_id, wanted, priority)).get("mentioned_media")
        return _post(media_id, _fields(fields))

    async def hide(self, comment_id: str, *, hidden: bool) -> None:
        """Hide or show a comment. To do so twice changes nothing."""
        wanted = {"hide": "true" if hidden else "false"}
        _require_success(await self._graph.request("POST", _node(comment_id), wanted, Priority.INTERACTIVE))

    async def delete(self, comment_id: str) -> None:
        """Delete a comment with the replies to it."""
        _require_success(await self._graph.request("DELETE", _node(comment_id), {}, Priority.INTERACTIVE))

    async def _read(self, path: str, forms: list[str], priority: Priority) -> dict[str, Any]:
        """The answer to the first form that Meta accepts; those before it are not tried again.

        Raises the first GraphError when no form is accepted.
        """
        refusal: GraphError | None = None
        for number, form in enumerate(forms):
            try:
                found = await self._graph.request("GET", path, {"fields": form}, priority)
            except GraphError as error:
                if not _may_be_the_form(error):
                    raise
                refusal = refusal or error
                continue
            del forms[:number]
            return found
        raise refusal or unusable("no form of request is left")


def is_said_to_be_gone(error: GraphError) -> bool:
    """Whether Meta says that there is no such object. It says so too when a permission is missing."""
    return (error.code, error.subcode) == (_BAD_PARAMETER, _OBJECT_MISSING) or error.code == 803


def is_no_mention(error: GraphError) -> bool:
    """Whether Meta says that the account is not mentioned there. It says so too when a permission is missing."""
    return error.code == _NOT_MENTIONED


def _may_be_the_form(error: GraphError) -> bool:
    """Whether Meta may have refused the fields, and not the object or the account."""
    return error.too_large or (error.code in {_BAD_PARAMETER, _UNKNOWN_ERROR} and error.subcode is None)


def _node(value: str) -> str:
    """The id, which becomes part of a URL. Raises GraphError when Meta could not know it."""
    found = answers.identifier(value)
    if found is None:
        msg = "not an id that Meta could know"
        raise GraphError(msg, FailureAction.GONE)
    return found


def _require_success(answer: dict[str, Any]) -> None:
    if answer.get("success") is False:
        msg = "Meta did not do it, and did not say why"
        raise unusable(msg)


def _comment(fields: dict[str, Any]) -> ReadComment | None:
    found = answers.identifier(fields.get("id"))
    if found is None:
        return None
    author = _fields(fields.get("from"))
    name = answers.word(author.get("username"), MAX_NAME) or answers.word(fields.get("username"), MAX_NAME)
    return ReadComment(
        id=found,
        text=_text(fields.get("text")),
        author_id=answers.identifier(author.get("id")),
        author_username=name,
        at=time_ms(fields.get("timestamp")),
        hidden=answers.flag(fields.get("hidden")),
        like_count=answers.whole(fields.get("like_count"), MOST_LIKES),
        media_id=answers.identifier(_fields(fields.get("media")).get("id")),
        parent_id=answers.identifier(fields.get("parent_id")),
        replies=tuple(_comments(_fields(fields.get("replies")))),
    )


def _comments(answer: dict[str, Any]) -> list[ReadComment]:
    listed = answer.get("data")
    found = [_comment(_fields(one)) for one in listed[:MOST_REPLIES]] if isinstance(listed, list) else []
    return [one for one in found if one is not None]


def _post(media_id: str, fields: dict[str, Any]) -> Post:
    picture = answers.address(fields.get("thumbnail_url"))
    media_type = answers.word(fields.get("media_type"), MAX_WORD)
    if picture is None and media_type != "VIDEO":
        picture = answers.address(fields.get("media_url"))
    return Post(
        media_id=media_id,
        permalink=answers.address(fields.get("permalink")),
        media_type=media_type,
        product_type=answers.word(fields.get("media_product_type"), MAX_WORD),
        thumbnail_url=picture,
        caption=_text(fields.get("caption")),
        owner_username=answers.word(fields.get("username"), MAX_NAME),
        posted_at=time_ms(fields.get("timestamp")),
    )


def _text(value: object) -> str | None:
    """A text with half characters replaced; None when it is empty."""
    if not isinstance(value, str):
        return None
    return value[:MAX_TEXT].encode("utf-8", "replace").decode() or None


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
