import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.referral import MAX_REF, MAX_TEXT, MAX_URL, Referral, referral_of

AD: dict[str, Any] = {
    "ref": "spring",
    "ad_id": 1200000000000001,
    "source": "ADS",
    "type": "OPEN_THREAD",
    "ads_context_data": {
        "ad_title": "Spring sale",
        "photo_url": "https://example.com/a.jpg",
        "video_url": "https://example.com/v.jpg",
        "post_id": "17900000000000001",
        "product_id": 5,
        "flow_id": "9",
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*AD, *AD["ads_context_data"]]), inner),
)


@pytest.mark.parametrize(
    ("told", "referral"),
    [
        (
            AD,
            Referral(
                source="ADS",
                type="OPEN_THREAD",
                ref="spring",
                ad_id="1200000000000001",
                ad_title="Spring sale",
                photo_url="https://example.com/a.jpg",
                video_url="https://example.com/v.jpg",
                post_id="17900000000000001",
                product_id="5",
                flow_id="9",
            ),
        ),
        ({"product": {"id": "5000000000000001"}}, Referral(product_id="5000000000000001")),
        (
            {"ref": "qr7", "source": "SHORTLINKS", "type": "OPEN_THREAD"},
            Referral(ref="qr7", source="SHORTLINKS", type="OPEN_THREAD"),
        ),
        ({"ref": "qr7", "new": "member"}, Referral(ref="qr7")),
        ({"ads_context_data": {"ad_id": "1"}}, Referral(ad_id="1")),
    ],
)
def test_each_form_of_referral_is_read(told: object, referral: Referral) -> None:
    assert referral_of(told) == referral


@pytest.mark.parametrize("told", [None, {}, [], "ADS", 7, True, {"new": "member"}, {"ref": ""}, {"ref": " "}])
def test_what_names_nothing_is_no_referral(told: object) -> None:
    assert referral_of(told) is None


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        (True, None),
        (1.0, "1"),
        (1.5, None),
        (1e300, None),
        (math.inf, None),
        (10**40, None),
        (10**39, str(10**39)),
        ({"id": 1}, None),
        ([1], None),
        (None, None),
        ("7", "7"),
    ],
)
def test_a_member_of_an_odd_type_is_left_out_and_the_others_stay(odd: object, read: str | None) -> None:
    assert referral_of({"ad_id": odd, "ref": "r"}) == Referral(ad_id=read, ref="r")


def test_what_is_too_long_is_left_out_because_its_beginning_names_something_else() -> None:
    fits = {"ref": "r" * MAX_REF, "source": "s" * MAX_TEXT, "ads_context_data": {"photo_url": "u" * MAX_URL}}
    found = referral_of(fits)
    assert found is not None
    assert (found.ref, found.source, found.photo_url) == ("r" * MAX_REF, "s" * MAX_TEXT, "u" * MAX_URL)
    longer = {"ref": "r" * (MAX_REF + 1), "source": "s" * (MAX_TEXT + 1), "type": "t"}
    assert referral_of({**longer, "ads_context_data": {"photo_url": "u" * (MAX_URL + 1)}}) == Referral(type="t")


@given(JSON)
def test_any_json_makes_a_bounded_referral_or_none(told: object) -> None:
    found = referral_of(told)
    members = [] if found is None else [one for one in msgspec.structs.astuple(found) if one is not None]
    assert all(isinstance(one, str) and one.strip() for one in members)
    assert found is None or members
