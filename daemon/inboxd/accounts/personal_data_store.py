"""How the data of an account is erased. Old calls are deleted when new ones are recorded; nothing else here expires."""

import sqlite3
from collections import Counter
from typing import Final

from inboxd.storage.personal_data import PersonalData, Subject

_ERASE: Final = {
    "graph_calls": """
        DELETE FROM graph_calls WHERE id IN (SELECT id FROM graph_calls WHERE account_id = :account LIMIT :step)
    """,
    "graph_stops": "DELETE FROM graph_stops WHERE scope IN (:account, 'sends:' || :account)",
}
_KNOWN: Final = "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ?)"


def personal_data() -> tuple[PersonalData, ...]:
    """Accounts, and the Graph calls made for them. These tables hold no data of participants."""
    return (
        PersonalData(
            tables=frozenset({"accounts"}),
            reason="AccountManager removes or clears the row itself when everything else of the account is erased",
            knows=lambda connection, account_id: bool(connection.execute(_KNOWN, (account_id,)).fetchone()[0]),
        ),
        PersonalData(tables=frozenset({"graph_calls", "graph_stops"}), erase=_erase),
    )


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    if subject.participant_id is not None:
        return Counter()
    for name, sql in _ERASE.items():
        rows = connection.execute(sql, {**subject.values, "step": step}).rowcount
        if rows:
            return Counter({name: rows})
    return Counter()
