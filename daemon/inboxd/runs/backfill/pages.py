"""`/backfill`: pages on which people start, watch and steer runs."""

from http import HTTPStatus

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.domain.backfill import DEFAULT_BATCH, MAX_BATCH, BackfillRun
from inboxd.http.forms import fields_of
from inboxd.http.problems import ProblemError
from inboxd.http.rendering import offset_of, page, see_other
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.pages import RunPages
from inboxd.runs.store import RunActiveError
from inboxd.runtime.clock import Clock


class BackfillPages(RunPages[BackfillRun]):
    """The list of runs, and a page for each."""

    path = "/backfill"
    template = "backfill_run.html"

    def __init__(
        self, service: BackfillService, backfills: BackfillStore, accounts: AccountManager, clock: Clock
    ) -> None:
        super().__init__(service, backfills, accounts, clock)
        self._backfill = service
        self._backfills = backfills

    async def all(self, request: web.Request) -> web.Response:
        """The runs that are not finished, and earlier ones."""
        missing = {one: await self._backfills.missing(one, 0) for one in sorted(self._accounts.served)}
        accounts = [(self._accounts.served[one].account, count) for one, count in missing.items()]
        context = {
            **await self._listed(offset_of(request)),
            "accounts": accounts,
            "default_batch": DEFAULT_BATCH,
            "max_batch": MAX_BATCH,
        }
        return page(request, "backfill.html", context)

    async def start(self, request: web.Request) -> web.Response:
        """Start a run, and show it."""
        form = await fields_of(request)
        account_id, size = form.get("account", ""), form.get("batch_size", str(DEFAULT_BATCH))
        if not self._service.serves(account_id):
            raise ProblemError(HTTPStatus.NOT_FOUND, "This account is not served.")
        if not (size.isascii() and size.isdigit() and len(size) < 4 and 1 <= int(size) <= MAX_BATCH):
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"The batch size must be a number from 1 to {MAX_BATCH}.")
        try:
            run = await self._backfill.start(account_id, origin="api", batch_size=int(size))
        except RunActiveError as error:
            return see_other(f"/backfill/{error.run_id}")
        return see_other(f"/backfill/{run.id}")
