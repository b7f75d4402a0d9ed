"""`/history`: pages on which people start, watch and steer history imports."""

from http import HTTPStatus

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.domain.history import HistoryRun, since_ms
from inboxd.http.forms import fields_of
from inboxd.http.problems import ProblemError
from inboxd.http.rendering import offset_of, page, see_other
from inboxd.runs.history.service import HistoryOptions, HistoryService
from inboxd.runs.history.store import HistoryStore
from inboxd.runs.pages import RunPages
from inboxd.runs.store import RunActiveError
from inboxd.runtime.clock import Clock


class HistoryPages(RunPages[HistoryRun]):
    """The list of imports, and a page for each."""

    path = "/history"
    template = "history_run.html"

    def __init__(self, service: HistoryService, imports: HistoryStore, accounts: AccountManager, clock: Clock) -> None:
        super().__init__(service, imports, accounts, clock)
        self._history = service

    async def all(self, request: web.Request) -> web.Response:
        """The imports that are not finished, and earlier ones."""
        served = self._accounts.served
        accounts = [served[one].account for one in sorted(served)]
        context = {**await self._listed(offset_of(request)), "accounts": accounts}
        return page(request, "history.html", {**context, "chosen": request.query.get("account", "")})

    async def start(self, request: web.Request) -> web.Response:
        """Start an import, and show it."""
        form = await fields_of(request)
        account_id, since = form.get("account", ""), form.get("since", "")
        if not self._service.serves(account_id):
            raise ProblemError(HTTPStatus.NOT_FOUND, "This account is not served.")
        try:
            options = HistoryOptions(
                since=since_ms(since, self._clock.now_ms()) if since else 0, emit_events="emit_events" in form
            )
        except ValueError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"The first day: {error}.") from error
        try:
            run = await self._history.start(account_id, options, origin="api")
        except RunActiveError as error:
            return see_other(f"{self.path}/{error.run_id}")
        return see_other(f"{self.path}/{run.id}")
