"""Texts as they are compared: Meta may show a text in another form than it was sent in."""

import html
import unicodedata


def plain(text: str | None) -> str:
    """A text without regard to blanks, to how letters are composed, to characters that are not seen, and to escapes."""
    seen = "".join(one for one in html.unescape(text or "") if not _is_unseen(one))
    return " ".join(unicodedata.normalize("NFKC", seen).split())


def _is_unseen(letter: str) -> bool:
    """Whether it only says how others are shown: joiners, marks of direction, variation selectors."""
    return unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"
