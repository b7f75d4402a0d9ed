"""Finding out whether raw bytes mention somebody: by an id, or by the mid of a message.

Meta names no parties in many items that belong to a message ("message_edit", "read"): only the mid tells whose they
are. Bytes are searched, so that nothing needs to be JSON, or even text, to be found.
"""

import re
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import mid_key

_MID: Final = re.compile(rb'"mid"\s*:\s*"((?:[^"\\]|\\.)*)"')


class MentionScan(NamedTuple):
    """What to search for: ids, and the keys of mids."""

    ids: Collection[bytes]
    mid_keys: Collection[int] = frozenset()

    def mentioned(self, body: bytes) -> bool:
        """Whether `body` mentions one of them."""
        if any(mentions(body, one) for one in self.ids):
            return True
        return bool(self.mid_keys) and any(_key(found) in self.mid_keys for found in _MID.findall(body))


def mentions(body: bytes, name: bytes) -> bool:
    """Whether `name` stands in `body` as a word of its own, not as a part of a longer id."""
    at = body.find(name)
    while at >= 0:
        end = at + len(name)
        if not (body[at - 1 : at].isalnum() or body[end : end + 1].isalnum()):
            return True
        at = body.find(name, at + 1)
    return False


def _key(mid: bytes) -> int | None:
    """The key of a mid as it stands in JSON, or in what was meant to be JSON."""
    try:
        return mid_key(msgspec.json.decode(b'"' + mid + b'"', type=str))
    except (msgspec.DecodeError, UnicodeError):
        return None
