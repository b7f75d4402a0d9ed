"""The workers of all endpoints."""

from inboxd.forwarding.endpoint import Endpoint, EndpointKind
from inboxd.forwarding.worker import SCHEDULE, EndpointWorker, Tools
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.personal_data import Subject


class EndpointWorkers:
    """Starts and ends the worker of each endpoint, and tells them of what there is to push."""

    def __init__(self, supervisor: Supervisor, tools: Tools) -> None:
        self._supervisor = supervisor
        self._tools = tools
        self._workers: dict[str, EndpointWorker] = {}
        self._of_deliveries: set[str] = set()

    def start(self, endpoint: Endpoint) -> None:
        """Begin to push to an endpoint, or go on."""
        if endpoint.id in self._workers:
            self.reload(endpoint.id)
            return
        worker = self._workers[endpoint.id] = EndpointWorker(endpoint.id, self._tools)
        if endpoint.kind is EndpointKind.META:
            self._of_deliveries.add(endpoint.id)
        self._tools.metrics.started(endpoint.id)
        self._supervisor.start(worker, SCHEDULE)

    async def end(self, endpoint_id: str) -> None:
        """Push no more to an endpoint; what it was pushed is saved."""
        worker = self._workers.pop(endpoint_id, None)
        self._of_deliveries.discard(endpoint_id)
        if worker is not None:
            await self._supervisor.end(worker.name)
            self._tools.metrics.removed(endpoint_id)

    def reload(self, endpoint_id: str) -> None:
        """The endpoint was changed: read it again, and try at once."""
        worker = self._workers.get(endpoint_id)
        if worker is not None:
            worker.reload()

    def cursor(self, endpoint_id: str) -> int | None:
        """How far it is, also what is not saved yet; None when that is not known."""
        worker = self._workers.get(endpoint_id)
        return None if worker is None else worker.cursor

    def events_appended(self) -> None:
        """The event log has grown."""
        for endpoint_id, worker in self._workers.items():
            if endpoint_id not in self._of_deliveries:
                worker.appended()

    def committed(self, _transactions: int, _took_s: float) -> None:
        """Something was stored, perhaps a delivery."""
        for endpoint_id in self._of_deliveries:
            self._workers[endpoint_id].appended()

    def forget(self, _subject: Subject) -> None:
        """Drop what is in memory: something of it may be of a person who is erased."""
        for worker in self._workers.values():
            worker.reload()
