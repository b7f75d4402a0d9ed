import pytest
from inboxd.privacy.erasure_store import ErasureStore
from inboxd.privacy.mention_scan import MentionScan, mentions
from inboxd.receiving.store import Inbox, mark_done
from inboxd.storage.database import Database
from inboxd.storage.personal_data import MentionedRows

from tests.privacy.declared import declared
from tests.support import ManualClock


@pytest.mark.parametrize(
    ("body", "mentioned"),
    [
        (b'{"sender":{"id":"7000"}}', True),
        (b'{"sender":{"id":7000}}', True),
        (b"7000", True),
        (b"not JSON at all: 7000\x00\xff", True),
        (b'{"sender":{"id":"70001"},"time":17000,"mid":"m_7000x"}', False),
        (b'{"id":"170007000","recipient":{"id":"7000"}}', True),
        (b"", False),
    ],
)
def test_an_id_is_a_word_and_not_a_part_of_one(body: bytes, mentioned: bool) -> None:  # noqa: FBT001
    assert mentions(body, b"7000") is mentioned


async def test_any_of_several_ids_is_found_step_by_step(database: Database) -> None:
    inbox = Inbox(database, ManualClock(), max_waiting=100)
    for name in ("1001", "1002", "1003", "11001"):
        await inbox.append(f'{{"id":"{name}"}}'.encode())
    first, second, third, fourth = [delivery.id for delivery in await inbox.pending(10)]

    await database.write(lambda connection: mark_done(connection, [first, second, fourth], now=0))
    store = ErasureStore(database, declared(database))
    deliveries = store.scans[0]
    wanted = MentionScan([b"1001", b"1003"])
    found = await store.look(deliveries, wanted, after=0, step=3)
    assert found == MentionedRows(processed=[first], waiting=1, last_id=third)
    found = await store.look(deliveries, wanted, after=third, step=3)
    assert found == MentionedRows(processed=[], waiting=0, last_id=fourth)
    await store.remove(deliveries, [first])
    assert (await store.look(deliveries, MentionScan([b"1001"]), after=0, step=10)).processed == []
