"""What needs a person, in words."""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from inboxd.domain.account import Account, AccountState
from inboxd.domain.traffic import TrafficCause, TrafficFinding
from inboxd.runtime.clock import iso_utc

BACKUP_MAX_AGE_MS: Final = 2 * 86_400_000
LITTLE_ROOM: Final = 0.10


class Need(NamedTuple):
    """Something that somebody should look at, and where."""

    text: str
    path: str
    urgent: bool = True


def needs(
    accounts: Collection[Account],
    *,
    now: int,
    problems: Collection[str],
    degraded: Collection[str],
    failed_deliveries: int,
    disk_free_share: float,
    last_backup_at: int | None,
    unusual: Collection[TrafficFinding] = (),
) -> list[Need]:
    """Everything that needs a person, the most urgent first."""
    found = [Need(f"{text[:1].upper()}{text[1:]}.", "/") for text in (*problems, *degraded)]
    if disk_free_share < LITTLE_ROOM:
        found.append(Need(f"The disk is nearly full: {disk_free_share:.0%} is free.", "/"))
    for account in accounts:
        found += _of_account(account, now)
    names = {account.id: _name(account) for account in accounts}
    found += [_of_traffic(finding, names) for finding in unusual]
    if failed_deliveries:
        some = "1 delivery" if failed_deliveries == 1 else f"{failed_deliveries:,} deliveries"
        found.append(Need(f"{some} could not be understood.", "/deliveries"))
    if not accounts:
        found.append(Need("No account is served yet: inboxd account add", "/accounts", urgent=False))
    if last_backup_at is None:
        found.append(Need("There is no backup yet: inboxd backup", "/", urgent=False))
    elif now - last_backup_at > BACKUP_MAX_AGE_MS:
        found.append(Need(f"The latest backup is of {iso_utc(last_backup_at)}.", "/", urgent=False))
    return sorted(found, key=lambda need: not need.urgent)


def _of_traffic(finding: TrafficFinding, names: Mapping[str, str]) -> Need:
    account_id = finding.account_id
    who = "All accounts" if account_id is None else names.get(account_id, f"Account {account_id}")
    urgent = finding.cause in {TrafficCause.SILENT, TrafficCause.COMPANIONS_ONLY}
    path = "/accounts" if account_id is None or account_id in names else f"/inbox?account={account_id}"
    since = "" if finding.since is None else f", since {iso_utc(finding.since)}"
    return Need(f"{who}: {finding.detail}{since}. {finding.remedy}", path, urgent=urgent)


def _name(account: Account) -> str:
    return account.username or account.name or account.id


def _of_account(account: Account, now: int) -> list[Need]:
    name = _name(account)
    if account.state is not AccountState.ACTIVE:
        return [Need(f"{name}: {account.reason or account.state.value}", "/accounts")]
    if account.expires_soon(now):
        return [Need(f"{name}: its token ends at {iso_utc(account.token_expires_at or now)}.", "/accounts")]
    if account.subscribed_fields is not None and "messages" not in account.subscribed_fields:
        return [Need(f"{name}: it is not subscribed to messages, so none arrive.", "/accounts")]
    return []
