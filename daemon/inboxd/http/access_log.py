"""The access log: a sample of requests, through the same pipe as everything else."""

import random
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from inboxd.runtime import logs

DELIVERY: Final = web.RequestKey("delivery_id", int)
"""The delivery that a request brought."""


class AccessLogger(AbstractAccessLogger):
    """Logs a share of the requests, and every one that failed through a fault of ours.

    The path is logged without its query, which may carry the verify token or what somebody searched for.
    """

    sample = 0.0

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """One request; `time` is in seconds."""
        failed = response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if not failed and random.random() >= self.sample:  # noqa: S311 - which requests are logged is no secret
            return
        delivery = {"delivery_id": request[DELIVERY]} if DELIVERY in request else {}
        logs.get("access").info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status,
            ms=round(time * 1000, 1),
            bytes=response.body_length,
            address=request.remote,
            **delivery,
        )


def access_logger(sample: float) -> type[AccessLogger] | None:
    """The kind of logger that aiohttp is given; None for no access log."""
    return type("SampledAccessLogger", (AccessLogger,), {"sample": sample}) if sample > 0 else None
