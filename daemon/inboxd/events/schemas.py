"""Examples and JSON schemas of events, one for each type: for the OpenAPI document, docs/events.md and samples."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from inboxd.domain.event import EventType, StoredEvent
from inboxd.events.envelope import Envelope

ANY_EVENT: Final = "Event"
"""The name of the schema of all events: one of the types, told apart by the member `type`."""
REF: Final = "#/components/schemas/{name}"
_ACCOUNT: Final = "17841400000000001"
_AT: Final = 1_767_225_600_000
"""2026-01-01T00:00:00.000Z."""
_DELAY_MS: Final = 420


def example(kind: EventType, *, account_id: str = _ACCOUNT, at: int = _AT, seq: int = 4711) -> Envelope:
    """An event of this type, as a reader gets it. It happened at `at` (ms)."""
    stored = StoredEvent(seq, kind.name, account_id, None, None, None, None, at, at + _DELAY_MS, b"")
    return Envelope.of(stored, msgspec.Raw(msgspec.json.encode(kind.example)))


def schemas(types: Iterable[EventType]) -> dict[str, Any]:
    """The schemas by their names: one for each type, those that they refer to, and ANY_EVENT."""
    kinds = sorted(types, key=lambda kind: kind.name)
    data = dict.fromkeys(kind.data for kind in kinds)
    refs, components = msgspec.json.schema_components([Envelope, *data], ref_template=REF)
    envelope = components.pop(Envelope.__name__)
    ref_of = dict(zip(data, refs[1:], strict=True))
    names = {kind.name: schema_name(kind.name) for kind in kinds}
    for kind in kinds:
        components[names[kind.name]] = _schema(kind, envelope, ref_of[kind.data])
    refs_by_type = {kind: REF.format(name=name) for kind, name in names.items()}
    components[ANY_EVENT] = {
        "title": ANY_EVENT,
        "description": "An event. Members and types that you do not know may be added: ignore them.",
        "oneOf": [{"$ref": ref} for ref in refs_by_type.values()],
        "discriminator": {"propertyName": "type", "mapping": refs_by_type},
    }
    return components


def schema_name(kind: str) -> str:
    """The name of a type's schema: `MessageReactionAddedEvent` for `message.reaction_added`."""
    return "".join(part.capitalize() for part in kind.replace(".", "_").split("_")) + "Event"


def _schema(kind: EventType, envelope: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    constant = {"type": "string", "const": kind.name}
    return {
        "title": schema_name(kind.name),
        "description": kind.summary,
        "type": "object",
        "properties": {**envelope["properties"], "type": constant, "data": data},
        "required": envelope["required"],
        "examples": [msgspec.json.decode(msgspec.json.encode(example(kind)))],
    }
