"""How simulated comments, mentions and subscriptions behave: a part of the switches."""

from typing import Literal

from inboxd.simulator.sending_behaviour import SendBehaviour


class CommentBehaviour(SendBehaviour, frozen=True, forbid_unknown_fields=True):
    """What comments look like, and which webhooks tell of them."""

    comment_key: Literal["id", "comment_id"] = "id"
    """The name of a comment's id in webhooks."""
    comment_envelope: Literal["changes", "entry"] = "changes"
    """Whether webhooks about comments have `changes`, or their `field` and `value` directly in the entry."""
    comment_from: bool = True
    """Whether webhooks about comments tell who wrote them."""
    own_comment_id: Literal["main", "app_scoped"] = "main"
    """The id under which the account itself comments."""
    own_comment_marker: bool = True
    """The account's own comments have `from.self_ig_scoped_id` in webhooks."""
    comments_permission: bool = True
    """Without it, every call about comments and posts fails with code 10."""
    comments_need_subscription: bool = False
    """Comments and mentions are sent only to accounts that are subscribed to their webhook field."""
    unticked_fields: tuple[str, ...] = ()
    """Webhook fields that are not ticked in the dashboard: subscribing to them fails as a whole."""
    unticked_answer: Literal["error", "success_false"] = "error"
    """How it fails: code 100, or status 200 with `success: false`."""
