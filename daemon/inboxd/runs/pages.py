"""What the pages of every kind of run have in common: how a run is shown, and steering one."""

from typing import Final, Generic, TypeVar

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.domain.run import STEERING, Run, Steering
from inboxd.http.operations import not_found
from inboxd.http.rendering import page, see_other
from inboxd.runs.service import RunService
from inboxd.runs.store import RunStore
from inboxd.runtime.clock import Clock

R = TypeVar("R", bound=Run)
LIMIT: Final = 30
PROBLEMS: Final = 100


class RunPages(Generic[R]):
    """The list of runs at `path`, and a page for each. A subclass for each kind has `all` and `start`."""

    path: str
    template: str
    """The page of one run."""

    def __init__(self, service: RunService[R], runs: RunStore[R], accounts: AccountManager, clock: Clock) -> None:
        self._service = service
        self._runs = runs
        self._accounts = accounts
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        """Put the pages on the admin application."""
        app.router.add_get(self.path, self.all, allow_head=False)
        app.router.add_post(self.path, self.start)
        app.router.add_get(self.path + "/{id}", self.one, allow_head=False)
        app.router.add_post(self.path + "/{id}/{how:pause|resume|cancel}", self.steer)

    async def all(self, request: web.Request) -> web.Response:
        """The runs that are not finished, and earlier ones."""
        raise NotImplementedError

    async def start(self, request: web.Request) -> web.Response:
        """Start a run, and show it."""
        raise NotImplementedError

    async def one(self, request: web.Request) -> web.Response:
        """One run, with the conversations that did not succeed and the reasons."""
        run = await self._find(request)
        problems = await self._runs.problems(run.id, limit=PROBLEMS, offset=0)
        return page(request, self.template, {**self._view(run), "problems": problems, "limit": PROBLEMS})

    async def steer(self, request: web.Request) -> web.Response:
        """Pause, resume or cancel a run. When its status no longer allows that, it stays as it is."""
        run = await self._find(request)
        await self._service.steer(run, Steering(request.match_info["how"]))
        return see_other(f"{self.path}/{run.id}")

    async def _listed(self, offset: int) -> dict[str, object]:
        """What the list of runs shows."""
        runs, total = await self._runs.page(account_id=None, status=None, limit=LIMIT, offset=offset)
        active = [await self._runs.active(one) for one in sorted(self._accounts.served)]
        return {
            "active": [self._view(run) for run in active if run is not None],
            "finished": [run for run in runs if run.status.finished],
            "following": offset + LIMIT if offset + LIMIT < total else None,
        }

    def _view(self, run: R) -> dict[str, object]:
        estimate, now = self._service.estimate(run), self._clock.now_ms()
        duration = run.duration_ms(now)
        return {
            "run": run,
            "path": self.path,
            "status": estimate.status.value,
            "reason": estimate.reason,
            "eta_s": estimate.eta_s,
            "duration_s": duration / 1000,
            "rate": run.processed * 60_000 / duration if duration and run.processed else None,
            "buttons": [how.value for how, (_, allowed) in STEERING.items() if run.status in allowed],
        }

    async def _find(self, request: web.Request) -> R:
        run = await self._runs.get(request.match_info["id"])
        if run is None:
            raise not_found(f"{self._runs.kind.value} run")
        return run
