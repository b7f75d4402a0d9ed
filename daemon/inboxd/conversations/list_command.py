"""`inboxd conversations`: a list of conversations, read from the database file."""

from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from inboxd.accounts.store import stored
from inboxd.conversations.resources import ConversationList, ConversationResource
from inboxd.conversations.store import ConversationFilter, ConversationStore
from inboxd.conversations.tables import conversation_table
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import config_option, json_option, run_async
from inboxd.runtime.console import console
from inboxd.storage.database import open_for_reading

ConversationsSetup = Callable[[Path | None], tuple[Path, frozenset[str]]]
"""Gives the path of the database and the ids of configured accounts, from the path of the configuration file."""


@click.command()
@config_option
@json_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0)
@click.option("--account", "account_id", help="Only conversations of this account.")
@click.option("--unread", is_flag=True, help="Only conversations with unread messages.")
@click.pass_obj
def conversations(
    set_up: ConversationsSetup,
    config_path: Path | None,
    *,
    as_json: bool,
    limit: int,
    offset: int,
    account_id: str | None,
    unread: bool,
) -> None:
    """Show the conversations: who, last message, unread. Reads the file; the daemon may run or not."""
    database, configured = set_up(config_path)
    condition = ConversationFilter(account_id=account_id, has_unread=True if unread else None)
    run_async(_show(database, configured, condition, limit=limit, offset=offset, as_json=as_json))


async def _show(
    database: Path, configured: frozenset[str], condition: ConversationFilter, *, limit: int, offset: int, as_json: bool
) -> None:
    async with open_for_reading(database) as connection:
        store = ConversationStore(connection.read)
        found, total = await store.page(condition, limit=limit, offset=offset)
        if not as_json:
            latest = await store.latest([conversation.id for conversation in found])
            console().print(conversation_table(found, latest, total=total))
            return
        accounts = set(configured)
        for one in await stored(connection.read):
            if one.account.id in accounts or not one.account.configured:  # otherwise the configuration no longer has it
                accounts.update(one.account.aliases)
    now = Clock().now_ms()
    resources = [ConversationResource.of(conversation, accounts, at=now) for conversation in found]
    page = ConversationList(conversations=resources, total=total, limit=limit, offset=offset, next_cursor=None)
    click.echo(msgspec.json.encode(page).decode())
