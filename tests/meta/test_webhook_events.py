"""Each odd payload is a file with a telling name; a row says what must come of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.meta import webhook_events as events
from inboxd.meta.webhook_decoding import MAX_BRACKETS, MAX_NESTING, to_ms
from inboxd.meta.webhook_events import UnreadableDeliveryError
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.support import ACCOUNT, ANA, T0, decoded

PAYLOADS = Path(__file__).parent.parent / "payloads"
ROWS = {
    "message_text": ["message"],
    "message_several_attachments": ["message"],
    "message_share_and_ig_post_together": ["message"],
    "message_ephemeral_without_payload": ["unsupported"],
    "message_like_heart_without_payload": ["message"],
    "message_reply_to_message": ["message"],
    "message_reply_to_story_with_sticker": ["message"],
    "message_quick_reply": ["message"],
    "message_from_ad_with_numeric_ad_id": ["message"],
    "message_from_shop": ["message"],
    "message_with_unknown_members": ["message"],
    "message_with_text_and_null_members": ["message"],
    "message_with_numeric_ids": ["message"],
    "message_timestamp_as_string_of_seconds": ["message"],
    "message_wrapped_in_changes": ["message"],
    "message_wrapped_in_an_array": ["message"],
    "echo": ["echo"],
    "echo_whose_recipient_is_the_account_and_entry_has_no_time": ["echo"],
    "self_message": ["self_message"],
    "delete": ["delete"],
    "unsupported": ["unsupported"],
    "edit_with_quoted_number": ["edit"],
    "edit_companion_without_text": ["edit_companion"],
    "edit_companion_without_parties": ["edit_companion"],
    "edit_companion_before_its_message": ["edit_companion", "message"],
    "edit_companion_with_the_original_text": ["edit_companion"],
    "edit_without_parties": ["edit"],
    "edits_plural_in_changes": ["edit"],
    "referrals_plural_in_changes": ["referral"],
    "handovers_plural_in_changes": ["pass_thread_control"],
    "seen_without_parties": ["seen"],
    "message_ig_story": ["message"],
    "message_fallback_with_title_and_url_beside_the_payload": ["message"],
    "self_postback": ["postback"],
    "policy_enforcement_with_underscore": ["policy_enforcement"],
    "policy_enforcement_with_hyphen": ["policy_enforcement"],
    "message_and_reaction_in_one_item": ["message", "reaction"],
    "message_with_the_username_of_its_sender": ["message"],
    "message_with_empty_mid": ["message", "message"],
    "message_without_mid": ["message"],
    "message_with_a_lone_surrogate": ["message", "message"],
    "unknown_because_a_reaction_has_no_mid": ["unknown"],
    "neighbours_of_an_item_with_nan": ["message", "unknown", "message"],
    "neighbours_of_an_item_nested_a_thousand_levels": ["message", "unknown", "message"],
    "neighbours_of_an_item_nested_a_hundred_levels": ["message", "unknown", "message"],
    "neighbours_of_an_item_that_is_no_utf8": ["message", "unknown", "message"],
    "neighbours_of_an_item_with_a_broken_escape": ["message", "unknown", "message"],
    "neighbours_of_an_item_of_absurd_size": ["message", "unknown", "message"],
    "edit_with_number": ["edit"],
    "reaction_with_other_emoji": ["reaction"],
    "unreact": ["reaction"],
    "seen": ["seen"],
    "postback": ["postback"],
    "postback_without_mid": ["postback"],
    "referral": ["referral"],
    "optin": ["optin"],
    "handover_pass": ["pass_thread_control"],
    "handover_take": ["take_thread_control"],
    "handover_request": ["request_thread_control"],
    "handover_app_roles": ["app_roles"],
    "standby_message": ["message"],
    "standby_postback_without_payload": ["postback"],
    "comment_facebook_login": ["comment"],
    "comment_instagram_login_without_changes": ["comment"],
    "live_comment": ["live_comment"],
    "mention": ["mention"],
    "story_insights": ["story_insights"],
    "changed_fields_only": ["changed_fields"],
    "test_button_instagram_login": ["test"],
    "test_button_facebook_login": ["test"],
    "unknown_item": ["unknown"],
    "unknown_field": ["unknown"],
    "unknown_empty_entry": ["unknown"],
    "unknown_because_of_another_object": ["unknown"],
    "unknown_because_malformed": ["unknown"],
    "unknown_because_without_sender": ["unknown"],
    "unknown_because_mid_is_absurd": ["unknown"],
    "neighbours_of_a_malformed_item": ["message", "unknown", "message"],
    "several_entries_of_several_accounts": ["message", "message"],
    "entry_with_messaging_and_standby": ["message", "message"],
}


def test_every_payload_has_its_row() -> None:
    assert {path.stem for path in PAYLOADS.glob("*.json")} == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_payload(name: str) -> None:
    found = decoded((PAYLOADS / f"{name}.json").read_bytes())

    assert [event.kind for event in found] == ROWS[name]
    for event in found:
        if event.kind == "unknown":
            assert isinstance(event.body, events.Other)
            assert event.body.reason
        else:
            assert event.timestamp is None or event.timestamp > 1_500_000_000_000


BROKEN = [name for name in ROWS if name.startswith("neighbours_of_an_item")]


@pytest.mark.parametrize("name", BROKEN)
def test_the_one_bad_item_is_kept_as_it_came(name: str) -> None:
    body = (PAYLOADS / f"{name}.json").read_bytes()
    _, bad, _ = decoded(body)

    assert bytes(bad.raw) == body.split(b"\n")[2].removesuffix(b",")
    assert bad.entry_id == ACCOUNT


@pytest.mark.parametrize("where", ["object", "entry", "id", "messaging"])
@pytest.mark.parametrize("bad", [b"NaN", b"[" * 2000 + b"]" * 2000, b'"\\ud83d"', b"\xff"])
def test_whatever_is_broken_around_the_items_ends_in_a_decision(where: str, bad: bytes) -> None:
    parts = {"object": b'"instagram"', "id": b'"17841400000000001"', "messaging": b"[]"}
    parts["entry"] = b'[{"id":%b,"messaging":%b}]' % (parts["id"], parts["messaging"])
    parts[where] = bad
    if where in {"id", "messaging"}:
        parts["entry"] = b'[{"id":%b,"messaging":%b}]' % (parts["id"], parts["messaging"])

    try:
        kinds = {event.kind for event in decoded(b'{"object":%b,"entry":%b}' % (parts["object"], parts["entry"]))}
    except UnreadableDeliveryError:
        kinds = set()

    assert kinds <= {"unknown"}


def test_standby_is_marked() -> None:
    found = decoded((PAYLOADS / "entry_with_messaging_and_standby.json").read_bytes())

    assert [event.standby for event in found] == [False, True]


def test_quoted_edit_numbers_count() -> None:
    (event,) = decoded((PAYLOADS / "edit_with_quoted_number.json").read_bytes())

    assert isinstance(event.body, events.MessageEdit)
    assert event.body.number == 1


def test_a_batch_of_a_thousand() -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)

    found = decoded(json.dumps(delivery(ACCOUNT, T0, [who.says(str(n)) for n in range(1000)])).encode())

    assert [event.body.text for event in found if isinstance(event.body, events.WebhookMessage)] == [
        str(n) for n in range(1000)
    ]


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"{}", b"[1]", b'{"object":"instagram"}', b'{"object":1,"entry":[]}', b"\xff\xfe", b"null"]
)
def test_what_is_no_payload_is_told_apart(body: bytes) -> None:
    with pytest.raises(UnreadableDeliveryError, match="not a webhook payload"):
        decoded(body)


@pytest.mark.parametrize(
    ("given_time", "ms"),
    [
        (1_789_999_999_456, 1_789_999_999_456),
        (1_790_000_000, 1_790_000_000_000),
        ("1527459824", 1_527_459_824_000),
        ("1789999999456", 1_789_999_999_456),
        (None, None),
        ("yesterday", None),
        (-5, None),
        (0, None),
        (10**30, None),
        (float("inf"), None),
    ],
)
def test_times_are_milliseconds(given_time: float | str | None, ms: int | None) -> None:
    assert to_ms(given_time) == ms


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "object",
                    "entry",
                    "messaging",
                    "standby",
                    "changes",
                    "field",
                    "value",
                    "sender",
                    "recipient",
                    "id",
                    "message",
                    "mid",
                    "reaction",
                    "read",
                    "postback",
                    "timestamp",
                    "time",
                    "attachments",
                    "text",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_makes_the_decoder_fail_otherwise(value: object) -> None:
    for wrapped in (value, {"object": "instagram", "entry": [value]}, delivery(ACCOUNT, T0, [value])):  # type: ignore[list-item]  # on purpose
        try:
            decoded(json.dumps(wrapped).encode())
        except UnreadableDeliveryError:
            continue


def test_an_item_without_a_time_has_its_entrys() -> None:
    item = Conversationalist(ACCOUNT, ANA, T0).says("hi")
    del item["timestamp"]

    (event,) = decoded(json.dumps(delivery(ACCOUNT, T0 + 5, [item])).encode())
    assert event.timestamp == T0 + 5


@pytest.mark.parametrize(("pairs", "kind"), [(MAX_BRACKETS - 10, "referral"), (MAX_BRACKETS, "unknown")])
def test_an_item_has_so_many_brackets_at_most(pairs: int, kind: str) -> None:
    item = {**Conversationalist(ACCOUNT, ANA, T0).says("hi"), "referral": {"x": [[]] * (pairs - 1)}}
    del item["message"]

    (event,) = decoded(json.dumps(delivery(ACCOUNT, T0, [item])).encode())
    assert event.kind == kind


@pytest.mark.parametrize(("levels", "kind"), [(MAX_NESTING - 2, "referral"), (MAX_NESTING, "unknown")])
def test_an_item_of_objects_in_objects_has_so_many_levels_at_most(levels: int, kind: str) -> None:
    nested: object = "x"
    for _ in range(levels):
        nested = {"x": nested}
    item = {**Conversationalist(ACCOUNT, ANA, T0).says("hi"), "referral": nested}
    del item["message"]

    (event,) = decoded(json.dumps(delivery(ACCOUNT, T0, [item])).encode())
    assert event.kind == kind
