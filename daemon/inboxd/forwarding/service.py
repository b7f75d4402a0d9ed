"""What can be done with webhook endpoints. The API, the pages and the commands use it."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

import msgspec

from inboxd.domain.event import EVERY_TYPE
from inboxd.events.envelope import Envelope
from inboxd.events.log import EventReader
from inboxd.forwarding.endpoint import Endpoint, EndpointKind, new_endpoint_id
from inboxd.forwarding.progress_store import ProgressStore, Standing
from inboxd.forwarding.signing import new_secret, signed_headers
from inboxd.forwarding.store import EndpointStore
from inboxd.forwarding.target import PushAnswer, TargetClient, host_of
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.secret import Secret

JSON: Final = "application/json"
_DEFAULT_SAMPLE: Final = "message.received"


class BadEndpointError(InboxdError):
    """An endpoint cannot be as somebody wants it. The message says why, and what to do."""


class Workers(Protocol):
    """The workers that push to endpoints."""

    def start(self, endpoint: Endpoint) -> None:
        """Begin to push to an endpoint."""

    async def end(self, endpoint_id: str) -> None:
        """Push no more to it."""

    def reload(self, endpoint_id: str) -> None:
        """The endpoint was changed: read it again, and try at once."""

    def cursor(self, endpoint_id: str) -> int | None:
        """How far it is, also what is not saved yet; None when nothing is pushed to it."""


class Sample(NamedTuple):
    """A sample that was sent, and what came of it."""

    event_id: str
    type: str
    answer: PushAnswer


class EndpointService:
    """Creates, changes and removes endpoints, and starts and ends their workers. Methods may raise StorageError."""

    def __init__(
        self,
        store: EndpointStore,
        progress: ProgressStore,
        reader: EventReader,
        target: TargetClient,
        clock: Clock,
        workers: Workers,
    ) -> None:
        self._store = store
        self._progress = progress
        self._reader = reader
        self._target = target
        self._clock = clock
        self._workers = workers
        self._switching = asyncio.Lock()
        """Held while a worker is started or ended: an endpoint must never have two."""
        self._log = logs.get("forwarding")

    async def load(self) -> None:
        """Begin to push to all endpoints that are enabled."""
        endpoints = await self._store.all()
        await self._store.relock(endpoints)
        for endpoint in endpoints:
            if endpoint.kind is EndpointKind.STANDARD and endpoint.secret is None:
                self._log.error("endpoint_secret_unreadable", endpoint_id=endpoint.id)
            if endpoint.enabled:
                self._workers.start(endpoint)

    async def all(self) -> list[Endpoint]:
        """Every endpoint, the oldest first."""
        return await self._store.all()

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """One endpoint."""
        return await self._store.get(endpoint_id)

    async def create(
        self,
        url: str,
        kind: EndpointKind,
        *,
        event_types: Sequence[str] | None = None,
        account_ids: Sequence[str] = (),
        description: str = "",
        enabled: bool = True,
        rate_limit: float = 0.0,
        timeout_s: float,
    ) -> Endpoint:
        """Create an endpoint. It gets what happens from now on. `event_types`: None for all.

        Raises BadUrlError, BadEndpointError and TooManyEndpointsError.
        """
        await self._target.check(url)
        now = self._clock.now_ms()
        endpoint = await self._store.add(
            Endpoint(
                id=new_endpoint_id(),
                kind=kind,
                url=url,
                event_types=self._types(kind, event_types),
                account_ids=tuple(account_ids),
                description=description,
                secret=new_secret() if kind is EndpointKind.STANDARD else None,
                enabled=enabled,
                rate_limit=rate_limit,
                timeout_s=timeout_s,
                created_at=now,
                updated_at=now,
            )
        )
        self._log.info("endpoint_created", endpoint_id=endpoint.id, kind=kind.value, host=host_of(url))
        if enabled:
            self._workers.start(endpoint)
        return endpoint

    async def change(self, endpoint: Endpoint, **new: object) -> Endpoint:
        """Change fields of an endpoint. Enabling it goes on from where it was. Raises BadUrlError, BadEndpointError."""
        changed = replace(endpoint, **new, updated_at=self._clock.now_ms())  # type: ignore[arg-type]
        if "event_types" in new:
            changed = replace(changed, event_types=self._types(endpoint.kind, changed.event_types))
        if changed.url != endpoint.url:
            await self._target.check(changed.url)
        await self._store.change(changed)
        if changed.enabled != endpoint.enabled:
            await self._switch(changed)
        elif changed.enabled:
            self._workers.reload(endpoint.id)
        return await self._require(endpoint.id)

    async def _switch(self, endpoint: Endpoint) -> None:
        now = self._clock.now_ms()
        async with self._switching:
            if endpoint.enabled:
                await self._store.enable(endpoint.id, now)
                self._workers.start(await self._require(endpoint.id))
            else:
                await self._store.disable(endpoint.id, None, now)  # first: if it fails, the worker must go on
                await self._workers.end(endpoint.id)
        state = "enabled" if endpoint.enabled else "disabled"
        self._log.info("endpoint_switched", endpoint_id=endpoint.id, state=state)

    async def delete(self, endpoint: Endpoint) -> None:
        """Remove an endpoint with everything that is kept of it."""
        async with self._switching:
            removed = await self._store.delete(endpoint.id)  # first: if it fails, the worker must go on
            await self._workers.end(endpoint.id)
        if removed:
            self._log.info("endpoint_deleted", endpoint_id=endpoint.id, host=host_of(endpoint.url))

    async def rotate(self, endpoint: Endpoint, keep_s: int) -> tuple[Secret, int]:
        """A new secret, and until when (ms) the one before signs too: for `keep_s` seconds. Raises BadEndpointError."""
        secret, now = new_secret(), self._clock.now_ms()
        until = now + keep_s * 1000
        if not await self._store.rotate(endpoint.id, secret, previous_until=until, now=now):
            msg = "An endpoint of the kind 'meta' has no secret: what it gets is signed by Meta, with the app secret."
            raise BadEndpointError(msg)
        self._workers.reload(endpoint.id)
        self._log.info("endpoint_secret_rotated", endpoint_id=endpoint.id, previous_until=iso_utc(until))
        return secret, until

    async def replay(self, endpoint: Endpoint, *, after: int | None = None, since: int | None = None) -> Endpoint:
        """Push again everything after a cursor, or since a time (ms). Raises BadEndpointError."""
        if since is not None and since > self._clock.now_ms():
            raise BadEndpointError(f"There is nothing since {iso_utc(since)}: that is in the future.")
        # 0 means the oldest that is kept, as a time before it does: what was there earlier is not lost by a replay.
        cursor = after or await self._store.cursor_at(endpoint.kind, since or 0)
        newest = await self._store.newest(endpoint.kind)
        if cursor > newest:
            raise BadEndpointError(f"There is nothing after {cursor}: the newest is {newest}.")
        await self._store.move(endpoint.id, cursor, self._clock.now_ms())
        self._workers.reload(endpoint.id)
        self._log.info("endpoint_replayed", endpoint_id=endpoint.id, cursor=cursor)
        return await self._require(endpoint.id)

    async def retry(self, endpoint: Endpoint, item_id: str) -> bool:
        """Try again something that failed, at once; False when there is no such failure."""
        found = await self._progress.retry(endpoint.id, item_id)
        if found:
            self._workers.reload(endpoint.id)
        return found

    async def test(self, endpoint: Endpoint, kind: str | None) -> Sample:
        """Send a sample at once. A success also ends a rest of the endpoint. Raises BadEndpointError."""
        if endpoint.kind is EndpointKind.META:
            msg = (
                "There is no sample for the kind 'meta', because only Meta can sign one. "
                "Press 'Test' in the App Dashboard, or replay what was kept."
            )
            raise BadEndpointError(msg)
        name, body, event_id = self._sample(kind)
        now = self._clock.now_ms()
        headers = {**signed_headers(event_id, body, endpoint.secrets_at(now), now), "Content-Type": JSON}
        answer = await self._target.post(endpoint.url, headers, body, timeout_s=endpoint.timeout_s)
        if answer.error is None:
            self._workers.reload(endpoint.id)
        return Sample(event_id, name, answer)

    async def standing(self, endpoint: Endpoint) -> Standing:
        """How far an endpoint is."""
        deliveries = endpoint.kind is EndpointKind.META
        cursor = max(endpoint.cursor, self._workers.cursor(endpoint.id) or 0)
        behind = await self._behind(endpoint.kind, cursor)
        counts = await self._progress.counts(endpoint.id)
        next_at = await self._progress.oldest_after(cursor, deliveries=deliveries)
        oldest = min((at for at in (counts.oldest, next_at) if at is not None), default=None)
        lag_s = 0.0 if oldest is None else max(0, self._clock.now_ms() - oldest) / 1000
        return Standing(behind + counts.waiting, lag_s, counts.waiting, counts.failed)

    async def _behind(self, kind: EndpointKind, cursor: int) -> int:
        if kind is EndpointKind.STANDARD:
            return await self._reader.behind(cursor)
        return max(0, await self._store.newest(kind) - cursor)

    def _types(self, kind: EndpointKind, patterns: Sequence[str] | None) -> tuple[str, ...]:
        """The patterns, checked. Raises BadEndpointError."""
        if kind is EndpointKind.META:
            if patterns:
                msg = "eventTypes cannot be chosen for the kind 'meta': it gets Meta's deliveries as they came."
                raise BadEndpointError(msg)
            return ()
        for pattern in patterns or ():
            if not self._reader.names([pattern]):
                known = ", ".join(sorted(self._reader.types))
                raise BadEndpointError(f"No type of event matches '{pattern}'. There are: {known}.")
        return tuple(dict.fromkeys(patterns or [EVERY_TYPE]))

    def _sample(self, kind: str | None) -> tuple[str, bytes, str]:
        """The type, the body and the id of a sample. Raises BadEndpointError."""
        types = self._reader.types
        name = kind or (_DEFAULT_SAMPLE if _DEFAULT_SAMPLE in types else next(iter(sorted(types)), ""))
        if name not in types:
            raise BadEndpointError(f"There is no type of event '{name}'. There are: {', '.join(sorted(types))}.")
        event_id, now = f"evt_test_{secrets.token_hex(12)}", iso_utc(self._clock.now_ms())
        data = msgspec.Raw(msgspec.json.encode(types[name].example))
        body = Envelope(id=event_id, type=name, account_id=None, occurred_at=now, recorded_at=now, data=data)
        return name, msgspec.json.encode(body), event_id

    async def _require(self, endpoint_id: str) -> Endpoint:
        endpoint = await self._store.get(endpoint_id)
        if endpoint is None:
            msg = "The endpoint was removed meanwhile."
            raise BadEndpointError(msg)
        return endpoint
