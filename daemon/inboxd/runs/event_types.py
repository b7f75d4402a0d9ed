"""The types of events of runs, of every kind."""

from typing import Any, Final

from inboxd.domain.event import EventType
from inboxd.http.resource import Resource


class RunEventData(Resource, frozen=True):
    """How a run stands."""

    run_id: str
    kind: str
    """`backfill` or `history`."""
    status: str
    origin: str
    total: int
    success_count: int
    error_count: int
    skipped_count: int
    reason: str | None
    """Why it failed."""


_EXAMPLE: Final[dict[str, Any]] = {
    "run_id": "bf_0198c0de",
    "kind": "backfill",
    "origin": "api",
    "total": 40,
    "success_count": 38,
    "error_count": 1,
    "skipped_count": 1,
    "reason": None,
}
PROGRESSED: Final = EventType(
    name="run.progressed",
    summary="A run was started, paused or resumed, or went on; while it goes on, about once a second.",
    data=RunEventData,
    example=RunEventData(**_EXAMPLE | {"success_count": 12, "error_count": 0, "skipped_count": 1}, status="running"),
)
COMPLETED: Final = EventType(
    name="run.completed",
    summary="A run ended: `status` is `completed`, `failed` or `cancelled`.",
    data=RunEventData,
    example=RunEventData(**_EXAMPLE, status="completed"),
)
EVENT_TYPES: Final = (PROGRESSED, COMPLETED)
