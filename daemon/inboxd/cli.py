"""The `inboxd` command."""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

import click

from inboxd import __version__
from inboxd.config.loading import find_config, load_settings
from inboxd.config.schema import Settings, concerns
from inboxd.config.secrets import Secrets, how_to_give, load_secrets, require_secrets
from inboxd.runtime.errors import EX_IOERR, EX_OK, EX_SOFTWARE, EX_USAGE, ConfigError, InboxdError
from inboxd.runtime.secret import Secret
from inboxd.runtime.terminal import printable

_INTERRUPTED: Final = 130

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file. Default: $INBOXD_CONFIG, ./config.toml, /etc/inboxd/config.toml, or built-in defaults.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="inboxd %(version)s")
def cli() -> None:
    """The Instagram inbox daemon: webhooks in, conversations with names and faces out."""


@cli.command()
@config_option
def run(config_path: Path | None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    from inboxd.runtime import logs  # noqa: PLC0415 - the other commands start without the server
    from inboxd.service import Service  # noqa: PLC0415 - the same

    def load() -> tuple[Settings, Secrets]:
        settings, secrets = _settings(config_path), load_secrets(os.environ)
        require_secrets(secrets)
        return settings, secrets

    settings, secrets = load()
    os.umask(0o027)  # what people write to a business is nobody else's on this machine
    options = settings.logs
    repeats = logs.set_up(level=options.level, log_format=options.format, personal=options.personal)
    service = Service(load, settings.storage.resolved(os.environ), repeats)
    sys.exit(_run(service.run(settings, secrets)))


@cli.command("check-config")
@config_option
@click.option("--strict", is_flag=True, help="Missing secrets, and what is hardly meant, are errors too.")
def check_config(config_path: Path | None, *, strict: bool) -> None:
    """Check the configuration without starting anything.

    What is allowed and hardly meant is said: two listeners on one port, an admin listener that others can reach.

    Secrets may be given to the daemon in ways that this shell does not see, such as systemd credentials; missing ones
    are therefore only listed, unless --strict is given.
    """
    path = find_config(config_path, os.environ)
    settings = load_settings(path, os.environ)
    secrets = load_secrets(os.environ)
    doubtful = [f"{concern.text}. {concern.remedy}" for concern in concerns(settings)]
    if strict:
        require_secrets(secrets)
        if doubtful:
            raise ConfigError("\n".join(doubtful))
    click.echo(f"{path or 'built-in defaults'}: the configuration is valid")
    for line in doubtful:
        click.echo(line, err=True)
    for name in secrets.missing():
        click.echo(f"not seen here, but needed by 'inboxd run': {how_to_give(name)}", err=True)
    for account in settings.accounts:
        if account.id not in secrets.account_tokens:
            name = how_to_give(f"account_token_{account.id}")
            click.echo(f"not seen here, unless it was added with 'inboxd account add': {name}", err=True)


@cli.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0)
@click.option("--account", "account_id", help="Only conversations of this account.")
@click.option("--unread", is_flag=True, help="Only conversations with unread messages.")
def conversations(
    config_path: Path | None, *, as_json: bool, limit: int, offset: int, account_id: str | None, unread: bool
) -> None:
    """Show the conversations: who, last message, unread. Reads the file; the daemon may run or not."""
    from inboxd.conversations.store import ConversationFilter  # noqa: PLC0415 - see run

    settings = _settings(config_path)
    condition = ConversationFilter(account_id=account_id, has_unread=True if unread else None)
    _run(_conversations(settings, condition, limit=limit, offset=offset, as_json=as_json))


@cli.group()
def account() -> None:
    """Add, list, check and remove accounts, through the running daemon or on the database when none runs."""


json_option = click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")


@account.command("list")
@config_option
@json_option
def account_list(config_path: Path | None, *, as_json: bool) -> None:
    """Show who is served, and how they stand with Meta."""
    from inboxd.accounts.commands import show_all  # noqa: PLC0415 - see run

    _run(show_all(*_surroundings(config_path), as_json=as_json))


@account.command("add")
@config_option
@json_option
@click.option("--flavour", type=click.Choice(["instagram", "facebook"]), default="instagram", show_default=True)
@click.option("--name", default="", help="What you call it.")
@click.option(
    "--token-file",
    type=click.Path(allow_dash=True),
    help="Where the access token stands; - is standard input. Without it, you are asked.",
)
def account_add(config_path: Path | None, *, as_json: bool, flavour: str, name: str, token_file: str | None) -> None:
    """Serve the account that an access token belongs to; a served one gets a new token. Exits 1 if anything is missing.

    Meta is asked whose token it is. The account is subscribed to webhooks, and what is missing is said.
    """
    from inboxd.accounts.commands import add  # noqa: PLC0415 - see run

    if token_file is None:
        text = click.prompt("Access token", hide_input=True)
    else:
        with _opened(token_file) as file:
            text = file.read()
    if not text.strip():
        msg = "the access token is blank"
        raise click.UsageError(msg)
    if not text.strip().isascii() or not text.strip().isprintable():
        msg = "this is no access token: it must be one line of ASCII"
        raise click.UsageError(msg)
    sys.exit(_run(add(*_surroundings(config_path), Secret(text.strip()), flavour=flavour, name=name, as_json=as_json)))


@account.command("check")
@config_option
@json_option
@click.argument("account_id")
def account_check(config_path: Path | None, account_id: str, *, as_json: bool) -> None:
    """Look an account over: token, permissions, settings, subscription. Exits 1 if anything is missing."""
    from inboxd.accounts.commands import check  # noqa: PLC0415 - see run

    sys.exit(_run(check(*_surroundings(config_path), account_id, as_json=as_json)))


@account.command("remove")
@config_option
@click.argument("account_id")
def account_remove(config_path: Path | None, account_id: str) -> None:
    """Stop serving an account and forget its token; its conversations stay."""
    from inboxd.accounts.commands import remove  # noqa: PLC0415 - see run

    _run(remove(*_surroundings(config_path), account_id))
    click.echo(f"{account_id} is no longer served")


class Span(click.ParamType):  # type: ignore[type-arg] # generic in newer versions only
    """A length of time in seconds: 90, 45m, 12h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        """The seconds."""
        text = str(value)
        size = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
        digits = text if size is None else text[:-1]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
            self.fail(f"{text!r} is no length of time, such as 90, 45m, 12h or 7d", param, ctx)
        seconds = int(digits) * (size or 1)
        if seconds > 315_360_000:
            self.fail("ten years are the most", param, ctx)
        return seconds


@cli.group(invoke_without_command=True)
@config_option
@json_option
@click.option("--account", "account_id", help="The account's id.")
@click.option("--batch-size", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--max", "most", type=click.IntRange(1, 10_000_000), help="End after so many conversations.")
@click.option("--force", is_flag=True, help="Also refresh profiles that are older than --older-than.")
@click.option("--older-than", type=Span(), help="Such as 12h or 7d; implies --force. With --force alone: 1d.")
@click.option("--follow", is_flag=True, help="Watch until it is finished. Without a daemon that is always so.")
@click.option("--dry-run", is_flag=True, help="Only count the conversations that lack a profile.")
@click.pass_context
def backfill(
    context: click.Context,
    config_path: Path | None,
    *,
    as_json: bool,
    account_id: str | None,
    batch_size: int,
    most: int | None,
    force: bool,
    older_than: int | None,
    follow: bool,
    dry_run: bool,
) -> None:
    """Fetch the profiles that an account's conversations lack. Exits 1 if some could not be had.

    Who failed is printed with the reason. pause, resume and cancel are for the run that is not finished.
    """
    from inboxd.runs.backfill import commands as command  # noqa: PLC0415 - see run

    if context.invoked_subcommand is not None:
        return
    if account_id is None:
        msg = "give the account: --account ID"
        raise click.UsageError(msg)
    older_than_s = older_than if older_than is not None else 86_400 if force else None
    wish = command.Wish(account_id, batch_size, dry_run, most, older_than_s)
    sys.exit(_run(command.backfill(*_surroundings(config_path), wish, follow=follow, as_json=as_json)))


def _steering(how: str, text: str) -> None:
    """A command of `backfill` that steers the run that is not finished."""

    @backfill.command(how, help=text)
    @config_option
    @json_option
    @click.option("--account", "account_id", required=True, help="The account's id.")
    def steer(config_path: Path | None, *, as_json: bool, account_id: str) -> None:
        from inboxd.domain.backfill import Steering  # noqa: PLC0415 - see run
        from inboxd.runs.backfill import commands as command  # noqa: PLC0415 - see run

        _run(command.steer(*_surroundings(config_path), account_id, Steering(how), as_json=as_json))


_steering("pause", "Pause the account's run; what is done stays done.")
_steering("resume", "Go on with the account's paused run, where it was.")
_steering("cancel", "End the account's run for good; what is done stays done.")


@cli.command("import-conversations")
@config_option
@click.argument("file", type=click.Path(allow_dash=True))
def import_conversations(config_path: Path | None, file: str) -> None:
    """Register known conversations from FILE: CSV with a heading, or JSON Lines; - is standard input.

    Fields are those of the API, in camelCase or snake_case: clientAccountId, participantPlatformId, and optionally
    platformConversationId (another system's is kept in the metadata), participantUsername, participantProfilePic,
    unreadCount, status and metadata. Other columns are named and left out. Bad rows are reported by their number and
    left out; exits 1 then.
    """
    from inboxd.conversations import commands as importing  # noqa: PLC0415 - see run

    with _opened(file) as rows:
        sys.exit(_run(importing.import_conversations(*_surroundings(config_path), rows)))


@cli.command()
@config_option
@json_option
def doctor(config_path: Path | None, *, as_json: bool) -> None:
    """Look everything over and say what is wrong and how to mend it. Exits 1 if anything is.

    Configuration, secrets, clock, disk, permissions, database, backups, DNS and TLS to Meta, the daemon, each account's
    token and subscription, and the public address when public.base_url names it.
    """
    from inboxd.maintenance.doctor import doctor as look_over  # noqa: PLC0415 - see run

    sys.exit(_run(look_over(config_path, os.environ, as_json=as_json)))


@cli.command()
@config_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
def backup(config_path: Path | None, file: Path | None) -> None:
    """Back up the database, running or not, to FILE; without FILE to storage.backup_path, keeping the latest few.

    The copy is one moment of the database, and is checked from its first to its last page before it gets its name.
    """
    from inboxd.maintenance import commands as keeping  # noqa: PLC0415 - see run

    settings, path = _storage(config_path)
    folder = settings.storage.backups(os.environ)
    keeping.make_backup(path, file, folder=folder, keep=settings.storage.keep_backups)


@cli.command()
@config_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def restore(config_path: Path | None, file: Path) -> None:
    """Put the backup FILE in the place of the database. Refuses while the daemon runs; the old file is kept aside."""
    from inboxd.maintenance import commands as keeping  # noqa: PLC0415 - see run

    _, path = _storage(config_path)
    keeping.put_back(file, path)


account_option = click.option("--account", "account_id", required=True, help="The account's id.")
participant_option = click.option("--participant", "participant_id", required=True, help="The person's id (IGSID).")


@cli.command()
@config_option
@json_option
@account_option
@participant_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(config_path: Path | None, *, as_json: bool, account_id: str, participant_id: str, yes: bool) -> None:
    """Erase one person everywhere, for ever: messages, profile, picture, raw deliveries, search index."""
    from inboxd.maintenance import commands as keeping  # noqa: PLC0415 - see run

    whom = keeping.person_of(account_id, participant_id)
    if not yes:
        click.confirm(f"Erase everything about {participant_id} of account {account_id}?", abort=True, err=True)
    sys.exit(_run(keeping.forget(*_surroundings(config_path), whom, as_json=as_json)))


@cli.command("erase-account")
@config_option
@json_option
@account_option
@click.option("--code", help="The confirmation code of a deletion request that could not be matched.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_account(config_path: Path | None, *, as_json: bool, account_id: str, code: str | None, yes: bool) -> None:
    """Erase an account with everybody in it, for ever. Exits 1 if something has to be waited for.

    For somebody who asked Meta to delete their data when nobody could tell which account is theirs; with their code the
    page that they were given says how it stands.
    """
    from inboxd.maintenance import commands as keeping  # noqa: PLC0415 - see run

    if not yes:
        click.confirm(f"Erase the account {account_id} with everybody in it?", abort=True, err=True)
    account_id, _ = keeping.key_of(account_id, account_id)
    sys.exit(_run(keeping.erase_account(*_surroundings(config_path), account_id, code, as_json=as_json)))


@cli.command()
@config_option
@account_option
@participant_option
def export(config_path: Path | None, account_id: str, participant_id: str) -> None:
    """Print everything that is kept of one person, as JSON."""
    from inboxd.maintenance import commands as keeping  # noqa: PLC0415 - see run

    _run(keeping.export(*_surroundings(config_path), keeping.key_of(account_id, participant_id)))


@cli.command()
@click.option("--once", is_flag=True, help="Play the traffic quickly and exit: 0 when every participant has a profile.")
def demo(*, once: bool) -> None:
    """See it work: a simulated Instagram, a daemon, and conversations filling up with names."""
    from inboxd.simulator.demo import play  # noqa: PLC0415 - see run

    sys.exit(_run(play(once=once)))


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9100, show_default=True)
@click.option("--account", "account_id", default="17841400000000001", show_default=True)
@click.option("--webhook-url", help="Send some lively traffic to this address, once. Needs --app-secret.")
@click.option(
    "--app-secret", envvar="INBOXD_SIMULATOR_APP_SECRET", help="Signs the webhooks. [env: INBOXD_SIMULATOR_APP_SECRET]"
)
def simulator(port: int, account_id: str, webhook_url: str | None, app_secret: str | None) -> None:
    """Run a local Instagram: a Graph API, and optionally a sender of signed webhooks."""
    from inboxd.simulator.standalone import serve  # noqa: PLC0415 - see run

    if webhook_url and not app_secret:
        msg = "--webhook-url needs --app-secret: Meta signs what it sends"
        raise click.UsageError(msg)
    sys.exit(_run(serve(port=port, account_id=account_id, webhook_url=webhook_url, app_secret=app_secret or "")))


def main() -> NoReturn:
    """Run the command; what went wrong is one clear message on stderr, and an exit code of sysexits(3)."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EX_USAGE)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    except InboxdError as error:
        click.echo("inboxd: " + "\n".join(map(printable, str(error).split("\n"))), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except _EndedBySignal as ended:
        sys.exit(128 + ended.number)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EX_SOFTWARE)
    except OSError as error:
        if error.filename is None:  # not a matter of some file
            _fail()
        click.echo(f"inboxd: {error.filename}: {error.strerror}", err=True)
        sys.exit(EX_IOERR)
    except Exception:  # noqa: BLE001 - an error of ours, with its traceback
        _fail()
    sys.exit(EX_OK)


def _fail() -> NoReturn:
    traceback.print_exc()
    sys.exit(EX_SOFTWARE)


def _surroundings(config_path: Path | None) -> tuple[Settings, Secrets, Path]:
    """Settings, secrets and database for a command that may open the database itself."""
    from inboxd.runtime import logs  # noqa: PLC0415 - see run

    os.umask(0o027)
    logs.set_up(level="error", log_format="console", stream=sys.stderr)
    settings = _settings(config_path)
    return settings, load_secrets(os.environ), settings.storage.resolved(os.environ)


def _storage(config_path: Path | None) -> tuple[Settings, Path]:
    """Settings and database for a command that works on files."""
    os.umask(0o077)
    settings = _settings(config_path)
    return settings, settings.storage.resolved(os.environ)


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    """The text file at `path`, or standard input for `-`. Bytes that are no UTF-8 become surrogates. Raises OSError."""
    if path == "-":
        yield sys.stdin
        return
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield file


def _settings(config_path: Path | None) -> Settings:
    return load_settings(find_config(config_path, os.environ), os.environ)


def _run(main: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    import uvloop  # noqa: PLC0415 - see run

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_told_to_end(main))


class _EndedBySignal(Exception):  # noqa: N818 - no error
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def _until_told_to_end(main: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """What `main` returns. SIGTERM and SIGHUP cancel it, so that it cleans up; then _EndedBySignal is raised."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    ended: list[int] = []

    def end(number: int) -> None:
        ended.append(number)
        if task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup(1)
            loop.add_signal_handler(number, end, number)
    try:
        return await main
    except asyncio.CancelledError:
        if not ended:
            raise
        raise _EndedBySignal(ended[0]) from None


async def _conversations(settings: Settings, condition: Any, *, limit: int, offset: int, as_json: bool) -> None:  # noqa: ANN401 - ConversationFilter, imported late
    import msgspec  # noqa: PLC0415 - see run

    from inboxd.accounts.store import stored  # noqa: PLC0415 - see run
    from inboxd.conversations.resources import ConversationList, ConversationResource  # noqa: PLC0415 - see run
    from inboxd.conversations.store import Conversations  # noqa: PLC0415 - see run
    from inboxd.conversations.tables import conversation_table  # noqa: PLC0415 - see run
    from inboxd.runtime.console import console  # noqa: PLC0415 - see run
    from inboxd.storage.database import open_for_reading  # noqa: PLC0415 - see run

    async with open_for_reading(settings.storage.resolved(os.environ)) as connection:
        store = Conversations(connection.read)
        found, total = await store.page(condition, limit=limit, offset=offset)
        if not as_json:
            latest = await store.latest([conversation.id for conversation in found])
            console().print(conversation_table(found, latest, total=total))
            return
        accounts = {account.id for account in settings.accounts}
        for one in await stored(connection.read):
            if one.account.id in accounts or not one.account.configured:  # else it was taken out of the configuration
                accounts.update(one.account.aliases)
    resources = [ConversationResource.of(conversation, accounts) for conversation in found]
    page = ConversationList(conversations=resources, total=total, limit=limit, offset=offset, next_cursor=None)
    click.echo(msgspec.json.encode(page).decode())
