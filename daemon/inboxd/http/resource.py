"""The base of all resources of the API: names in camelCase, times in ISO 8601 and UTC."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from inboxd.runtime.clock import iso_utc

EXAMPLE_ACCOUNT: Final = "17841400000000001"
EXAMPLE_PARTICIPANT: Final = "7000000000000001"
EXAMPLE_AVATAR: Final = "/avatars/3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea"


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A JSON object that the API returns.

    What an operation answers also has a class method `example`: a realistic instance of it, for the documentation.
    """


def iso(ms: int | None) -> str | None:
    """Milliseconds since the epoch as ISO 8601 in UTC; None stays None."""
    return None if ms is None else iso_utc(ms)


MetaId = Annotated[str, Meta(pattern=r"^[0-9]{1,32}$(?!\n)")]
"""Python's `$` also matches before a line feed at the end, JSON Schema's does not: with `(?!\\n)` they agree."""


def avatar_path(name: str | None) -> str | None:
    """The path of an avatar on the admin listener."""
    return None if name is None else f"/avatars/{name}"
