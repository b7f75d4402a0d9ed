"""`inboxd simulator`: the simulated Instagram without a daemon."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from typing import Final

import aiohttp
import click
from aiohttp import web

from inboxd.runtime.command_line import run_async
from inboxd.runtime.plural import counted
from inboxd.simulator.graph_server import CONTROL_PATH, MAILBOX_PATH, GraphServer
from inboxd.simulator.sender import Unreliability, WebhookSender
from inboxd.simulator.serving import serving
from inboxd.simulator.story import PEOPLE, story

TOKEN: Final = "simulator-token"
TRAFFIC_PATH: Final = "/_simulator/traffic"
LASTS_MS: Final = 60_000
"""So long ago the traffic begins, so that none of it is in the future."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9100, show_default=True)
@click.option("--account", "account_id", default="17841400000000001", show_default=True)
@click.option(
    "--webhook-url", help="Send some lively traffic to this address, and more on request. Needs --app-secret."
)
@click.option(
    "--app-secret", envvar="INBOXD_SIMULATOR_APP_SECRET", help="Signs the webhooks. [env: INBOXD_SIMULATOR_APP_SECRET]"
)
def simulator(port: int, account_id: str, webhook_url: str | None, app_secret: str | None) -> None:
    """Run a local Instagram: a Graph API, and optionally a sender of signed webhooks."""
    if webhook_url and not app_secret:
        msg = "--webhook-url needs --app-secret: Meta signs what it sends"
        raise click.UsageError(msg)
    sys.exit(run_async(serve(port=port, account_id=account_id, webhook_url=webhook_url, app_secret=app_secret or "")))


class Traffic:
    """Sends lively traffic, each time from other people."""

    def __init__(self, account_id: str, sender: WebhookSender) -> None:
        self._account_id = account_id
        self._sender = sender
        self._next = 0
        """The number of the first person who has not written yet."""

    async def send(self) -> tuple[int, int]:
        """Send a few minutes of traffic. Returns how many deliveries were acknowledged, and how many given up."""
        before, first = self._sender.acknowledged, self._next
        self._next += PEOPLE
        payloads = story(self._account_id, int(time.time() * 1000) - LASTS_MS, first=first)
        given_up = await self._sender.send_all(payloads, Unreliability(duplicates=0.1, late=0.1))
        return self._sender.acknowledged - before, given_up

    async def post(self, _request: web.Request) -> web.Response:
        """Send traffic on request."""
        acknowledged, given_up = await self.send()
        return web.json_response({"acknowledged": acknowledged, "given_up": given_up})


async def _no_traffic(_request: web.Request) -> web.Response:
    error = "there is nobody to send it to: start the simulator with --webhook-url and --app-secret"
    return web.json_response({"error": error}, status=409)


async def serve(*, port: int, account_id: str, webhook_url: str | None, app_secret: str) -> int:
    """Serve the Graph API, and send traffic to `webhook_url` if there is one, until interrupted."""
    instagram = GraphServer({TOKEN: account_id})
    async with AsyncExitStack() as stack:
        traffic = None
        if webhook_url is not None:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            traffic = Traffic(account_id, WebhookSender(session, webhook_url, app_secret, instagram=instagram))
        application = instagram.application()
        application.router.add_post(TRAFFIC_PATH, _no_traffic if traffic is None else traffic.post)
        url = await stack.enter_async_context(serving(application, port=port))
        click.echo(f"Graph API:  {url}  (INBOXD_INSTAGRAM__GRAPH_URL={url} INBOXD_ACCOUNT_TOKEN_{account_id}={TOKEN})")
        click.echo(f"Behaviour:  curl -X PUT {url}{CONTROL_PATH} -d '{{\"outage\": true}}'")
        click.echo(f"Mailbox:    curl {url}{MAILBOX_PATH}")
        if traffic is not None:
            click.echo(f"Traffic:    curl -X POST {url}{TRAFFIC_PATH}")
            acknowledged, given_up = await traffic.send()
            click.echo(f"{counted(acknowledged, 'delivery', 'deliveries')} acknowledged, {given_up} given up")
        await asyncio.Event().wait()
    return 0
