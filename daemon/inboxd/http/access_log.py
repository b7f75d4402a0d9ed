"""The access log: a sample of the requests, in the daemon's own log."""

import random
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from inboxd.runtime import logs

DELIVERY: Final = web.RequestKey("delivery_id", int)
"""The id of the delivery that a request contained."""
SHOWN_PATH: Final = web.RequestKey("shown_path", str)
"""The path to log, of a request whose own path must stay secret."""


class AccessLogger(AbstractAccessLogger):
    """Logs a random share of the requests, and every request that failed with a server error (5xx).

    The path is logged without its query, which may contain the verify token or the words of a search.
    """

    sample = 0.0

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log one request; `time` is its duration in seconds."""
        failed = response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if not failed and random.random() >= self.sample:  # noqa: S311 - the choice of logged requests is not a secret
            return
        delivery = {"delivery_id": request[DELIVERY]} if DELIVERY in request else {}
        logs.get("access").info(
            "request",
            method=request.method,
            path=request.get(SHOWN_PATH, request.path),
            status=response.status,
            ms=round(time * 1000, 1),
            bytes=response.body_length,
            address=request.remote,
            **delivery,
        )


def access_logger(sample: float) -> type[AccessLogger] | None:
    """The logger class to give to aiohttp; None for no access log. `sample` is the share of requests, 0 to 1."""
    return type("SampledAccessLogger", (AccessLogger,), {"sample": sample}) if sample > 0 else None
