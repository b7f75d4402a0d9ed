"""The parts of a JSON text that cannot be decoded as a whole.

One NaN, one broken escape or a thousand brackets in one item make the whole body undecodable. Here the elements of its
arrays and the members of its objects are found by their brackets alone: without recursion, and without a look at what
is inside, so that each can be decoded, or kept, by itself.
"""

import json
import re
from typing import Final

# A string that never ends is one until the end of the text: to look for an end from each quote in it would take hours.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{},:]', re.DOTALL)
_BRACKET: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{}]', re.DOTALL)
MAX_PARTS: Final = 100_000
"""Members of one object, or half the elements of one array: what has more holds nothing that anybody could use."""
_OPENING: Final = frozenset((b"[", b"{"))
_CLOSING: Final = frozenset((b"]", b"}"))
_SEPARATORS: Final = frozenset((b",", b":"))


def entries_of(body: bytes) -> list[tuple[str, bytes]] | None:
    """Each entry of a webhook payload with the payload's `object`; None when the body is no payload at all.

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
    """The elements of an array, each as it stands; None when `text` is not one array."""
    pieces = _pieces(text, b"[", b"]")
    return None if pieces is None else [piece.strip() for piece, _ in pieces]


def members(text: bytes) -> dict[str, bytes] | None:
    """The values of an object by their names, each as it stands; None when `text` is not one object."""
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
    """Raise ValueError when `text` is nested deeper than `levels` or has more than so many pairs of brackets."""
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
    """What stands between the commas of the outermost bracket, and where in it the first colon is.

    None when `text` is not one such bracket, or has more than MAX_PARTS parts.
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
    """Commas and colons inside the outermost bracket only; None when it does not end where `text` does."""
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
