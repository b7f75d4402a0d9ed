import json

import pytest
from inboxd.meta.signed_request import SignedRequestError, parse_signed_request, sign_request

PAYLOAD = json.dumps({"user_id": "91", "algorithm": "HMAC-SHA256", "issued_at": 1_790_000_000}).encode()


def test_any_of_the_secrets_may_have_signed_it() -> None:
    first = parse_signed_request(sign_request(PAYLOAD, "one"), ["one", "two"])
    second = parse_signed_request(sign_request(PAYLOAD, "one"), ["two", "one"])

    assert first == second
    assert first.user_id == "91"
    assert len(first.receipt) == 32


def test_a_number_is_an_id_too() -> None:
    assert parse_signed_request(sign_request(b'{"user_id": 91}', "one"), ["one"]).user_id == "91"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "two base64url parts"),
        ("abc", "two base64url parts"),
        ("a.b", "two base64url parts"),
        ("é.é", "two base64url parts"),
        ("QUJD.QUJD.QUJD", "two base64url parts"),
        ("Q" * 20_000 + ".QUJD", "two base64url parts"),
        (sign_request(PAYLOAD, "wrong"), "none of the configured app secrets"),
        (sign_request(PAYLOAD, "one")[1:], "base64url|none of the configured"),
        (sign_request(b"[]", "one"), "not the JSON"),
        (sign_request(b"\xff", "one"), "not the JSON"),
        (sign_request(b'{"user_id": "91", "user": ' + b"[" * 3000 + b"]" * 3000 + b"}", "one"), "not the JSON"),
        (sign_request(b'{"user_id": "91", "algorithm": "none"}', "one"), "must use HMAC-SHA256"),
    ],
)
def test_what_meta_did_not_sign_is_refused(text: str, told: str) -> None:
    with pytest.raises(SignedRequestError, match=told):
        parse_signed_request(text, ["one"])
