"""The accounts that are served: the one place where they, their tokens and their standing change."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

import msgspec

from inboxd import logs
from inboxd.clock import Clock, iso_utc
from inboxd.domain.account import Account, AccountState, Flavour
from inboxd.domain.retry import Remedy
from inboxd.meta.account_graph import AccountGraph, Owner, RefreshedToken
from inboxd.meta.budget import Budget, Ledger, Traffic
from inboxd.meta.graph import GraphClient
from inboxd.meta.graph_errors import GraphError
from inboxd.secret import Secret
from inboxd.store.accounts import AccountStore, StoredAccount
from inboxd.store.vault import Vault

SLACK_S: Final = 5.0
"""A call is made at most this long after it was recorded."""
NEWCOMERS: Final = "new"
"""The budget of calls with a token of which nobody knows yet whose it is."""
_STATES: Final = {
    Remedy.NEEDS_LOGIN: AccountState.NEEDS_LOGIN,
    Remedy.LACKS_PERMISSION: AccountState.LACKS_PERMISSION,
}


class ConfiguredAccount(NamedTuple):
    """An account as the configuration and the secrets give it."""

    id: str
    flavour: Flavour
    name: str
    page_id: str | None
    token: Secret | None


class Limits(NamedTuple):
    """What every account's calls are held to."""

    calls_per_hour: int
    calls_per_second: float
    timeout_s: float


class Staff(Protocol):
    """Who works for an account while it is served."""

    def engage(self, served: "Served") -> None:
        """The account begins to be served."""

    async def dismiss(self, served: "Served") -> None:
        """It is no longer served."""


class Served:
    """An account with its Graph API. `listeners` are called when anything about the account has changed."""

    def __init__(self, account: Account, graph: AccountGraph, token_origin: bytes | None) -> None:
        self.account = account
        self.graph = graph
        self.token_origin = token_origin
        self.listeners: list[Callable[[], None]] = []
        self.lock = asyncio.Lock()
        """Held while the account changes, so that no change is made to what another is just changing."""


class Accounts:
    """All served accounts, from `load` on."""

    def __init__(
        self,
        store: AccountStore,
        vault: Vault,
        ledger: Ledger,
        traffic: Traffic,
        clients: Mapping[Flavour, GraphClient],
        limits: Limits,
        clock: Clock,
        *,
        app_secrets: Sequence[Secret],
        app_id: str | None,
    ) -> None:
        self.served: dict[str, Served] = {}
        self.aliases: dict[str, str] = {}
        """Every id by which webhooks may name an account, and the account's own."""
        self._store = store
        self._vault = vault
        self._ledger = ledger
        self._traffic = traffic
        self._clients = clients
        self._limits = limits
        self._clock = clock
        self._app_secrets = app_secrets
        self._app_id = app_id
        self._staff: Staff | None = None
        self._newcomers: dict[Flavour, AccountGraph] = {}
        self._asking = asyncio.Lock()
        self._log = logs.get("accounts")

    async def load(self, configured: Sequence[ConfiguredAccount], staff: Staff | None = None) -> None:
        """Begin to serve what is stored and what is configured. Raises StorageError.

        An account that stood in the configuration and no longer does is forgotten; its conversations stay.
        """
        self._staff = staff
        await self._traffic.load(self._ledger)
        known = {stored.account.id: stored for stored in await self._store.all()}
        for one in configured:
            await self._serve_configured(one, known.pop(one.id, None))
        for stored in known.values():
            if stored.account.configured:
                await self._store.remove(stored.account.id)
            else:
                await self._serve(stored.account, self._opened(stored), stored.token_origin)

    def use_app_secrets(self, app_secrets: Sequence[Secret]) -> None:
        """Prove tokens with these from now on."""
        self._app_secrets = app_secrets
        for served in self.served.values():
            served.graph.use_app_secrets(app_secrets)

    def limit(self, limits: Limits) -> None:
        """Hold every account's calls to these from now on."""
        self._limits = limits
        for served in self.served.values():
            served.graph.budget.limit(limits.calls_per_hour, limits.calls_per_second)

    async def renew(self, configured: Sequence[ConfiguredAccount]) -> None:
        """Use the tokens that are new for accounts that are served. Raises StorageError."""
        for one in configured:
            served = self.served.get(one.id)
            if served is None or one.token is None:
                continue
            if served.token_origin is None or not self._vault.recognises(served.token_origin, one.token):
                served.token_origin = self._vault.fingerprint(one.token)
                now = self._clock.now_ms()
                await self.update(
                    served, one.token, state=AccountState.ACTIVE, reason=None, token_obtained_at=now,
                    token_expires_at=None, refresh_tried_at=None,
                )  # fmt: skip

    async def owner_of(self, token: Secret, flavour: Flavour) -> Owner:
        """Whom a token belongs to, asked within a budget for newcomers. Raises GraphError."""
        async with self._asking:
            graph = self._newcomers.get(flavour)
            if graph is None:
                graph = self._newcomers[flavour] = await self._graph(NEWCOMERS, flavour, self._ignore)
            graph.token = token
            return await graph.owner()

    async def add(self, token: Secret, flavour: Flavour, owner: Owner, name: str) -> Served:
        """Serve the account `owner` with `token`; for one that is served already, that is its new token."""
        now = self._clock.now_ms()
        served = self.served.get(owner.id)
        if served is not None and served.account.flavour is not flavour:
            await self._retire(served)  # the other product has another host
            account = msgspec.structs.replace(served.account, flavour=flavour)
            served = await self._serve(account, token, served.token_origin)
        if served is None:
            account = Account(
                id=owner.id, flavour=flavour, state=AccountState.ACTIVE, name=name, created_at=now, updated_at=now
            )
            served = await self._serve(account, token, None)
        await self.update(
            served,
            token,
            name=name or served.account.name,
            username=owner.username or served.account.username,
            app_scoped_id=owner.app_scoped_id or served.account.app_scoped_id,
            page_id=owner.page_id or served.account.page_id,
            state=AccountState.ACTIVE,
            reason=None,
            token_obtained_at=now,
            token_expires_at=None,
            refresh_tried_at=None,
        )
        self._log.info("account_added", account_id=owner.id, username=served.account.username)
        return served

    async def refreshed(self, served: Served, new: RefreshedToken) -> None:
        """Keep and then use a refreshed token."""
        now = self._clock.now_ms()
        await self.update(
            served,
            new.token,
            token_obtained_at=now,
            token_expires_at=None if new.expires_in_s is None else now + new.expires_in_s * 1000,
            refresh_tried_at=None,
        )
        ends = served.account.token_expires_at
        expires_at = None if ends is None else iso_utc(ends)  # unknown: the next refresh is due in a day, and may tell
        self._log.info("token_refreshed", account_id=served.account.id, expires_at=expires_at)

    async def update(self, served: Served, token: Secret | None = None, **changes: object) -> None:
        """Store what changed about an account, and a new token if there is one; use it once it is durable."""
        async with served.lock:
            changes.setdefault("updated_at", self._clock.now_ms())
            account = msgspec.structs.replace(served.account, **changes)
            await self._save(account, token or served.graph.token, served.token_origin)
            served.account = account
            if token is not None:
                served.graph.token = token
        self._name(account)
        for listener in served.listeners:
            listener()

    async def stop_calls(self, served: Served, state: AccountState, reason: str) -> None:
        """No more calls for this account until it gets another token; the one it has is dropped.

        Its app-scoped id stays: a request for deletion, which names nothing else, may follow.
        """
        served.graph.token = None
        await self.update(
            served, state=state, reason=reason, token_expires_at=None, username=None, subscribed_fields=None
        )
        self._log.warning("account_stopped", account_id=served.account.id, state=state.value, reason=reason)

    async def remove(self, served: Served) -> None:
        """Stop serving an account and forget its token; its conversations stay."""
        await self._store.remove(served.account.id)
        await self._retire(served)
        self._log.info("account_removed", account_id=served.account.id)

    def find(self, user_id: str) -> Served | None:
        """The account that a `signed_request` is about: by its app-scoped id, or by any other that it has."""
        for served in self.served.values():
            if user_id in (served.account.app_scoped_id, *served.account.aliases):
                return served
        return None

    async def last_message_at(self, account_id: str) -> int | None:
        """When the account's latest message was sent (ms)."""
        return await self._store.last_message_at(account_id)

    async def verdict(self, account_id: str, error: GraphError | None) -> None:
        """Meta has shown how the account stands."""
        served = self.served.get(account_id)
        if served is None:
            return  # removed while the call was under way
        state = AccountState.ACTIVE if error is None else _STATES[error.remedy]
        reason = None if error is None else str(error)
        if (state, reason) == (served.account.state, served.account.reason):
            return
        log = self._log.info if error is None else self._log.error
        log("account_state", account_id=account_id, state=state.value, reason=reason)
        served.account = msgspec.structs.replace(served.account, state=state)  # at once, whatever the disk says
        await self.update(served, state=state, reason=reason)

    async def _serve_configured(self, one: ConfiguredAccount, stored: StoredAccount | None) -> None:
        now = self._clock.now_ms()
        if stored is None:
            account = Account(id=one.id, flavour=one.flavour, state=AccountState.ACTIVE, created_at=now, updated_at=now)
            token, origin = None, None
        else:
            account, token, origin = stored.account, self._opened(stored), stored.token_origin
        is_news = one.token is not None and (origin is None or not self._vault.recognises(origin, one.token))
        account = msgspec.structs.replace(
            account,
            flavour=one.flavour,
            name=one.name,
            page_id=one.page_id or account.page_id,
            configured=True,
        )
        lost = token is None and account.state is not AccountState.DEAUTHORIZED
        if one.token is not None and (is_news or lost):
            token = one.token
            account = msgspec.structs.replace(
                account,
                state=AccountState.ACTIVE,
                reason=None,
                token_obtained_at=now,
                token_expires_at=None,
                refresh_tried_at=None,
            )
        if one.token is not None:
            origin = self._vault.fingerprint(one.token)
        await self._serve(account, token, origin)

    async def _serve(self, account: Account, token: Secret | None, origin: bytes | None) -> Served:
        graph = await self._graph(account.id, account.flavour, partial(self.verdict, account.id))
        graph.token = token
        await self._save(account, token, origin)
        if token is None and account.callable:  # not stored: with the right key the next start is in order again
            reason = "there is no token that can be used: give one with 'inboxd account add'"
            account = msgspec.structs.replace(account, state=AccountState.NEEDS_LOGIN, reason=reason)
            self._log.warning("account_without_token", account_id=account.id, reason=reason)
        served = self.served[account.id] = Served(account, graph, origin)
        self._name(account)
        if self._staff is not None:
            self._staff.engage(served)
        return served

    async def _retire(self, served: Served) -> None:
        del self.served[served.account.id]
        for alias in served.account.aliases:
            self.aliases.pop(alias, None)
        served.graph.token = None
        if self._staff is not None:
            await self._staff.dismiss(served)

    async def _graph(
        self, account_id: str, flavour: Flavour, on_verdict: Callable[[GraphError | None], Awaitable[None]]
    ) -> AccountGraph:
        client = self._clients[flavour]
        budget = Budget(
            account_id,
            self._ledger,
            self._traffic,
            client.circuit,
            self._clock,
            calls_per_hour=self._limits.calls_per_hour,
            calls_per_second=self._limits.calls_per_second,
        )
        await budget.load(longest_call_s=self._limits.timeout_s + SLACK_S)
        return AccountGraph(
            client,
            budget,
            self._ledger,
            self._traffic,
            flavour=flavour,
            app_secrets=self._app_secrets,
            app_id=self._app_id,
            on_verdict=on_verdict,
        )

    async def _save(self, account: Account, token: Secret | None, origin: bytes | None) -> None:
        locked = None if token is None else self._vault.lock(token)
        await self._store.save(StoredAccount(account, locked, origin))

    def _opened(self, stored: StoredAccount) -> Secret | None:
        if stored.token is None:
            return None
        token = self._vault.open(stored.token)
        if token is None:
            self._log.error(
                "token_unreadable", account_id=stored.account.id, remedy="restore the storage_key, or log in"
            )
        return token

    def _name(self, account: Account) -> None:
        self.aliases |= dict.fromkeys(account.aliases, account.id)

    async def _ignore(self, _error: GraphError | None) -> None:
        """A token that was never accepted changes no account."""
