"""Referrals: what led a participant to the account. An ad, a link with a `ref`, or a product of the shop.

Source: Meta's "ig.me links" and "Instagram Messaging API". It is `message.referral`, `postback.referral`, or a webhook
event of its own (`messaging_referral`). Meta's samples have ids as numbers, and members that no page documents.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from inboxd.domain.untrusted import object_of, text_of

MAX_REF: Final = 2083
"""Characters of a `ref`, by Meta's documentation."""
MAX_TEXT: Final = 1000
MAX_URL: Final = 4096


class Referral(msgspec.Struct, frozen=True, kw_only=True):
    """A referral. None is what Meta did not say, and what has an odd type or is too long."""

    source: str | None = None
    """`ADS`, `SHORTLINKS`, or another."""
    type: str | None = None
    """`OPEN_THREAD`, or another."""
    ref: str | None = None
    """What the owner of the link or of the ad wrote into it."""
    ad_id: str | None = None
    ad_title: str | None = None
    photo_url: str | None = None
    video_url: str | None = None
    """The address of a preview of the ad's video."""
    post_id: str | None = None
    product_id: str | None = None
    flow_id: str | None = None


def referral_of(value: object) -> Referral | None:
    """The referral in Meta's JSON, which may be anything. None when it has no member of a referral."""
    if not isinstance(value, Mapping):
        return None
    ad, product = object_of(value, "ads_context_data"), object_of(value, "product")
    found = Referral(
        source=_text(value, "source"),
        type=_text(value, "type"),
        ref=_text(value, "ref", MAX_REF),
        ad_id=_text(value, "ad_id") or _text(ad, "ad_id"),
        ad_title=_text(ad, "ad_title"),
        photo_url=_text(ad, "photo_url", MAX_URL),
        video_url=_text(ad, "video_url", MAX_URL),
        post_id=_text(ad, "post_id"),
        product_id=_text(product, "id") or _text(ad, "product_id"),
        flow_id=_text(ad, "flow_id"),
    )
    return None if found == Referral() else found


def _text(value: Mapping[str, Any], name: str, longest: int = MAX_TEXT) -> str | None:
    return text_of(value, name, longest)
