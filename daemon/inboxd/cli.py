"""The `inboxd` command: a table of commands, each imported when it is asked for, and what becomes of errors."""

import importlib
import os
import sys
import traceback
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

import click

from inboxd import __version__
from inboxd.runtime.errors import EX_IOERR, EX_OK, EX_SOFTWARE, EX_USAGE, InboxdError
from inboxd.runtime.terminal import printable

_INTERRUPTED: Final = 130


class Entry(NamedTuple):
    """Where a command is, as `module:attribute`."""

    command: str
    help: str
    """The first paragraph of the command's own help."""
    setup: str | None = None
    """What makes, of the path of the configuration file, the value that the command takes as its `obj`."""


COMMANDS: Final = {
    "account": Entry(
        "inboxd.accounts.commands:account",
        "Add, list, set, check and remove accounts, through the running daemon or on the database when none runs.",
        "inboxd.offline.accounts:accounts",
    ),
    "backfill": Entry(
        "inboxd.runs.backfill.commands:backfill",
        "Fetch the profiles that an account's conversations lack. Exits 1 if some could not be had.",
        "inboxd.offline.backfill:backfill",
    ),
    "backup": Entry(
        "inboxd.maintenance.commands:backup",
        "Back up the database, running or not, to FILE; without FILE to storage.backup_path, keeping the latest few.",
        "inboxd.command_setup:backup",
    ),
    "check-config": Entry(
        "inboxd.config.commands:check_config",
        "Check the configuration without starting anything.",
    ),
    "conversations": Entry(
        "inboxd.conversations.list_command:conversations",
        "Show the conversations: who, last message, unread. Reads the file; the daemon may run or not.",
        "inboxd.command_setup:conversations",
    ),
    "demo": Entry(
        "inboxd.demo:demo",
        "See it work: a simulated Instagram, a daemon, and conversations filling up with names.",
    ),
    "doctor": Entry(
        "inboxd.maintenance.doctor.command:doctor",
        "Look everything over and say what is wrong and how to mend it. Exits 1 if anything is.",
    ),
    "endpoints": Entry(
        "inboxd.forwarding.commands:endpoints",
        "Webhook endpoints: where events are pushed to. Add, watch, test and replay them, through the running daemon.",
        "inboxd.offline.endpoints:endpoints",
    ),
    "erase-account": Entry(
        "inboxd.privacy.commands:erase_account",
        "Erase an account with everybody in it, for ever. Exits 1 if something has to be waited for.",
        "inboxd.offline.privacy:privacy",
    ),
    "events": Entry(
        "inboxd.events.commands:events",
        "Show what happened, from the event log: time, type, who, text. --follow goes on with what happens.",
        "inboxd.offline.events:events",
    ),
    "export": Entry(
        "inboxd.privacy.commands:export",
        "Print everything that is kept of one person, as JSON.",
        "inboxd.offline.privacy:privacy",
    ),
    "forget": Entry(
        "inboxd.privacy.commands:forget",
        "Erase one person everywhere, for ever: messages, profile, picture, raw deliveries, search index.",
        "inboxd.offline.privacy:privacy",
    ),
    "import-conversations": Entry(
        "inboxd.conversations.commands:import_conversations",
        "Register known conversations from FILE: CSV with a heading, or JSON Lines; - is standard input.",
        "inboxd.offline.inbox:inbox",
    ),
    "import-history": Entry(
        "inboxd.runs.history.commands:import_history",
        "Import the messages that are in an account's mailbox at Meta. Exits 1 if some could not be had.",
        "inboxd.offline.history:history",
    ),
    "outbox": Entry(
        "inboxd.sending.outbox_commands:outbox",
        "Show what is to be sent and what became of it; cancel it, or send it again.",
        "inboxd.offline.daemon:daemon",
    ),
    "restore": Entry(
        "inboxd.maintenance.commands:restore",
        "Put the backup FILE in the place of the database. Refuses while the daemon runs; the old file is kept aside.",
        "inboxd.command_setup:backup",
    ),
    "run": Entry(
        "inboxd.service:run",
        "Run the daemon until SIGTERM or SIGINT.",
    ),
    "send": Entry(
        "inboxd.sending.send_command:send",
        "Send a message through the running daemon, and wait until it is sent.",
        "inboxd.offline.daemon:daemon",
    ),
    "simulator": Entry(
        "inboxd.simulator.standalone:simulator",
        "Run a local Instagram: a Graph API, and optionally a sender of signed webhooks.",
    ),
}


class LazyGroup(click.Group):
    """The commands of COMMANDS; help and version import none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names, in the order of the help."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if entry.setup is not None:
            ctx.obj = partial(_set_up, entry.setup)
        command: click.Command = _load(entry.command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The list of commands as click writes it, from the table alone."""
        room = formatter.width - 6 - max(map(len, COMMANDS))
        stubs = [click.Command(name, help=COMMANDS[name].help) for name in sorted(COMMANDS)]
        with formatter.section("Commands"):
            formatter.write_dl([(stub.name or "", stub.get_short_help_str(room)) for stub in stubs])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="inboxd %(version)s")
def cli() -> None:
    """The Instagram inbox daemon: webhooks in, conversations with names and faces out."""


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


def _load(place: str) -> Any:  # noqa: ANN401 - whatever is there
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _set_up(place: str, config_path: "os.PathLike[str] | None") -> Any:  # noqa: ANN401 - whatever the command takes
    return _load(place)(config_path)
