"""What the API tells of completeness."""

from typing import Self

from inboxd.domain.completeness import Completeness, Window, sentence
from inboxd.domain.reconciliation import HOUR_MS
from inboxd.http.resource import EXAMPLE_ACCOUNT, Resource, iso


class WindowResource(Resource, frozen=True):
    """The messages of the last `hours`."""

    hours: int
    existing: int
    """Messages that the Conversations API has listed."""
    delivered: int
    """Those that a webhook brought."""
    healed: int
    """Those that a reconciliation added."""
    missing: int
    """Those that the API lists and does not show."""
    missed_since: str | None
    """When the first message was sent that no webhook brought."""
    median_delay_seconds: float | None
    """Between sending and adding, of those that a reconciliation added."""
    longest_delay_seconds: float | None

    @classmethod
    def of(cls, one: Window) -> Self:
        """From the numbers."""
        return cls(
            hours=one.hours,
            existing=one.existing,
            delivered=one.delivered,
            healed=one.healed,
            missing=one.missing,
            missed_since=iso(one.missed_since),
            median_delay_seconds=_seconds(one.median_delay_ms),
            longest_delay_seconds=_seconds(one.longest_delay_ms),
        )


class CompletenessResource(Resource, frozen=True):
    """How complete what is stored of an account is."""

    account_id: str
    summary: str
    """The last 7 days in one sentence."""
    is_poor: bool
    """Whether webhooks brought less than `reconciliation.alert_below` of a day's messages."""
    is_undelivered: bool
    """Whether webhooks brought nothing for `reconciliation.alert_after_hours` although conversations went on."""
    is_stale: bool
    """Whether it was not compared for two hours, although `reconciliation.every_minutes` is not 0."""
    compared_since: str | None
    """Earlier messages are for the history import. Null before the first check."""
    checked_at: str | None
    next_check_at: str | None
    error: str | None
    """Why the last check could not be finished."""
    conversations_waiting: int
    """Conversations that changed and are not read yet."""
    conversations_failed: int
    """Those among them that could not be read. They are tried again."""
    undelivered_since: str | None
    """When the first message was sent that no webhook brought, after the last webhook."""
    windows: list[WindowResource]
    """24 hours, 7 days and 30 days."""

    @classmethod
    def of(
        cls, account_id: str, found: Completeness, now: int, *, compared: bool, below: float, after_hours: int
    ) -> Self:
        """From the numbers at `now` (ms). They are poor under the share `below`. `compared`: the setting says so."""
        return cls(
            account_id=account_id,
            summary=sentence(found, now),
            is_poor=found.windows[0].is_poor(below),
            is_undelivered=found.undelivered_ms(now) >= after_hours * HOUR_MS,
            is_stale=compared and found.is_stale(now),
            compared_since=iso(found.since),
            checked_at=iso(found.checked_at),
            next_check_at=iso(found.next_check_at),
            error=found.error,
            conversations_waiting=found.waiting,
            conversations_failed=found.failed,
            undelivered_since=iso(found.undelivered_since),
            windows=[WindowResource.of(one) for one in found.windows],
        )

    @classmethod
    def example(cls) -> Self:
        """A realistic one."""
        days = {24: (412, 409, 3), 168: (2_871, 2_868, 3), 720: (11_904, 11_890, 14)}
        windows = [
            WindowResource(
                hours=hours,
                existing=existing,
                delivered=delivered,
                healed=healed,
                missing=0,
                missed_since="2026-11-30T09:58:12.000Z",
                median_delay_seconds=402.0,
                longest_delay_seconds=871.5,
            )
            for hours, (existing, delivered, healed) in days.items()
        ]
        return cls(
            account_id=EXAMPLE_ACCOUNT,
            summary="3 missed by Meta since Monday, 3 healed",
            is_poor=False,
            is_undelivered=False,
            is_stale=False,
            compared_since="2026-10-02T08:00:00.000Z",
            checked_at="2026-12-02T11:50:04.512Z",
            next_check_at="2026-12-02T12:00:04.512Z",
            error=None,
            conversations_waiting=0,
            conversations_failed=0,
            undelivered_since=None,
            windows=windows,
        )


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
