"""What is pushed: events of the log, or Meta's deliveries. Both are read in order, behind a cursor."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

import msgspec

from inboxd.events.envelope import RenderedEvent
from inboxd.events.log import CursorGoneError, EventReader
from inboxd.events.store import EventFilter
from inboxd.forwarding.delivery_store import DeliveryStore, StoredDelivery
from inboxd.forwarding.endpoint import Endpoint
from inboxd.forwarding.signing import signed_headers
from inboxd.meta.signature import HEADER, header_of

PAGE: Final = 200
DELIVERY_TYPE: Final = "delivery"
_DELIVERY_ID: Final = "dlv_{}"
_LOOKED_AT: Final = 100
"""Entries of a delivery that are looked at to find its accounts."""


class Item(NamedTuple):
    """One event or delivery that is to be pushed."""

    seq: int
    id: str
    type: str
    account_id: str
    """Empty when it belongs to none, or to several."""
    lane: str
    """What must stay in order: items of one lane are pushed one after the other."""
    recorded_at: int
    body: bytes
    signature: bytes | None = None
    """Meta's, of a delivery."""


class ItemPage(NamedTuple):
    """Some items, in order, and where to go on."""

    items: Sequence[Item]
    next_cursor: int
    more: bool
    lost: int = 0
    """How many there were before these that are no longer kept, about."""
    is_stale: bool = False
    """Whether what was read before is of no use: the numbers of items were given again."""


class Missing(Enum):
    """Why an item is not pushed that waited for a retry."""

    EXPIRED = "expired"
    """It is no longer kept."""
    UNWANTED = "unwanted"
    """It was erased, or the endpoint was changed and does not want it any more."""


class ItemSource(Protocol):
    """Where the items of an endpoint come from. Its methods may raise StorageError."""

    ordered: bool
    """Whether a lane waits for an item that could not be delivered."""

    async def page(self, after: int, limit: int) -> ItemPage:
        """Up to `limit` items after a cursor."""

    async def one(self, seq: int) -> Item | Missing:
        """One item, or why there is none."""

    def headers(self, item: Item, endpoint: Endpoint, now: int, /) -> Mapping[str, str]:
        """The headers to push an item with at `now` (ms)."""


class EventSource:
    """The events of the log that an endpoint wants."""

    ordered = True

    def __init__(self, reader: EventReader, endpoint: Endpoint) -> None:
        self._reader = reader
        self._only = EventFilter(types=reader.names(endpoint.event_types), account_ids=endpoint.account_ids or None)

    async def page(self, after: int, limit: int) -> ItemPage:
        """Up to `limit` events after a cursor."""
        lost = 0
        try:
            found = await self._reader.page(after, limit=limit, only=self._only)
        except CursorGoneError as error:
            lost = error.lost
            found = await self._reader.page(error.oldest, limit=limit, only=self._only)
        return ItemPage([_item(event) for event in found.events], found.next_cursor, found.more, lost)

    async def one(self, seq: int) -> Item | Missing:
        """One event, or why there is none."""
        try:
            found = await self._reader.page(seq - 1, limit=1, only=self._only)
        except CursorGoneError:
            return Missing.EXPIRED
        return _item(found.events[0]) if found.events and found.events[0].seq == seq else Missing.UNWANTED

    def headers(self, item: Item, endpoint: Endpoint, now: int, /) -> Mapping[str, str]:
        """Signed as Standard Webhooks says."""
        return signed_headers(item.id, item.body, endpoint.secrets_at(now), now)


class DeliverySource:
    """Meta's deliveries. `main_id` gives the main id of an account by any id that Meta uses for it.

    `via` is this daemon's name in the header Via, by which it notices a delivery that comes back.
    """

    ordered = False

    def __init__(self, store: DeliveryStore, endpoint: Endpoint, main_id: Callable[[str], str], via: str) -> None:
        self._store = store
        self._endpoint = endpoint
        self._accounts = frozenset(endpoint.account_ids)
        self._main_id = main_id
        self._via = {"Via": f"1.1 {via}"} if via else {}

    async def page(self, after: int, limit: int) -> ItemPage:
        """Up to `limit` deliveries after a cursor; fewer, or none, when others are in between."""
        found = await self._store.page(self._endpoint.id, after, limit)
        if found.generation != self._endpoint.generation:
            return ItemPage((), after, more=False, is_stale=True)
        items = [item for item in map(self._item, found.deliveries) if item is not None]
        next_cursor = found.deliveries[-1].id if found.deliveries else after
        return ItemPage(items, next_cursor, next_cursor < found.newest, found.lost)

    async def one(self, seq: int) -> Item | Missing:
        """One delivery, or why there is none. One that was erased counts as expired."""
        found = await self._store.page(self._endpoint.id, seq - 1, 1)
        if not found.deliveries or found.deliveries[0].id != seq:
            return Missing.EXPIRED
        return self._item(found.deliveries[0]) or Missing.UNWANTED

    def headers(self, item: Item, _endpoint: Endpoint, _now: int, /) -> Mapping[str, str]:
        """Meta's own signature, so that the receiver checks it as if Meta had sent it."""
        return self._via if item.signature is None else {HEADER: header_of(item.signature), **self._via}

    def _item(self, delivery: StoredDelivery) -> Item | None:
        named = {self._main_id(one) for one in _accounts_of(delivery.body)}
        if self._accounts and not named & self._accounts:
            return None
        account_id = next(iter(named)) if len(named) == 1 else ""
        about = (_DELIVERY_ID.format(delivery.id), DELIVERY_TYPE, account_id, account_id)
        return Item(delivery.id, *about, delivery.received_at, delivery.body, delivery.signature)


class _Entry(msgspec.Struct):
    id: str | int = ""


class _Delivery(msgspec.Struct):
    entry: list[_Entry] = msgspec.field(default_factory=list)


_decode: Final = msgspec.json.Decoder(_Delivery).decode
_decode_wrapped: Final = msgspec.json.Decoder(list[_Delivery]).decode


def _accounts_of(body: bytes) -> set[str]:
    """The ids of the entries of a delivery; none when it cannot be read."""
    try:
        deliveries = _decode_wrapped(body) if body.lstrip()[:1] == b"[" else [_decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return set()
    entries = [entry for one in deliveries for entry in one.entry]
    return {str(entry.id) for entry in entries[:_LOOKED_AT] if entry.id}


def _item(event: RenderedEvent) -> Item:
    lane = _lane(event.conversation_id, event.account_id, event.type)
    return Item(event.seq, event.id, event.type, event.account_id, lane, event.recorded_at, event.body)


def _lane(conversation_id: int | None, account_id: str, kind: str) -> str:
    if conversation_id is not None:
        return f"c{conversation_id}"
    return f"{account_id}/{kind.partition('.')[0]}"
