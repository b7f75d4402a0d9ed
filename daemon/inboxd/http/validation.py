"""What is wrong with a request, in words: msgspec speaks of Python's types."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import inspect

_PATTERNS: Final = {
    r"^[0-9]{1,32}$(?!\n)": "the id of an account or a person, a string of digits",
    r"^[0-9]{1,18}$(?!\n)": "a string of digits",
    r"^([0-9]{1,18}|latest)$(?!\n)": "`nextCursor` of an earlier answer, which is a number, or `latest`",
}
"""The patterns that clients often miss, in words."""
_TYPES: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "text",
}
_TYPE: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_NO_VALUE: Final = re.compile(r"Invalid enum value ('.*')", re.DOTALL)
_NO_MEMBER: Final = "Object contains unknown field"
_STEP: Final = re.compile(r"\.([A-Za-z0-9_]+)|\[\d+\]")
_MOST: Final = 30
"""More values or members than so many are not listed."""


def in_words(error: msgspec.ValidationError, kind: Any) -> str:  # noqa: ANN401 - a type
    """The member that is wrong with a value that is to be a `kind`, and what it must be; without a full stop."""
    text, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`")
    for pattern, words in _PATTERNS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    found = _NO_VALUE.fullmatch(text)
    if found and (values := _listed(_values(one) for one in _at(kind, path))):
        text = f"Expected {' or '.join(map(repr, values))}, got {found[1]}"
    elif text.startswith(_NO_MEMBER) and (names := _listed(_members(one) for one in _at(kind, path))):
        text = f"{text}; known are: {', '.join(sorted(names))}"
    text, where = _TYPE.sub(_typed, text), path.lstrip(".")
    return f"'{where}': {text}" if where else text


def _typed(found: "re.Match[str]") -> str:
    names = found[1].split(" | ")
    return " or ".join(_TYPES[name] for name in names) if _TYPES.keys() >= set(names) else found[0]


def _listed(found: Iterable[list[str]]) -> list[str]:
    names = list(dict.fromkeys(name for some in found for name in some))
    return names if len(names) <= _MOST else []


def _values(kind: inspect.Type) -> list[str]:
    return [str(one.value) for one in kind.cls] if isinstance(kind, inspect.EnumType) else []


def _members(kind: inspect.Type) -> list[str]:
    return [one.encode_name for one in kind.fields] if isinstance(kind, inspect.StructType) else []


def _at(kind: Any, path: str) -> list[inspect.Type]:  # noqa: ANN401 - a type
    """The types that may stand at a path such as `.attachments[0].type`."""
    found = _plain(inspect.type_info(kind))
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
