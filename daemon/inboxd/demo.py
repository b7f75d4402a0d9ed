"""`inboxd demo`: a simulated Instagram, a real daemon, and conversations with names and answers."""

import asyncio
import secrets
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
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
from inboxd.simulator.comment_control import COMMENTS_PATH
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.sender import Unreliability, WebhookSender
from inboxd.simulator.serving import serving
from inboxd.simulator.shop import Shop
from inboxd.simulator.story import PEOPLE, story
from inboxd.storage.database import open_for_reading

ACCOUNT: Final = "17841400000000001"
LIVELY_S: Final = 150.0
"""Duration of the traffic without --once."""
ANSWERS_AFTER: Final = 5
"""The account answers after this part of the traffic: a fifth."""
PATIENCE_S: Final = 60.0
"""How long --once waits for all profiles, and for the replies."""
REFRESH_S: Final = 0.5
_PORTS: Final = range(10_000, 32_000)
CUSTOMERS: Final = Behaviour(customer_reads_ms=800, customer_answers_ms=1600)
"""Whoever gets a reply sees it and answers it."""


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
        instagram = GraphServer({token: ACCOUNT})
        instagram.behaviour = CUSTOMERS
        graph_url = await stack.enter_async_context(serving(instagram.application()))
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
        sender = WebhookSender(session, f"{daemon.public_url}/webhooks/instagram", app_secret, instagram=instagram)
        shop = Shop(session, daemon.admin_url, admin_token, ACCOUNT)
        connection = await stack.enter_async_context(open_for_reading(path))
        screen = _Screen(console, ConversationStore(connection.read), sender, instagram)
        console.print(_explanation(daemon.public_url, daemon.admin_url, graph_url, admin_token, path), soft_wrap=True)
        async with asyncio.TaskGroup() as tasks:
            traffic = tasks.create_task(_traffic(sender, instagram, shop, 0 if once else LIVELY_S), name="traffic")
            complete = await screen.watch(traffic, PATIENCE_S if once else None)
            traffic.cancel()
        if once:
            answered = await shop.until_sent(0)
            console.print(_verdict(complete=complete, answered=answered))
            return 0 if complete and answered else 1
        console.print("Everything stays up for you to look at. Ctrl-C ends it and removes the database.")
        await gave_up.wait()
        return 1


def _settings(graph_url: str, *, calls_per_second: float) -> Settings:
    """Listeners on any free port, and one account of the simulated Instagram."""
    port = _free_port()
    return Settings(
        public=Public(port=port, base_url=f"http://127.0.0.1:{port}"),  # from there it fetches files
        admin=Admin(port=0),
        instagram=Instagram(graph_url=graph_url, facebook_graph_url=graph_url),
        avatars=AvatarSettings(hosts=("127.0.0.1",), allow_http=True, allow_networks=("127.0.0.1/32",)),
        budget=BudgetSettings(calls_per_second=calls_per_second),
        accounts=(AccountSettings(id=ACCOUNT, name="demo", comments=True),),
    )


def _free_port() -> int:
    """A port that the kernel gives to no connection by itself, so that it is still free when the listener takes it."""
    while True:
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", _PORTS[secrets.randbelow(len(_PORTS))]))
            return int(found.getsockname()[1])


async def _traffic(sender: WebhookSender, instagram: GraphServer, shop: Shop, seconds: float) -> None:
    """All that people do, within so many seconds, and what the account answers to it."""
    payloads = story(ACCOUNT, int(time.time() * 1000) - 60_000)
    if not seconds:
        await sender.send_all(payloads, Unreliability(duplicates=0.2, late=0.1))
        await shop.comment(instagram)
        await shop.answer(PATIENCE_S)
        await shop.until_sent(PATIENCE_S)
        return
    async with asyncio.TaskGroup() as tasks:
        for number, payload in enumerate(payloads):
            if number == len(payloads) // ANSWERS_AFTER:
                await shop.comment(instagram)
                tasks.create_task(shop.answer(PATIENCE_S), name="answers")
            await sender.send_all([payload], Unreliability(duplicates=0.2))
            await asyncio.sleep(seconds / len(payloads))


class _Screen:
    """The table of conversations, drawn again every REFRESH_S."""

    def __init__(
        self, console: Console, conversations: ConversationStore, sender: WebhookSender, instagram: GraphServer
    ) -> None:
        self._console = console
        self._conversations = conversations
        self._sender = sender
        self._instagram = instagram

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
        ledger, answers = self._instagram.sending.ledger, self._instagram.customer.answers
        replies = counted(len(ledger.messages) + len(ledger.comments), "reply", "replies")
        line = (
            f"{deliveries} acknowledged · {named} of {len(people)} people have a profile"
            f" · {replies} sent, {counted(answers, 'answer', 'answers')} to them"
        )
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
        f"  answer     curl -H 'Authorization: Bearer {admin_token}' -H 'Content-Type: application/json'"
        f' {admin_url}/api/messaging/conversations/1/messages -d \'{{"text": "Hello!"}}\'\n'
        f"             INBOXD_ADMIN_TOKEN={admin_token} INBOXD_ADMIN__PORT={admin_url.rpartition(':')[2]}"
        " inboxd send --to 1 'Hello!'\n"
        "             (whoever gets it sees it, and answers after two seconds)\n"
        f'  comment    curl {graph_url}{COMMENTS_PATH} -d \'{{"account_id": "{ACCOUNT}", "text": "Price?"}}\'\n'
        "  webhooks to a program of yours: the dashboard's page Forwarding, or docs/integrate.md\n"
    )


def _verdict(*, complete: bool, answered: bool) -> Text:
    if complete and answered:
        return Text("\nEvery participant has a profile, and every reply was sent.", style="green")
    if complete:
        return Text("\nSome replies were not sent.", style="red")
    return Text("\nSome participants have no profile: see the table.", style="red")
