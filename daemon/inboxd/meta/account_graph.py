"""The Graph API for one account: each call waits for the account's budget, and each answer updates its limits."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple

from inboxd.domain.account import LoginType
from inboxd.domain.budget import APP_SCOPE, Priority
from inboxd.domain.profile import Profile
from inboxd.domain.retry import FailureAction
from inboxd.meta import answers
from inboxd.meta.budget import AppBudget, Budget, CallLog
from inboxd.meta.graph import Answer, GraphClient
from inboxd.meta.graph_errors import GraphError, unusable
from inboxd.meta.owner import MAX_NAME, OWNER_FIELDS, Owner, owner_in
from inboxd.meta.sends_throttle import SendsThrottle
from inboxd.meta.throttle import FIRST_STOP_S, NO_CODES, STOP_FROM, Throttle
from inboxd.runtime import logs
from inboxd.runtime.secret import Secret

PROFILE_FIELDS: Final = (
    "name,username,profile_pic,follower_count,is_verified_user,is_user_follow_business,is_business_follow_user"
)
WEBHOOK_FIELDS: Final = {
    LoginType.INSTAGRAM: (
        "messages", "message_reactions", "messaging_postbacks", "messaging_seen", "messaging_referral",
    ),
    LoginType.FACEBOOK: ("messages",),
}  # fmt: skip
"""Fields to subscribe to. With any subscription, the app gets all fields chosen in the dashboard ("Webhooks")."""
MANY_PEOPLE: Final = 5
"""After ambiguous errors about this many people in a row, the account is taken as the cause, not the people."""
MAX_TOKEN: Final = 4096
MOST_FOLLOWERS: Final = 10**12
MOST_APPS: Final = 100
MOST_FIELDS: Final = 100
LONGEST_LIFE_S: Final = 10 * 365 * 86_400
"""A longer lifetime of a token is not believed: its end is then unknown. Tokens live for 60 days."""
LONGEST_TOLD_S: Final = 25 * 3600.0
"""The longest stop that is believed. Meta's windows are 24 hours; a longer stop is ignored."""
CONVERSATION_CALLS: Final = 2
"""Most calls of the Conversations API in any second ("Rate limits")."""
PERMISSION_REST_S: Final = 3600.0
DOUBT_REST_S: Final = 900.0


Call = Callable[[str, str | None], Awaitable[Answer]]
"""Makes one call, with a token and the app secret that proves it."""
Gate = Callable[[], AbstractAsyncContextManager[None]]
"""Waits until a call may be made, and counts it. The call is made inside."""


class RefreshedToken(NamedTuple):
    """A new token and how long it lives."""

    token: Secret
    expires_in_s: int | None
    """None when Meta sent no usable value."""


class AccountGraph:
    """One account's Graph API.

    `on_verdict` is called with a GraphError that only a person can resolve, or with None when a kind of call that was
    refused works again.
    """

    def __init__(
        self,
        client: GraphClient,
        budget: Budget,
        call_log: CallLog,
        app_budget: AppBudget,
        *,
        login_type: LoginType,
        app_secrets: Sequence[Secret],
        app_id: str | None,
        on_verdict: Callable[[GraphError | None], Awaitable[None]],
    ) -> None:
        self.budget = budget
        self.profiles_throttle: Final = Throttle(budget.clock)
        """Stops only profile calls: a permission is missing, or Meta gives ambiguous errors about many people."""
        self.conversations_throttle: Final = budget.paced_throttle(calls=CONVERSATION_CALLS, window_s=1.0)
        """Keeps the pace of the Conversations API."""
        self.sends_throttle: Final = SendsThrottle(budget.clock, call_log, budget.account_id)
        self.circuit: Final = client.circuit
        """The circuit breaker of the host."""
        self.meta_now_ms: Final = client.time.now_ms
        """Meta's time (ms), not later than it is there. None while it has not told it."""
        self._client = client
        self._call_log = call_log
        self._app_budget = app_budget
        self._login_type = login_type
        self._app_id = app_id
        self._on_verdict = on_verdict
        self._token: Secret | None = None
        self._dead: GraphError | None = None
        self._proofs: list[str | None] = []
        self.use_app_secrets(app_secrets)
        self._doubtful: set[str] = set()
        self._standing_known = False
        self.answers = 0
        """The number of this account's calls that Meta has answered so far."""
        self._log = logs.get("graph").bind(account_id=budget.account_id)

    @property
    def token(self) -> Secret | None:
        """The token in use."""
        return self._token

    @token.setter
    def token(self, token: Secret | None) -> None:
        """Use `token` from the next call on. Refusals of the old token are forgotten."""
        self._token = token
        self.forgive()

    def use_app_secrets(self, app_secrets: Sequence[Secret]) -> None:
        """Use these secrets for `appsecret_proof`. The product decides which is right; no proof is tried last."""
        self._proofs = [*(secret.reveal() for secret in app_secrets), None]

    def forgive(self) -> None:
        """Forget refusals, so that refused calls are made again: the cause may have been resolved."""
        self._dead = None
        self._standing_known = False
        self._doubtful.clear()
        self.profiles_throttle.reset()
        self.conversations_throttle.reset()
        self.sends_throttle.reset()
        self._app_budget.notify()

    async def user_profile(
        self, igsid: str, priority: Priority = Priority.LIVE, *, on_turn: Callable[[], None] | None = None
    ) -> Profile:
        """The profile of the participant `igsid` ("User Profile API"). `on_turn` is called when the wait is over.

        Raises a classified GraphError for every answer that is not a usable profile.
        """
        if answers.identifier(igsid) is None:  # it becomes part of a URL
            msg = "not an id that Meta could know"
            raise GraphError(msg, FailureAction.GONE)
        found, token = await self._ask(
            "GET", igsid, {"fields": PROFILE_FIELDS}, priority, throttle=self.profiles_throttle, on_turn=on_turn
        )
        if found.error is not None:
            raise await self._about_person(igsid, found.error, token)
        self._doubtful.clear()
        if not self._standing_known and self._token is token:
            self._standing_known = True
            self.profiles_throttle.reset()
            await self._on_verdict(None)
        answer = found.fields
        username = answers.word(answer.get("username"), MAX_NAME)
        if username is None:
            msg = "a profile without a username that can be shown"
            raise unusable(msg)
        return Profile(
            username=username,
            name=answers.text(answer.get("name"), MAX_NAME),
            profile_pic=answers.address(answer.get("profile_pic")),
            follower_count=answers.whole(answer.get("follower_count"), MOST_FOLLOWERS),
            is_verified_user=answers.flag(answer.get("is_verified_user")),
            is_user_follow_business=answers.flag(answer.get("is_user_follow_business")),
            is_business_follow_user=answers.flag(answer.get("is_business_follow_user")),
        )

    async def owner(self, priority: Priority = Priority.LIVE) -> Owner:
        """The account of the token. Raises GraphError; for a Page without an Instagram account: LACKS_PERMISSION."""
        answer = await self._call("GET", "me", {"fields": OWNER_FIELDS[self._login_type]}, priority)
        return owner_in(answer, self._login_type)

    async def subscribe(
        self, priority: Priority = Priority.LIVE, *, fields: Collection[str] = (), node: str = "me"
    ) -> None:
        """Subscribe the app to webhooks of the account ("Enable subscriptions"), to these fields and no others.

        Without `fields`: to those that are needed for messages. `node` is an id, for Facebook Login of the Instagram
        account beside its Page. One field that Meta does not accept voids the whole call. Raises GraphError.
        """
        wanted = ",".join(sorted(fields) if fields else WEBHOOK_FIELDS[self._login_type])
        answer = await self._call("POST", f"{node}/subscribed_apps", {"subscribed_fields": wanted}, priority)
        if answer.get("success") is False:
            msg = "Meta did not subscribe the account, and did not say why"
            raise unusable(msg)

    async def subscribed_fields(self, priority: Priority = Priority.LIVE, *, node: str = "me") -> tuple[str, ...]:
        """The webhook fields that the account is subscribed to; empty when it is not subscribed. Raises GraphError."""
        listed = (await self._call("GET", f"{node}/subscribed_apps", {}, priority)).get("data")
        if not isinstance(listed, list):  # whoever is not subscribed gets an empty list
            msg = "no list of subscribed apps"
            raise unusable(msg)
        apps = [_fields(one) for one in listed[:MOST_APPS]]
        return tuple(sorted({name for app in apps if self._is_ours(app) for name in _names(app)}))

    def _is_ours(self, app: dict[str, Any]) -> bool:
        theirs = answers.identifier(app.get("id"))
        return self._app_id is None or theirs is None or theirs == self._app_id

    async def read_messages(self, priority: Priority = Priority.LIVE) -> None:
        """Try to read the account's conversations, to learn whether the owner allows it. Raises GraphError."""
        await self.read_conversations("me/conversations", {"platform": "instagram", "limit": "1"}, priority)

    async def read_conversations(self, path: str, fields: dict[str, str], priority: Priority) -> dict[str, Any]:
        """The fields of an answer of the Conversations API, as Meta sent them. `meta.conversations_client` reads them.

        Raises GraphError, also for an error that Meta sent.
        """
        answer, _ = await self._ask("GET", path, fields, priority, throttle=self.conversations_throttle)
        if answer.error is not None:
            raise answer.error
        return answer.fields

    async def request(self, method: str, path: str, fields: dict[str, str], priority: Priority) -> dict[str, Any]:
        """The fields of the answer to any other call, as Meta sent them. Raises GraphError, also for Meta's errors."""
        return await self._call(method, path, fields, priority)

    async def refresh_token(self) -> RefreshedToken:
        """A new token for another 60 days ("Refresh access token"). The current token stays in use. Raises GraphError.

        The documentation shows the token as a query parameter. Here the token is never in a URL: it is sent in the
        header, and if Meta refuses that, as a form field.
        """
        fields = {"grant_type": "ig_refresh_token"}
        try:
            answer = await self._call("GET", "refresh_access_token", fields, versioned=False)
        except GraphError as error:
            if error.action in {FailureAction.NEEDS_LOGIN, FailureAction.WAIT_FOR_BUDGET} or error.code is None:
                raise
            answer = await self._call("GET", "refresh_access_token", fields, versioned=False, as_form=True)
        token = answers.word(answer.get("access_token"), MAX_TOKEN)
        if token is None or not token.isascii():
            msg = "a refreshed token that cannot be a token"
            raise unusable(msg)
        # The old token may no longer work: keep the new one even when its lifetime is unusable.
        return RefreshedToken(Secret(token), answers.whole(answer.get("expires_in"), LONGEST_LIFE_S) or None)

    async def _call(
        self,
        method: str,
        path: str,
        fields: dict[str, str],
        priority: Priority = Priority.LIVE,
        *,
        versioned: bool = True,
        as_form: bool = False,
    ) -> dict[str, Any]:
        """The fields of Meta's answer. Raises GraphError, also for an error that Meta sent."""
        answer, _ = await self._ask(method, path, fields, priority, versioned=versioned, as_form=as_form)
        if answer.error is not None:
            raise answer.error
        return answer.fields

    async def _ask(
        self,
        method: str,
        path: str,
        fields: dict[str, str],
        priority: Priority,
        *,
        throttle: Throttle | None = None,
        versioned: bool = True,
        as_form: bool = False,
        on_turn: Callable[[], None] | None = None,
    ) -> tuple[Answer, Secret]:
        """Make one call within the budget. Returns the answer and the token that was used."""

        async def call(token: str, proof: str | None) -> Answer:
            if on_turn is not None:
                on_turn()
            return await self._client.send(
                method, path, fields, token, app_secret=proof, versioned=versioned, as_form=as_form
            )

        return await self.exchange(call, lambda: self.budget.call(priority, throttle, ready=self.require_token))

    async def exchange(
        self, call: Call, gate: Callable[[], AbstractAsyncContextManager[None]]
    ) -> tuple[Answer, Secret]:
        """Make `call` inside `gate`, and obey what its answer says of limits and of the token.

        When Meta refuses the `appsecret_proof`, it is made again with the next secret. Raises GraphError, and
        StorageError when a limit that the answer tells of cannot be stored.
        """
        while True:
            async with gate():
                token, proof = self.require_token(), self._proofs[0]
                answer = await call(token.reveal(), proof)
                self.answers += 1
                await self._heed(answer, token)
            if not answer.proof_refused:
                return answer, token
            if len(self._proofs) == 1:
                msg = "the app demands an appsecret_proof, and none of the configured app_secrets makes one"
                raise GraphError(msg, FailureAction.LACKS_PERMISSION, unsent=True)
            if self._proofs[0] == proof:
                self._proofs.pop(0)

    async def post(self, path: str, body: Mapping[str, Any], token: str, proof: str | None, patience: int) -> Answer:
        """POST `body` with this token, inside `exchange`. Raises GraphError as GraphClient.post does."""
        return await self._client.post(path, body, token, app_secret=proof, patience=patience)

    async def judged(self, error: GraphError | None) -> None:
        """Tell what a send showed of the account: an error that only a person can resolve, or that sends work again."""
        await self._on_verdict(error)

    def require_token(self) -> Secret:
        """The token in use. Raises GraphError when there is none, or when Meta refused it."""
        if self._dead is not None:
            raise self._dead
        if self._token is None:
            msg = "there is no token for this account"
            raise GraphError(msg, FailureAction.NEEDS_LOGIN)
        return self._token

    async def _heed(self, answer: Answer, token: Secret) -> None:
        """Slow down or stop calls as the answer demands, before the next call is made."""
        error, usage = answer.error, answer.usage
        limit = error if error is not None and error.action is FailureAction.WAIT_FOR_BUDGET else None
        app_limit, own_limit = (limit, None) if limit is not None and limit.row.app_wide else (None, limit)
        stop_s = max(found if found <= LONGEST_TOLD_S else 0.0 for found in (usage.regain_s, usage.retry_after_s))
        await self._judge(self._app_budget.app, APP_SCOPE, usage.app_percent, app_limit, stop_s if app_limit else 0.0)
        own_scope, own_stop_s = self.budget.account_id, 0.0 if app_limit else stop_s
        await self._judge(self.budget.throttle, own_scope, usage.account_percent, own_limit, own_stop_s)
        if error is not None and error.action is FailureAction.NEEDS_LOGIN and self._token is token:
            self._dead = error
            await self._on_verdict(error)

    async def _judge(
        self, throttle: Throttle, scope: str, percent: float | None, limit: GraphError | None, stop_s: float
    ) -> None:
        """Update one throttle from an answer: percent of the allowance used, a limit reached, or seconds to stop."""
        if percent is not None:
            self._note_usage(throttle, scope, percent)
        reason, codes = _why_stop(percent, limit, stop_s), NO_CODES if limit is None else (limit.code, limit.subcode)
        if reason is None:
            if not throttle.strikes or throttle.stopped_s():
                return  # there is no stop to end, or the answer to a later call has set one
            throttle.reset()
            self._log.info("throttle_ended", scope=scope)
        elif stop_s > 0:
            throttle.trip(stop_s, reason, codes)
        elif not throttle.stopped_s():
            throttle.trip_longer(reason, codes, first_s=limit.row.first_stop_s if limit else FIRST_STOP_S)
        if reason is not None:
            self._log.warning("throttled", scope=scope, reason=reason, seconds=round(throttle.stopped_s()))
        await self._call_log.save_stop(scope, throttle.stop())

    def _note_usage(self, throttle: Throttle, scope: str, percent: float) -> None:
        """Slow down as the usage headers demand. Log when this begins, ends, or changes much."""
        before = _step(throttle.slowness)
        throttle.note_usage(percent)
        after = _step(throttle.slowness)
        if after > 0 and after != before:
            slower, seconds = round(throttle.slowness, 1), round(throttle.slowed_s())
            self._log.warning("slowed", scope=scope, percent=round(percent), slower=slower, seconds=seconds)
        elif before > 0 and not after:
            self._log.info("slowing_ended", scope=scope, percent=round(percent))

    async def _about_person(self, igsid: str, error: GraphError, token: Secret) -> GraphError:
        """The same error, or LACKS_PERMISSION when Meta gives an ambiguous error about many people in a row."""
        if error.row.ambiguous:
            self._doubtful.add(igsid)
            if len(self._doubtful) >= MANY_PEOPLE:
                msg = f"{error}; said of {len(self._doubtful)} people in a row, so it is not about them"
                error = GraphError(
                    msg, FailureAction.LACKS_PERMISSION, code=error.code, subcode=error.subcode, row=error.row
                )
        elif error.code is not None and error.action in {FailureAction.WAIT_FOR_PERSON, FailureAction.GONE}:
            self._doubtful.clear()
        if error.action is FailureAction.LACKS_PERMISSION and self._token is token:
            first_s = DOUBT_REST_S if error.row.ambiguous else PERMISSION_REST_S
            self.profiles_throttle.trip_longer(str(error), first_s=first_s, longest_s=PERMISSION_REST_S)
            self._standing_known = False
            await self._on_verdict(error)
        return error


def _step(slowness: float) -> int:
    """A rough step of slowness: 0 not slower, 1 a little slower, 2 several times slower, 3 nearly stopped."""
    return sum(slowness > bound for bound in (1.0, 3.0, 10.0))


def _why_stop(percent: float | None, limit: GraphError | None, stop_s: float) -> str | None:
    if limit is not None:
        return str(limit)
    if percent is not None and percent >= STOP_FROM:
        return f"Meta says that {percent:.0f} % of its allowance is used"
    return "Meta says when calls may go on" if stop_s > 0 else None


def _names(app: dict[str, Any]) -> list[str]:
    """The webhook fields that an app is subscribed to."""
    listed = app.get("subscribed_fields")
    found = [answers.word(one, MAX_NAME) for one in listed[:MOST_FIELDS]] if isinstance(listed, list) else []
    return [name for name in found if name is not None]


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
