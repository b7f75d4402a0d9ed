"""Makes the Graph API of an account: its own budget, and what all accounts share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from inboxd.domain.account import LoginType
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.budget import AppBudget, Budget, CallLog
from inboxd.meta.graph import GraphClient
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret

SLACK_S: Final = 5.0
"""A call is made at most this long after it was recorded."""


class Limits(NamedTuple):
    """What every account's calls are held to."""

    calls_per_hour: int
    calls_per_second: float
    timeout_s: float


class GraphFactory:
    """Makes one AccountGraph for each account; all of them share the app's budget and the connections to Meta.

    `limits` and `app_secrets` are for those made from now on. The manager tells the others of new ones.
    """

    def __init__(
        self,
        clients: Mapping[LoginType, GraphClient],
        call_log: CallLog,
        app_budget: AppBudget,
        limits: Limits,
        clock: Clock,
        *,
        app_secrets: Sequence[Secret],
        app_id: str | None,
    ) -> None:
        self.limits = limits
        self.app_secrets = app_secrets
        self._clients = clients
        self._call_log = call_log
        self._app_budget = app_budget
        self._clock = clock
        self._app_id = app_id

    async def load(self) -> None:
        """Continue the app's budget as it was stored. Raises StorageError."""
        await self._app_budget.load(self._call_log)

    async def make(
        self, account_id: str, login_type: LoginType, on_verdict: Callable[[GraphError | None], Awaitable[None]]
    ) -> AccountGraph:
        """The Graph API of one account, without a token, its budget as it was stored. Raises StorageError."""
        client = self._clients[login_type]
        budget = Budget(
            account_id,
            self._call_log,
            self._app_budget,
            client.circuit,
            self._clock,
            calls_per_hour=self.limits.calls_per_hour,
            calls_per_second=self.limits.calls_per_second,
        )
        await budget.load(longest_call_s=self.limits.timeout_s + SLACK_S)
        return AccountGraph(
            client,
            budget,
            self._call_log,
            self._app_budget,
            login_type=login_type,
            app_secrets=self.app_secrets,
            app_id=self._app_id,
            on_verdict=on_verdict,
        )
