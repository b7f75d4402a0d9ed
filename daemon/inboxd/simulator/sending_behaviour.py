"""How the simulated Send API and the simulated customer behave: a part of the switches."""

from typing import Literal

import msgspec

SendAnswer = Literal[
    "normal",
    "late",
    "slow",
    "error_after_sending",
    "odd_error_after_sending",
    "html_after_sending",
    "no_id",
    "dropped",
    "error_before",
    "cut_before",
    "any",
]
Echo = Literal["normal", "early", "late", "never", "doubled", "any"]


class SendBehaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of messages and of replies to comments that are sent by the API."""

    send_answer: SendAnswer = "normal"
    """How a send is answered. `any`: one of the others at random each time.

    `late`: sent at once, answered after `send_answer_ms`. `slow`: sent and answered after it. `error_after_sending`:
    sent, and status 500 with code 2. `odd_error_after_sending`: sent, and 1/1357046. `html_after_sending`: sent, and a
    page with status 502. `no_id`: sent, and status 200 without an id. `dropped`: sent, and the connection is cut.
    `error_before` and `cut_before`: the same as after sending, but nothing is sent.
    """
    send_answer_ms: float = 2000.0
    send_answer_rate: float = 1.0
    """Share of sends that `send_answer` applies to."""
    send_answer_next: int = 0
    """Only so many of the next sends are answered so; 0: all are."""
    echo: Echo = "normal"
    """When the echo of a sent message comes.

    `normal`: `echo_after_ms` after it was sent. `early`: it is delivered and acknowledged before the answer is written.
    `late`: `echo_late_ms` after it was sent. `doubled`: as `early` and as `normal`.
    """
    echo_after_ms: float = 1000.0
    echo_late_ms: float = 20_000.0
    echo_rate: float = 1.0
    """Share of sends that `echo` applies to."""
    echo_next: int = 0
    """Only the echoes of so many of the next sends come so; 0: all do."""
    echo_companions: bool = False
    """Beside each echo there is a textless `message_edit` with `num_edit` 0."""
    echo_metadata: bool = False
    """Echoes have the `metadata` that was sent."""
    send_throttled: bool = False
    """Every send fails with 613/2534040."""
    sends_per_s: int = 100
    """More sends of an account in one second are refused with 613/2534040; 0: no limit."""
    private_replies_per_h: int = 750
    """The same for private replies in one hour."""
    send_error_code: int = 0
    """Sends fail with this code and nothing is sent; 0: none does."""
    send_error_subcode: int | None = None
    send_error_status: int = 400
    send_error_rate: float = 1.0
    send_error_next: int = 0
    """Only so many of the next sends fail; 0: all do."""
    unreachable: tuple[str, ...] = ()
    """IGSIDs that cannot be written to: 551/1545041."""
    reply_window_s: float = 86_400.0
    """How long an account may answer after a person wrote."""
    ad_window_s: float = 7 * 86_400.0
    """How long it may after a message that came from an ad."""
    window_needs_subscription: bool = False
    """What participants do opens no window while their account is not subscribed to `messages`."""
    human_agent: bool = False
    """The app has the feature Human Agent: the tag HUMAN_AGENT is accepted for seven days."""
    human_agent_refusal: Literal["permission", "window"] = "permission"
    """How the tag is refused without that feature: 10, or 10/2534022."""
    unknown_reply_to: Literal["refused", "ignored"] = "ignored"
    """What becomes of a `reply_to` with an unknown id."""
    used_comment_subcode: int = 2534025
    """The subcode when a comment has had its private reply."""
    reactions: Literal["any", "love", "none"] = "any"
    """Which reactions of the account are accepted. `none`: every one fails with code 2."""
    media_timeout_s: float = 75.0
    """How long a file may take to be fetched."""
    customer_reads_ms: float = 0.0
    """The customer sees each message after this time; 0: never."""
    customer_answers_ms: float = 0.0
    """The customer answers after this time; 0: never."""
