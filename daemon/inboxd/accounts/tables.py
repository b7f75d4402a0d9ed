"""Accounts as tables for a terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from inboxd.accounts.check import CheckOutcome
from inboxd.accounts.resources import AccountResource, CheckedAccount
from inboxd.domain.account import AccountState
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable


def account_table(accounts: Sequence[AccountResource]) -> Table:
    """All accounts with their state, token and subscription."""
    table = Table(title=counted(len(accounts), "account"), title_justify="left", expand=False)
    for heading in ("Account", "Username", "Product", "State", "Token until (UTC)", "Subscribed"):
        table.add_column(heading)
    for one in accounts:
        table.add_row(
            one.id,
            Text(printable(one.username or one.name)),
            one.login_type,
            Text(one.state, style="green" if one.state == AccountState.ACTIVE else "red"),
            (one.token_expires_at or "unknown")[:16].replace("T", " "),
            "unknown" if one.subscribed_fields is None else "yes" if "messages" in one.subscribed_fields else "no",
        )
    return table


def finding_table(checked: CheckedAccount) -> Table:
    """The results of a check, and how to get what is missing."""
    account = checked.account
    table = Table(title=f"{account.id} {printable(account.username or '')}", title_justify="left", expand=False)
    for heading in ("Check", "Outcome", "What was found"):
        table.add_column(heading)
    styles = {CheckOutcome.OK: "green", CheckOutcome.MISSING: "red", CheckOutcome.UNKNOWN: "yellow"}
    for finding in checked.findings:
        told = Text(printable(finding.detail))
        if finding.remedy is not None:
            told.append(f"\n{printable(finding.remedy)}", style="bold")
        table.add_row(finding.check, Text(finding.outcome.value, style=styles[finding.outcome]), told)
    return table
