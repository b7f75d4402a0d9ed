import pytest
from inboxd.meta.signature import SignatureVerifier, Verdict, sign

BODY = b'{"text":"hola \\u00e1"}'
VERIFIER = SignatureVerifier(["one", "two"])


@pytest.mark.parametrize("secret", ["one", "two"])
def test_any_configured_secret_will_do(secret: str) -> None:
    assert VERIFIER.check(sign(BODY, secret), BODY) is Verdict.VALID


def test_known_value() -> None:  # RFC 4231, test case 2
    assert sign(b"what do ya want for nothing?", "Jefe") == (
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (None, Verdict.MISSING),
        ("", Verdict.MALFORMED),
        ("sha1=" + "a" * 40, Verdict.MALFORMED),
        ("sha256=" + "a" * 63, Verdict.MALFORMED),
        ("sha256=" + "a" * 65, Verdict.MALFORMED),
        ("sha256=" + "g" * 64, Verdict.MALFORMED),
        ("sha256=" + "é" * 64, Verdict.MALFORMED),
        (sign(BODY, "one").upper(), Verdict.MALFORMED),
        (sign(BODY, "one") + "\n", Verdict.MALFORMED),
        ("sha256=" + "a" * 64, Verdict.WRONG),
        (sign(BODY, "three"), Verdict.WRONG),
        (sign(BODY + b" ", "one"), Verdict.WRONG),
    ],
)
def test_everything_else_is_refused(header: str | None, verdict: Verdict) -> None:
    assert VERIFIER.check(header, BODY) is verdict


def test_without_secrets_nothing_is_valid() -> None:
    assert SignatureVerifier([]).check(sign(BODY, ""), BODY) is Verdict.WRONG
