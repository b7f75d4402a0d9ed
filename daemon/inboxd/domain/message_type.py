"""Types of messages and attachments, as Meta names them."""

from typing import Final

_WORDS: Final = {
    "unsupported": "something that Instagram does not pass on",
    "ephemeral": "something to be looked at once",
    "like_heart": "❤",
    "ig_reel": "a reel",
    "reel": "a reel",
    "ig_post": "a post",
    "share": "a post",
    "story_mention": "a story that mentions you",
    "image": "a picture",
    "video": "a video",
    "audio": "a voice message",
    "file": "a file",
}


def in_words(message_type: str) -> str:
    """What is shown in place of a message of this type that has no text."""
    return _WORDS.get(message_type, message_type.replace("_", " "))
