"""What the overview and the doctor say of the outbox while it waits."""

from pathlib import Path

import pytest
from inboxd.maintenance.doctor.diagnosis import Severity
from inboxd.maintenance.doctor.outbox_checks import check_outbox
from inboxd.sending.delivery_store import Backlog, backlogs
from inboxd.sending.overview import PATIENCE_MS, BacklogView, outbox_needs
from inboxd.storage.database import Database

from tests.support import ACCOUNT, T0

WAITS = Backlog(ACCOUNT, waiting=3, oldest_at=T0, unknown=0, unknown_since=None, unresolved=0, restricted=0)
RESTRICTED = "shop: Meta restricts the account, so 3 messages wait. Look into its and the app's alerts at Meta."
ROWS = """
INSERT INTO outbound_messages (account_id, kind, participant_id, lane, state, holds, due_at, sent_by, body,
    requested_by, reason_code, reason, created_at, updated_at)
VALUES (?1, 'message', '1', 'p:1', 'queued', 1, 9, 'human', '{}', 'admin', ?2, 'why', 5, 5),
    (?1, 'message', '1', 'p:1', 'queued', 0, NULL, 'human', '{}', 'admin', NULL, NULL, 6, 6)
"""


@pytest.mark.parametrize(
    ("backlog", "after_ms", "texts"),
    [
        (WAITS, PATIENCE_MS - 1, []),
        (WAITS, PATIENCE_MS, ["shop: 3 messages not sent yet, the oldest since 2"]),
        (WAITS._replace(restricted=1), 0, [RESTRICTED]),
        (WAITS._replace(restricted=1), PATIENCE_MS, [RESTRICTED]),
    ],
)
def test_a_restricted_account_is_said_at_once_and_all_else_when_it_lasts(
    backlog: Backlog, after_ms: int, texts: list[str]
) -> None:
    needs = outbox_needs([BacklogView("shop", backlog, None)], T0 + after_ms)
    assert len(needs) == len(texts)
    assert all(need.urgent and need.text.startswith(text) for need, text in zip(needs, texts, strict=True))


async def test_the_doctor_says_at_once_that_an_account_is_restricted(database: Database, database_path: Path) -> None:
    await database.execute(ROWS, (ACCOUNT, "account_restricted"))
    (backlog,) = await backlogs(database.read)
    assert (backlog.waiting, backlog.restricted) == (2, 1)
    (found,) = await check_outbox(database_path)
    assert found.health is Severity.WRONG
    assert found.detail.startswith("Meta restricts the account, so 2 messages wait since 1970")
    assert "alerts at Meta" in (found.remedy or "")
