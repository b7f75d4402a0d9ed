"""The page of accounts: their state, token, subscription and budget."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from inboxd.accounts.check import AccountCheck, CheckResult
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.resources import AccountStatistics
from inboxd.http.operations import not_found
from inboxd.http.rendering import page


class AccountPages:
    """`/accounts`."""

    def __init__(
        self,
        accounts: AccountManager,
        check: AccountCheck,
        statistics: Callable[[str], Awaitable[AccountStatistics]],
        remark: Callable[[str], Awaitable[str]],
    ) -> None:
        self._accounts = accounts
        self._check = check
        self._statistics = statistics
        self._remark = remark

    def add_routes(self, app: web.Application) -> None:
        """Add the pages to the admin application."""
        app.router.add_get("/accounts", self.all, allow_head=False)
        app.router.add_post("/accounts/{id}/check", self.check)

    async def all(self, request: web.Request) -> web.Response:
        """Every account."""
        return await self._page(request, None, [])

    async def check(self, request: web.Request) -> web.Response:
        """Check an account, and show the results."""
        managed = self._accounts.served.get(request.match_info["id"])
        if managed is None:
            raise not_found("account")
        findings = await self._check.check(managed)
        return await self._page(request, managed.account.id, findings)

    async def _page(self, request: web.Request, checked: str | None, findings: list[CheckResult]) -> web.Response:
        managed = sorted(self._accounts.served.values(), key=lambda one: one.account.id)
        rows = [
            (
                one.account,
                one.graph.budget.report(),
                await self._statistics(one.account.id),
                await self._remark(one.account.id),
            )
            for one in managed
        ]
        return page(request, "accounts.html", {"rows": rows, "checked": checked, "findings": findings})
