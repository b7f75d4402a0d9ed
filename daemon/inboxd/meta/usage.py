"""Parses the usage headers: how much of its allowance Meta says is used.

Source: Graph API "Rate limits", "Headers". Values are percentages. A missing header means unknown, not zero. Nothing
here raises: values in an unexpected format are ignored.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

APP_USAGE: Final = "X-App-Usage"
BUSINESS_USAGE: Final = "X-Business-Use-Case-Usage"
RETRY_AFTER: Final = "Retry-After"
_PERCENTAGES: Final = ("call_count", "total_cputime", "total_time")
_REGAIN: Final = "estimated_time_to_regain_access"
_MINUTE_S: Final = 60.0
_MAX_HEADER: Final = 64 * 1024
_LONGEST_S: Final = 7 * 86_400.0
_MOST_PERCENT: Final = 10_000.0
"""A larger value is not believed to be a percentage."""


class Usage(NamedTuple):
    """The usage that one answer reports. A percentage is None when the answer has none."""

    app_percent: float | None = None
    """Percent of the app's allowance, which all accounts share."""
    account_percent: float | None = None
    """Percent of the account's allowance: the highest of all business use cases."""
    regain_s: float = 0.0
    """Seconds until the account may call again, as Meta estimates; 0 when it is not stopped."""
    retry_after_s: float = 0.0


def parse_usage(headers: Mapping[str, str]) -> Usage:
    """The usage in the headers of an answer. `headers` must ignore case, as those of aiohttp do."""
    app = list(_percentages(_objects(headers.get(APP_USAGE))))
    business = list(_objects(headers.get(BUSINESS_USAGE)))
    account = list(_percentages(business))
    minutes = [found for item in business if (found := _number(item.get(_REGAIN))) is not None]
    return Usage(
        app_percent=max(app, default=None),
        account_percent=max(account, default=None),
        regain_s=min(max(minutes, default=0.0) * _MINUTE_S, _LONGEST_S),
        retry_after_s=min(_number(headers.get(RETRY_AFTER)) or 0.0, _LONGEST_S),
    )


def _objects(header: str | None) -> Iterator[dict[str, Any]]:
    """Every JSON object in the header, including those under a repeated key: Meta's own sample repeats one."""
    if header is None or len(header) > _MAX_HEADER:
        return
    found: list[dict[str, Any]] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        found.append(dict(pairs))

    try:
        json.loads(header, object_pairs_hook=collect)
    except (ValueError, RecursionError):
        return
    yield from found


def _percentages(objects: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Iterator[float]:
    for item in objects:
        for name in _PERCENTAGES:
            found = _number(item.get(name))
            if found is not None and found <= _MOST_PERCENT:
                yield found


def _number(value: object) -> float | None:
    """A number that is not negative. It may be written as text. Anything else is None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
