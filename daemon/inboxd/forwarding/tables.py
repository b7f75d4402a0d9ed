"""Webhook endpoints, attempts and failures as tables for a terminal."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from inboxd.forwarding.endpoint import EndpointState
from inboxd.forwarding.resources import AttemptList, EndpointResource, FailureList
from inboxd.forwarding.target import host_of
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable

_STYLES: Final = {EndpointState.OK: "green", EndpointState.FAILING: "red", EndpointState.DISABLED: "yellow"}


def endpoint_table(endpoints: Sequence[EndpointResource]) -> Table:
    """All endpoints: where they are, how they stand, how far behind."""
    table = _table(
        counted(len(endpoints), "webhook endpoint"), "Id", "Host", "Kind", "State", "Behind", "Last success (UTC)"
    )
    for one in endpoints:
        table.add_row(
            one.id,
            _text(host_of(one.url)),
            one.kind.value,
            _state(one),
            f"{one.behind_by:,}",
            _time(one.last_success_at),
        )
    return table


def one_endpoint(endpoint: EndpointResource) -> Table:
    """Everything about one endpoint."""
    table = Table(title=endpoint.id, title_justify="left", expand=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows: list[tuple[str, Text | str]] = [
        ("URL", _text(endpoint.url)),
        ("Description", _text(endpoint.description)),
        ("Gets", ", ".join(endpoint.event_types) or "Meta's deliveries, as they came"),
        ("Accounts", ", ".join(endpoint.account_ids) or "all"),
        ("State", _state(endpoint)),
        ("Reason", _text(endpoint.disabled_reason or "")),
        ("Failing since (UTC)", _time(endpoint.failing_since) if endpoint.failing_since else ""),
        (
            "Behind",
            f"{endpoint.behind_by:,}, the oldest for {endpoint.lag_seconds:.0f} s" if endpoint.behind_by else "0",
        ),
        ("Waiting for a retry", f"{endpoint.retries:,}"),
        ("Given up", f"{endpoint.failures:,}"),
        ("No longer kept", f"{endpoint.lost:,}, about, before they could be pushed" if endpoint.lost else ""),
        ("Last success (UTC)", _time(endpoint.last_success_at)),
        ("Last attempt (UTC)", _time(endpoint.last_attempt_at)),
        ("Last error", _text(endpoint.last_error or "none")),
        ("Rate limit", f"{endpoint.rate_limit:g} a second" if endpoint.rate_limit else "none"),
        ("Timeout", f"{endpoint.timeout_seconds:g} s"),
        ("Cursor", endpoint.cursor),
    ]
    for name, value in rows:
        if value:
            table.add_row(name, value)
    return table


def attempt_table(attempts: AttemptList) -> Table:
    """The latest attempts."""
    title = f"{len(attempts.attempts)} of {counted(attempts.total, 'attempt')}"
    table = _table(title, "At (UTC)", "Event", "Type", "Try", "Outcome", "ms", "Answer")
    for one in attempts.attempts:
        outcome = (
            Text(str(one.status), style="green") if one.delivered else Text(printable(one.error or ""), style="red")
        )
        answer = _text((one.response or "")[:60])
        table.add_row(_time(one.at), one.event_id, one.type, str(one.attempt), outcome, str(one.latency_ms), answer)
    return table


def failure_table(failures: FailureList) -> Table:
    """What could not be delivered at first."""
    title = f"{len(failures.failures)} of {counted(failures.total, 'event')} not delivered"
    table = _table(title, "Event", "Type", "State", "Attempts", "Next attempt (UTC)", "Error")
    for one in failures.failures:
        following = "" if one.next_attempt_at is None else _time(one.next_attempt_at)
        table.add_row(one.event_id, one.type, one.state.value, str(one.attempts), following, _text(one.error or ""))
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", expand=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _state(endpoint: EndpointResource) -> Text:
    return Text(endpoint.state.value, style=_STYLES[endpoint.state])


def _text(text: str) -> Text:
    return Text(printable(text))


def _time(iso: str | None) -> str:
    return "never" if iso is None else iso[:19].replace("T", " ")
