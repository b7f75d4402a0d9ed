"""What the overview says of problems, the disk, the traffic and backups."""

import pytest
from inboxd.domain.traffic import TrafficCause, TrafficFinding
from inboxd.maintenance.overview import backup_needs, disk_needs, health_needs, traffic_need
from inboxd.maintenance.thresholds import BACKUP_MAX_AGE_MS

from tests.support import ACCOUNT, T0

STRANGER = "17841499999999999"


def test_a_problem_is_a_sentence() -> None:
    (need,) = health_needs(["webhooks cannot be stored: the disk is full"])
    assert (need.text, need.path, need.urgent) == ("Webhooks cannot be stored: the disk is full.", "/", True)


@pytest.mark.parametrize(("free", "texts"), [(0.0999, ["The disk is nearly full: 10% is free."]), (0.1, [])])
def test_a_disk_that_is_nearly_full(free: float, texts: list[str]) -> None:
    assert [need.text for need in disk_needs(free)] == texts


@pytest.mark.parametrize(
    ("latest_at", "text"),
    [
        (None, "There is no backup yet: inboxd backup"),
        (T0 - BACKUP_MAX_AGE_MS, None),
        (T0 - BACKUP_MAX_AGE_MS - 1, "The latest backup is of "),
    ],
)
def test_a_backup_that_is_missing_or_old(latest_at: int | None, text: str | None) -> None:
    needs = backup_needs(latest_at, T0)
    assert [need.urgent for need in needs] == ([] if text is None else [False])
    assert all(text is not None and need.text.startswith(text) for need in needs)


@pytest.mark.parametrize(
    ("cause", "urgent"),
    [
        (TrafficCause.SILENT, True),
        (TrafficCause.COMPANIONS_ONLY, True),
        (TrafficCause.UNSERVED, False),
        (TrafficCause.UNAVAILABLE, False),
    ],
)
def test_silence_is_urgent(cause: TrafficCause, urgent: bool) -> None:  # noqa: FBT001 - a parameter of the test
    finding = TrafficFinding(cause, None, None, "nothing arrives", "Look.")
    need = traffic_need(finding, {})
    assert (need.text, need.path, need.urgent) == ("All accounts: nothing arrives. Look.", "/accounts", urgent)


@pytest.mark.parametrize(
    ("account_id", "who", "path"),
    [(ACCOUNT, "shop", "/accounts"), (STRANGER, f"Account {STRANGER}", f"/inbox?account={STRANGER}")],
)
def test_traffic_leads_to_where_it_is_seen(account_id: str, who: str, path: str) -> None:
    finding = TrafficFinding(TrafficCause.UNSERVED, account_id, 0, "events arrive", "Look.")
    need = traffic_need(finding, {ACCOUNT: "shop"})
    assert (need.text, need.path) == (f"{who}: events arrive, since 1970-01-01T00:00:00.000Z. Look.", path)
