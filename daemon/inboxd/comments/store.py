"""The table of comments: joining what is told of them, and reading them."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.comments import media_store
from inboxd.domain.comment import Comment, CommentKind, CommentState, ToldComment
from inboxd.domain.paging import Place
from inboxd.storage.connection import Row
from inboxd.storage.database import Read

MATCHES: Final = 2000
"""A search uses at most this many comments, the latest."""
MOST_IN_THREAD: Final = 500
"""Comments of one thread that are shown, the latest."""
CAPTION: Final = "caption:"
"""How the key of a mention in a caption begins."""
_FIELDS: Final = Comment.__struct_fields__
_SELECT: Final = f"SELECT {', '.join(_FIELDS)} FROM comments"  # noqa: S608 - constants
_BY_KEY: Final = f"{_SELECT} WHERE account_id = ? AND key = ?"
_BY_ID: Final = f"{_SELECT} WHERE id = ?"
_THREAD: Final = f"{_SELECT} WHERE root_id = ? AND told ORDER BY commented_at DESC, id DESC LIMIT {MOST_IN_THREAD}"
_PLACES: Final = """
SELECT c.account_id, c.key, c.root_id, c.id FROM json_each(?) AS k
CROSS JOIN comments AS c ON c.account_id = k.value ->> 0 AND c.key = k.value ->> 1
"""
_OWN: Final = "SELECT id, app_scoped_id, page_id, username FROM accounts WHERE id = ?"
_INSERT: Final = """
INSERT INTO comments (account_id, key, comment_id, kind, root_id, parent_id, told, media_id, product_type,
    original_media_id, ad_id, ad_title, author_id, author_username, self_id, is_own, text, like_count, hidden,
    commented_at, last_at, due_at, created_at, updated_at)
VALUES (:account_id, :key, :comment_id, :kind, coalesce(:root_id, 0), :parent_id, :told, :media_id, :product_type,
    :original_media_id, :ad_id, :ad_title, :author_id, :author_username, :self_id, :is_own, :text, :like_count,
    coalesce(:hidden, 0), :at, :at, :due_at, :now, :now)
RETURNING id
"""
_BEGIN_THREAD: Final = "UPDATE comments SET root_id = id WHERE id = ?"
_TELL: Final = """
UPDATE comments SET
    told = 1, comment_id = coalesce(comment_id, :comment_id), kind = :kind, root_id = coalesce(:root_id, root_id),
    parent_id = coalesce(parent_id, :parent_id), media_id = coalesce(media_id, :media_id),
    product_type = coalesce(product_type, :product_type),
    original_media_id = coalesce(original_media_id, :original_media_id), ad_id = coalesce(ad_id, :ad_id),
    ad_title = coalesce(ad_title, :ad_title), author_id = coalesce(author_id, :author_id),
    author_username = coalesce(:author_username, author_username), self_id = coalesce(self_id, :self_id),
    is_own = is_own OR :is_own, text = CASE WHEN checked_at IS NULL THEN coalesce(text, :text) ELSE text END,
    commented_at = CASE WHEN told THEN commented_at ELSE :at END, due_at = CASE WHEN told THEN due_at END,
    updated_at = :now
WHERE id = :id
"""
_MOVE_REPLIES: Final = "UPDATE comments SET root_id = :root_id WHERE root_id = :id"
_DERIVE: Final = """
UPDATE comments SET
    last_at = coalesce((SELECT max(t.commented_at) FROM comments AS t WHERE t.root_id = comments.id AND t.told),
        commented_at),
    replies = (SELECT count(*) FROM comments AS t
        WHERE t.root_id = comments.id AND t.id <> comments.id AND t.told AND t.deleted_at IS NULL),
    answered = coalesce((SELECT t.is_own FROM comments AS t
        WHERE t.root_id = comments.id AND t.told AND t.deleted_at IS NULL
        ORDER BY t.commented_at DESC, t.id DESC LIMIT 1), 0)
WHERE id = ?
"""
_SET: Final = """
UPDATE comments SET text = :text, like_count = :like_count, hidden = :hidden, edited_at = :edited_at,
    deleted_at = :deleted_at, checked_at = :checked_at, check_problem = :check_problem,
    due_at = CASE WHEN :check_problem IS NOT NULL THEN due_at END, updated_at = :updated_at
WHERE id = :id
"""
_OF_MATCHES: Final = f"""
SELECT root_id FROM comments WHERE id IN (
    SELECT s.rowid FROM comment_search AS s WHERE comment_search MATCH ? ORDER BY s.rowid DESC LIMIT {MATCHES}
)
"""  # noqa: S608 - a number
_WHERE_STATE: Final = {
    CommentState.VISIBLE: "deleted_at IS NULL AND NOT hidden",
    CommentState.HIDDEN: "deleted_at IS NULL AND hidden",
    CommentState.DELETED: "deleted_at IS NOT NULL",
}
_BEFORE: Final = "(last_at, id) < (?, ?)"


class ThreadFilter(NamedTuple):
    """Which threads. `words` is an FTS5 query."""

    account_id: str | None = None
    media_id: str | None = None
    state: CommentState | None = None
    answered: bool | None = None
    words: str | None = None


class Applied(NamedTuple):
    """A comment that was told of just now."""

    comment: Comment
    is_new: bool
    """False when it was known, with whatever is new of it."""


def apply(connection: sqlite3.Connection, account_id: str, told: Sequence[ToldComment], now: int) -> list[Applied]:
    """Join what is told of comments of an account, in the caller's transaction. `now` in ms."""
    own = _own_names(connection, account_id)
    applied = [_apply(connection, account_id, _owned(one, own), now) for one in told]
    derive(connection, {comment.root_id for comment, _ in applied})
    return [one._replace(comment=_required(connection, one.comment.id)) for one in applied]


def derive(connection: sqlite3.Connection, root_ids: Collection[int]) -> None:
    """Bring up to date what the first comments of these threads say of the threads."""
    connection.executemany(_DERIVE, [(root_id,) for root_id in root_ids])


def get(connection: sqlite3.Connection, comment_id: int) -> Comment | None:
    """The comment with this id of ours."""
    row = connection.execute(_BY_ID, (comment_id,)).fetchone()
    return None if row is None else _comment(row)


def by_key(connection: sqlite3.Connection, account_id: str, key: str) -> Comment | None:
    """The comment of an account by its key, which is Meta's id where there is one."""
    row = connection.execute(_BY_KEY, (account_id, key)).fetchone()
    return None if row is None else _comment(row)


def thread(connection: sqlite3.Connection, root_id: int) -> list[Comment]:
    """The comments of a thread, the earliest first."""
    return [_comment(row) for row in reversed(connection.execute(_THREAD, (root_id,)).fetchall())]


def save(connection: sqlite3.Connection, comment: Comment) -> None:
    """Store what can change about a comment."""
    connection.execute(_SET, msgspec.structs.asdict(comment))


class CommentStore:
    """Reads comments. Every method raises StorageError."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def get(self, comment_id: int) -> Comment | None:
        """The comment with this id of ours."""
        rows = await self._read(_BY_ID, (comment_id,))
        return _comment(rows[0]) if rows else None

    async def thread(self, root_id: int) -> list[Comment]:
        """The comments of a thread, the earliest first."""
        return [_comment(row) for row in reversed(await self._read(_THREAD, (root_id,)))]

    async def paths(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The pages on which these comments stand, by account and key."""
        rows = await self._read(_PLACES, (msgspec.json.encode(keys).decode(),))
        return {(row[0], row[1]): f"/comments/{row[2]}#c{row[3]}" for row in rows}

    async def page(self, wanted: ThreadFilter, before: Place | None, *, limit: int) -> list[Comment]:
        """The first comments of threads, those with the latest comments first."""
        return [_comment(row) for row in await self._read(*page_query(wanted, before, limit))]


def page_query(wanted: ThreadFilter, before: Place | None, limit: int) -> tuple[str, list[object]]:
    """The statement for a page of threads, with its parameters."""
    conditions, values = ["root_id = id"], list[object]()

    def require(condition: str, *given: object) -> None:
        conditions.append(condition)
        values.extend(given)

    index = ""
    if wanted.words is not None:
        require(f"id IN ({_OF_MATCHES})", wanted.words)
    elif wanted.media_id is not None:
        index = " INDEXED BY comments_by_media"
    else:
        index = f" INDEXED BY comments_threads{'' if wanted.account_id is None else '_by_account'}"
    if wanted.account_id is not None:
        require("account_id = ?", wanted.account_id)
    if wanted.media_id is not None:
        require("media_id = ?", wanted.media_id)
    if wanted.state is not None:
        require(_WHERE_STATE[wanted.state])
    if wanted.answered is not None:
        require("answered" if wanted.answered else "NOT answered")
    if before is not None:
        require(_BEFORE, before.at or 0, before.id)
    where, fields = " AND ".join(conditions), ", ".join(_FIELDS)
    sql = f"SELECT {fields} FROM comments{index} WHERE {where} ORDER BY last_at DESC, id DESC LIMIT ?"  # noqa: S608 - constants
    return sql, [*values, limit]


def _apply(connection: sqlite3.Connection, account_id: str, told: ToldComment, now: int) -> Applied:
    known = by_key(connection, account_id, told.key)
    root_id = None if told.parent_id is None else _root_of(connection, account_id, told, now)
    values = {**msgspec.structs.asdict(told), "account_id": account_id, "now": now, "root_id": root_id}
    if (told.parent_id or "").startswith(CAPTION):
        values["parent_id"] = None  # an answer to a caption, which has no id of its own
    if told.media_id is not None:
        media_store.want(connection, account_id, told.media_id, told.kind is CommentKind.MENTION, now)
    if known is None:
        due_at = now if told.kind is CommentKind.MENTION and told.comment_id is not None else None
        ((new_id,),) = connection.execute(_INSERT, {**values, "told": 1, "due_at": due_at}).fetchall()
        if root_id is None:
            connection.execute(_BEGIN_THREAD, (new_id,))
        return Applied(_required(connection, new_id), is_new=True)
    if known.kind is not CommentKind.MENTION or told.kind is CommentKind.MENTION:
        values["kind"] = known.kind
    values["id"] = known.id
    if root_id is not None and root_id != known.root_id:
        connection.execute(_MOVE_REPLIES, {"root_id": root_id, "id": known.id})
    connection.execute(_TELL, values)
    return Applied(_required(connection, known.id), is_new=not known.told)


def _root_of(connection: sqlite3.Connection, account_id: str, told: ToldComment, now: int) -> int:
    """The first comment of the thread in which `told` is a reply. One that is not known gets a place."""
    parent = by_key(connection, account_id, told.parent_id or "")
    if parent is not None:
        return parent.root_id
    values: dict[str, Any] = dict.fromkeys(ToldComment.__struct_fields__)
    values |= {"key": told.parent_id, "comment_id": told.parent_id, "kind": told.kind, "media_id": told.media_id}
    values |= {"product_type": told.product_type, "is_own": False, "at": told.at, "told": 0}
    values |= {"account_id": account_id, "now": now, "root_id": None}
    values["due_at"] = None if told.kind is CommentKind.LIVE_COMMENT else now
    ((new_id,),) = connection.execute(_INSERT, values).fetchall()
    connection.execute(_BEGIN_THREAD, (new_id,))
    return int(new_id)


class _OwnNames(NamedTuple):
    ids: frozenset[str]
    username: str | None


def _own_names(connection: sqlite3.Connection, account_id: str) -> _OwnNames:
    row = connection.execute(_OWN, (account_id,)).fetchone()
    if row is None:
        return _OwnNames(frozenset({account_id}), None)
    return _OwnNames(frozenset(one for one in row[:3] if one is not None), row[3])


def _owned(told: ToldComment, own: _OwnNames) -> ToldComment:
    """The same, with whether the account itself wrote it."""
    named = told.author_username is not None and own.username is not None
    is_own = (
        told.is_own
        or told.self_id is not None
        or told.author_id in own.ids
        or (named and (told.author_username or "").casefold() == (own.username or "").casefold())
    )
    return msgspec.structs.replace(told, is_own=is_own)


def _required(connection: sqlite3.Connection, comment_id: int) -> Comment:
    found = get(connection, comment_id)
    if found is None:  # pragma: no cover - it was stored just now
        msg = f"comment {comment_id} is not there"
        raise AssertionError(msg)
    return found


def _comment(row: Row) -> Comment:
    values = dict(zip(_FIELDS, row, strict=True))
    flags = {name: bool(values[name]) for name in ("told", "is_own", "hidden", "answered")}
    return Comment(**{**values, **flags, "kind": CommentKind(values["kind"])})
