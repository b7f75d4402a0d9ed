"""`/backfill`: pages on which people start, watch and steer runs."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.domain.backfill import DEFAULT_BATCH, MAX_BATCH, BackfillRun
from inboxd.domain.run import STEERING, Steering
from inboxd.http.forms import fields_of
from inboxd.http.operations import not_found
from inboxd.http.problems import ProblemError
from inboxd.http.rendering import offset_of, page, see_other
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.store import RunActiveError
from inboxd.runtime.clock import Clock

LIMIT: Final = 30
PROBLEMS: Final = 100


class BackfillPages:
    """The list of runs, and a page for each."""

    def __init__(
        self, service: BackfillService, backfills: BackfillStore, accounts: AccountManager, clock: Clock
    ) -> None:
        self._service = service
        self._backfills = backfills
        self._accounts = accounts
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        """Put the pages on the admin application."""
        app.router.add_get("/backfill", self.all, allow_head=False)
        app.router.add_post("/backfill", self.start)
        app.router.add_get("/backfill/{id}", self.one, allow_head=False)
        app.router.add_post("/backfill/{id}/{how:pause|resume|cancel}", self.steer)

    async def all(self, request: web.Request) -> web.Response:
        """The runs that are not finished, and earlier ones."""
        offset = offset_of(request)
        runs, total = await self._backfills.page(account_id=None, status=None, limit=LIMIT, offset=offset)
        active = [await self._backfills.active(one) for one in sorted(self._accounts.served)]
        missing = {one: await self._backfills.missing(one, 0) for one in sorted(self._accounts.served)}
        accounts = [(self._accounts.served[one].account, count) for one, count in missing.items()]
        context = {
            "active": [self._view(run) for run in active if run is not None],
            "finished": [run for run in runs if run.status.finished],
            "accounts": accounts,
            "default_batch": DEFAULT_BATCH,
            "max_batch": MAX_BATCH,
            "following": offset + LIMIT if offset + LIMIT < total else None,
        }
        return page(request, "backfill.html", context)

    async def one(self, request: web.Request) -> web.Response:
        """One run, with the conversations that got no profile and the reasons."""
        run = await self._find(request)
        problems = await self._backfills.problems(run.id, limit=PROBLEMS, offset=0)
        return page(request, "run.html", {**self._view(run), "problems": problems, "limit": PROBLEMS})

    async def start(self, request: web.Request) -> web.Response:
        """Start a run, and show it."""
        form = await fields_of(request)
        account_id, size = form.get("account", ""), form.get("batch_size", str(DEFAULT_BATCH))
        if not self._service.serves(account_id):
            raise ProblemError(HTTPStatus.NOT_FOUND, "This account is not served.")
        if not (size.isascii() and size.isdigit() and len(size) < 4 and 1 <= int(size) <= MAX_BATCH):
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"The batch size must be a number from 1 to {MAX_BATCH}.")
        try:
            run = await self._service.start(account_id, origin="api", batch_size=int(size))
        except RunActiveError as error:
            return see_other(f"/backfill/{error.run_id}")
        return see_other(f"/backfill/{run.id}")

    async def steer(self, request: web.Request) -> web.Response:
        """Pause, resume or cancel a run. When its status no longer allows that, it stays as it is."""
        run = await self._find(request)
        await self._service.steer(run, Steering(request.match_info["how"]))
        return see_other(f"/backfill/{run.id}")

    def _view(self, run: BackfillRun) -> dict[str, object]:
        estimate, now = self._service.estimate(run), self._clock.now_ms()
        duration = run.duration_ms(now)
        return {
            "run": run,
            "status": estimate.status.value,
            "reason": estimate.reason,
            "eta_s": estimate.eta_s,
            "duration_s": duration / 1000,
            "rate": run.processed * 60_000 / duration if duration and run.processed else None,
            "buttons": [how.value for how, (_, allowed) in STEERING.items() if run.status in allowed],
        }

    async def _find(self, request: web.Request) -> BackfillRun:
        run = await self._backfills.get(request.match_info["id"])
        if run is None:
            raise not_found("backfill run")
        return run
