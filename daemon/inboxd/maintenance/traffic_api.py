"""`/api/traffic`: what arrives for each account, and what is unusual about it."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from inboxd.http.operations import Operation, answer
from inboxd.maintenance.traffic_monitor import TrafficMonitor
from inboxd.maintenance.traffic_resources import AccountTrafficResource, TrafficFindingResource, TrafficReport

PATH: Final = "/api/traffic"


class TrafficApi:
    """The results of the traffic monitor's last check."""

    def __init__(self, monitor: TrafficMonitor) -> None:
        self._monitor = monitor

    def operations(self) -> Sequence[Operation]:
        """The operations of this API."""
        return [Operation("GET", PATH, self.report, "system", {200: TrafficReport})]

    async def report(self, _request: web.Request) -> web.Response:
        """What arrives for each account, served or not, and what is unusual about it; a minute old at most."""
        return answer(
            TrafficReport(
                findings=[TrafficFindingResource.of(one) for one in self._monitor.findings],
                accounts=[AccountTrafficResource.of(one) for one in self._monitor.traffic],
            )
        )
