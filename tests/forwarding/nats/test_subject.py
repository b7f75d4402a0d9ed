"""Subjects of events, and what a stream must take."""

import pytest
from inboxd.forwarding.nats.subject import SubjectTemplate, covers


@pytest.mark.parametrize(
    ("template", "subject", "everything", "pattern"),
    [
        (
            "inboxd.events.{type}.{account}",
            "inboxd.events.message.received.17",
            "inboxd.events.>",
            "inboxd.events.*.*.*",
        ),
        ("shop.{account}.{type}", "shop.17.message.received", "shop.>", "shop.*.*.*"),
        ("shop.{account}.all", "shop.17.all", "shop.>", "shop.*.all"),
        ("shop.events", "shop.events", "shop.events", "shop.events"),
    ],
)
def test_a_template(template: str, subject: str, everything: str, pattern: str) -> None:
    found = SubjectTemplate(template)
    assert found.subject("message.received", "17") == subject
    assert (found.everything, found.pattern) == (everything, pattern)
    assert covers(everything, pattern)
    assert covers(pattern, subject)


@pytest.mark.parametrize(
    ("event_type", "account", "subject"),
    [
        ("message.received", "", "e.message.received.-"),
        ("a..b", "1.2", "e.a.-.b.1_2"),
        ("message.*", ">", "e.message._._"),
        ("a b.c", "\r\n", "e.a_b.c.__"),
    ],
)
def test_a_subject_is_always_valid(event_type: str, account: str, subject: str) -> None:
    assert SubjectTemplate("e.{type}.{account}").subject(event_type, account) == subject


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (">", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        ("a.*.c", "a.*.c", True),
        ("a.b.c", "a.b", False),
        ("a.>", "b.>", False),
    ],
)
def test_what_a_subject_with_wildcards_covers(wide: str, narrow: str, *, covered: bool) -> None:
    assert covers(wide, narrow) is covered
