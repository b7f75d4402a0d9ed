"""What is wrong with a request, in words: msgspec speaks of Python's types."""

import re
from enum import Enum
from typing import Any, Final, get_args, get_type_hints

import msgspec

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
_NO_MEMBER: Final = re.compile(r"Invalid enum value ('.*')", re.DOTALL)


def in_words(error: msgspec.ValidationError, kind: Any) -> str:  # noqa: ANN401 - a type
    """The member that is wrong with a value that is to be a `kind`, and what it must be; without a full stop."""
    text, _, where = str(error).partition(" - at `$")
    where = where.removesuffix("`").lstrip(".")
    for pattern, words in _PATTERNS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    found = _NO_MEMBER.fullmatch(text)
    allowed = _members(kind, where) if found else []
    if found and allowed:
        text = f"Expected {' or '.join(map(repr, allowed))}, got {found[1]}"
    text = _TYPE.sub(_typed, text)
    return f"'{where}': {text}" if where else text


def _typed(found: "re.Match[str]") -> str:
    names = found[1].split(" | ")
    return " or ".join(_TYPES[name] for name in names) if _TYPES.keys() >= set(names) else found[0]


def _members(kind: Any, where: str) -> list[str]:  # noqa: ANN401 - a type
    """What the member with the name `where` may be, if that is an enum."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return []
    for field in msgspec.structs.fields(kind):
        if field.encode_name == where:
            hint = get_type_hints(kind)[field.name]
            enums = [one for one in (hint, *get_args(hint)) if isinstance(one, type) and issubclass(one, Enum)]
            return [str(member.value) for enum in enums for member in enum]
    return []
