"""Erasing while the world goes on: downloads, new deliveries, files that stay, requests that fail, stops."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from inboxd.conversations import message_store
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Content, Direction, Sent
from inboxd.domain.profile import Profile
from inboxd.offline.privacy import personal_data
from inboxd.privacy import account_eraser as erasing
from inboxd.privacy.account_eraser import LAST_STEP, STEP, AccountEraser
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.deletion_worker import SCHEDULE, DeletionWorker
from inboxd.privacy.erasure_store import ErasureStore
from inboxd.profiles import store as profiles
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving.store import Inbox, mark_done
from inboxd.receiving.webhook_event_store import StoredWebhookEvent, keep
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageClosedError
from inboxd.runtime.worker import work
from inboxd.storage.database import Database
from inboxd.storage.personal_data import Scan, Subject

from tests.privacy.declared import declared
from tests.support import ACCOUNT, ANA, BRUNO, ManualClock, eventually

KEY = ConversationKey(ACCOUNT, ANA)
SUBJECT = Subject.participant(KEY)
OTHER = "17841400000000002"


class Rig:
    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.clock = ManualClock()
        self.inbox = Inbox(database, self.clock, max_waiting=1000)
        self.avatars = AvatarStore(database, folder)
        self.cache = ProfileCache(self.clock, ttl_s=86_400, size=100)
        self.personal_data = personal_data(database, self.avatars, self.cache)
        self.eraser = AccountEraser(database, self.personal_data, self.clock)
        self.deletions = DeletionStore(database, self.personal_data)

    async def person(self, who: str = ANA, account_id: str = ACCOUNT) -> None:
        key, profile = ConversationKey(account_id, who), Profile("ana_x", profile_pic="https://host/a.jpg")

        def transaction(connection: sqlite3.Connection) -> None:
            profiles.ensure(connection, [key], self.clock.now)
            profiles.complete(connection, key, profile, self.clock.now)

        await self.database.write(transaction)
        self.cache.put(key, self.clock.now)

    async def deliver(self, *bodies: str, settled: bool = True) -> list[int]:
        numbers = [await self.inbox.append(body.encode()) for body in bodies]
        if settled:
            await self.database.write(lambda connection: mark_done(connection, numbers, now=0))
        return numbers

    async def event(self, payload: str, *, who: str | None = None) -> None:
        event = StoredWebhookEvent("unknown", ACCOUNT, who, None, None, payload.encode(), 1)
        await self.database.write(lambda connection: keep(connection, [event], self.clock.now))

    async def bodies(self) -> list[str]:
        return [bytes(row[0]).decode() for row in await self.database.read("SELECT body FROM deliveries ORDER BY id")]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*/*"))


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> Rig:
    return Rig(database, tmp_path / "avatars")


async def test_a_picture_that_arrives_after_its_person_was_forgotten_leaves_no_file(rig: Rig) -> None:
    await rig.person()
    (due,) = await rig.avatars.due(rig.clock.now, 10)
    await rig.eraser.erase(SUBJECT, rounds=1)
    assert await rig.avatars.keep(due, b"the picture", rig.clock.now) is None
    assert rig.files() == []

    await rig.person(BRUNO)
    (due,) = await rig.avatars.due(rig.clock.now, 10)
    name = await rig.avatars.keep(due, b"the picture", rig.clock.now)
    late = due._replace(key=KEY)
    assert await rig.avatars.keep(late, b"the picture", rig.clock.now) is None
    assert rig.files() == [f"{name}.webp"], "somebody else has the same picture"


async def test_what_an_interrupted_download_left_goes_too(rig: Rig) -> None:
    left_over = rig.folder / "ab" / ("ab" * 32 + ".new")
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"half a face")
    await rig.eraser.erase(SUBJECT, rounds=1)
    assert rig.files() == []


async def test_one_file_that_cannot_be_removed_is_told_and_keeps_no_other(rig: Rig) -> None:
    stuck, plain = (rig.folder / name[:2] / f"{name}.webp" for name in ("aa" * 32, "bb" * 32))
    stuck.mkdir(parents=True)  # a folder of that name: no permission of root's removes it with unlink
    plain.parent.mkdir(parents=True)
    plain.write_bytes(b"a face")
    erased = await rig.eraser.erase(SUBJECT, rounds=1)
    assert (erased.counts["avatars"], erased.files_left, erased.waits_for) == (1, 1, "files")
    assert not plain.exists()
    stuck.rmdir()
    assert (await rig.eraser.erase(SUBJECT, rounds=1)).waits_for is None


async def test_what_is_done_last_waits_for_files_and_deliveries(rig: Rig) -> None:
    called = 0

    async def finally_too() -> None:
        nonlocal called
        called += 1

    stuck = rig.folder / "aa" / f"{'aa' * 32}.webp"
    stuck.mkdir(parents=True)
    await rig.eraser.erase(SUBJECT, rounds=1, finally_too=finally_too)
    assert called == 0, "a picture is left"
    stuck.rmdir()
    (number,) = await rig.deliver(f"waits {ANA}", settled=False)
    await rig.eraser.erase(SUBJECT, rounds=1, finally_too=finally_too)
    assert called == 0, "a delivery waits"
    await rig.database.write(lambda connection: mark_done(connection, [number], now=0))
    await rig.eraser.erase(SUBJECT, rounds=1, finally_too=finally_too)
    assert called == 1


async def test_nobody_is_left_in_memory(rig: Rig) -> None:
    for who in (ANA, BRUNO):
        await rig.person(who)
    await rig.eraser.erase(SUBJECT, rounds=1)
    assert len(rig.cache) == 1
    await rig.eraser.erase(SUBJECT._replace(participant_id=None, ids=frozenset({ACCOUNT})), rounds=1)
    assert len(rig.cache) == 0


async def test_what_comes_while_it_is_erased_is_erased_too_or_waited_for(rig: Rig) -> None:
    await rig.deliver(f"old {ANA}", "old of others")
    arriving = [f"{number} {ANA}" for number in range(LAST_STEP + 20)]
    store, looks = ErasureStore(rig.database, rig.personal_data), 0

    class Busy(ErasureStore):
        async def finish(self, *arguments: object, **named: object) -> object:  # type: ignore[override]
            nonlocal looks
            looks += 1
            if looks == 1:  # between the look at the deliveries and the last step: more than that step takes
                await rig.deliver(*arriving)
            return await store.finish(*arguments, **named)  # type: ignore[arg-type]

    rig.eraser._store = Busy(rig.database, rig.personal_data)
    erased = await rig.eraser.erase(SUBJECT, rounds=1)
    assert (erased.counts["deliveries"], erased.waiting) == (len(arriving) + 1, 0)
    assert await rig.bodies() == ["old of others"]
    assert looks > 1

    await rig.deliver(f"waits {ANA}", settled=False)
    assert (await rig.eraser.erase(SUBJECT, rounds=2)).waits_for == "deliveries"
    assert await rig.bodies() == ["old of others", f"waits {ANA}"]


async def test_what_names_only_a_message_that_came_meanwhile_is_erased_too(rig: Rig) -> None:
    async def message(mid: str) -> None:
        change = Sent(
            key=KEY, mid=mid, at=1, sender_id=ANA, direction=Direction.INBOUND, content=Content("text"), standby=False
        )
        await rig.database.write(lambda connection: message_store.apply_changes(connection, {KEY}, [(None, change)], 1))

    await message("known")
    store, looks = ErasureStore(rig.database, rig.personal_data), 0

    class Busy(ErasureStore):
        async def finish(self, *arguments: object) -> object:  # type: ignore[override]
            nonlocal looks
            looks += 1
            if looks == 1:
                await message("came meanwhile")
                await rig.deliver('{"read": {"mid": "came meanwhile"}}', '{"read": {"mid": "of others"}}')
            return await store.finish(*arguments)  # type: ignore[arg-type]

    rig.eraser._store = Busy(rig.database, rig.personal_data)
    await rig.eraser.erase(SUBJECT, rounds=1)
    assert await rig.bodies() == ['{"read": {"mid": "of others"}}']


async def test_a_delivery_that_is_put_back_between_look_and_erasure_is_waited_for(rig: Rig) -> None:
    await rig.deliver(f"one {ANA}", "of others")
    store = ErasureStore(rig.database, rig.personal_data)

    class Busy(ErasureStore):
        async def remove(self, scan: Scan, numbers: Sequence[int]) -> object:  # type: ignore[override]
            await rig.database.execute("UPDATE deliveries SET state = 'pending'")
            return await store.remove(scan, numbers)

    rig.eraser._store = Busy(rig.database, rig.personal_data)
    assert (await rig.eraser.erase(SUBJECT, rounds=1)).waits_for == "deliveries"
    assert await rig.bodies() == [f"one {ANA}", "of others"]


async def test_an_erasure_that_finds_no_end_is_not_called_complete(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(ErasureStore):
        async def finish(self, *_arguments: object) -> None: ...

    monkeypatch.setattr(erasing, "MAX_LOOKS", 2)
    rig.eraser._store = Endless(rig.database, rig.personal_data)
    assert (await rig.eraser.erase(SUBJECT, rounds=2)).waits_for == "deliveries"


async def test_an_id_that_is_given_again_hides_nothing(rig: Rig) -> None:
    await rig.deliver("of others", f"newest {ANA}")
    store = ErasureStore(rig.database, rig.personal_data)
    removed = 0

    class Busy(ErasureStore):
        async def remove(self, scan: Scan, numbers: Sequence[int]) -> object:  # type: ignore[override]
            nonlocal removed
            found = await store.remove(scan, numbers)
            removed += 1
            if removed == 1:
                assert await rig.deliver(f"again {ANA}") == numbers, "SQLite gives the id again"
            return found

    rig.eraser._store = Busy(rig.database, rig.personal_data)
    await rig.eraser.erase(SUBJECT, rounds=1)
    assert await rig.bodies() == ["of others"]


async def test_what_arrives_in_the_last_moment_is_erased_with_the_last_step(rig: Rig) -> None:
    await rig.deliver("of others")
    store = ErasureStore(rig.database, rig.personal_data)

    class Busy(ErasureStore):
        async def finish(self, *arguments: object) -> object:  # type: ignore[override]
            await rig.deliver(f"late {ANA}")
            await rig.event(f"late {ANA}")
            return await store.finish(*arguments)  # type: ignore[arg-type]

    rig.eraser._store = Busy(rig.database, rig.personal_data)
    erased = await rig.eraser.erase(SUBJECT, rounds=1)
    assert (erased.counts["deliveries"], erased.counts["webhook_events"], erased.waits_for) == (1, 1, None)
    assert await rig.bodies() == ["of others"]
    assert await rig.database.read("SELECT id FROM webhook_events") == []


async def test_what_is_made_of_a_delivery_in_the_last_moment_is_erased_with_the_last_step(rig: Rig) -> None:
    store = ErasureStore(rig.database, rig.personal_data)

    class Busy(ErasureStore):
        async def finish(self, *arguments: object) -> object:  # type: ignore[override]
            await rig.person()  # when everything else is gone already
            return await store.finish(*arguments)  # type: ignore[arg-type]

    rig.eraser._store = Busy(rig.database, rig.personal_data)
    erased = await rig.eraser.erase(SUBJECT, rounds=1)
    assert (erased.counts["profiles"], erased.waits_for) == (1, None)
    assert await rig.database.read("SELECT participant_id FROM participants") == []


async def test_no_step_takes_more_than_it_may(database: Database) -> None:
    """Every webhook waits for a step: a long conversation goes in many."""
    content = Content(type="text", text="hola")
    changes = [
        (1, Sent(key=KEY, mid=f"m{number}", at=1, sender_id=ANA, direction=Direction.INBOUND, content=content))
        for number in range(25)
    ]
    await database.write(lambda connection: message_store.apply_changes(connection, {KEY}, changes, 1))
    store = ErasureStore(database, declared(database))
    counts = [await store.step(SUBJECT, 10) for _ in range(4)]
    assert [one["messages"] for one in counts] == [10, 10, 5, 0]
    assert sum(one["conversations"] for one in counts) == 1


async def test_what_waited_and_is_processed_meanwhile_goes_in_the_next_round(rig: Rig) -> None:
    numbers = await rig.deliver(f"waits {ANA}", settled=False)
    sleep = rig.clock.sleep

    async def process(seconds: float) -> None:
        rig.clock.sleep = sleep  # type: ignore[method-assign]
        await rig.database.write(lambda connection: mark_done(connection, numbers, now=0))
        await rig.person()  # which it made
        await sleep(seconds)

    rig.clock.sleep = process  # type: ignore[method-assign]
    erased = await rig.eraser.erase(SUBJECT, rounds=2)
    assert (erased.waits_for, await rig.bodies()) == (None, [])
    assert await rig.database.read("SELECT participant_id FROM participants") == []
    assert len(rig.cache) == 0


async def test_what_is_put_back_into_the_queue_meanwhile_is_waited_for(rig: Rig) -> None:
    await rig.deliver(f"retried {ANA}")
    store = ErasureStore(rig.database, rig.personal_data)

    class Busy(ErasureStore):
        async def remove(self, scan: Scan, numbers: Sequence[int]) -> object:  # type: ignore[override]
            await rig.database.execute("UPDATE deliveries SET state = 'pending'")
            return await store.remove(scan, numbers)

    rig.eraser._store = Busy(rig.database, rig.personal_data)
    assert (await rig.eraser.erase(SUBJECT, rounds=1)).waits_for == "deliveries"
    assert await rig.bodies() == [f"retried {ANA}"]


async def test_what_is_filed_under_a_person_goes_though_its_bytes_do_not_spell_the_id(rig: Rig) -> None:
    """JSON may write any digit as an escape."""
    await rig.event('{"sender":{"id":"\\u0037..."}}', who=ANA)
    await rig.event('{"sender":{"id":"\\u0038..."}}', who=BRUNO)
    await rig.eraser.erase(SUBJECT, rounds=1)
    assert await rig.database.read("SELECT participant_id FROM webhook_events") == [(BRUNO,)]


async def test_more_than_a_step_of_everything(rig: Rig) -> None:
    await rig.deliver(*[f"{number} {ANA}" for number in range(STEP + 7)])
    erased = await rig.eraser.erase(SUBJECT, rounds=1)
    assert erased.counts["deliveries"] == STEP + 7
    assert await rig.bodies() == []


async def test_one_request_that_fails_keeps_no_other_waiting(rig: Rig) -> None:
    for code, account_id in (("bad", ACCOUNT), ("good", OTHER)):
        await rig.person(account_id=account_id)
        await rig.deletions.request(code, account_id, rig.clock.now)
    broken = True

    async def erased(account_id: str) -> None:
        if account_id == ACCOUNT and broken:
            msg = "this one fails"
            raise RuntimeError(msg)

    worker = DeletionWorker(rig.eraser, rig.deletions, {}, rig.clock, on_erased=erased)
    assert await worker.carry_out() is False
    bad, good = await rig.deletions.receipt("bad"), await rig.deletions.receipt("good")
    assert bad is not None
    assert good is not None
    assert (bad.completed_at, bad.waits_for) == (None, "error")
    assert good.completed_at is not None
    broken = False
    assert await worker.carry_out() is True
    assert await rig.deletions.open() == []


async def test_when_a_deletion_is_completed_no_file_names_the_account_any_more(rig: Rig) -> None:
    await rig.person(account_id=OTHER)
    await rig.deletions.request("code", OTHER, rig.clock.now)

    async def nothing(_account_id: str) -> None: ...

    assert await DeletionWorker(rig.eraser, rig.deletions, {}, rig.clock, on_erased=nothing).carry_out()
    names = [
        path.name for path in rig.database.path.parent.glob("inboxd.sqlite3*") if OTHER in path.read_text("latin1")
    ]
    assert names == []


async def test_a_stop_ends_it_between_two_steps_and_the_next_run_goes_on(rig: Rig) -> None:
    await rig.deliver(*[f"{ACCOUNT}" for _ in range(3 * STEP)])
    await rig.deletions.request("code", ACCOUNT, rig.clock.now)

    async def nothing(_account_id: str) -> None: ...

    worker = DeletionWorker(rig.eraser, rig.deletions, {}, rig.clock, on_erased=nothing)
    sleep = rig.clock.sleep

    async def stop_at_the_first_rest(seconds: float) -> None:
        worker.wakeup.stop()
        await sleep(seconds)

    rig.clock.sleep = stop_at_the_first_rest  # type: ignore[method-assign]
    await work(worker, rig.clock, logs.get("workers"), SCHEDULE)
    assert 0 < len(await rig.bodies()) < 3 * STEP
    assert [request.code for request in await rig.deletions.open()] == ["code"]

    rig.clock.sleep = sleep  # type: ignore[method-assign]
    again = DeletionWorker(rig.eraser, rig.deletions, {}, rig.clock, on_erased=nothing)
    running = asyncio.ensure_future(work(again, rig.clock, logs.get("workers"), SCHEDULE))

    async def completed() -> bool:
        return not await rig.deletions.open()

    await eventually(completed)
    again.wakeup.stop()
    await running
    assert await rig.bodies() == []


async def test_the_loop_ends_when_the_database_is_closed(rig: Rig) -> None:
    async def nothing(_account_id: str) -> None: ...

    worker = DeletionWorker(rig.eraser, rig.deletions, {}, rig.clock, on_erased=nothing)
    await rig.database.close()
    with pytest.raises(StorageClosedError):
        await work(worker, rig.clock, logs.get("workers"), SCHEDULE)


async def test_what_cannot_be_completed_is_tried_ever_later_and_soon_when_somebody_asks_again(rig: Rig) -> None:
    await rig.person()
    await rig.deletions.request("code", ACCOUNT, rig.clock.now)
    await rig.deliver(ACCOUNT, settled=False)

    async def nothing(_account_id: str) -> None: ...

    worker = DeletionWorker(rig.eraser, rig.deletions, {}, rig.clock, on_erased=nothing)
    assert [await worker.poll() for _ in range(3)] == [30, 60, 120]
    worker.wakeup.notify()
    assert await worker.poll() == 30
    await rig.database.execute("UPDATE deliveries SET state = 'done'")
    assert await worker.poll() == 3600
    assert await rig.deletions.open() == []
