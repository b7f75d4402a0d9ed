"""How the publisher is doing. It is known without the library for NATS, which is an extra."""

from typing import Final, NamedTuple

from inboxd.forwarding.nats.store import Position

NAME: Final = "nats"
"""The name of the worker, and of its position in the database."""


class PublisherState(NamedTuple):
    """How the publisher is doing. Times in ms, UTC."""

    position: Position
    server: str | None
    """The host and port that it is connected to."""
    waits_for: str | None
    """Why nothing is published."""
    waits_since: int | None
    stream_problem: str | None
    """What is wrong with the stream that was there."""
