"""Makes bytes from outside safe to show: as one valid value of a JSON document, or as text of limited length."""

import re
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

MAX_DEPTH: Final = 50
"""The greatest nesting of a payload shown as JSON. Some decoders fail at 64, and the payload is inside a document."""
MAX_INDENT: Final = 2 * MAX_DEPTH
MAX_DIGITS: Final = 300
"""A longer number is out of range for every decoder."""

_TOKEN: Final = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*+"?)"""
    r"""|(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)|(?P<colon>:)|(?P<space>\s+)"""
    r"""|(?P<rest>[^\s"\[\]{},:]+)""",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_NOT_A_NUMBER: Final = frozenset({"NaN", "Infinity", "-Infinity"})


class PayloadForm(StrEnum):
    """How a payload is shown."""

    JSON = "json"
    """As JSON, unchanged."""
    MENDED = "mended"
    """As JSON in which invalid parts were replaced: bytes and lone surrogates by U+FFFD, numbers by null."""
    TEXT = "text"
    """As a string: it is not JSON, or it is nested too deeply."""
    OMITTED = "omitted"
    """Not shown: it is too large."""


class ShownPayload(NamedTuple):
    """A payload as one value of a JSON document. `json` is valid, UTF-8, and nested at most MAX_DEPTH deep."""

    form: PayloadForm
    json: bytes


OMITTED: Final = ShownPayload(PayloadForm.OMITTED, b"null")


def shown(payload: bytes) -> ShownPayload:
    """The payload as a value that every strict JSON decoder accepts. Takes time and memory linear in its size."""
    if _is_strict(payload):
        return ShownPayload(PayloadForm.JSON, payload)
    text = payload.decode("utf-8", "replace")
    mended = _mended(text).encode()
    if _is_strict(mended):
        return ShownPayload(PayloadForm.MENDED, mended)
    return ShownPayload(PayloadForm.TEXT, msgspec.json.encode(text))


def is_shallow(value: object) -> bool:
    """Whether decoded JSON is nested at most MAX_DEPTH deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return True
    return False


def readable(data: bytes, *, limit: int) -> str:
    """At most `limit` characters for a person: JSON, or its beginning, is indented; anything else stays as it is."""
    text = data.decode("utf-8", "backslashreplace")
    return (_indented(text, limit) or text)[:limit]


def _is_strict(payload: bytes) -> bool:
    try:
        msgspec.json.decode(payload)  # refuses invalid UTF-8, NaN, lone surrogates, numbers out of range
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH or _depth(payload.decode()) <= MAX_DEPTH


def _depth(text: str) -> int:
    deepest = depth = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "open":
            depth += 1
            deepest = max(deepest, depth)
        elif token.lastgroup == "close":
            depth -= 1
    return deepest


def _mended(text: str) -> str:
    return _TOKEN.sub(_mended_token, text)


def _mended_token(token: re.Match[str]) -> str:
    text = token[0]
    if token.lastgroup == "string":
        return _ESCAPE.sub(lambda escape: r"\ufffd" if escape["half"] else escape[0], text)
    if token.lastgroup == "rest" and (text in _NOT_A_NUMBER or _is_endless(text)):
        return "null"
    return text


def _is_endless(text: str) -> bool:
    """Whether the text is a number that is out of range."""
    if not text.lstrip("-")[:1].isdigit():
        return False
    try:
        return len(text) > MAX_DIGITS or float(text) in {float("inf"), float("-inf")}
    except ValueError:
        return False


def _indented(text: str, limit: int) -> str | None:
    """About the first `limit` characters of indented JSON. None when it is not JSON, or is nested too deeply."""
    if text.lstrip()[:1] not in {"[", "{"}:
        return None
    parts: list[str] = []
    depth = length = 0
    fresh = False  # directly after an opening bracket
    for token in _TOKEN.finditer(text):
        kind, piece = token.lastgroup, token[0]
        if kind == "space":
            continue
        if kind == "open":
            depth += 1
            if depth > MAX_DEPTH:
                return None
        elif kind == "close":
            depth = max(0, depth - 1)
        piece = _laid_out(kind, piece, depth, fresh=fresh)
        fresh = kind == "open"
        parts.append(piece)
        length += len(piece)
        if length > limit:
            break
    return "".join(parts)


def _laid_out(kind: str | None, piece: str, depth: int, *, fresh: bool) -> str:
    line = "\n" + " " * min(2 * depth, MAX_INDENT)
    match kind:
        case "comma":
            return piece + line
        case "colon":
            return piece + " "
        case "close":
            return piece if fresh else line + piece
    if not fresh:
        return piece
    return line.removesuffix("  ") + piece if kind == "open" else line + piece
