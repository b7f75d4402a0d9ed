"""A running inboxd, as the process sees it."""

from inboxd.listeners import Urls
from inboxd.reload import Reloader
from inboxd.runtime.supervisor import Supervisor


class Daemon:
    """Where a running inboxd listens, and whether it still can do its job."""

    def __init__(self, urls: Urls, supervisor: Supervisor, reloader: Reloader) -> None:
        self.public_url, self.admin_url = urls
        self.reloader = reloader
        self._supervisor = supervisor

    @property
    def gave_up(self) -> bool:
        """Whether a background worker crashed too often to go on."""
        return self._supervisor.gave_up
