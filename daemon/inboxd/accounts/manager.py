"""The accounts that are served: the one place where they, their tokens and their standing change."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from inboxd.accounts.event_recording import Change, changes_between, events_of
from inboxd.accounts.graph_factory import GraphFactory, Limits
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.store import AccountStore, Record, StoredAccount
from inboxd.accounts.vault import Vault
from inboxd.domain.account import Account, AccountChange, AccountState, LoginType, following
from inboxd.domain.budget import Priority
from inboxd.domain.retry import FailureAction
from inboxd.events.log import EventLog
from inboxd.meta.account_graph import AccountGraph, RefreshedToken
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.owner import Owner
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.secret import Secret

NEWCOMERS: Final = "new"
"""The budget of calls with a token of which nobody knows yet whose it is."""
_CAUSES: Final = {
    FailureAction.NEEDS_LOGIN: AccountChange.TOKEN_REFUSED,
    FailureAction.LACKS_PERMISSION: AccountChange.PERMISSION_REFUSED,
}
NEW_TOKEN: Final[dict[str, Any]] = {"token_expires_at": None, "refresh_tried_at": None}
"""What is not known of a token that was just given."""


class ConfiguredAccount(NamedTuple):
    """An account as the configuration and the secrets give it."""

    id: str
    login_type: LoginType
    name: str
    page_id: str | None
    token: Secret | None
    human_agent: bool = False
    wants_comments: bool = False


class Workers(Protocol):
    """Starts and ends the workers of accounts."""

    def start(self, managed: ManagedAccount) -> None:
        """The account begins to be served."""

    async def stop(self, managed: ManagedAccount) -> None:
        """It is no longer served."""


class AccountManager:
    """All served accounts, from `load` on."""

    def __init__(
        self, store: AccountStore, vault: Vault, graphs: GraphFactory, clock: Clock, event_log: EventLog
    ) -> None:
        self.served: dict[str, ManagedAccount] = {}
        self.aliases: dict[str, str] = {}  # every id by which webhooks may name an account, and the account's own
        self._store = store
        self.vault = vault
        """Encrypts the tokens. Other features keep their secrets with it too."""
        self._graphs = graphs
        self._clock = clock
        self._event_log = event_log
        self._recorded: dict[str, Account] = {}
        """The accounts as the event log knows them."""
        self._workers: Workers | None = None
        self._newcomers: dict[LoginType, AccountGraph] = {}
        self._asking = asyncio.Lock()
        self._adding = asyncio.Lock()
        self._log = logs.get("accounts")

    async def load(self, configured: Sequence[ConfiguredAccount], workers: Workers | None = None) -> None:
        """Begin to serve what is stored and what is configured. Raises StorageError.

        An account that stood in the configuration and no longer does is forgotten; its conversations stay.
        """
        self._workers = workers
        await self._graphs.load()
        known = {stored.account.id: stored for stored in await self._store.all()}
        self._recorded = {
            account_id: stored.account if stored.token else _without_token(stored.account)
            for account_id, stored in known.items()
        }
        for one in configured:
            await self._serve_configured(one, known.pop(one.id, None))
        for stored in known.values():
            if stored.account.configured:
                await self._remove(stored.account)
            else:
                await self._serve(stored.account, self._opened(stored), stored.token_origin)

    def use_app_secrets(self, app_secrets: Sequence[Secret]) -> None:
        """Prove tokens with these from now on."""
        self._graphs.app_secrets = app_secrets
        for graph in self._every_graph():
            graph.use_app_secrets(app_secrets)

    def limit(self, limits: Limits) -> None:
        """Hold every account's calls to these from now on."""
        self._graphs.limits = limits
        for graph in self._every_graph():
            graph.budget.limit(limits.calls_per_hour, limits.calls_per_second)

    def _every_graph(self) -> list[AccountGraph]:
        """Those of the served accounts, and those by which a new token is looked at."""
        return [*(managed.graph for managed in self.served.values()), *self._newcomers.values()]

    async def renew(self, configured: Sequence[ConfiguredAccount]) -> None:
        """Use the tokens that are new for accounts that are served. Raises StorageError."""
        for one in configured:
            managed = self.served.get(one.id)
            if managed is None or one.token is None:
                continue
            if managed.token_origin is None or not self.vault.recognises(managed.token_origin, one.token):
                origin, now = self.vault.fingerprint(one.token), self._clock.now_ms()
                await self.update(
                    managed, one.token, origin, cause=AccountChange.TOKEN_GIVEN, token_obtained_at=now, **NEW_TOKEN
                )

    async def owner_of(self, token: Secret, login_type: LoginType) -> Owner:
        """Whom a token belongs to, asked within a budget for newcomers. Raises GraphError."""
        async with self._asking:
            graph = self._newcomers.get(login_type)
            if graph is None:
                graph = self._newcomers[login_type] = await self._graphs.make(NEWCOMERS, login_type, self._ignore)
            graph.token = token
            return await graph.owner(Priority.INTERACTIVE)

    async def add(self, token: Secret, login_type: LoginType, owner: Owner, name: str) -> ManagedAccount:
        """Serve the account `owner` with `token`; for one that is served already, that is its new token."""
        async with self._adding:  # never twice at once for the same account
            return await self._add(token, login_type, owner, name)

    async def _add(self, token: Secret, login_type: LoginType, owner: Owner, name: str) -> ManagedAccount:
        now = self._clock.now_ms()
        managed = self.served.get(owner.id)
        if managed is not None and managed.account.login_type is not login_type:
            account = msgspec.structs.replace(managed.account, login_type=login_type)
            async with managed.lock:
                await self._save(account, token, managed.token_origin)  # if the disk refuses, all stays as it is
                self._leave(managed)
            await self._stop(managed)  # the other product has another host
            managed = await self._serve(account, token, managed.token_origin)
        if managed is None:
            account = Account(
                id=owner.id,
                login_type=login_type,
                state=AccountState.ACTIVE,
                name=name,
                username=owner.username,
                created_at=now,
                updated_at=now,
            )
            managed = await self._serve(account, token, None)
        kept = await self.update(
            managed,
            token,
            name=name or managed.account.name,
            username=owner.username or managed.account.username,
            app_scoped_id=owner.app_scoped_id or managed.account.app_scoped_id,
            page_id=owner.page_id or managed.account.page_id,
            cause=AccountChange.TOKEN_GIVEN,
            token_obtained_at=now,
            **NEW_TOKEN,
        )
        if not kept:  # removed meanwhile: it is a new one then
            return await self._add(token, login_type, owner, name)
        self._log.info("account_added", account_id=owner.id, username=managed.account.username)
        return managed

    async def refreshed(self, managed: ManagedAccount, new: RefreshedToken, used: Secret | None = None) -> None:
        """Keep and then use a refreshed token, unless `used`, which it was refreshed with, is no longer in use."""
        now = self._clock.now_ms()
        kept = await self.update(
            managed,
            new.token,
            used=used,
            token_obtained_at=now,
            token_expires_at=None if new.expires_in_s is None else now + new.expires_in_s * 1000,
            refresh_tried_at=None,
        )
        if not kept:
            return
        ends = managed.account.token_expires_at
        expires_at = None if ends is None else iso_utc(ends)  # unknown: the next refresh is due in a day, and may tell
        self._log.info("token_refreshed", account_id=managed.account.id, expires_at=expires_at)

    async def update(
        self,
        managed: ManagedAccount,
        token: Secret | None = None,
        origin: bytes | None = None,
        *,
        cause: AccountChange | None = None,
        reason: str | None = None,
        used: Secret | None = None,
        **changes: object,
    ) -> bool:
        """Store what changed about an account, and a new token if there is one; use it once it is durable.

        `origin` is the fingerprint of a token from the configuration, by which it is recognised the next time.
        `cause` is why the state may change, and `reason` what is said of it. Nothing is changed, and the answer is
        False, when the account is not served any more, when nothing follows from `cause` in its state, or when the
        token `used` is no longer in use. Raises StorageError.
        """
        async with managed.lock:
            if self.served.get(managed.account.id) is not managed or used not in (None, managed.graph.token):
                return False
            was = managed.account.state
            if cause is not None:
                state = following(managed.account.state, cause)
                if state is None:
                    return False
                changes |= {"state": state, "reason": reason}
            changes.setdefault("updated_at", self._clock.now_ms())
            account = msgspec.structs.replace(managed.account, **changes)
            dropped = cause is AccountChange.APP_REMOVED
            if cause is not None and cause is not AccountChange.TOKEN_GIVEN:
                # no calls from now on, whatever the disk says
                managed.account = msgspec.structs.replace(managed.account, state=account.state, reason=reason)
            origin = origin or managed.token_origin
            kept = None if dropped else token or managed.graph.token
            await self._save(account, kept, origin, refreshed=token is not None and cause is None)
            managed.account, managed.token_origin = account, origin
            if token is not None:
                managed.graph.token = token
        self._name(account)
        if cause is AccountChange.TOKEN_ACCEPTED and was is not account.state:
            self._log.info("account_state", account_id=account.id, state=account.state.value, reason=None)
        for listener in managed.listeners:
            listener()
        return True

    async def app_removed(self, managed: ManagedAccount, reason: str) -> None:
        """The owner removed the app: no more calls until there is another token. Raises StorageError.

        The account's app-scoped id stays: a request for deletion, which names nothing else, may follow.
        """
        managed.graph.token = None
        removed = await self.update(
            managed,
            cause=AccountChange.APP_REMOVED,
            reason=reason,
            token_expires_at=None,
            username=None,
            subscribed_fields=None,
        )
        managed.graph.token = None  # one that was just being stored
        if removed:
            state = managed.account.state.value
            self._log.warning("account_stopped", account_id=managed.account.id, state=state, reason=reason)

    async def remove(self, managed: ManagedAccount, *, erased: bool = False) -> None:
        """Stop serving an account and forget its token; its conversations stay. Raises StorageError.

        `erased`: everything of it was erased, so the event log is not told either.
        """
        async with self._adding:  # not added again before its workers have ended: the new ones have the same names
            async with managed.lock:
                if self.served.get(managed.account.id) is not managed:
                    return
                await self._remove(managed.account, erased=erased)
                self._leave(managed)
            await self._stop(managed)
        self._log.info("account_removed", account_id=managed.account.id)

    def find(self, user_id: str) -> ManagedAccount | None:
        """The account that a `signed_request` is about: by its app-scoped id, or by any other that it has."""
        for managed in self.served.values():
            if user_id in (managed.account.app_scoped_id, *managed.account.aliases):
                return managed
        return None

    async def verdict(self, account_id: str, error: GraphError | None) -> None:
        """Meta has shown how the account stands. What is no news, or came too late to matter, changes nothing."""
        managed = self.served.get(account_id)
        if managed is None:
            return  # removed while the call was under way
        cause = AccountChange.CALL_ANSWERED if error is None else _CAUSES[error.action]
        reason = None if error is None else str(error)
        state = following(managed.account.state, cause)
        if state is None or (state, reason) == (managed.account.state, managed.account.reason):
            return
        log = self._log.info if error is None else self._log.error
        log("account_state", account_id=account_id, state=state.value, reason=reason)
        await self.update(managed, cause=cause, reason=reason, used=managed.graph.token)

    async def _serve_configured(self, one: ConfiguredAccount, stored: StoredAccount | None) -> None:
        now = self._clock.now_ms()
        if stored is None:
            account = Account(
                id=one.id, login_type=one.login_type, state=AccountState.ACTIVE, created_at=now, updated_at=now
            )
            token, origin = None, None
        else:
            account, token, origin = stored.account, self._opened(stored), stored.token_origin
        is_news = one.token is not None and (origin is None or not self.vault.recognises(origin, one.token))
        account = msgspec.structs.replace(
            account,
            login_type=one.login_type,
            name=one.name,
            page_id=one.page_id or account.page_id,
            configured=True,
            human_agent=one.human_agent,
            human_agent_refused_at=account.human_agent_refused_at if account.human_agent else None,
            wants_comments=one.wants_comments,
        )
        lost = token is None and account.state is not AccountState.DEAUTHORIZED
        if one.token is not None and (is_news or lost):
            token = one.token
            state = following(account.state, AccountChange.TOKEN_GIVEN) or account.state
            account = msgspec.structs.replace(account, state=state, reason=None, token_obtained_at=now, **NEW_TOKEN)
        if one.token is not None:
            origin = self.vault.fingerprint(one.token)
        await self._serve(account, token, origin)

    async def _serve(self, account: Account, token: Secret | None, origin: bytes | None) -> ManagedAccount:
        graph = await self._graphs.make(account.id, account.login_type, partial(self.verdict, account.id))
        graph.token = token
        await graph.sends_throttle.load()  # after the token: a new one ends a stop
        served_as = account if token is not None else _without_token(account)
        if served_as is not account:  # not stored: with the right key the next start is in order again
            self._log.warning("account_without_token", account_id=account.id, reason=served_as.reason)
        known = self._recorded.get(account.id)
        is_news = known is None or known.state is served_as.state  # an unreadable token is no news of the account
        await self._save(account, token, origin, recorded=served_as if is_news else account)
        account = served_as
        managed = self.served[account.id] = ManagedAccount(account, graph, origin)
        self._name(account)
        if self._workers is not None:
            self._workers.start(managed)
        return managed

    def _leave(self, managed: ManagedAccount) -> None:
        """It is no longer served: whatever is still under way for it changes nothing any more."""
        del self.served[managed.account.id]
        for alias in managed.account.aliases:
            self.aliases.pop(alias, None)
        managed.graph.token = None

    async def _stop(self, managed: ManagedAccount) -> None:
        if self._workers is not None:
            await self._workers.stop(managed)

    async def _save(
        self,
        account: Account,
        token: Secret | None,
        origin: bytes | None,
        *,
        refreshed: bool = False,
        recorded: Account | None = None,
    ) -> None:
        """Store an account, and record what that changes. `recorded` is the account as it is served."""
        locked, now_is = None if token is None else self.vault.lock(token), recorded or account
        changes = changes_between(self._recorded.get(account.id), now_is, refreshed=refreshed)
        await self._store.save(StoredAccount(account, locked, origin), self._record(now_is, changes))
        self._recorded[account.id] = now_is

    async def _remove(self, account: Account, *, erased: bool = False) -> None:
        await self._store.remove(account.id, self._record(account, [] if erased else [Change.REMOVED]))
        self._recorded.pop(account.id, None)

    def _record(self, account: Account, changes: Sequence[Change]) -> Record:
        events = events_of(account, changes, self._clock.now_ms(), ids_only=self._event_log.ids_only)
        return partial(self._event_log.append, events=events)

    def _opened(self, stored: StoredAccount) -> Secret | None:
        if stored.token is None:
            return None
        token = self.vault.open(stored.token)
        if token is None:
            self._log.error(
                "token_unreadable", account_id=stored.account.id, remedy="restore the storage_key, or log in"
            )
        return token

    def _name(self, account: Account) -> None:
        self.aliases |= dict.fromkeys(account.aliases, account.id)

    async def _ignore(self, _error: GraphError | None) -> None:
        """A token that was never accepted changes no account."""


def _without_token(account: Account) -> Account:
    """The account as it is served without a token."""
    state = following(account.state, AccountChange.TOKEN_MISSING)
    reason = "there is no token that can be used: give one with 'inboxd account add'"
    return account if state is None else msgspec.structs.replace(account, state=state, reason=reason)
