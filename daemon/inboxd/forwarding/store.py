"""Webhook endpoints in the database."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from inboxd.accounts.vault import Vault
from inboxd.forwarding.endpoint import MAX_ENDPOINTS, Endpoint, EndpointKind
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.secret import Secret
from inboxd.storage.connection import Row
from inboxd.storage.database import Database

_COLUMNS: Final = (
    "id, kind, url, event_types, account_ids, description, secret, previous_secret, previous_secret_until, enabled, "
    "disabled_reason, rate_limit, timeout_s, cursor, generation, failing_since, last_success_at, last_attempt_at, "
    "last_error, lost, lost_untold, created_at, updated_at"
)
_CURSOR: Final = _COLUMNS.split(", ").index("cursor")
_ALL: Final = f"SELECT {_COLUMNS} FROM webhook_endpoints ORDER BY created_at, id LIMIT {MAX_ENDPOINTS}"  # noqa: S608 - constants
_ONE: Final = f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE id = ?"  # noqa: S608 - constants
_COUNT: Final = "SELECT count(*) FROM webhook_endpoints"
_INSERT: Final = f"""
INSERT INTO webhook_endpoints ({_COLUMNS}) VALUES ({", ".join("?" * len(_COLUMNS.split(", ")))})
"""  # noqa: S608 - constants
_CHANGE: Final = """
UPDATE webhook_endpoints SET url = ?, event_types = ?, account_ids = ?, description = ?, rate_limit = ?, timeout_s = ?,
    updated_at = ?
WHERE id = ?
"""
_ENABLE: Final = """
UPDATE webhook_endpoints SET enabled = 1, disabled_reason = NULL, failing_since = NULL, updated_at = ? WHERE id = ?
"""
_DISABLE: Final = """
UPDATE webhook_endpoints SET enabled = 0, disabled_reason = ?, updated_at = ? WHERE id = ? AND enabled = 1
"""
_ROTATE: Final = """
UPDATE webhook_endpoints SET previous_secret = secret, previous_secret_until = ?, secret = ?, updated_at = ?
WHERE id = ? AND kind = 'standard'
"""
_RELOCK: Final = "UPDATE webhook_endpoints SET secret = ?, previous_secret = ? WHERE id = ?"
_MOVE: Final = """
UPDATE webhook_endpoints SET cursor = ?, generation = generation + 1, updated_at = ? WHERE id = ?
"""
_FORGET_RETRIES: Final = "DELETE FROM webhook_retries WHERE endpoint_id = ? AND seq > ?"
_DELETE: Final = "DELETE FROM webhook_endpoints WHERE id = ?"
_NEWEST_EVENT: Final = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
_NEWEST_DELIVERY: Final = "SELECT coalesce(max(id), 0) FROM deliveries"
_EVENT_ENDS: Final = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM events"
_DELIVERY_ENDS: Final = "SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM deliveries"
_EVENT_AT: Final = "SELECT seq, recorded_at FROM events WHERE seq >= ? ORDER BY seq LIMIT 1"
_DELIVERY_AT: Final = "SELECT id, received_at FROM deliveries WHERE id >= ? ORDER BY id LIMIT 1"


class TooManyEndpointsError(InboxdError):
    """There are as many endpoints as there may be."""


class EndpointStore:
    """Reads and writes webhook endpoints. Every method may raise StorageError."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def all(self) -> list[Endpoint]:
        """Every endpoint, the oldest first."""
        return [self._endpoint(row) for row in await self._database.read(_ALL)]

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """One endpoint."""
        rows = await self._database.read(_ONE, (endpoint_id,))
        return self._endpoint(rows[0]) if rows else None

    async def add(self, endpoint: Endpoint) -> Endpoint:
        """Store a new endpoint. Its cursor is the newest event or delivery of that moment.

        Raises TooManyEndpointsError.
        """
        row = self._row(endpoint)

        def transaction(connection: sqlite3.Connection) -> int:
            ((count,),) = connection.execute(_COUNT).fetchall()
            if count >= MAX_ENDPOINTS:
                msg = f"There are {MAX_ENDPOINTS} endpoints, which is the most that there may be. Delete one first."
                raise TooManyEndpointsError(msg)
            cursor = newest(connection, endpoint.kind)
            connection.execute(_INSERT, [*row[:_CURSOR], cursor, *row[_CURSOR + 1 :]])
            return cursor

        return replace(endpoint, cursor=await self._database.write(transaction))

    async def change(self, endpoint: Endpoint) -> None:
        """Store what somebody may change of an endpoint, except `enabled`."""
        types, accounts = _json(endpoint.event_types), _json(endpoint.account_ids)
        values = (endpoint.url, types, accounts, endpoint.description, endpoint.rate_limit, endpoint.timeout_s)
        await self._database.execute(_CHANGE, (*values, endpoint.updated_at, endpoint.id))

    async def enable(self, endpoint_id: str, now: int) -> None:
        """Push to it again, from where it was. `now` in ms."""
        await self._database.execute(_ENABLE, (now, endpoint_id))

    async def disable(self, endpoint_id: str, reason: str | None, now: int) -> bool:
        """Push no more to it; False when it was disabled already. `reason`: why inboxd does it. `now` in ms."""

        def transaction(connection: sqlite3.Connection) -> bool:
            return connection.execute(_DISABLE, (reason, now, endpoint_id)).rowcount > 0

        return await self._database.write(transaction)

    async def rotate(self, endpoint_id: str, secret: Secret, *, previous_until: int, now: int) -> bool:
        """Sign with `secret` from now on, and until `previous_until` (ms) also with the one before.

        False when there is no such endpoint of the kind `standard`.
        """
        locked = self._vault.lock(secret)

        def transaction(connection: sqlite3.Connection) -> bool:
            return connection.execute(_ROTATE, (previous_until, locked, now, endpoint_id)).rowcount > 0

        return await self._database.write(transaction)

    async def relock(self, endpoints: Sequence[Endpoint]) -> None:
        """Encrypt the secrets with the current storage key, so that older keys can be dropped."""
        rows = [
            (self._locked(one.secret), self._locked(one.previous_secret), one.id)
            for one in endpoints
            if one.secret is not None
        ]

        def transaction(connection: sqlite3.Connection) -> None:
            connection.executemany(_RELOCK, rows)

        if rows:
            await self._database.write(transaction)

    def _locked(self, secret: Secret | None) -> bytes | None:
        return None if secret is None else self._vault.lock(secret)

    async def move(self, endpoint_id: str, cursor: int, now: int) -> None:
        """Push again everything after `cursor`."""

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(_FORGET_RETRIES, (endpoint_id, cursor))
            connection.execute(_MOVE, (cursor, now, endpoint_id))

        await self._database.write(transaction)

    async def delete(self, endpoint_id: str) -> bool:
        """Remove an endpoint with its attempts and retries; False when there is none."""

        def transaction(connection: sqlite3.Connection) -> bool:
            return connection.execute(_DELETE, (endpoint_id,)).rowcount > 0

        return await self._database.write(transaction)

    async def newest(self, kind: EndpointKind) -> int:
        """The newest event or delivery."""
        return await self._database.reading(lambda connection: newest(connection, kind))

    async def cursor_at(self, kind: EndpointKind, since: int) -> int:
        """The cursor from which everything that is kept since `since` (ms) is read."""
        events = kind is EndpointKind.STANDARD
        ends, at = (_EVENT_ENDS, _EVENT_AT) if events else (_DELIVERY_ENDS, _DELIVERY_AT)

        def search(connection: sqlite3.Connection) -> int:
            ((first, last),) = connection.execute(ends).fetchall()
            while first <= last:  # times rise with the numbers, so half of the rest is left each time
                ((found, recorded_at),) = connection.execute(at, ((first + last) // 2,)).fetchall()
                if recorded_at < since:
                    first = found + 1
                else:
                    last = (first + last) // 2 - 1
            return int(first) - 1

        return max(0, await self._database.reading(search))

    def _row(self, endpoint: Endpoint) -> list[object]:
        return [
            endpoint.id,
            endpoint.kind.value,
            endpoint.url,
            _json(endpoint.event_types),
            _json(endpoint.account_ids),
            endpoint.description,
            self._locked(endpoint.secret),
            self._locked(endpoint.previous_secret),
            endpoint.previous_secret_until,
            endpoint.enabled,
            endpoint.disabled_reason,
            endpoint.rate_limit,
            endpoint.timeout_s,
            endpoint.cursor,
            endpoint.generation,
            endpoint.failing_since,
            endpoint.last_success_at,
            endpoint.last_attempt_at,
            endpoint.last_error,
            endpoint.lost - endpoint.lost_untold,
            endpoint.lost_untold,
            endpoint.created_at,
            endpoint.updated_at,
        ]

    def _endpoint(self, row: Row) -> Endpoint:
        (endpoint_id, kind, url, types, accounts, description, secret, previous, until, enabled, *rest) = row
        (reason, rate, timeout_s, cursor, generation, failing, success, attempt, error, *rest) = rest
        (lost, untold, created, updated) = rest
        return Endpoint(
            id=endpoint_id,
            kind=EndpointKind(kind),
            url=url,
            event_types=msgspec.json.decode(types, type=tuple[str, ...]),
            account_ids=msgspec.json.decode(accounts, type=tuple[str, ...]),
            description=description,
            secret=None if secret is None else self._vault.open(secret),
            previous_secret=None if previous is None else self._vault.open(previous),
            previous_secret_until=until,
            enabled=bool(enabled),
            disabled_reason=reason,
            rate_limit=rate,
            timeout_s=timeout_s,
            cursor=cursor,
            generation=generation,
            failing_since=failing,
            last_success_at=success,
            last_attempt_at=attempt,
            last_error=error,
            lost=lost + untold,
            lost_untold=untold,
            created_at=created,
            updated_at=updated,
        )


def newest(connection: sqlite3.Connection, kind: EndpointKind) -> int:
    """The newest event or delivery."""
    sql = _NEWEST_EVENT if kind is EndpointKind.STANDARD else _NEWEST_DELIVERY
    return int(connection.execute(sql).fetchall()[0][0])


def _json(texts: Sequence[str]) -> str:
    return msgspec.json.encode(texts).decode()
