"""What the overview says of the outbox: what waits, and what somebody should look at."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from inboxd.accounts.manager import AccountManager
from inboxd.domain.account import DAY_MS
from inboxd.domain.outbound import OutboundState
from inboxd.feature import Card, Need, OverviewPart
from inboxd.meta.send_budget import SendReport
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.plural import counted
from inboxd.sending import delivery_store
from inboxd.sending.delivery_store import Backlog, Failures
from inboxd.sending.outbox_pages import path_of
from inboxd.storage.database import Read

PATIENCE_MS: Final = 15 * 60_000
"""How long a message may wait, or be unknown, before somebody is asked to look."""


class BacklogView(NamedTuple):
    """What waits of one account."""

    name: str
    backlog: Backlog
    report: SendReport | None


class SendingOverview:
    """This feature's part of the overview."""

    def __init__(
        self, read: Read, accounts: AccountManager, report_of: Callable[[str], SendReport | None], clock: Clock
    ) -> None:
        self._read = read
        self._accounts = accounts
        self._report_of = report_of
        self._clock = clock

    async def read(self) -> OverviewPart:
        """What waits of each account. Raises StorageError."""
        views = [self._view(one) for one in await delivery_store.backlogs(self._read)]
        now = self._clock.now_ms()
        failed = await delivery_store.failures(self._read, now - DAY_MS)
        needs = [*outbox_needs(views, now), *(self._need(one) for one in failed)]
        return OverviewPart(Card("sending_card.html", {"views": views}, position=22), needs)

    def _view(self, backlog: Backlog) -> BacklogView:
        return BacklogView(self._name(backlog.account_id), backlog, self._report_of(backlog.account_id))

    def _need(self, one: Failures) -> Need:
        text = f"{self._name(one.account_id)}: {counted(one.failed, 'message')} failed in a day. The last: {one.reason}"
        return Need(text, path_of(one.account_id, OutboundState.FAILED), urgent=False, position=22)

    def _name(self, account_id: str) -> str:
        managed = self._accounts.served.get(account_id)
        return account_id if managed is None else managed.account.display_name


def outbox_needs(views: Sequence[BacklogView], now: int) -> list[Need]:
    """What somebody should look at, at `now` (ms)."""
    needs = []
    for name, backlog, report in views:
        unknown = path_of(backlog.account_id, OutboundState.UNKNOWN)
        if backlog.restricted:
            waiting = counted(backlog.waiting, "message")
            text = f"{name}: Meta restricts the account, so {waiting} wait. Look into its and the app's alerts at Meta."
            needs.append(Need(text, path_of(backlog.account_id, OutboundState.QUEUED), position=22))
        if backlog.unresolved:
            text = (
                f"{name}: of {counted(backlog.unresolved, 'message')} it could not be found out whether they were sent."
            )
            needs.append(Need(text, unknown, position=22))
        if backlog.unknown_since is not None and now - backlog.unknown_since >= PATIENCE_MS:
            text = f"{name}: of {counted(backlog.unknown, 'message')} it is not known whether they were sent."
            needs.append(Need(text, unknown, urgent=False, position=22))
        elif now - backlog.oldest_at >= PATIENCE_MS and not backlog.restricted:
            why = "" if report is None or report.reason is None else f" {report.reason}."
            waiting = (
                f"{counted(backlog.waiting, 'message')} not sent yet, the oldest since {iso_utc(backlog.oldest_at)}"
            )
            text = f"{name}: {waiting}.{why}"
            needs.append(Need(text, path_of(backlog.account_id, OutboundState.QUEUED), position=22))
    return needs
