"""`/api/accounts` and `/api/budget`: who is served, how they stand with Meta, and what they may still ask."""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.accounts.check import AccountCheck
from inboxd.accounts.choices import ConfiguredAccountError, change
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.resources import (
    AccountList,
    AccountResource,
    AccountSettings,
    AccountStatistics,
    BudgetList,
    BudgetResource,
    ChangedAccount,
    CheckedAccount,
    NewAccount,
    StatisticsResource,
)
from inboxd.domain.retry import FailureAction
from inboxd.http.operations import Operation, answer, body, not_found
from inboxd.http.problems import SAFE_HEADERS, ProblemError
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.secret import Secret

PATH: Final = "/api/accounts"


class AccountsApi:
    """Looking at accounts, adding, checking and removing them."""

    def __init__(
        self,
        accounts: AccountManager,
        check: AccountCheck,
        statistics: Callable[[str], Awaitable[AccountStatistics]],
    ) -> None:
        self._accounts = accounts
        self._check = check
        self._statistics = statistics

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        one = PATH + "/{id}"
        tag = "accounts"
        added = {"token": "IGAA…", "loginType": "instagram", "name": "shop"}
        return [
            Operation("GET", PATH, self.all, tag, {200: AccountList}),
            Operation(
                "POST", PATH, self.add, tag, {201: CheckedAccount}, body=NewAccount, problems=(502,),
                examples={"body": added},
            ),
            Operation("GET", one, self.one, tag, {200: AccountResource}, single=True),
            Operation(
                "PATCH", one, self.change, tag, {200: ChangedAccount}, body=AccountSettings, problems=(409,),
                examples={"body": {"humanAgent": True, "comments": True}},
            ),
            Operation("POST", one + "/check", self.check, tag, {200: CheckedAccount}),
            Operation("DELETE", one, self.remove, tag, {204: None}, problems=(409,)),
            Operation("GET", one + "/statistics", self.statistics, tag, {200: StatisticsResource}),
            Operation("GET", "/api/budget", self.budgets, tag, {200: BudgetList}),
        ]  # fmt: skip

    async def all(self, _request: web.Request) -> web.Response:
        """Every account that is served."""
        managed = sorted(self._accounts.served.values(), key=lambda one: one.account.id)
        return answer(AccountList(accounts=[AccountResource.of(one.account) for one in managed]))

    async def one(self, request: web.Request) -> web.Response:
        """One account."""
        return answer(AccountResource.of(self._find(request).account))

    async def add(self, request: web.Request) -> web.Response:
        """Serve the account that a token belongs to, and say what is missing."""
        wanted = body(request, NewAccount)
        if not wanted.token.strip() or not wanted.token.isascii() or not wanted.token.isprintable():
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "'token' must be an access token of Meta's.")
        try:
            token = Secret(wanted.token.strip())
            managed, findings = await self._check.add(token, wanted.wanted_login_type(), name=wanted.name)
        except GraphError as error:
            raise _refused(error) from error
        checked = CheckedAccount(account=AccountResource.of(managed.account), findings=findings)
        return answer(checked, status=HTTPStatus.CREATED)

    async def change(self, request: web.Request) -> web.Response:
        """Switch an account's Human Agent feature, or its comments, on or off.

        What is left out stays. Switching comments off unsubscribes them at Meta; `findings` say what came of it. An
        account of the configuration file is changed there: 409, unless it is as wanted already.
        """
        managed = self._find(request)
        try:
            changed = await change(self._accounts, self._check, managed, body(request, AccountSettings))
        except ConfiguredAccountError as error:
            detail = f"Nothing was changed: {error}."
            raise ProblemError(HTTPStatus.CONFLICT, detail) from error
        if changed is None:
            raise not_found("account")
        return answer(changed)

    async def check(self, request: web.Request) -> web.Response:
        """Look an account over."""
        managed = self._find(request)
        findings = await self._check.check(managed)
        return answer(CheckedAccount(account=AccountResource.of(managed.account), findings=findings))

    async def remove(self, request: web.Request) -> web.Response:
        """Stop serving an account and forget its token; its conversations stay."""
        managed = self._find(request)
        if managed.account.configured:
            raise ProblemError(
                HTTPStatus.CONFLICT, "This account stands in the configuration: remove it there and restart."
            )
        await self._accounts.remove(managed)
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=SAFE_HEADERS)

    async def statistics(self, request: web.Request) -> web.Response:
        """What there is of an account, in numbers."""
        account_id = self._find(request).account.id
        found = await self._statistics(account_id)
        return answer(StatisticsResource.of(account_id, found))

    async def budgets(self, _request: web.Request) -> web.Response:
        """What each account may still ask of Meta."""
        managed = sorted(self._accounts.served.values(), key=lambda one: one.account.id)
        return answer(
            BudgetList(budgets=[BudgetResource.of(one.account.id, one.graph.budget.report()) for one in managed])
        )

    def _find(self, request: web.Request) -> ManagedAccount:
        managed = self._accounts.served.get(request.match_info["id"])
        if managed is None:
            raise not_found("account")
        return managed


def _refused(error: GraphError) -> ProblemError:
    if error.action in {FailureAction.NEEDS_LOGIN, FailureAction.LACKS_PERMISSION}:
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"Meta does not accept this token: {error}.")
    if error.action is FailureAction.WAIT_FOR_BUDGET:
        detail = f"Nothing was stored, and Meta was not asked whose token this is: {error}. Try again then."
        return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "60"})
    return ProblemError(HTTPStatus.BAD_GATEWAY, f"Meta cannot be asked whose token this is: {error}. Try again later.")
