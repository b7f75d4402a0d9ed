"""`inboxd demo`: a simulated Instagram, a real daemon, and conversations filling up with names."""

import asyncio
import secrets
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from inboxd import app
from inboxd.config.schema import AccountSettings, Admin, AvatarSettings, BudgetSettings, Instagram, Public, Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.store import ConversationFilter, ConversationStore
from inboxd.conversations.tables import conversation_table
from inboxd.runtime import logs
from inboxd.runtime.command_line import run_async
from inboxd.runtime.console import console as terminal
from inboxd.runtime.plural import counted
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.sender import Unreliability, WebhookSender
from inboxd.simulator.serving import serving
from inboxd.simulator.story import PEOPLE, story
from inboxd.storage.database import open_for_reading

ACCOUNT: Final = "17841400000000001"
LIVELY_S: Final = 150.0
"""Duration of the traffic without --once."""
PATIENCE_S: Final = 60.0
"""How long --once waits for all profiles."""
REFRESH_S: Final = 0.5


@click.command()
@click.option("--once", is_flag=True, help="Play the traffic quickly and exit: 0 when every participant has a profile.")
def demo(*, once: bool) -> None:
    """See it work: a simulated Instagram, a daemon, and conversations filling up with names."""
    sys.exit(run_async(play(once=once)))


async def play(*, once: bool) -> int:
    """Run the demo. Returns the exit code: with `once`, 1 if a participant has no profile at the end."""
    logs.set_up(level="error", log_format="console")
    console = terminal()
    app_secret, token, admin_token = (secrets.token_hex(16) for _ in range(3))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="inboxd-demo-"))
        path = Path(folder, "inboxd.sqlite3")
        graph_url = await stack.enter_async_context(serving(GraphServer({token: ACCOUNT}).application()))
        gave_up = asyncio.Event()
        daemon = await stack.enter_async_context(
            app.run_daemon(
                _settings(graph_url, calls_per_second=10.0 if once else 1.0),
                Secrets(
                    app_secrets=(Secret(app_secret),),
                    verify_token=Secret(secrets.token_hex(8)),
                    admin_token=Secret(admin_token),
                    account_tokens={ACCOUNT: Secret(token)},
                ),
                path,
                on_give_up=gave_up.set,
            )
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        sender = WebhookSender(session, f"{daemon.public_url}/webhooks/instagram", app_secret)
        connection = await stack.enter_async_context(open_for_reading(path))
        screen = _Screen(console, ConversationStore(connection.read), sender)
        console.print(_explanation(daemon.public_url, daemon.admin_url, graph_url, admin_token, path), soft_wrap=True)
        async with asyncio.TaskGroup() as tasks:
            traffic = tasks.create_task(_traffic(sender, 0 if once else LIVELY_S), name="traffic")
            complete = await screen.watch(traffic, PATIENCE_S if once else None)
            traffic.cancel()
        if once:
            console.print(_verdict(complete=complete))
            return 0 if complete else 1
        console.print("Everything stays up for you to look at. Ctrl-C ends it and removes the database.")
        await gave_up.wait()
        return 1


def _settings(graph_url: str, *, calls_per_second: float) -> Settings:
    """Listeners on any free port, and one account of the simulated Instagram."""
    return Settings(
        public=Public(port=0),
        admin=Admin(port=0),
        instagram=Instagram(graph_url=graph_url, facebook_graph_url=graph_url),
        avatars=AvatarSettings(hosts=("127.0.0.1",), allow_http=True, allow_networks=("127.0.0.1/32",)),
        budget=BudgetSettings(calls_per_second=calls_per_second),
        accounts=(AccountSettings(id=ACCOUNT, name="demo"),),
    )


async def _traffic(sender: WebhookSender, seconds: float) -> None:
    payloads = story(ACCOUNT, int(time.time() * 1000) - 60_000)
    if not seconds:
        await sender.send_all(payloads, Unreliability(duplicates=0.2, late=0.1))
        return
    for payload in payloads:
        await sender.send_all([payload], Unreliability(duplicates=0.2))
        await asyncio.sleep(seconds / len(payloads))


class _Screen:
    """The table of conversations, drawn again every REFRESH_S."""

    def __init__(self, console: Console, conversations: ConversationStore, sender: WebhookSender) -> None:
        self._console = console
        self._conversations = conversations
        self._sender = sender

    async def watch(self, traffic: "asyncio.Task[None]", patience_s: float | None) -> bool:
        """Draw until the traffic has ended and every participant has a profile. Returns False after `patience_s`."""
        deadline = None if patience_s is None else time.monotonic() + patience_s
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                picture, complete = await self._draw()
                live.update(picture, refresh=True)
                if traffic.done() and complete:
                    return True
                if deadline is not None and time.monotonic() > deadline:
                    return False
                await asyncio.sleep(REFRESH_S)

    async def _draw(self) -> tuple[Group, bool]:
        found, total = await self._conversations.page(ConversationFilter(), limit=50, offset=0)
        latest = await self._conversations.latest([conversation.id for conversation in found])
        people = [one for one in found if one.key.account_id != one.key.participant_id]
        named = sum(1 for one in people if one.participant_username)
        deliveries = counted(self._sender.acknowledged, "delivery", "deliveries")
        line = f"{deliveries} acknowledged · {named} of {len(people)} people have a profile"
        table = conversation_table(found, latest, total=total)
        return Group(table, Text(line)), len(people) >= PEOPLE and named == len(people)


def _explanation(public_url: str, admin_url: str, graph_url: str, admin_token: str, path: Path) -> Text:
    return Text(
        "inboxd demo: a simulated Instagram sends signed webhooks, some twice and some late.\n"
        f"  webhooks   {public_url}/webhooks/instagram\n"
        f"  Graph API  {graph_url} (simulated)\n"
        f"  dashboard  {admin_url}/  (sign in with {admin_token})\n"
        f"  database   {path}\n"
        f"  try        curl -H 'Authorization: Bearer {admin_token}' {admin_url}/api/messaging/conversations\n"
        f"             curl -N -H 'Authorization: Bearer {admin_token}' {admin_url}/api/events/stream\n"
        "  webhooks to a program of yours: the dashboard's page Forwarding, or docs/integrate.md\n"
    )


def _verdict(*, complete: bool) -> Text:
    if complete:
        return Text("\nEvery participant has a profile.", style="green")
    return Text("\nSome participants have no profile: see the table.", style="red")
