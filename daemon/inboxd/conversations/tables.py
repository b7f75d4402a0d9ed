"""Conversations as a table for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from inboxd.conversations.store import StoredMessage
from inboxd.domain.conversation import Conversation
from inboxd.runtime.clock import iso_utc
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable

_PREVIEW: Final = 40


def conversation_table(found: Sequence[Conversation], latest: Mapping[int, StoredMessage], *, total: int) -> Table:
    """A table of conversations: participant, last message, unread count. `total` is how many there are in all."""
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


def _who(conversation: Conversation) -> tuple[Text, Text]:
    """Name and username, each with a placeholder where it is missing."""
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
    kind = message.content.type if message.content else "text"
    shown = message.text or f"[{kind}]"
    return shown if len(shown) <= _PREVIEW else shown[: _PREVIEW - 1] + "…"
