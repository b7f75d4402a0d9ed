"""Counted things in words."""


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 account`, `2 accounts`; `many` is the plural of what does not just take an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"
