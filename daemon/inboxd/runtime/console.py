"""Tables for people at a terminal."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from inboxd.accounts.check import Outcome
from inboxd.accounts.resources import AccountResource, CheckedAccount
from inboxd.conversations.store import StoredMessage
from inboxd.domain.account import AccountState
from inboxd.domain.conversation import Conversation
from inboxd.runtime.clock import iso_utc
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable

_PREVIEW: Final = 40
_PIPE_WIDTH: Final = 120


def conversation_table(found: Sequence[Conversation], latest: Mapping[int, StoredMessage], *, total: int) -> Table:
    """Who, last message, unread."""
    table = Table(title=counted(total, "conversation"), title_justify="left", expand=False)
    table.add_column("Who", no_wrap=True, max_width=20)
    table.add_column("Username", no_wrap=True, max_width=24)
    table.add_column("Picture", justify="center", no_wrap=True)
    table.add_column("Last message", no_wrap=True, max_width=_PREVIEW)
    table.add_column("When (UTC)", no_wrap=True)
    table.add_column("Unread", justify="right", no_wrap=True)
    for conversation in found:
        message = latest.get(conversation.id)
        who, username = _who(conversation)
        table.add_row(
            who,
            username,
            "yes" if conversation.participant_profile_pic else "",
            Text(printable(_preview(message))),
            iso_utc(conversation.last_message_at)[5:19].replace("T", " ") if conversation.last_message_at else "",
            str(conversation.unread_count) if conversation.unread_count else "",
        )
    return table


def account_table(accounts: Sequence[AccountResource]) -> Table:
    """Who is served, and how they stand."""
    table = Table(title=counted(len(accounts), "account"), title_justify="left", expand=False)
    for heading in ("Account", "Username", "Product", "State", "Token until (UTC)", "Subscribed"):
        table.add_column(heading)
    for one in accounts:
        table.add_row(
            one.id,
            Text(printable(one.username or one.name)),
            one.flavour,
            Text(one.state, style="green" if one.state == AccountState.ACTIVE else "red"),
            (one.token_expires_at or "unknown")[:16].replace("T", " "),
            "unknown" if one.subscribed_fields is None else "yes" if "messages" in one.subscribed_fields else "no",
        )
    return table


def finding_table(checked: CheckedAccount) -> Table:
    """What was looked at, how it is, and how to get what is missing."""
    account = checked.account
    table = Table(title=f"{account.id} {printable(account.username or '')}", title_justify="left", expand=False)
    for heading in ("Check", "Outcome", "What was found"):
        table.add_column(heading)
    styles = {Outcome.OK: "green", Outcome.MISSING: "red", Outcome.UNKNOWN: "yellow"}
    for finding in checked.findings:
        told = Text(printable(finding.detail))
        if finding.remedy is not None:
            told.append(f"\n{printable(finding.remedy)}", style="bold")
        table.add_row(finding.check, Text(finding.outcome.value, style=styles[finding.outcome]), told)
    return table


def console() -> Console:
    """Standard output: in the terminal's width and colours, plain and wide in a pipe."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=_PIPE_WIDTH)


def _who(conversation: Conversation) -> tuple[Text, Text]:
    """Name and username, each with what to say while there is none."""
    key, username = conversation.key, conversation.participant_username
    if key.account_id == key.participant_id:
        return Text("(notes to self)", style="dim"), Text("")
    name = Text(printable(conversation.participant_name or username or key.participant_id))
    return name, Text("@" + printable(username)) if username else Text("unknown yet", style="dim")


def _preview(stored: StoredMessage | None) -> str:
    if stored is None:
        return ""
    message = stored.message
    if message.deleted_at is not None:
        return "(deleted)"
    text = message.edit.text if message.edit else message.content.text if message.content else None
    kind = message.content.type if message.content else "text"
    shown = text or f"[{kind}]"
    return shown if len(shown) <= _PREVIEW else shown[: _PREVIEW - 1] + "…"
