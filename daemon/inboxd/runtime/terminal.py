"""What may be shown on a terminal."""


def printable(text: str) -> str:
    """Text from outside as one line, without the characters that would move a terminal's cursor or colour it."""
    return "".join(character if character.isprintable() else " " for character in text)
