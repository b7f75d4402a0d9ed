"""Parses JSON from Meta, and checks single values of it.

Later code may rely on every value that these functions return. An invalid value becomes None; the caller decides
whether the answer is usable without it.
"""

import json
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

MAX_ADDRESS: Final = 4096
MAX_ID: Final = 32
_MAX_DIGITS: Final = 40


class NotJsonError(ValueError):
    """The bytes are not JSON, or JSON that is nested too deeply to parse."""


def parsed(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """The JSON in `body`. Invalid UTF-8 and lone surrogates make only the text that contains them unusable.

    Raises NotJsonError.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"), parse_int=_int)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON: {type(error).__name__}"
        raise NotJsonError(msg) from error


def text(value: object, longest: int) -> str | None:
    """A text of at most `longest` characters, with blanks for control characters. None when it is longer or blank."""
    if not isinstance(value, str) or len(value) > longest or not _encodable(value):
        return None
    kept = "".join(letter if letter.isprintable() or ord(letter) > 0x9F else " " for letter in value)
    return kept.strip() or None


def word(value: object, longest: int) -> str | None:
    """A text of at most `longest` characters, all printable; None otherwise. Outer blanks are removed."""
    found = value.strip() if isinstance(value, str) and len(value) <= longest else ""
    return found if found and found.isprintable() else None


def whole(value: object, most: int) -> int | None:
    """A whole number from 0 to `most`. It may also be written as text, or with a fraction of zero."""
    if isinstance(value, str):
        value = _int(value) if value.isascii() and value.isdigit() else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= most else None


def flag(value: object) -> bool | None:
    """True or False; None for other values."""
    return value if isinstance(value, bool) else None


def identifier(value: object) -> str | None:
    """An id from Meta: digits, written as text or as a number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**MAX_ID:
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isascii() and value.isdigit():
        return value
    return None


def address(value: object) -> str | None:
    """An http or https URL with a host."""
    found = word(value, MAX_ADDRESS)
    if found is None or any(letter.isspace() for letter in found):
        return None
    try:
        parts = urlsplit(found)
        return found if parts.scheme in {"http", "https"} and parts.hostname else None
    except ValueError:  # as with http://[
        return None


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _int(digits: str) -> int | None:
    """The number, or None when it has too many digits: Python raises an error for thousands of digits."""
    return int(digits) if len(digits) <= _MAX_DIGITS else None
