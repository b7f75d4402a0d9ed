"""What the API answers about consumers of the event log."""

from typing import Self

from inboxd.forwarding.nats.status import Status
from inboxd.http.resource import Resource, iso


class ConsumerResource(Resource, frozen=True):
    """Another program that the daemon hands the whole event log to, and how far that has come."""

    name: str
    """`nats`."""
    connected: bool
    server: str | None
    """The host and port that it is connected to."""
    cursor: str
    """Everything up to this event was handed over, or set aside."""
    behind_by: int
    """Events that wait."""
    lag_seconds: float
    """The age of the oldest one; 0 when none waits."""
    waits_for: str | None
    """Why nothing is handed over."""
    waits_since: str | None
    stream_problem: str | None
    set_aside: int
    """Events that it refuses for good, such as too large ones."""
    skipped: int
    """Events that were pruned from the log before they were handed over, at most so many."""
    last_success_at: str | None
    last_error: str | None
    last_error_at: str | None

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            name="nats",
            connected=True,
            server="127.0.0.1:4222",
            cursor="1042",
            behind_by=0,
            lag_seconds=0.0,
            waits_for=None,
            waits_since=None,
            stream_problem=None,
            set_aside=0,
            skipped=0,
            last_success_at="2026-09-21T15:00:00.000Z",
            last_error=None,
            last_error_at=None,
        )

    @classmethod
    def of(cls, name: str, status: Status) -> Self:
        """The resource of a consumer."""
        state, position = status.state, status.state.position
        return cls(
            name=name,
            connected=state.server is not None,
            server=state.server,
            cursor=str(position.cursor),
            behind_by=status.behind,
            lag_seconds=status.behind_s,
            waits_for=state.waits_for,
            waits_since=iso(state.waits_since),
            stream_problem=state.stream_problem,
            set_aside=position.set_aside,
            skipped=position.skipped,
            last_success_at=iso(position.last_success_at),
            last_error=position.last_error,
            last_error_at=iso(position.last_error_at),
        )


class ConsumerList(Resource, frozen=True):
    """All consumers that are configured."""

    consumers: list[ConsumerResource]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(consumers=[ConsumerResource.example()])
