"""How the simulated Instagram behaves: the switches of PUT /_simulator/behaviour."""

from typing import Literal

from inboxd.simulator.comment_behaviour import CommentBehaviour


class Behaviour(CommentBehaviour, frozen=True, forbid_unknown_fields=True):
    """How the simulated Graph API behaves. PUT /_simulator/behaviour changes it."""

    latency_ms: float = 40.0
    """Average time to answer; each answer takes from half to one and a half of it."""
    error_rate: float = 0.0
    """Share of calls that fail with `error_code`."""
    error_code: int = 2
    error_subcode: int | None = None
    throttled: bool = False
    """Every call fails with code 4, and the usage headers say 100 %."""
    usage_percent: int | None = None
    """What the usage headers say, whatever the real use."""
    calls_per_window: int = 0
    """A real limit per account, with headers that follow the real use; 0: none."""
    window_s: float = 3600.0
    usage_headers: bool = True
    """Whether answers say how much of that limit is used; Meta sends no headers before "enough calls"."""
    outage: bool = False
    """Every call gets an HTML page with status 503, as from a failing edge."""
    token_expired: bool = False
    """Every call fails with 190/463."""
    tools_off: bool = False
    """The owner has switched off message access for connected tools: 200/2534041."""
    refresh_wants_parameter: bool = False
    """The refresh endpoint does not look for the token in the header."""
    require_proof: bool = False
    """Calls without a valid appsecret_proof are refused."""
    no_consent: tuple[str, ...] = ()
    """IGSIDs that answer 230 until they consent, which they do by writing (PUT /_simulator/consent/<IGSID>)."""
    dead_pictures: bool = False
    """Every picture URL has expired: 403."""
    picture_redirect: str = ""
    """Where picture URLs redirect to."""
    down_s: float = 0.0
    """From now on, for so many seconds, every call gets that HTML page and no webhook is sent. They are lost."""
    unsubscribed: Literal["no", "shown", "hidden"] = "no"
    """Webhooks stop until the account subscribes again. `shown`: `subscribed_apps` is empty. `hidden`: it is not."""
    companions_only: bool = False
    """The field `messages` is not ticked: of each message only the `message_edit` without a text is sent."""
    webhooks_dropped: float = 0.0
    """Share of webhooks that are never sent."""
    webhooks_duplicated: float = 0.0
    """Share of webhooks that are sent twice."""
    webhooks_delayed: float = 0.0
    """Share of webhooks that are sent only after some later ones."""
    visible_after_s: float = 30.0
    """The Conversations API shows a message only after this time."""
    conversation_calls_per_s: int = 2
    """More calls of the Conversations API in one second are refused; 0: no limit."""
    conversation_error_rate: float = 0.0
    """Share of calls of the Conversations API that fail with status 500."""
    most_listed: int = 0
    """Pages with a higher limit fail: "Please reduce the amount of data"; 0: none does."""
    details_for_newest: int = 20
    """Of older messages only the id and the time are shown."""
    old_details: Literal["omitted", "error"] = "omitted"
    """What a page of messages with older ones is, when their details are requested."""
    unknown_message_fields: tuple[str, ...] = ()
    """Fields of messages that this version of the API does not know."""
    messages_edge: bool = True
    """Whether `/{conversation}/messages` is known, beside the field `messages` of the conversation."""
    attachments: Literal["login", "always", "never"] = "login"
    """Whether attachments are shown. `login`: only with Facebook Login."""
    own_id: Literal["main", "app_scoped", "page"] = "main"
    """The id under which the account is a participant."""
    unordered: bool = False
    """The list of conversations is in no order."""
    empty_pages: bool = False
    """Before each next page there is an empty one."""
    unix_times: bool = False
    """Times are seconds since the epoch."""
    changes_move_updated_time: bool = False
    """Whether reactions, edits and unsent messages change a conversation's `updated_time`, too."""
