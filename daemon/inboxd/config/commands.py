"""`inboxd check-config`."""

import os
from pathlib import Path

import click

from inboxd.config.loading import find_config, load_settings
from inboxd.config.schema import concerns
from inboxd.config.secrets import how_to_give, load_secrets, require_secrets
from inboxd.runtime.command_line import config_option
from inboxd.runtime.errors import ConfigError


@click.command("check-config")
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
