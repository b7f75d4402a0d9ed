"""Splits a JSON text that cannot be decoded as a whole into parts.

A NaN, a broken escape or a thousand nested brackets in one item make the whole body undecodable. This module finds the
elements of arrays and the members of objects only by their brackets. It does not recurse and does not decode what is
inside, so each part can be decoded, or kept, separately.
"""

import json
import re
from typing import Final

# A string without an end extends to the end of the text: to search for its end from each quote would take hours.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{},:]', re.DOTALL)
_BRACKET: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{}]', re.DOTALL)
MAX_PARTS: Final = 100_000
"""Most members of one object, or half the elements of one array. A larger one is not split."""
_OPENING: Final = frozenset((b"[", b"{"))
_CLOSING: Final = frozenset((b"]", b"}"))
_SEPARATORS: Final = frozenset((b",", b":"))


def entries_of(body: bytes) -> list[tuple[str, bytes]] | None:
    """Each entry of a webhook payload, with the payload's `object`; None when the body is not a payload.

    A payload may be wrapped in an array.
    """
    payloads = [body] if body.lstrip()[:1] == b"{" else elements(body)
    if not payloads:
        return None
    found: list[tuple[str, bytes]] = []
    for payload in payloads:
        parts = members(payload)
        name = None if parts is None else _text(parts.get("object", b""))
        entries = None if parts is None else elements(parts.get("entry", b""))
        if name is None or entries is None:
            return None
        found += [(name, entry) for entry in entries]
    return found


def elements(text: bytes) -> list[bytes] | None:
    """The elements of an array, each as its unchanged text; None when `text` is not one array."""
    pieces = _pieces(text, b"[", b"]")
    return None if pieces is None else [piece.strip() for piece, _ in pieces]


def members(text: bytes) -> dict[str, bytes] | None:
    """The values of an object by name, each as its unchanged text; None when `text` is not one object."""
    pieces = _pieces(text, b"{", b"}")
    if pieces is None:
        return None
    found: dict[str, bytes] = {}
    for piece, colon in pieces:
        name = None if colon is None else _text(piece[:colon])
        if name is None or colon is None:
            return None
        found[name] = piece[colon + 1 :].strip()
    return found


def require_shallow(text: bytes, *, levels: int, brackets: int) -> None:
    """Raise ValueError when `text` is nested deeper than `levels` or has more pairs of brackets than `brackets`."""
    depth = 0
    for number, match in enumerate(_BRACKET.finditer(text)):
        depth += (match[0] in _OPENING) - (match[0] in _CLOSING)
        if depth > levels:
            msg = f"nested deeper than {levels} levels"
            raise ValueError(msg)
        if number > 2 * brackets:
            msg = f"more than {brackets} lists and objects"
            raise ValueError(msg)


def _pieces(text: bytes, opening: bytes, closing: bytes) -> list[tuple[bytes, int | None]] | None:
    """The texts between the commas of the outermost bracket, each with the position of its first colon.

    None when `text` is not one such bracket, or has more than MAX_PARTS members or twice as many elements.
    """
    text = text.strip()
    if text[:1] != opening or text[-1:] != closing:
        return None
    marks = _marks(text)
    if marks is None:
        return None
    found: list[tuple[bytes, int | None]] = []
    start, colon = 1, None
    for mark, at in [*marks, (b",", len(text) - 1)]:
        if mark == b",":
            found.append((text[start:at], colon))
            start, colon = at + 1, None
        elif colon is None:
            colon = at - start
    if len(found) == 1 and not found[0][0].strip():
        return []
    return found if all(piece.strip() for piece, _ in found) else None


def _marks(text: bytes) -> list[tuple[bytes, int]] | None:
    """The commas and colons directly inside the outermost bracket; None when it does not end where `text` ends."""
    found: list[tuple[bytes, int]] = []
    depth = 0
    for match in _TOKEN.finditer(text):
        token, at = match[0], match.start()
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth -= 1
            if depth == 0:
                return found if at == len(text) - 1 else None
        elif depth == 1 and token in _SEPARATORS:
            found.append((token, at))
            if len(found) > 2 * MAX_PARTS:
                return None
    return None


def _text(text: bytes) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None
