"""The simulated Graph API: profiles, tokens, subscriptions, errors as Meta words them, and behaviour to be set."""

import asyncio
import hmac
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from inboxd.simulator.avatars import avatar
from inboxd.simulator.background import Background
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.caller import Caller
from inboxd.simulator.comment_control import CommentControl
from inboxd.simulator.comments_api import CommentsApi
from inboxd.simulator.conversations_api import ConversationsApi
from inboxd.simulator.customer import Customer
from inboxd.simulator.dispatch import Dispatch
from inboxd.simulator.errors import graph_error
from inboxd.simulator.limits import RateLimit
from inboxd.simulator.mailbox import Mailbox, NewMessage
from inboxd.simulator.payloads import Item
from inboxd.simulator.people import Person, person
from inboxd.simulator.posts import OWN_NAME, Posts
from inboxd.simulator.sending_api import SendingApi
from inboxd.simulator.subscriptions import Subscriptions

__all__ = (
    "CALLS_PATH", "CONSENT_PATH", "CONTROL_PATH", "MAILBOX_PATH", "SENT_PATH", "Behaviour", "GraphServer", "Token",
)  # fmt: skip

CONTROL_PATH: Final = "/_simulator/behaviour"
CONSENT_PATH: Final = "/_simulator/consent"
CALLS_PATH: Final = "/_simulator/calls"
MAILBOX_PATH: Final = "/_simulator/mailbox"
SENT_PATH: Final = "/_simulator/sent"
DAY_S: Final = 86_400
LIFETIME_S: Final = 60 * DAY_S


class Token(NamedTuple):
    """An access token and the account it belongs to."""

    account_id: str
    page_id: str | None = None
    """Set for a Page token (Facebook Login)."""
    issued_at: float = 0.0
    """Seconds since the epoch. The token is valid for 60 days from then. 0: it never ends."""

    @property
    def caller(self) -> Caller:
        """Who makes the calls with it."""
        return Caller(self.account_id, self.page_id)


class GraphServer:
    """The simulated Graph API, the calls it received, and its behaviour. `tokens` map to an account's id or a Token."""

    def __init__(
        self,
        tokens: dict[str, str] | dict[str, Token],
        *,
        seed: int = 1,
        app_secret: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._behaviour = Behaviour()
        self._down_until = 0.0
        self.calls: list[str] = []
        """The path of every Graph call, in order."""
        self.tokens = {text: Token(of) if isinstance(of, str) else of for text, of in tokens.items()}
        self.subscribed = Subscriptions(lambda: self._behaviour)
        self.subscriptions = self.subscribed.fields
        """The webhook fields of each account."""
        self.limits: dict[str, RateLimit] = {}
        self._app_secret = app_secret
        self._consented: set[str] = set()
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._now = now
        self.mailbox = Mailbox(now, self._opens_window)
        """Every message that exists."""
        self.posts = Posts(now)
        """Every post and comment that exists."""
        self.webhooks: Callable[[Item], Awaitable[object]] | None = None
        """Sends a webhook payload. A WebhookSender for this server sets it; without one, no webhook is sent."""
        self._background = Background()
        self._dispatch = Dispatch(lambda: self._behaviour, self._random, self._background, self.tell)
        self.customer = Customer(self.mailbox, lambda: self._behaviour, self._background, self.tell, now)
        self.conversations = ConversationsApi(self.mailbox, lambda: self._behaviour, self._random, now)
        self.sending = SendingApi(self.mailbox, self.posts, lambda: self._behaviour, self._dispatch, self.customer, now)
        self.comments = CommentsApi(self.posts, lambda: self._behaviour, self._dispatch, self.sending.ledger)
        self.comment_control = CommentControl(self.posts, lambda: self._behaviour, self.tell)

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        """Behave differently from now on."""
        if self._behaviour.unsubscribed == "no":
            self.subscribed.forget_renewals()
        self._behaviour = behaviour
        self._down_until = self._now() + behaviour.down_s

    @property
    def is_down(self) -> bool:
        """Whether no call is answered and no webhook is sent."""
        return self._now() < self._down_until

    def sends_webhooks(self, account_id: str) -> bool:
        """Whether webhooks are sent for an account."""
        stopped = self._behaviour.unsubscribed != "no" and not self.subscribed.was_renewed(account_id)
        return not self.is_down and not stopped

    def _opens_window(self, account_id: str) -> bool:
        """Whether what participants do counts as reaching the app. Without a subscription it may not."""
        return not self._behaviour.window_needs_subscription or (
            self.sends_webhooks(account_id) and self.subscribed.has(account_id, "messages")
        )

    def happen(self, payload: Item) -> None:
        """Let what a webhook payload tells happen, without a webhook."""
        self.mailbox.apply(payload)
        self.posts.apply(payload)

    async def tell(self, payload: Item) -> None:
        """Let what a webhook payload tells happen, and send it."""
        self.happen(payload)
        if self.webhooks is not None:
            await self.webhooks(payload)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.on_response_prepare.append(self._date)
        app.cleanup_ctx.extend([self.sending.running, self._background.until_stopped])
        app.router.add_get(CONTROL_PATH, self._get_behaviour)
        app.router.add_put(CONTROL_PATH, self._put_behaviour)
        app.router.add_get(CALLS_PATH, self._get_calls)
        app.router.add_get(MAILBOX_PATH, self._get_mailbox)
        app.router.add_post(MAILBOX_PATH, self._add_message)
        app.router.add_get(SENT_PATH, self._get_sent)
        app.router.add_put(CONSENT_PATH + "/{igsid}", self._consent)
        self.comment_control.add_routes(app)
        app.router.add_get("/pictures/{igsid}.png", self._picture)
        app.router.add_route("*", "/refresh_access_token", self._graph(self._refresh))
        app.router.add_get("/{version}/me", self._graph(self._me))
        app.router.add_get("/{version}/{node}/conversations", self._graph(self._conversations))
        app.router.add_get("/{version}/{node}/messages", self._graph(self._messages))
        app.router.add_post("/{version}/{node}/messages", self._graph(self._send, counted=False))
        app.router.add_route("*", "/{version}/{node}/subscribed_apps", self._graph(self._subscribed_apps))
        for edge in ("replies", "comments", "mentions"):
            app.router.add_post(f"/{{version}}/{{node}}/{edge}", self._graph(self._publish))
        for edge, answer in (("replies", self.comments.replies), ("comments", self.comments.comments)):
            app.router.add_get(f"/{{version}}/{{node}}/{edge}", self._graph(_by_caller(answer)))
        app.router.add_get("/{version}/{node}", self._graph(self._node))
        app.router.add_post("/{version}/{node}", self._graph(_by_caller(self.comments.hide)))
        app.router.add_delete("/{version}/{node}", self._graph(_by_caller(self.comments.delete)))
        return app

    async def _date(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(self._now(), usegmt=True)

    async def _get_behaviour(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.behaviour), content_type="application/json")

    async def _put_behaviour(self, request: web.Request) -> web.Response:
        try:
            self.behaviour = msgspec.json.decode(await request.read(), type=Behaviour)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        self.limits.clear()
        return await self._get_behaviour(request)

    async def _get_calls(self, _request: web.Request) -> web.Response:
        return web.json_response(self.calls)

    async def _get_mailbox(self, request: web.Request) -> web.Response:
        found = self.mailbox.truth(request.query.get("account_id"))
        return web.Response(body=msgspec.json.encode({"messages": found}), content_type="application/json")

    async def _get_sent(self, request: web.Request) -> web.Response:
        found = self.sending.ledger.view(request.query.get("account_id"))
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def _add_message(self, request: web.Request) -> web.Response:
        try:
            new = msgspec.json.decode(await request.read(), type=NewMessage)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        mid = self.mailbox.add(new)
        if new.webhook:
            await self.tell(self.mailbox.webhook(mid))
        return web.json_response({"id": mid}, status=201)

    async def _consent(self, request: web.Request) -> web.Response:
        self._consented.add(request.match_info["igsid"])
        return web.Response(status=204)

    async def _picture(self, request: web.Request) -> web.Response:
        if self.behaviour.dead_pictures:
            return web.Response(status=403, text="URL signature expired")
        if self.behaviour.picture_redirect:
            raise web.HTTPFound(self.behaviour.picture_redirect)
        return web.Response(body=avatar(request.match_info["igsid"]), content_type="image/png")

    def _graph(
        self,
        answer: Callable[[web.Request, str, Token], web.Response | Awaitable[web.Response]],
        *,
        counted: bool = True,
    ) -> Callable[[web.Request], Any]:
        """A handler for a Graph call: refused because of behaviour, token or limit, or else answered.

        Calls that are not `counted` have limits of their own.
        """

        async def handler(request: web.Request) -> web.Response:
            self.calls.append(request.path)
            behaviour = self.behaviour
            await asyncio.sleep(behaviour.latency_ms / 1000 * (0.5 + self._random.random()))
            if behaviour.outage or self.is_down:
                sorry = "<html>Sorry, something went wrong.</html>"
                return web.Response(status=503, text=sorry, content_type="text/html")
            text = await self._token(request)
            token = self.tokens.get(text)
            if token is None:
                return graph_error(400, 190, "Invalid OAuth access token", subcode=467)
            if token.issued_at and self._now() - token.issued_at > LIFETIME_S:
                return graph_error(400, 190, "Error validating access token: Session has expired", subcode=463)
            limit = self._limit(token.account_id) if counted else None
            found = self._refusal(request, text, limit) or answer(request, text, token)
            response = found if isinstance(found, web.Response) else await found
            response.headers.update(self._usage(limit))
            return response

        return handler

    async def _token(self, request: web.Request) -> str:
        if request.method == "POST":
            form = await request.post()
            if "access_token" in form:
                return str(form["access_token"])
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    def _limit(self, account_id: str) -> RateLimit | None:
        behaviour = self.behaviour
        if not behaviour.calls_per_window:
            return None
        if account_id not in self.limits:
            self.limits[account_id] = RateLimit(account_id, behaviour.calls_per_window, behaviour.window_s, self._now)
        return self.limits[account_id]

    def _refusal(self, request: web.Request, token: str, limit: RateLimit | None) -> web.Response | None:
        """The error that every call gets now, if any."""
        behaviour = self.behaviour
        if limit is not None and not limit.admit():
            return graph_error(400, 80002, "There have been too many calls to this Instagram account")
        if behaviour.token_expired:
            return graph_error(400, 190, "Error validating access token: Session has expired", subcode=463)
        if behaviour.throttled:
            return graph_error(400, 4, "Application request limit reached")
        if self._random.random() < behaviour.error_rate:
            return graph_error(
                500, behaviour.error_code, "Service temporarily unavailable", subcode=behaviour.error_subcode
            )
        return self._proof_error(request.query.get("appsecret_proof"), token)

    def _proof_error(self, proof: str | None, token: str) -> web.Response | None:
        """The error about `appsecret_proof`, if it is wrong or missing."""
        if self._app_secret is None or (proof is None and not self.behaviour.require_proof):
            return None
        if proof is None:
            return graph_error(400, 100, "API calls from the server require an appsecret_proof argument")
        if proof != hmac.digest(self._app_secret.encode(), token.encode(), "sha256").hex():
            return graph_error(400, 100, "Invalid appsecret_proof provided in the API argument")
        return None

    def _usage(self, limit: RateLimit | None) -> dict[str, str]:
        if limit is not None:
            return limit.headers() if self.behaviour.usage_headers else {}
        behaviour = self.behaviour
        percent = 100 if behaviour.throttled else behaviour.usage_percent
        if percent is None:  # Meta sends the headers once there have been enough calls
            return {}
        usage = {"call_count": percent, "total_cputime": percent // 2, "total_time": percent // 2}
        return {"X-App-Usage": json.dumps(usage)}

    def _me(self, request: web.Request, _text: str, token: Token) -> web.Response:
        if self.comments.knows("me", request.query.get("fields", "")):
            return self.comments.node(request, token.caller, "me")
        if token.page_id is None:
            return web.json_response({"id": f"9{token.account_id}", "user_id": token.account_id, "username": OWN_NAME})
        linked = {"id": token.account_id, "username": OWN_NAME}
        return web.json_response({"id": token.page_id, "name": "The Shop", "instagram_business_account": linked})

    def _conversations(self, request: web.Request, _text: str, token: Token) -> web.Response:
        return self.conversations.listed(request, token.caller)

    def _messages(self, request: web.Request, _text: str, token: Token) -> web.Response:
        return self.conversations.edge(request, token.caller, request.match_info["node"])

    async def _send(self, request: web.Request, _text: str, token: Token) -> web.Response:
        return await self.sending.messages(request, token.caller)

    def _node(self, request: web.Request, text: str, token: Token) -> web.Response:
        """A post or comment, or a person, who has a number, or a conversation or message, which has not."""
        node, caller = request.match_info["node"], token.caller
        if self.comments.knows(node, request.query.get("fields", "")):
            return self.comments.node(request, caller, node)
        if node.isdigit() and not self.conversations.knows(node, caller):
            return self._profile(request, text, token)
        return self.conversations.node(request, caller, node)

    async def _subscribed_apps(self, request: web.Request, _text: str, token: Token) -> web.Response:
        return await self.subscribed.answer(request, token.caller)

    async def _publish(self, request: web.Request, _text: str, token: Token) -> web.Response:
        return await self.comments.publish(request, token.caller)

    def _refresh(self, request: web.Request, text: str, token: Token) -> web.Response:
        if self.behaviour.refresh_wants_parameter and request.method == "GET":
            return graph_error(400, 100, "The parameter access_token is required")
        if self._now() - token.issued_at < DAY_S:
            return graph_error(400, 100, "The token is not yet 24 hours old")
        del self.tokens[text]
        new = f"{text.partition('~')[0]}~{next(self._numbers)}"
        self.tokens[new] = token._replace(issued_at=self._now())
        return web.json_response({"access_token": new, "token_type": "bearer", "expires_in": LIFETIME_S})

    def _profile(self, request: web.Request, _text: str, _token: Token) -> web.Response:
        who = request.match_info["node"]
        if who in self.behaviour.no_consent and who not in self._consented:
            return graph_error(403, 230, "User consent is required to access user profile")
        found = person(who)
        if found is None:
            return graph_error(400, 9010, "No matching Instagram user", kind="IGApiException")
        fields = set(request.query.get("fields", "").split(","))
        known = _fields(found, f"{request.url.origin()}/pictures/{who}.png")
        unknown = fields - known.keys() - {"id", ""}
        if unknown:
            return graph_error(400, 100, f"Tried accessing nonexisting field ({min(unknown)})")
        # Meta leaves the name and the picture out where there is none.
        asked = {name: value for name, value in known.items() if name in fields and value is not None}
        return web.json_response(asked | {"id": who})


def _by_caller(
    answer: Callable[[web.Request, Caller], web.Response],
) -> Callable[[web.Request, str, Token], web.Response]:
    return lambda request, _text, token: answer(request, token.caller)


def _fields(found: Person, picture_url: str) -> dict[str, Any]:
    return {
        "username": found.username,
        "follower_count": found.follower_count,
        "is_verified_user": found.is_verified,
        "is_user_follow_business": found.follows_business,
        "is_business_follow_user": False,
        "name": found.name,
        "profile_pic": picture_url if found.has_picture else None,
    }
