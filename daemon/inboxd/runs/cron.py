"""Moments of cron expressions."""

from datetime import UTC, datetime

from cronsim import CronSim


def next_after(expression: str, at: int) -> int:
    """The first moment (ms, UTC) of a cron expression after `at` (ms, UTC)."""
    moment = next(CronSim(expression, datetime.fromtimestamp(at / 1000, UTC)))
    return int(moment.timestamp() * 1000)
