"""`inboxd endpoints`: uses the running daemon. `list` and `show` also work when none runs."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click
import msgspec
from rich.console import RenderableType

from inboxd.forwarding.api import DAY_S
from inboxd.forwarding.clients import EndpointsView, LocalEndpoints, RemoteEndpoints
from inboxd.forwarding.endpoint import DEFAULT_TIMEOUT_S, MAX_RATE, EndpointKind
from inboxd.forwarding.progress_store import RetryState
from inboxd.forwarding.resources import EndpointChange, NewEndpoint, Replay, TestOutcome
from inboxd.forwarding.tables import attempt_table, endpoint_table, failure_table, one_endpoint
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.http.operations import MAX_LIMIT
from inboxd.runtime.command_line import Span, config_option, json_option, run_async
from inboxd.runtime.console import console
from inboxd.runtime.errors import EX_OK
from inboxd.runtime.terminal import printable

NOT_DELIVERED: Final = 1
"""The exit code when a sample was not delivered."""

EndpointsAccess = CommandAccess[LocalEndpoints]
EndpointsSetup = Callable[[Path | None], EndpointsAccess]
"""Takes the path of the configuration file and returns both ways to reach the endpoints."""


class AddOptions(TypedDict):
    """The endpoint that is wanted, in the words of the command line."""

    url: str
    kind: str
    description: str
    timeout: float
    disabled: bool


class UpdateOptions(TypedDict):
    """What to change, in the words of the command line."""

    url: str | None
    description: str | None
    rate_limit: float | None
    timeout: float | None
    enabled: bool | None


_types_option = click.option(
    "--type",
    "types",
    multiple=True,
    metavar="PATTERN",
    help="A type of event, message.*, or *. May be given several times. Without it: all.",
)
_accounts_option = click.option(
    "--account", "accounts", multiple=True, metavar="ID", help="Only of this account. May be given several times."
)
_rate_option = click.option(
    "--rate-limit", type=click.FloatRange(0, MAX_RATE), help="Requests per second; 0: no limit."
)
_limit_option = click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=50, show_default=True)


@click.group()
def endpoints() -> None:
    """Webhook endpoints: where events are pushed to. Add, watch, test and replay them, through the running daemon."""


@endpoints.command("list")
@config_option
@json_option
@click.pass_obj
def list_command(set_up: EndpointsSetup, config_path: Path | None, *, as_json: bool) -> None:
    """Show all endpoints, with how far behind each is."""

    async def look() -> None:
        async with _view(set_up(config_path)) as view:
            found = await view.all()
            _tell(found, endpoint_table(found.endpoints), as_json=as_json)

    run_async(look())


@endpoints.command("show")
@config_option
@json_option
@click.argument("endpoint_id")
@click.pass_obj
def show_command(set_up: EndpointsSetup, config_path: Path | None, endpoint_id: str, *, as_json: bool) -> None:
    """Show one endpoint: what it gets, how it stands, its last success and its last error."""

    async def look() -> None:
        async with _view(set_up(config_path)) as view:
            found = await view.one(endpoint_id)
            _tell(found, one_endpoint(found), as_json=as_json)

    run_async(look())


@endpoints.command("add")
@config_option
@json_option
@click.argument("url")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in EndpointKind]),
    default=EndpointKind.STANDARD.value,
    show_default=True,
    help="standard: events, signed as Standard Webhooks says. meta: Meta's deliveries, with Meta's signature.",
)
@_types_option
@_accounts_option
@click.option("--description", default="", help="What you call it.")
@_rate_option
@click.option("--timeout", type=click.FloatRange(1, 60), default=DEFAULT_TIMEOUT_S, show_default=True, help="Seconds.")
@click.option("--disabled", is_flag=True, help="Push nothing to it yet.")
@click.pass_obj
def add_command(
    set_up: EndpointsSetup,
    config_path: Path | None,
    *,
    as_json: bool,
    types: Sequence[str],
    accounts: Sequence[str],
    rate_limit: float | None,
    **options: Unpack[AddOptions],
) -> None:
    """Push what happens from now on to URL. The secret of the signatures is shown once."""
    new = NewEndpoint(
        url=options["url"],
        kind=EndpointKind(options["kind"]),
        event_types=list(types) or None,
        account_ids=list(accounts),
        description=options["description"],
        enabled=not options["disabled"],
        rate_limit=rate_limit or 0.0,
        timeout_seconds=options["timeout"],
    )

    async def add() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            added = await daemon.add(new)
            _tell(added, one_endpoint(added), as_json=as_json)
            if not as_json and added.secret is not None:
                _reveal(added.secret)

    run_async(add())


@endpoints.command("update")
@config_option
@json_option
@click.argument("endpoint_id")
@click.option("--url", help="Where to push to from now on.")
@_types_option
@_accounts_option
@click.option("--all-accounts", is_flag=True, help="Of all accounts again.")
@click.option("--description", help="What you call it.")
@_rate_option
@click.option("--timeout", type=click.FloatRange(1, 60), help="Seconds.")
@click.option("--enable/--disable", "enabled", default=None, help="Push to it, from where it was; or push no more.")
@click.pass_obj
def update_command(
    set_up: EndpointsSetup,
    config_path: Path | None,
    endpoint_id: str,
    *,
    as_json: bool,
    types: Sequence[str],
    accounts: Sequence[str],
    all_accounts: bool,
    **options: Unpack[UpdateOptions],
) -> None:
    """Change an endpoint; what is not given stays."""
    if accounts and all_accounts:
        msg = "give either --account or --all-accounts"
        raise click.UsageError(msg)
    change = EndpointChange(
        url=options["url"],
        event_types=list(types) or None,
        account_ids=list(accounts) or ([] if all_accounts else None),
        description=options["description"],
        rate_limit=options["rate_limit"],
        timeout_seconds=options["timeout"],
        enabled=options["enabled"],
    )
    if change == EndpointChange():
        msg = "say what to change, such as --disable"
        raise click.UsageError(msg)

    async def update() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            changed = await daemon.update(endpoint_id, change)
            _tell(changed, one_endpoint(changed), as_json=as_json)

    run_async(update())


@endpoints.command("remove")
@config_option
@click.argument("endpoint_id")
@click.pass_obj
def remove_command(set_up: EndpointsSetup, config_path: Path | None, endpoint_id: str) -> None:
    """Remove an endpoint, with its secret, attempts and failures."""

    async def remove() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            await daemon.remove(endpoint_id)

    run_async(remove())
    click.echo(f"{printable(endpoint_id)} is removed")


@endpoints.command("rotate-secret")
@config_option
@json_option
@click.argument("endpoint_id")
@click.option("--keep", type=Span(), default=DAY_S, help="How long the secret before signs too, such as 12h. [1d]")
@click.pass_obj
def rotate_command(
    set_up: EndpointsSetup, config_path: Path | None, endpoint_id: str, *, as_json: bool, keep: int
) -> None:
    """Make a new secret, which is shown once; for a time everything is signed with both."""

    async def rotate() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            new = await daemon.rotate(endpoint_id, keep)
            if as_json:
                _print_json(new)
                return
            _reveal(new.secret)
            click.echo(f"The secret before signs too until {new.previous_secret_valid_until}.")

    run_async(rotate())


@endpoints.command("test")
@config_option
@json_option
@click.argument("endpoint_id")
@click.option("--type", "kind", help="The type of the event. Without it: message.received.")
@click.pass_obj
def test_command(
    set_up: EndpointsSetup, config_path: Path | None, endpoint_id: str, *, as_json: bool, kind: str | None
) -> None:
    """Send a sample event at once, and show the answer. Exits 1 if it was not delivered."""

    async def send() -> TestOutcome:
        async with _daemon(set_up(config_path)) as daemon:
            return await daemon.test(endpoint_id, kind)

    outcome = run_async(send())
    if as_json:
        _print_json(outcome)
    else:
        end = f"HTTP {outcome.status}" if outcome.delivered else outcome.error or "not delivered"
        click.echo(printable(f"{outcome.type} {outcome.event_id}: {end} after {outcome.latency_ms} ms"))
        if outcome.response:
            click.echo(printable(outcome.response))
    sys.exit(EX_OK if outcome.delivered else NOT_DELIVERED)


@endpoints.command("replay")
@config_option
@json_option
@click.argument("endpoint_id")
@click.option("--after", metavar="CURSOR", help="Everything after this cursor of the event log; 0: all that is kept.")
@click.option("--since", metavar="TIME", help="Everything since a time, such as 2026-11-30T08:00:00Z.")
@click.pass_obj
def replay_command(
    set_up: EndpointsSetup,
    config_path: Path | None,
    endpoint_id: str,
    *,
    as_json: bool,
    after: str | None,
    since: str | None,
) -> None:
    """Push again what was pushed before. Events keep their ids, so receivers recognize them."""
    if (after is None) == (since is None):
        msg = "give either --after or --since"
        raise click.UsageError(msg)

    async def replay() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            moved = await daemon.replay(endpoint_id, Replay(after=after, since=since))
            _tell(moved, one_endpoint(moved), as_json=as_json)

    run_async(replay())


@endpoints.command("attempts")
@config_option
@json_option
@click.argument("endpoint_id")
@_limit_option
@click.pass_obj
def attempts_command(
    set_up: EndpointsSetup, config_path: Path | None, endpoint_id: str, *, as_json: bool, limit: int
) -> None:
    """Show the latest attempts: status, latency, and the beginning of the answer."""

    async def look() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            found = await daemon.attempts(endpoint_id, limit)
            _tell(found, attempt_table(found), as_json=as_json)

    run_async(look())


@endpoints.command("failures")
@config_option
@json_option
@click.argument("endpoint_id")
@click.option("--state", type=click.Choice([state.value for state in RetryState]), help="Only in this state.")
@_limit_option
@click.pass_obj
def failures_command(
    set_up: EndpointsSetup,
    config_path: Path | None,
    endpoint_id: str,
    *,
    as_json: bool,
    state: str | None,
    limit: int,
) -> None:
    """Show what could not be delivered at first, and what waits behind it."""

    async def look() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            found = await daemon.failures(endpoint_id, state, limit)
            _tell(found, failure_table(found), as_json=as_json)

    run_async(look())


@endpoints.command("retry")
@config_option
@json_option
@click.argument("endpoint_id")
@click.argument("event_id")
@click.pass_obj
def retry_command(
    set_up: EndpointsSetup, config_path: Path | None, endpoint_id: str, event_id: str, *, as_json: bool
) -> None:
    """Try one failed event again at once, with its whole schedule."""

    async def retry() -> None:
        async with _daemon(set_up(config_path)) as daemon:
            failure = await daemon.retry(endpoint_id, event_id)
            if as_json:
                _print_json(failure)
            else:
                click.echo(f"{printable(event_id)} is tried again now")

    run_async(retry())


@asynccontextmanager
async def _view(access: EndpointsAccess) -> AsyncIterator[EndpointsView]:
    async with access.open() as opened:
        yield RemoteEndpoints(opened) if isinstance(opened, AdminClient) else opened


@asynccontextmanager
async def _daemon(access: EndpointsAccess) -> AsyncIterator[RemoteEndpoints]:
    """Only the running daemon pushes, so only it changes endpoints."""
    async with access.client() as client:
        yield RemoteEndpoints(client)


def _tell(resource: msgspec.Struct, shown: RenderableType, *, as_json: bool) -> None:
    if as_json:
        _print_json(resource)
    else:
        console().print(shown)


def _reveal(secret: str) -> None:
    click.echo(
        f"Secret: {secret}\nIt is shown only now. Give it to the receiver, which verifies the signatures with it."
    )


def _print_json(resource: msgspec.Struct) -> None:
    click.echo(msgspec.json.encode(resource).decode())
