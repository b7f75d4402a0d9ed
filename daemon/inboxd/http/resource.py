"""What all resources of the API have in common: camelCase on the wire, ISO 8601 in UTC."""

from typing import Annotated

import msgspec
from msgspec import Meta

from inboxd.runtime.clock import iso_utc


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something the API gives out."""


def iso(ms: int | None) -> str | None:
    """Milliseconds since the epoch as ISO 8601, or None."""
    return None if ms is None else iso_utc(ms)


MetaId = Annotated[str, Meta(pattern=r"^[0-9]{1,32}$(?!\n)")]
"""Python's `$` also matches before a line feed at the end, JSON Schema's does not: with `(?!\\n)` they agree."""


def avatar_path(name: str | None) -> str | None:
    """Where an avatar is to be had on the admin listener."""
    return None if name is None else f"/avatars/{name}"
