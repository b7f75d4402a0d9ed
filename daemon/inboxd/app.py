"""The composition root: builds the features, starts what they give, and stops it in the reverse order."""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from inboxd import listeners, options
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.core import open_core
from inboxd.daemon import Daemon
from inboxd.features import NewFeature, build_features
from inboxd.maintenance.feature import Process
from inboxd.reload import Reloader
from inboxd.runtime.clock import Clock


@asynccontextmanager
async def run_daemon(
    settings: Settings,
    secrets: Secrets,
    database_path: Path,
    *,
    on_give_up: Callable[[], None],
    clock: Clock | None = None,
    process: Process | None = None,
    public_socket: socket.socket | None = None,
    more: Sequence[NewFeature] = (),
) -> AsyncIterator[Daemon]:
    """The daemon, from its first to its last moment. `on_give_up` is called when it can no longer do its job.

    `public_socket` is a listening socket to use instead of one of our own. `more` are built above `runs`.

    It stops from the top down: first nobody new is let in and requests in flight are answered, then the workers end,
    then the connections to Meta close, then the writer commits what it holds and the file is closed.
    Raises InboxdError when a part cannot start; those already started are stopped.
    """
    async with AsyncExitStack() as stack:
        core = await open_core(stack, database_path, clock or Clock(), on_give_up=on_give_up)
        features = await build_features(core, stack, settings, secrets, process or Process(), more)
        await stack.enter_async_context(core.supervisor)
        for feature in features:
            if feature.start is not None:
                await feature.start(features)
        for job in (job for feature in features for job in feature.workers):
            core.supervisor.start(*job)
        tokens = options.access_tokens(secrets.admin_token, secrets.named_tokens)
        urls = await listeners.listen(stack, core, features, options.listener_options(settings), tokens, public_socket)
        rules = listeners.reload_rules(tokens, options.access_tokens)
        rules += [rule for feature in features for rule in feature.reload]
        yield Daemon(urls, core.supervisor, Reloader(settings, secrets, rules))
