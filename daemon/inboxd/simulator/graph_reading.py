"""What every read of the Graph API has in common: requested fields, pages and times."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.errors import refused
from inboxd.simulator.field_expansion import Fields
from inboxd.simulator.payloads import Item

_DEFAULT_LIMIT: Final = 25


def parsed(text: str) -> Fields:
    """The requested fields. Raises RefusedError."""
    try:
        return Fields.parse(text)
    except ValueError as error:
        raise refused(2500, str(error)) from error


def require_known(fields: Fields, known: frozenset[str]) -> None:
    """Refuse fields that there are not."""
    unknown = fields.keys() - known
    if unknown:
        raise refused(100, f"Tried accessing nonexisting field ({min(unknown)})")


def page(
    listed: Sequence[Any], asked: Mapping[str, str], request: web.Request, behaviour: Behaviour, most: int = 10**6
) -> Item:
    """A page of `listed` with its cursors. `asked` has `limit`, `after` and `before`; `most` is the largest limit."""
    limit = _number(asked.get("limit"), _DEFAULT_LIMIT)
    if 0 < behaviour.most_listed < limit:
        message = "Please reduce the amount of data you're asking for, then retry your request"
        raise refused(1, message, status=500)
    limit = min(limit, most)
    start, empty = _position(asked.get("after"))
    if asked.get("before"):
        end, _ = _position(asked["before"])
        start, empty = max(0, end - limit), False
    end = start if empty else min(start + limit, len(listed))
    if not listed[start:end] and not empty:
        return {"data": []}
    more = end < len(listed)
    after = _cursor(end, empty=behaviour.empty_pages and not empty and more)
    paging: Item = {"cursors": {"before": _cursor(start), "after": after}}
    if more:
        paging["next"] = str(request.url.update_query(after=after))
    return {"data": list(listed[start:end]), "paging": paging}


def time_of(at_ms: int, behaviour: Behaviour) -> str | int:
    """A time (ms since the epoch) as Meta writes it."""
    if behaviour.unix_times:
        return at_ms // 1000
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _number(text: str | None, otherwise: int) -> int:
    return max(1, int(text)) if text is not None and text.isdigit() else otherwise


def _cursor(position: int, *, empty: bool = False) -> str:
    return base64.urlsafe_b64encode(f"{'empty' if empty else 'at'}:{position}".encode()).decode().rstrip("=")


def _position(cursor: str | None) -> tuple[int, bool]:
    """Where a page begins, and whether it is an empty one."""
    if not cursor:
        return 0, False
    try:
        kind, _, text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        return int(text), kind == "empty"
    except (ValueError, binascii.Error, UnicodeDecodeError) as error:
        raise refused(100, "Invalid cursors values") from error
