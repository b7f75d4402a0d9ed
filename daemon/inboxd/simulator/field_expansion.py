"""Parses the parameter `fields` of the Graph API: `id,messages.limit(20).after(MA){id,from}`."""

import re
from typing import Final, NamedTuple, Self

_TOKEN: Final = re.compile(r"\s*(?:([A-Za-z_]+)|\.([a-z_]+)\(([^(){}]*)\)|([{},]))\s*")
_DEEPEST: Final = 10


class Field(NamedTuple):
    """A requested field: its modifiers, and the fields of what is in it."""

    modifiers: dict[str, str]
    inner: "Fields"


class Fields(dict[str, Field]):
    """Requested fields by name."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The requested fields. Raises ValueError when `text` is none."""
        found = cls()
        open_fields: list[Fields] = [found]
        latest: Field | None = None
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                msg = f"Syntax error at character {at}"
                raise ValueError(msg)
            at = match.end()
            name, modifier, argument, sign = match.groups()
            if name:
                latest = Field({}, Fields())
                open_fields[-1][name] = latest
            elif modifier and latest is not None:
                latest.modifiers[modifier] = argument
            elif sign == "{" and latest is not None and len(open_fields) < _DEEPEST:
                open_fields.append(latest.inner)
                latest = None
            elif sign == "}" and len(open_fields) > 1:
                open_fields.pop()
                latest = None
            elif sign == ",":
                latest = None
            else:
                msg = f"Unexpected token at character {at}"
                raise ValueError(msg)
        if len(open_fields) > 1:
            msg = "Unexpected end of string"
            raise ValueError(msg)
        return found
