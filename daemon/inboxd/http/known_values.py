"""What a validation error leaves out: which values, or which members, are known."""

import re
from typing import Any, Final

import msgspec
from msgspec import inspect

_WHERE: Final = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.([A-Za-z0-9_]+)|\[\d+\]")
_MOST: Final = 30
"""More than so many are not listed."""


def known(error: msgspec.ValidationError, kind: Any) -> str:  # noqa: ANN401 - a type
    """The values of an enumeration, or the members of an object, to be put behind the error; empty for other errors."""
    match = _WHERE.match(str(error))
    if match is None:
        return ""
    text, path = match[1], match[2] or ""
    if not text.startswith(("Invalid enum value", "Object contains unknown field")):
        return ""
    names = [name for one in _at(inspect.type_info(kind), path) for name in _names(one, text.startswith("Invalid"))]
    return f"; known are: {', '.join(sorted(names))}" if names and len(names) <= _MOST else ""


def _at(kind: inspect.Type, path: str) -> list[inspect.Type]:
    """The types that may stand at a path such as `.attachments[0].type`."""
    found = _plain(kind)
    for step in _STEP.finditer(path):
        found = [inner for one in found for inner in _inside(one, step[1])]
    return found


def _inside(kind: inspect.Type, name: str | None) -> list[inspect.Type]:
    if name is None:
        return _plain(kind.item_type) if isinstance(kind, inspect.CollectionType) else []
    if not isinstance(kind, inspect.StructType):
        return []
    return [inner for one in kind.fields if one.encode_name == name for inner in _plain(one.type)]


def _plain(kind: inspect.Type) -> list[inspect.Type]:
    """The types in a union, without what describes them."""
    if isinstance(kind, inspect.Metadata):
        return _plain(kind.type)
    return [inner for one in kind.types for inner in _plain(one)] if isinstance(kind, inspect.UnionType) else [kind]


def _names(kind: inspect.Type, of_enum: bool) -> list[str]:  # noqa: FBT001 - private
    if of_enum:
        return [str(one.value) for one in kind.cls] if isinstance(kind, inspect.EnumType) else []
    return [one.encode_name for one in kind.fields] if isinstance(kind, inspect.StructType) else []
