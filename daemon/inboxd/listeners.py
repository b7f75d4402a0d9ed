"""The two listeners: one for Meta, one for those who look after the inbox. No route is on both."""

import importlib.resources
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from aiohttp import web

from inboxd.config.secrets import NamedToken
from inboxd.feature import Core, Feature, ReloadRule
from inboxd.http.access_log import AccessLogger, access_logger
from inboxd.http.admin import admin_application
from inboxd.http.auth import AccessToken
from inboxd.http.connections import KEEPALIVE_S, GuardedSite, bind, url_of
from inboxd.http.forms import MAX_FORM_BYTES
from inboxd.http.problems import problem_middleware
from inboxd.runtime import logs
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.secret import Secret

SHUTDOWN_S: Final = 1.0
"""How long requests in flight get to finish when the daemon stops."""
ADMIN_CONNECTIONS: Final = 160
"""More than requests may wait for events and streams may be open together: the others must always find a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of the listeners."""

    public_host: str
    public_port: int
    admin_host: str
    admin_port: int
    max_connections: int
    """Of the public listener."""
    max_failures: int
    """Wrong tokens from one address, before it has to wait."""
    request_timeout_s: float
    access_sample: float


class Urls(NamedTuple):
    """Where the daemon listens."""

    public: str
    admin: str


async def listen(
    stack: AsyncExitStack,
    core: Core,
    features: Sequence[Feature],
    options: Options,
    tokens: Sequence[AccessToken],
    public_socket: socket.socket | None,
) -> Urls:
    """Open both listeners, the public one last; `stack` closes them. Raises InboxdError when a port is taken.

    Requests of the admin listener are checked against `tokens` as they are at that moment.
    """
    admin_app = _admin_application(core, features, tokens, max_failures=options.max_failures)
    admin_socket = bind(options.admin_host, options.admin_port, key="admin")
    admin = await stack.enter_async_context(
        _listening(admin_app, admin_socket, options, core.metrics, max_connections=ADMIN_CONNECTIONS)
    )
    public_app = _public_application(features)
    if public_socket is None:
        public_socket = bind(options.public_host, options.public_port, key="public")
    public = await stack.enter_async_context(
        _listening(public_app, public_socket, options, core.metrics, max_connections=options.max_connections)
    )
    return Urls(public, admin)


def reload_rules(
    tokens: list[AccessToken], access_tokens: Callable[[Secret | None, Iterable[NamedToken]], list[AccessToken]]
) -> list[ReloadRule]:
    """What can change of the process itself while it runs."""

    def use_tokens(new: Mapping[str, Any]) -> None:
        tokens[:] = access_tokens(new["admin_token"], new["named_tokens"])

    return [
        ReloadRule(("logs.level",), lambda new: logs.set_level(new["logs.level"])),
        ReloadRule(("admin_token", "named_tokens"), use_tokens),
    ]


def _public_application(features: Sequence[Feature]) -> web.Application:
    """The features' public routes and nothing else. Bodies that aiohttp reads are small forms."""
    app = web.Application(client_max_size=MAX_FORM_BYTES, middlewares=[problem_middleware])
    for feature in features:
        if feature.public_routes is not None:
            feature.public_routes(app)
    return app


def _admin_application(
    core: Core, features: Sequence[Feature], tokens: Sequence[AccessToken], *, max_failures: int
) -> web.Application:
    links = sorted((link for feature in features for link in feature.links), key=lambda link: link.position)
    app = admin_application(
        tokens,
        [operation for feature in features for operation in feature.operations],
        [pages for feature in features for pages in feature.pages],
        core.clock,
        templates=[feature.templates for feature in features if feature.templates is not None],
        navigation=[(link.path, link.text) for link in links],
        static=importlib.resources.files("inboxd.dashboard") / "static",
        max_failures=max_failures,
    )
    app.on_shutdown.extend(feature.close for feature in features if feature.close is not None)
    return app


@asynccontextmanager
async def _listening(
    app: web.Application, sock: socket.socket, options: Options, metrics: Metrics, *, max_connections: int
) -> AsyncIterator[str]:
    """Serve `app` on `sock`; yields its URL. On the way out requests in flight get SHUTDOWN_S to finish."""
    logger = access_logger(options.access_sample)
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await GuardedSite(
            runner,
            sock,
            max_connections=max_connections,
            request_timeout_s=options.request_timeout_s,
            on_refused=lambda reason: metrics.connections_refused.labels(reason).inc(),
            access_log=logging.getLogger("access") if logger is not None else None,
            access_log_class=logger or AccessLogger,
            auto_decompress=False,  # signatures are over the bytes on the wire
            keepalive_timeout=KEEPALIVE_S,
        ).start()
        yield url_of(sock)
    finally:
        await runner.cleanup()
        sock.close()
