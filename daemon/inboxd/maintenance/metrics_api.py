"""`/metrics`, for Prometheus."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from inboxd.http.operations import Operation
from inboxd.runtime.metrics import Metrics


class MetricsApi:
    """`/metrics`: counters as they stand, and gauges that `collectors` set when somebody asks."""

    def __init__(self, metrics: Metrics, collectors: Sequence[Callable[[], Awaitable[None]]]) -> None:
        self._metrics = metrics
        self._collectors = collectors

    def operations(self) -> Sequence[Operation]:
        """The operations of this API."""
        return [Operation("GET", "/metrics", self.metrics, "system", {200: "text/plain"}, id="MetricsPage_metrics")]

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics in Prometheus's text format, or in that of OpenMetrics where it is asked for."""
        for collect in self._collectors:
            await collect()
        text, content_type = self._metrics.rendered(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})
