"""Conversations as users send them: to register known ones, and to change one."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from inboxd.domain.conversation import ConversationKey, ConversationStatus
from inboxd.domain.payload import PayloadForm, shown
from inboxd.http.resource import MetaId, Resource

MAX_METADATA: Final = 65_536
Metadata = Annotated[
    dict[str, Any], Meta(max_length=100, description="At most 64 KiB of JSON, and not nested deeper than 50.")
]


class NewConversation(Resource, frozen=True, forbid_unknown_fields=True):
    """A conversation that is known from another system."""

    client_account_id: MetaId
    participant_platform_id: MetaId
    platform_conversation_id: Annotated[str, Meta(max_length=1024)] | None = None
    participant_username: Annotated[str, Meta(pattern=r"^\S(.*\S)?$(?!\n)", max_length=200)] | None = None
    participant_profile_pic: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    unread_count: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    status: ConversationStatus = ConversationStatus.OPEN
    metadata: Metadata = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_metadata(self.metadata)

    @property
    def key(self) -> ConversationKey:
        """The natural key of the conversation."""
        return ConversationKey(self.client_account_id, self.participant_platform_id)


_IMPORT_FIELDS: Final = {
    name: field.encode_name
    for field in msgspec.structs.fields(NewConversation)
    for name in (field.name, field.encode_name)
}
IMPORT_REQUIRED: Final = tuple(field.encode_name for field in msgspec.structs.fields(NewConversation) if field.required)


def import_fields(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The members of `row` that are fields of a NewConversation, by their camelCase names, and the names of the others.

    `row` may have the fields in camelCase or snake_case.
    """
    known = {_IMPORT_FIELDS[name]: value for name, value in row.items() if name in _IMPORT_FIELDS}
    return known, [name for name in row if name not in _IMPORT_FIELDS]


class NewImport(Resource, frozen=True, forbid_unknown_fields=True):
    """Conversations that are known from another system; each with the fields of a single one, also in snake_case."""

    conversations: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1000)]


class ImportProblem(Resource, frozen=True):
    """A conversation that was left out; `row` counts from 1."""

    row: int
    error: str


class ImportReport(Resource, frozen=True):
    """What came of an import."""

    imported: int
    errors: list[ImportProblem]
    ignored: list[str]
    """Members that no conversation has: they were left out, wherever they stood."""

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            imported=41,
            errors=[ImportProblem(row=7, error="Expected `str` of length <= 200 - at `$.participantUsername`")],
            ignored=["phone"],
        )


class ConversationChange(Resource, frozen=True, forbid_unknown_fields=True):
    """What to change about a conversation; what is left out stays."""

    status: ConversationStatus | None = None
    metadata: Metadata | None = None

    def __post_init__(self) -> None:
        if self.metadata is not None:
            _check_metadata(self.metadata)


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Check metadata that would be in every list. Raises ValueError, from which msgspec makes a ValidationError."""
    try:
        encoded = msgspec.json.encode(metadata)
    except RecursionError:
        encoded = b""
    if shown(encoded).form is not PayloadForm.JSON:
        msg = "'metadata' is nested too deeply"
        raise ValueError(msg)
    if len(encoded) > MAX_METADATA:
        msg = f"'metadata' is larger than {MAX_METADATA} bytes of JSON"
        raise ValueError(msg)
