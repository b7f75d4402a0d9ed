"""What the API answers about traffic."""

from typing import Self

from inboxd.domain.traffic import AccountTraffic, TrafficCause, TrafficFinding
from inboxd.http.resource import EXAMPLE_ACCOUNT, Resource, iso


class TrafficFindingResource(Resource, frozen=True):
    """Something unusual about the traffic of an account, or of all (`accountId` null), and what to do about it."""

    cause: TrafficCause
    account_id: str | None
    since: str | None
    detail: str
    remedy: str

    @classmethod
    def of(cls, finding: TrafficFinding) -> Self:
        """The resource of a finding."""
        return cls(
            cause=finding.cause,
            account_id=finding.account_id,
            since=iso(finding.since),
            detail=finding.detail,
            remedy=finding.remedy,
        )


class AccountTrafficResource(Resource, frozen=True):
    """What arrived for an account; counts are of the last 24 hours, and of this run of the daemon."""

    account_id: str
    served: bool
    last_event_at: str | None
    events: int
    messages: int
    companion_edits: int

    @classmethod
    def of(cls, traffic: AccountTraffic) -> Self:
        """The resource of an account's traffic."""
        return cls(
            account_id=traffic.account_id,
            served=traffic.served,
            last_event_at=iso(traffic.last_at),
            events=traffic.events,
            messages=traffic.messages,
            companion_edits=traffic.companions,
        )


class TrafficReport(Resource, frozen=True):
    """What is unusual, and what arrives."""

    findings: list[TrafficFindingResource]
    accounts: list[AccountTrafficResource]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            findings=[
                TrafficFindingResource(
                    cause=TrafficCause.SILENT,
                    account_id=EXAMPLE_ACCOUNT,
                    since="2026-09-21T02:10:00.000Z",
                    detail="nothing has arrived for 12 hours",
                    remedy="Run 'inboxd doctor': it looks at the subscription and the token.",
                )
            ],
            accounts=[
                AccountTrafficResource(
                    account_id=EXAMPLE_ACCOUNT,
                    served=True,
                    last_event_at="2026-09-21T02:10:00.000Z",
                    events=214,
                    messages=120,
                    companion_edits=94,
                )
            ],
        )
