"""Positions in ordered lists, for reading a list page by page."""

from typing import NamedTuple


class Place(NamedTuple):
    """A position in a list that is ordered by time and then by id, both descending.

    `at` is in ms since the epoch, UTC. It is None for entries without a time, which come last.
    """

    at: int | None
    id: int
