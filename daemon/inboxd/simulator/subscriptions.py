"""The webhook fields that accounts are subscribed to. A subscription is all or nothing, and replaces the one before."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.caller import Caller
from inboxd.simulator.errors import RefusedError, missing, refused
from inboxd.simulator.outgoing import body_of

ACCOUNT_FIELDS: Final = frozenset(
    [
        "agent_messages",
        "messages",
        "messaging_postbacks",
        "messaging_seen",
        "messaging_handover",
        "messaging_referral",
        "messaging_optins",
        "message_reactions",
        "message_edit",
        "standby",
        "comments",
        "live_comments",
        "mentions",
        "story_insights",
        "creator_marketplace_projects",
        "creator_marketplace_invited_creator_onboarding",
        "delta",
        "story_reactions",
        "onboarding_welcome_message_series",
        "follow",
        "comment_poll_response",
        "story_poll_response",
        "share_to_story",
    ]
)
"""What the edge of an Instagram account takes."""
PAGE_FIELDS: Final = frozenset(
    [
        "feed",
        "mention",
        "messages",
        "message_reactions",
        "message_echoes",
        "message_reads",
        "message_deliveries",
        "messaging_postbacks",
        "messaging_referrals",
        "messaging_handovers",
        "messaging_optins",
        "standby",
        "messaging_policy_enforcement",
    ]
)
"""What the edge of a Page takes."""


class Subscriptions:
    """Answers /{account or page}/subscribed_apps."""

    def __init__(self, behaviour: Callable[[], Behaviour]) -> None:
        self._behaviour = behaviour
        self.fields: dict[str, set[str]] = {}
        """By account: of the account itself, or of its Page with Facebook Login."""
        self.of_linked_accounts: dict[str, set[str]] = {}
        """By account: of the account itself with Facebook Login."""
        self.made = 0
        """How often an account was subscribed. Each time replaces its fields."""
        self._again: set[str] = set()

    def forget_renewals(self) -> None:
        """Webhooks stop from now on, until an account subscribes again."""
        self._again.clear()

    def was_renewed(self, account_id: str) -> bool:
        """Whether the account has subscribed again since webhooks stopped."""
        return account_id in self._again

    def has(self, account_id: str, field: str) -> bool:
        """Whether the account is subscribed to a webhook field."""
        return field in self.fields.get(account_id, ()) or field in self.of_linked_accounts.get(account_id, ())

    async def answer(self, request: web.Request, caller: Caller) -> web.Response:
        """GET, POST or DELETE."""
        try:
            fields, accepted = self._edge(request.match_info["node"], caller)
            if request.method == "POST":
                wanted = str((await body_of(request)).get("subscribed_fields", ""))
                done = self._subscribe(fields, {one.strip() for one in wanted.split(",") if one.strip()}, accepted)
                if done:
                    self._again.add(caller.account_id)
                    self.made += 1
                return web.json_response({"success": done})
        except RefusedError as error:
            return error.response
        if request.method == "DELETE":
            fields.clear()
            return web.json_response({"success": True})
        lost = self._behaviour().unsubscribed == "shown" and not self.was_renewed(caller.account_id)
        listed = [{"subscribed_fields": sorted(fields)}] if fields and not lost else []
        return web.json_response({"data": listed})

    def _edge(self, node: str, caller: Caller) -> tuple[set[str], frozenset[str]]:
        """The fields that are subscribed at a node, and those that it takes."""
        if caller.page_id is None and caller.is_account(node):
            return self.fields.setdefault(caller.account_id, set()), ACCOUNT_FIELDS
        if caller.is_own_node(node):
            return self.fields.setdefault(caller.account_id, set()), PAGE_FIELDS
        if caller.is_account(node):
            return self.of_linked_accounts.setdefault(caller.account_id, set()), ACCOUNT_FIELDS
        raise missing(node)

    def _subscribe(self, fields: set[str], wanted: set[str], accepted: frozenset[str]) -> bool:
        """Replace `fields` by what is wanted, or leave them all. Returns False when Meta says so in a success."""
        unknown = wanted - accepted
        if not wanted or unknown:
            listed = ", ".join(sorted(accepted)).upper()
            raise refused(100, f"Param subscribed_fields[0] must be one of {{{listed}}} - got {sorted(unknown)}")
        unticked = wanted & set(self._behaviour().unticked_fields)
        if unticked and self._behaviour().unticked_answer == "success_false":
            return False
        if unticked:
            raise refused(100, f"The app is not configured for the webhook fields {', '.join(sorted(unticked))}")
        fields.clear()
        fields |= wanted
        return True
