"""`inboxd run`: the process around the daemon, with its signals, readiness, reload and exit code."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from inboxd import __version__
from inboxd.app import run_daemon
from inboxd.command_setup import settings_of
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets, load_secrets, require_secrets
from inboxd.daemon import Daemon
from inboxd.maintenance.feature import Process
from inboxd.options import access_tokens
from inboxd.runtime import logs
from inboxd.runtime.activation import inherited_socket
from inboxd.runtime.command_line import config_option, run_async
from inboxd.runtime.errors import EX_OK, EX_SOFTWARE, InboxdError
from inboxd.runtime.log_processors import Repeats
from inboxd.runtime.notify import Notifier

SWITCH_INTERVAL_S: Final = 0.001
_FROM_SYSTEMD: Final = ["secrets, if they were changed: systemd hands them over at a start only"]

Load = Callable[[], tuple[Settings, Secrets]]
"""Reads the configuration. Raises ConfigError."""


class Service:
    """Runs the daemon until a signal stops it, or until it can no longer do its job."""

    def __init__(self, load: Load, database_path: Path, repeats: Repeats) -> None:
        self._load: Final = load
        self._database_path = database_path
        self._repeats = repeats
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._log = logs.get("service")

    async def run(self, settings: Settings, secrets: Secrets) -> int:
        """Run until SIGTERM, SIGINT, or an essential worker has given up; SIGHUP reloads. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._request_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        async with run_daemon(
            settings,
            secrets,
            self._database_path,
            on_give_up=self._request_stop,
            process=Process(self._notifier, self._repeats.flush),
            public_socket=inherited_socket(),
        ) as daemon:
            # What exists by now lives until the end: the garbage collector need not scan it again and again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            # The writer's thread releases the GIL at each statement, and must get it back from a busy event loop.
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            self._log.info("started", version=__version__, public=daemon.public_url, admin=daemon.admin_url)
            if not access_tokens(secrets.admin_token, secrets.named_tokens):
                self._log.warning("admin_api_off", reason="no admin_token is configured")
            self._notifier.send(READY="1")
            while not self._stop.is_set():
                await self._wait_for_signal(daemon)
            self._notifier.send(STOPPING="1")
            self._log.info("stopping")
        self._repeats.flush(everything=True)
        self._log.info("stopped")
        return EX_SOFTWARE if daemon.gave_up else EX_OK

    def _request_stop(self) -> None:
        self._stop.set()
        self._reload.set()  # it is what `run` waits for

    async def _wait_for_signal(self, daemon: Daemon) -> None:
        """Wait until the daemon is to stop or to reload its configuration, and reload it."""
        await self._reload.wait()
        self._reload.clear()
        if self._stop.is_set():
            return
        self._notifier.send(RELOADING="1")
        try:
            done = await daemon.reloader.reload(*self._load())
        except InboxdError as error:
            self._log.error("configuration_not_reloaded", error=str(error))
        else:
            restart = done.needs_restart + (_FROM_SYSTEMD if "CREDENTIALS_DIRECTORY" in os.environ else [])
            self._log.info("configuration_reloaded", applied=done.applied, needs_restart=restart)
        self._notifier.send(READY="1")


@click.command()
@config_option
def run(config_path: Path | None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""

    def load() -> tuple[Settings, Secrets]:
        settings, secrets = settings_of(config_path), load_secrets(os.environ)
        require_secrets(secrets)
        return settings, secrets

    settings, secrets = load()
    os.umask(0o027)  # private messages: no other user of this machine may read them
    options = settings.logs
    repeats = logs.set_up(level=options.level, log_format=options.format, personal=options.personal)
    service = Service(load, settings.storage.resolved(os.environ), repeats)
    sys.exit(run_async(service.run(settings, secrets)))
