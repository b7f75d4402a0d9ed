"""What the event log costs: the rate of processing with and without it, in turns in one run, and bytes per message.

    python -m benchmarks.event_log [--rounds 5] [--deliveries 20000] [--people 5000]

Each round processes the same deliveries into two new files, one with the log and one without, the order changing from
round to round. It prints the ratio of the rates, and how much larger the file with the log is.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from inboxd.conversations import batch_writer, message_store
from inboxd.conversations.batch_writer import BatchWriter
from inboxd.conversations.delivery_retries import DeliveryRetries
from inboxd.conversations.event_preparation import EventPreparation
from inboxd.conversations.ingest import Ingest
from inboxd.conversations.metrics import ConversationMetrics
from inboxd.events.log import EventLog
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.storage.database import Database

ACCOUNT = "17841400000000001"


async def process(path: Path, bodies: list[bytes], *, log: bool) -> float:
    """Process `bodies` into a new file at `path`. Returns deliveries per second."""
    clock, metrics = Clock(), ConversationMetrics(Metrics().registry)
    event_log = EventLog(clock, ids_only=lambda: False)
    async with Database(path, on_commit=lambda _jobs, _took: event_log.committed(database.changes)) as database:
        inbox = Inbox(database, clock, max_waiting=len(bodies) + 1)
        for start in range(0, len(bodies), 500):
            await asyncio.gather(*(inbox.append(body) for body in bodies[start : start + 500]))
        writer = BatchWriter(
            database,
            ProfileCache(clock, ttl_s=86_400, size=50_000),
            event_log,
            clock,
            metrics,
            projections=[],
            on_due=lambda _keys: None,
            observe=lambda _counts: None,
        )
        retries = DeliveryRetries(database, event_log, clock, metrics, lambda: 0.0)
        ingest = Ingest(inbox, EventPreparation({ACCOUNT: ACCOUNT}, clock), writer, retries, clock)
        with without() if not log else contextmanager(lambda: iter([None]))():
            began = time.perf_counter()
            while await ingest.process():
                pass
            took = time.perf_counter() - began
        await database.checkpoint()
    return len(bodies) / took


@contextmanager
def without() -> Iterator[None]:
    """No facts are derived and nothing is recorded."""
    with (
        patch.object(batch_writer, "record_changes", lambda *_: None),
        patch.object(message_store, "facts", lambda *_: []),
    ):
        yield


async def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--people", type=int, default=5_000)
    options = parser.parse_args()
    now = Clock().now_ms()
    people = [Conversationalist(ACCOUNT, str(900_000_000_000 + number), now) for number in range(options.people)]
    items = [
        people[number % len(people)].says(f"message {number}: is it still there?")
        for number in range(options.deliveries)
    ]
    bodies = [json.dumps(delivery(ACCOUNT, now, [item])).encode() for item in items]
    ratios, sizes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            rates, bytes_of = {}, {}
            for log in (True, False) if number % 2 else (False, True):
                path = Path(folder, f"{number}-{log}.sqlite3")
                rates[log] = await process(path, bodies, log=log)
                bytes_of[log] = path.stat().st_size
                path.unlink()
            ratios.append(rates[True] / rates[False])
            sizes.append((bytes_of[True] - bytes_of[False]) / len(bodies))
            print(f"with {rates[True]:8.0f}/s  without {rates[False]:8.0f}/s", end="  ")
            print(f"ratio {ratios[-1]:.3f}  +{sizes[-1]:.0f} B")
    print(f"median ratio {statistics.median(ratios):.3f}, {statistics.median(sizes):.0f} bytes per message more")


if __name__ == "__main__":
    asyncio.run(main())
