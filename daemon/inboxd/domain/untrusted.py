"""Reads members of JSON from outside, which may have any type and any size."""

from collections.abc import Mapping
from typing import Any, Final

MAX_ID: Final = 200
"""Characters. Meta's ids of comments, media, apps and people are much shorter."""
_EXACT: Final = 2**53
_LARGEST_ID: Final = 10**40


def object_of(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member as an object; an empty one when it is none."""
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}


def text_of(value: Mapping[str, Any], name: str, longest: int) -> str | None:
    """A member as text: a whole number is one too. Text that is cut would name something else, so it is left out."""
    member = value.get(name)
    if isinstance(member, float) and member.is_integer() and abs(member) < _EXACT:
        member = int(member)
    if isinstance(member, int) and not isinstance(member, bool) and abs(member) < _LARGEST_ID:
        member = str(member)
    return member if isinstance(member, str) and member.strip() and len(member) <= longest else None


def id_of(value: Mapping[str, Any], name: str) -> str | None:
    """A member as an id: text without spaces and control characters."""
    text = text_of(value, name, MAX_ID)
    return text if text is not None and text.isprintable() and " " not in text else None
