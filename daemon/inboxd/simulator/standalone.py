"""`inboxd simulator`: the simulated Instagram without a daemon."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack

import aiohttp
import click

from inboxd.runtime.command_line import run_async
from inboxd.runtime.plural import counted
from inboxd.simulator.graph_server import CONTROL_PATH, MAILBOX_PATH, GraphServer
from inboxd.simulator.sender import Unreliability, WebhookSender
from inboxd.simulator.serving import serving
from inboxd.simulator.story import story

TOKEN = "simulator-token"


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9100, show_default=True)
@click.option("--account", "account_id", default="17841400000000001", show_default=True)
@click.option("--webhook-url", help="Send some lively traffic to this address, once. Needs --app-secret.")
@click.option(
    "--app-secret", envvar="INBOXD_SIMULATOR_APP_SECRET", help="Signs the webhooks. [env: INBOXD_SIMULATOR_APP_SECRET]"
)
def simulator(port: int, account_id: str, webhook_url: str | None, app_secret: str | None) -> None:
    """Run a local Instagram: a Graph API, and optionally a sender of signed webhooks."""
    if webhook_url and not app_secret:
        msg = "--webhook-url needs --app-secret: Meta signs what it sends"
        raise click.UsageError(msg)
    sys.exit(run_async(serve(port=port, account_id=account_id, webhook_url=webhook_url, app_secret=app_secret or "")))


async def serve(*, port: int, account_id: str, webhook_url: str | None, app_secret: str) -> int:
    """Serve the Graph API, and send traffic to `webhook_url` if there is one, until interrupted."""
    instagram = GraphServer({TOKEN: account_id})
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(instagram.application(), port=port))
        click.echo(f"Graph API:  {url}  (INBOXD_INSTAGRAM__GRAPH_URL={url} INBOXD_ACCOUNT_TOKEN_{account_id}={TOKEN})")
        click.echo(f"Behaviour:  curl -X PUT {url}{CONTROL_PATH} -d '{{\"outage\": true}}'")
        click.echo(f"Mailbox:    curl {url}{MAILBOX_PATH}")
        if webhook_url is not None:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            sender = WebhookSender(session, webhook_url, app_secret, instagram=instagram)
            given_up = await sender.send_all(
                story(account_id, int(time.time() * 1000)), Unreliability(duplicates=0.1, late=0.1)
            )
            click.echo(f"{counted(sender.acknowledged, 'delivery', 'deliveries')} acknowledged, {given_up} given up")
        await asyncio.Event().wait()
    return 0
