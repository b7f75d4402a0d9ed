import pytest
from inboxd.meta.usage import Usage, parse_usage
from multidict import CIMultiDict

BUSINESS = "X-Business-Use-Case-Usage"


@pytest.mark.parametrize(
    ("headers", "usage"),
    [
        ({}, Usage()),
        ({"X-App-Usage": '{"call_count":28,"total_cputime":25,"total_time":30}'}, Usage(app_percent=30)),
        ({"x-app-usage": '{"call_count":28}'}, Usage(app_percent=28)),
        ({"X-APP-USAGE": '{"call_count":"28"}'}, Usage(app_percent=28)),
        ({"X-App-Usage": '{"call_count":null,"total_time":true}'}, Usage()),
        ({"X-App-Usage": "not json"}, Usage()),
        ({"X-App-Usage": "[" * 20_000}, Usage()),
        ({"X-App-Usage": '{"call_count":NaN,"total_time":Infinity,"total_cputime":-4}'}, Usage()),
        ({"X-App-Usage": "{}"}, Usage()),
        ({"X-App-Usage": "7"}, Usage()),
        (
            {BUSINESS: '{"1":[{"type":"instagram","call_count":12,"estimated_time_to_regain_access":0}]}'},
            Usage(account_percent=12),
        ),
        (
            {
                BUSINESS: '{"1":[{"type":"messenger","call_count":3},'
                '{"call_count":99,"estimated_time_to_regain_access":5}]}'
            },
            Usage(account_percent=99, regain_s=300),
        ),
        ({BUSINESS: '{"1":[{"call_count":80}],"1":[{"call_count":5}]}'}, Usage(account_percent=80)),
        ({BUSINESS: '{"1":{"call_count":80}}'}, Usage(account_percent=80)),
        ({BUSINESS: '{"1":[]}'}, Usage()),
        ({BUSINESS: '{"1":[{"estimated_time_to_regain_access":1e300}]}'}, Usage(regain_s=7 * 86_400)),
        ({"Retry-After": "120"}, Usage(retry_after_s=120)),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, Usage()),
    ],
)
def test_what_the_headers_say(headers: dict[str, str], usage: Usage) -> None:
    assert parse_usage(CIMultiDict(headers)) == usage
