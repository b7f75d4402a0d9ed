"""The Graph API as one account may use it: every call waits for the account's budget, and every answer is heeded."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from inboxd import logs
from inboxd.domain.account import Flavour
from inboxd.domain.budget import APP_SCOPE, Priority
from inboxd.domain.profile import InvalidProfileError, Profile, validated_username
from inboxd.domain.retry import Remedy
from inboxd.meta.brake import FIRST_STOP_S, STOP_FROM, Brake
from inboxd.meta.budget import Budget, Ledger, Traffic
from inboxd.meta.graph import Answer, GraphClient
from inboxd.meta.graph_errors import GraphError, transport
from inboxd.secret import Secret

T = TypeVar("T")

PROFILE_FIELDS: Final = (
    "name,username,profile_pic,follower_count,is_verified_user,is_user_follow_business,is_business_follow_user"
)
OWNER_FIELDS: Final = {
    Flavour.INSTAGRAM: "id,user_id,username",
    Flavour.FACEBOOK: "id,name,instagram_business_account{id,username}",
}
WEBHOOK_FIELDS: Final = {
    Flavour.INSTAGRAM: (
        "messages", "message_reactions", "messaging_postbacks", "messaging_seen", "messaging_referral",
    ),
    Flavour.FACEBOOK: ("messages",),
}  # fmt: skip
"""What an account is subscribed to. Its app gets all fields chosen in the dashboard once there is any ("Webhooks")."""
MANY_PEOPLE: Final = 5
"""So many people in a row about whom Meta says the ambiguous: then it is not about them."""
PERMISSION_REST_S: Final = 3600.0
DOUBT_REST_S: Final = 900.0


class Owner(NamedTuple):
    """Whom a token belongs to."""

    id: str
    """`IG_ID`: what webhooks carry."""
    app_scoped_id: str | None
    page_id: str | None
    username: str | None


class RefreshedToken(NamedTuple):
    """A new token and how long it lives."""

    token: Secret
    expires_in_s: int


class _ProfileAnswer(msgspec.Struct, frozen=True):
    username: str | None = None
    name: str | None = None
    profile_pic: str | None = None
    follower_count: int | None = None
    is_verified_user: bool | None = None
    is_user_follow_business: bool | None = None
    is_business_follow_user: bool | None = None


class _InstagramAccount(msgspec.Struct, frozen=True):
    id: str | int
    username: str | None = None


class _OwnerAnswer(msgspec.Struct, frozen=True):
    id: str | int | None = None
    user_id: str | int | None = None
    username: str | None = None
    instagram_business_account: _InstagramAccount | None = None
    data: "list[_OwnerAnswer]" = []


class _Subscription(msgspec.Struct, frozen=True):
    id: str | int | None = None
    subscribed_fields: list[str] = []


class _SubscriptionsAnswer(msgspec.Struct, frozen=True):
    data: list[_Subscription] = []


class _TokenAnswer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: int


class AccountGraph:
    """One account's Graph API.

    `on_verdict` is told when the account's own standing shows: a GraphError that only a human can mend, or None when a
    kind of call that was refused works again.
    """

    def __init__(
        self,
        client: GraphClient,
        budget: Budget,
        ledger: Ledger,
        traffic: Traffic,
        *,
        flavour: Flavour,
        app_secrets: Sequence[Secret],
        app_id: str | None,
        on_verdict: Callable[[GraphError | None], Awaitable[None]],
    ) -> None:
        self.budget = budget
        self.profiles_brake: Final = Brake(budget.clock)
        """Stops profile calls alone: a permission is missing, or Meta denies that anybody exists."""
        self._client = client
        self._ledger = ledger
        self._traffic = traffic
        self._flavour = flavour
        self._app_id = app_id
        self._on_verdict = on_verdict
        self._token: Secret | None = None
        self._dead: GraphError | None = None
        self._proofs: list[str | None] = []
        self.use_app_secrets(app_secrets)
        self._doubtful: set[str] = set()
        self._standing_known = False
        self._log = logs.get("graph").bind(account_id=budget.account_id)

    @property
    def token(self) -> Secret | None:
        """The token in use."""
        return self._token

    @token.setter
    def token(self, token: Secret | None) -> None:
        """Use `token` from the next call on; what the old one was refused is forgotten."""
        self._token = token
        self.forgive()

    def use_app_secrets(self, app_secrets: Sequence[Secret]) -> None:
        """Prove tokens with these. Which one depends on the product; without any proof is the last resort."""
        self._proofs = [*(secret.reveal() for secret in app_secrets), None]

    def forgive(self) -> None:
        """Ask again whatever was refused: something may have been mended."""
        self._dead = None
        self._standing_known = False
        self._doubtful.clear()
        self.profiles_brake.release()
        self._traffic.ring()

    async def user_profile(
        self, igsid: str, priority: Priority = Priority.LIVE, *, on_turn: Callable[[], None] | None = None
    ) -> Profile:
        """The profile of the participant `igsid` ("User Profile API"). `on_turn` is called when waiting is over.

        Raises GraphError, classified, for everything that is not a usable profile.
        """
        try:
            body = await self._call(
                "GET", igsid, {"fields": PROFILE_FIELDS}, priority, brake=self.profiles_brake, on_turn=on_turn
            )
        except GraphError as error:
            raise await self._about_person(igsid, error) from error
        self._doubtful.clear()
        if not self._standing_known:
            self._standing_known = True
            self.profiles_brake.release()
            await self._on_verdict(None)
        answer = _decoded(body, _ProfileAnswer)
        try:
            username = validated_username(answer.username)
        except InvalidProfileError as error:
            msg = f"unusable profile: {error}"
            raise transport(msg) from error
        return Profile(
            username=username,
            name=answer.name or None,
            profile_pic=answer.profile_pic or None,
            follower_count=answer.follower_count,
            is_verified_user=answer.is_verified_user,
            is_user_follow_business=answer.is_user_follow_business,
            is_business_follow_user=answer.is_business_follow_user,
        )

    async def owner(self) -> Owner:
        """Whom the token belongs to. Raises GraphError; a Page without an Instagram account lacks permission."""
        answer = _decoded(await self._call("GET", "me", {"fields": OWNER_FIELDS[self._flavour]}), _OwnerAnswer)
        if answer.data:  # the documentation prints a list, clients see an object
            answer = answer.data[0]
        if self._flavour is Flavour.FACEBOOK:
            linked = answer.instagram_business_account
            if linked is None:
                msg = "the Page has no Instagram professional account linked to it, or the token may not see it"
                raise GraphError(msg, Remedy.LACKS_PERMISSION)
            return Owner(str(linked.id), None, _text(answer.id), linked.username)
        if answer.user_id is None:
            msg = "GET /me names no user_id"
            raise transport(msg)
        return Owner(str(answer.user_id), _text(answer.id), None, answer.username)

    async def subscribe(self) -> None:
        """Subscribe the app to the account's webhooks ("Enable subscriptions"). Raises GraphError."""
        await self._call("POST", "me/subscribed_apps", {"subscribed_fields": ",".join(WEBHOOK_FIELDS[self._flavour])})

    async def subscribed_fields(self) -> tuple[str, ...]:
        """The webhook fields that the account is subscribed to; none at all when the app is not. Raises GraphError."""
        answer = _decoded(await self._call("GET", "me/subscribed_apps", {}), _SubscriptionsAnswer)
        ours = [one for one in answer.data if self._app_id is None or one.id is None or str(one.id) == self._app_id]
        return tuple(sorted({field for one in ours for field in one.subscribed_fields}))

    async def read_messages(self) -> None:
        """Try to read the account's conversations, to learn whether the owner lets us. Raises GraphError."""
        await self._call("GET", "me/conversations", {"platform": "instagram", "limit": "1"})

    async def refresh_token(self) -> RefreshedToken:
        """A token with another 60 days ("Refresh access token"); the one in use stays in use. Raises GraphError.

        The documentation shows the token as a query parameter. It is sent in the header, and if Meta insists, as a
        form field: never in a URL.
        """
        fields = {"grant_type": "ig_refresh_token"}
        try:
            body = await self._call("GET", "refresh_access_token", fields, versioned=False)
        except GraphError as error:
            if error.remedy in {Remedy.NEEDS_LOGIN, Remedy.WAIT_FOR_BUDGET} or error.code is None:
                raise
            body = await self._call("GET", "refresh_access_token", fields, versioned=False, as_form=True)
        answer = _decoded(body, _TokenAnswer)
        if not answer.access_token.strip():
            msg = "the refreshed token is blank"
            raise transport(msg)
        return RefreshedToken(Secret(answer.access_token), answer.expires_in)

    async def _call(
        self,
        method: str,
        path: str,
        fields: dict[str, str],
        priority: Priority = Priority.LIVE,
        *,
        brake: Brake | None = None,
        versioned: bool = True,
        as_form: bool = False,
        on_turn: Callable[[], None] | None = None,
    ) -> bytes:
        """One call within the budget; another for each other way of proving the token while the proof is refused."""
        while True:
            async with self.budget.call(priority, brake):
                if on_turn is not None:
                    on_turn()
                token, proof = self._usable_token(), self._proofs[0]
                answer = await self._client.send(
                    method, path, fields, token.reveal(), app_secret=proof, versioned=versioned, as_form=as_form
                )
                await self._heed(answer, token)
            if answer.proof_refused:
                if len(self._proofs) == 1:
                    msg = "the app demands an appsecret_proof, and none of the configured app_secrets makes one"
                    raise GraphError(msg, Remedy.LACKS_PERMISSION)
                if self._proofs[0] == proof:
                    self._proofs.pop(0)
                continue
            if answer.error is not None:
                raise answer.error
            return answer.body

    def _usable_token(self) -> Secret:
        if self._dead is not None:
            raise self._dead
        if self._token is None:
            msg = "there is no token for this account"
            raise GraphError(msg, Remedy.NEEDS_LOGIN)
        return self._token

    async def _heed(self, answer: Answer, token: Secret) -> None:
        """Slow down or stop as the answer says, before anybody else may call."""
        error, usage = answer.error, answer.usage
        limit = error if error is not None and error.remedy is Remedy.WAIT_FOR_BUDGET else None
        app_limit, own_limit = (limit, None) if limit is not None and limit.row.app_wide else (None, limit)
        stop_s = max(usage.regain_s, usage.retry_after_s)
        await self._judge(self._traffic.app, APP_SCOPE, usage.app_percent, app_limit, stop_s if app_limit else 0.0)
        own_scope, own_stop_s = self.budget.account_id, 0.0 if app_limit else stop_s
        await self._judge(self.budget.throttle, own_scope, usage.account_percent, own_limit, own_stop_s)
        if error is not None and error.remedy is Remedy.NEEDS_LOGIN and self._token is token:
            self._dead = error
            await self._on_verdict(error)

    async def _judge(
        self, brake: Brake, scope: str, percent: float | None, limit: GraphError | None, stop_s: float
    ) -> None:
        """Apply to one brake what an answer said: how full its allowance is, that it is used up, or for how long."""
        if percent is not None:
            brake.note_usage(percent)
        reason = _why_stop(percent, limit, stop_s)
        if reason is None:
            if not brake.strikes or brake.stopped_s():
                return  # nothing to end, or stopped by an answer to a later call than this
            brake.release()
            self._log.info("throttle_ended", scope=scope)
        elif stop_s > 0:
            brake.pull(stop_s, reason)
        elif not brake.stopped_s():
            brake.pull_longer(reason, first_s=limit.row.first_stop_s if limit else FIRST_STOP_S)
        if reason is not None:
            self._log.warning("throttled", scope=scope, reason=reason, seconds=round(brake.stopped_s()))
        await self._ledger.save_stop(scope, brake.stop())

    async def _about_person(self, igsid: str, error: GraphError) -> GraphError:
        """The same error, or what it means when it is said of everybody."""
        if error.row.ambiguous:
            self._doubtful.add(igsid)
            if len(self._doubtful) >= MANY_PEOPLE:
                msg = f"{error}; said of {len(self._doubtful)} people in a row, so it is not about them"
                error = GraphError(msg, Remedy.LACKS_PERMISSION, code=error.code, subcode=error.subcode, row=error.row)
        elif error.code is not None and error.remedy in {Remedy.WAIT_FOR_PERSON, Remedy.GONE}:
            self._doubtful.clear()
        if error.remedy is Remedy.LACKS_PERMISSION:
            first_s = DOUBT_REST_S if error.row.ambiguous else PERMISSION_REST_S
            self.profiles_brake.pull_longer(str(error), first_s=first_s, longest_s=PERMISSION_REST_S)
            self._standing_known = False
            await self._on_verdict(error)
        return error


def _why_stop(percent: float | None, limit: GraphError | None, stop_s: float) -> str | None:
    if limit is not None:
        return str(limit)
    if percent is not None and percent >= STOP_FROM:
        return f"Meta says that {percent:.0f} % of its allowance is used"
    return "Meta says when calls may go on" if stop_s > 0 else None


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise transport(f"an answer of an unexpected shape: {error}") from error


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)
