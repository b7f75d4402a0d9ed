"""Events: what a feature appends to the event log, what is kept of it, and how each type of event is shown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

EVERY_TYPE: Final = "*"


class NewEvent(NamedTuple):
    """An event to append. `data` is JSON that the renderer of its type reads.

    When the log holds ids only (`EventLog.ids_only`), `data` must have no text and no name.
    """

    type: str
    account_id: str
    """The main id of the account. Empty when the event belongs to no account."""
    occurred_at: int
    """When it happened (ms): Meta's time where Meta tells one."""
    data: bytes
    participant_id: str | None = None
    conversation_id: int | None = None
    message_id: int | None = None
    subject: str | None = None
    """The id of anything else that it is about, by which readers may filter: a run, a delivery, a comment."""


class StoredEvent(NamedTuple):
    """An event as it is kept. Times in ms."""

    seq: int
    """The sequence number, which is also the cursor."""
    type: str
    account_id: str
    participant_id: str | None
    conversation_id: int | None
    message_id: int | None
    subject: str | None
    occurred_at: int
    recorded_at: int
    data: bytes

    @property
    def id(self) -> str:
        """The stable id, the same for every reader: `evt_`, the time of recording, and the sequence number (hex)."""
        return f"evt_{self.recorded_at:012x}{self.seq:014x}"


def stored_as_shown(event: StoredEvent) -> msgspec.Raw:
    """The data of a type that is stored as it is shown."""
    return msgspec.Raw(event.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One type of event. The list in docs/events.md and the JSON schemas are made from these."""

    name: str
    """`object.verb`, such as `message.received`."""
    summary: str
    """What happened, in one sentence."""
    data: type[msgspec.Struct]
    """The type of the member `data`."""
    example: msgspec.Struct
    render: Callable[[StoredEvent], msgspec.Struct | msgspec.Raw] = stored_as_shown
    """The member `data` of a stored event."""


def matching(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """The names of types that match any of `patterns`: a name, `message.*` for all that begin so, or `*`."""
    return [name for name in names if any(_matches(pattern, name) for pattern in patterns)]


def _matches(pattern: str, name: str) -> bool:
    if pattern == EVERY_TYPE:
        return True
    return name.startswith(pattern[:-1]) if pattern.endswith(".*") else name == pattern
