"""The command's table: what it imports, and what every command says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from inboxd.cli import COMMANDS, cli

from tests.fork_server import INBOXD

HELP = Path(__file__).with_name("command_help.txt")
"""What every command says of itself, each after a line `$ inboxd … --help`."""
HEAVY = {"aiohttp", "msgspec", "sqlite3", "asyncio"}
_IMPORTED = """
import sys
from inboxd.cli import main
try:
    main()
except SystemExit as end:
    print(*sys.modules, file=sys.stderr)
    raise
"""


def recorded() -> dict[str, str]:
    """Help texts by command."""
    texts = HELP.read_text().split("$ inboxd ")[1:]
    return dict(text.split("\n", 1) for text in texts)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_import_nothing_heavy(option: str) -> None:
    ended = subprocess.run([sys.executable, "-c", _IMPORTED, option], capture_output=True, text=True, check=True)

    assert ended.stdout.startswith("inboxd " if option == "--version" else "Usage:")
    assert not HEAVY & set(ended.stderr.split())
    assert "inboxd.cli" in ended.stderr.split()


@pytest.mark.parametrize("command", recorded())
def test_what_a_command_says_of_itself_stays(command: str) -> None:
    said = CliRunner().invoke(cli, command.split(), prog_name="inboxd", terminal_width=78)

    assert said.exit_code == 0
    assert said.output == recorded()[command]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    with cli.make_context("inboxd", [name]) as context:
        command = cli.get_command(context, name)

    assert command is not None
    assert command.name == name
    assert command.help is not None
    assert COMMANDS[name].help == " ".join(command.help.split("\n\n")[0].split())
    assert f"{name} --help" in recorded()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_imports_what_it_needs(name: str) -> None:
    """The process tests start commands in a process that has imported the modules of all of them."""
    said = subprocess.run([INBOXD, name, "--help"], capture_output=True, text=True, check=True, env={"PATH": ""})

    assert said.stdout.startswith(f"Usage: inboxd {name}")


def test_a_command_that_is_none_is_named() -> None:
    said = CliRunner().invoke(cli, ["bakcup"])

    assert said.exit_code == 2
    assert "No such command 'bakcup'" in said.output
