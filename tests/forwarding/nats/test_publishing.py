"""The event log in a stream of a real nats-server: in order, nothing lost, nothing twice."""

import asyncio
import signal
from dataclasses import replace

import pytest
from inboxd.events.store import JUMP
from inboxd.forwarding.nats import publisher
from inboxd.runtime.clock import Clock
from nats.js.api import DiscardPolicy, StreamConfig
from structlog.testing import capture_logs

from tests.forwarding.nats.publishing import Publishing
from tests.forwarding.nats.servers import STREAM, NatsServer, messages, reader
from tests.support import ACCOUNT, eventually, full_disk


class StandingClock(Clock):
    """Its seconds do not go on by themselves."""

    seconds = 1000.0
    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    def monotonic(self) -> float:
        return self.seconds


async def test_every_event_is_published_with_its_id_and_subject(publishing: Publishing, server: NatsServer) -> None:
    await publishing.append(600)
    await publishing.append(1, account_id="")
    await publishing.start()
    await publishing.done()
    async with reader(server.url) as client:
        found = await messages(client)
        config = (await client.jetstream().stream_info(STREAM)).config
    assert [(one, body) for one, _, body in found] == await publishing.logged()
    assert [subject for _, subject, _ in found] == [f"inboxd.events.test.noted.{ACCOUNT}"] * 600 + [
        "inboxd.events.test.noted.-"
    ]
    assert config.subjects == ["inboxd.events.>"]
    assert config.duplicate_window == 3600
    assert publishing.counted("published") == 601


async def test_an_event_is_published_as_soon_as_it_is_appended(publishing: Publishing, server: NatsServer) -> None:
    await publishing.start()
    async with reader(server.url) as client:
        await publishing.append(1)
        await publishing.done()
        subscription = await client.subscribe("inboxd.events.>")
        await client.flush()
        await publishing.append(1)
        told = await subscription.next_msg(timeout=10)
    assert told.data == (await publishing.logged())[-1][1]


async def test_a_restart_goes_on_where_it_was(publishing: Publishing, server: NatsServer) -> None:
    for _ in range(3):
        await publishing.append(10)
        await publishing.start()
        await publishing.done()
        await publishing.stop()
    async with reader(server.url) as client:
        found = await messages(client)
    assert [one for one, _, _ in found] == [one for one, _ in await publishing.logged()]
    assert publishing.counted("published") == 10
    assert publishing.counted("duplicate") == 0


async def test_what_is_published_again_is_once_in_the_stream(publishing: Publishing, server: NatsServer) -> None:
    """As after a crash before the cursor was stored; the last event of the stream is another's, so it tells nothing."""
    await publishing.append(30)
    await publishing.start()
    await publishing.done()
    await publishing.stop()
    await publishing.database.execute("UPDATE event_consumers SET cursor = 10")
    async with reader(server.url) as client:
        await client.jetstream().publish("inboxd.events.other", b"", headers={"Nats-Msg-Id": "other"})
        await publishing.start()
        await publishing.done()
        found = await messages(client)
    assert [one for one, _, _ in found][:30] == [one for one, _ in await publishing.logged()]
    assert len(found) == 31
    assert publishing.counted("duplicate") == 20


async def test_after_the_window_of_duplicates_the_stream_tells_where_it_was(
    publishing: Publishing, server: NatsServer
) -> None:
    async with reader(server.url) as client:
        await client.jetstream().add_stream(name=STREAM, subjects=["inboxd.events.>"], duplicate_window=0.1)
        await publishing.append(30)
        await publishing.start()
        await publishing.done()
        assert "recognizes duplicates for only 0.1 s" in ((await publishing.status()).stream_problem or "")
        await publishing.stop()
        await publishing.database.execute("UPDATE event_consumers SET cursor = 10")
        await asyncio.sleep(0.3)
        await publishing.append(5)
        await publishing.start()
        await publishing.done()
        found = await messages(client)
    assert [one for one, _, _ in found] == [one for one, _ in await publishing.logged()]
    assert publishing.counted("published") == 5


async def test_after_a_restore_of_an_older_database_everything_new_is_published_once(
    publishing: Publishing, server: NatsServer
) -> None:
    await publishing.append(10)
    await publishing.start()
    await publishing.done()
    await publishing.stop()
    before = await publishing.logged()
    await publishing.database.execute("DELETE FROM events WHERE seq > 6")
    await publishing.database.execute("UPDATE event_consumers SET cursor = 4")
    await publishing.database.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'events'", (JUMP,))
    await publishing.start()
    await publishing.append(3)
    await publishing.done()
    async with reader(server.url) as client:
        found = await messages(client)
    after = (await publishing.logged())[6:]
    assert [(one, body) for one, _, body in found] == [*before, *after]
    assert len(after) == 3
    assert publishing.counted("duplicate") == 2
    assert publishing.counted("skipped") == 0


async def test_a_full_disk_is_waited_for_and_nothing_is_published_twice(
    publishing: Publishing, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "SCHEDULE", replace(publisher.SCHEDULE, storage_rest_s=0.1))
    monkeypatch.setattr(publisher, "SAVE_S", 0.0)

    async def published() -> bool:
        return publishing.counted("published") == 600

    await publishing.append(600)
    async with reader(server.url) as client:
        with capture_logs() as logged, full_disk(publishing.database.path):
            await publishing.start()
            await eventually(published)
        await publishing.done()
        found = await messages(client)
    assert [(one, body) for one, _, body in found] == await publishing.logged()
    assert publishing.counted("duplicate") == 0
    assert "nats_waits_for_storage" in {one["event"] for one in logged}


async def test_an_id_of_another_log_is_no_place_of_ours(publishing: Publishing, server: NatsServer) -> None:
    """Two daemons share a stream, and the other one is ahead."""
    await publishing.append(30)
    async with reader(server.url) as client:
        context = client.jetstream()
        await context.add_stream(name=STREAM, subjects=["inboxd.events.>"])
        await context.publish("inboxd.events.test.noted.1", b"", headers={"Nats-Msg-Id": f"evt_{1:012x}{20:014x}"})
        await publishing.start()
        await publishing.done()
        found = await messages(client)
    assert [one for one, _, _ in found][1:] == [one for one, _ in await publishing.logged()]


async def test_new_events_do_not_make_it_try_more_often(publishing: Publishing, server: NatsServer) -> None:
    publishing.clock = clock = StandingClock()
    server.end()
    await publishing.append(1)
    await publishing.start()
    await publishing.waits("cannot connect")
    await server.start()
    for _ in range(20):
        await publishing.append(1)
        await asyncio.sleep(0.01)
    assert not (await publishing.status()).connected
    clock.seconds += 30
    await publishing.append(1)
    await publishing.done()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_is_killed_under_load_loses_nothing_and_gets_nothing_twice(
    publishing: Publishing, server: NatsServer, number: signal.Signals
) -> None:
    await publishing.start()

    async def load() -> None:
        for _ in range(300):
            await publishing.append(20)
            await asyncio.sleep(0.002)

    loading = asyncio.create_task(load())
    for _ in range(4):
        await asyncio.sleep(0.15)
        server.end(number)
        await asyncio.sleep(0.1)
        await server.start()
    await loading
    await publishing.done()
    async with reader(server.url) as client:
        found = await messages(client)
    assert len(found) == 6000
    assert [(one, body) for one, _, body in found] == await publishing.logged()


async def test_no_server_is_waited_for_and_said(publishing: Publishing, server: NatsServer) -> None:
    server.end()
    await publishing.append(3)
    await publishing.start()
    state = await publishing.waits("cannot connect")
    assert (state.connected, state.behind_by, state.last_success_at) == (False, 3, None)
    assert state.lag_seconds >= 0
    assert state.waits_since is not None
    await server.start()
    await publishing.done()
    state = await publishing.status()
    assert (state.connected, state.behind_by, state.waits_for) == (True, 0, None)
    assert state.server == server.url.removeprefix("nats://")
    assert "cannot connect" in (state.last_error or "")
    assert state.last_success_at is not None


async def test_an_idle_publisher_notices_that_the_server_has_gone(publishing: Publishing, server: NatsServer) -> None:
    await publishing.append(1)
    await publishing.start()
    await publishing.done()
    server.end()
    await publishing.waits("cannot connect")
    assert not (await publishing.status()).connected


async def test_a_full_stream_is_waited_for_and_keeps_the_order(publishing: Publishing, server: NatsServer) -> None:
    async with reader(server.url) as client:
        context = client.jetstream()
        config = StreamConfig(name=STREAM, subjects=["inboxd.events.>"], discard=DiscardPolicy.NEW)
        await context.add_stream(config, max_msgs=50)
        await publishing.append(700)
        await publishing.start()
        await publishing.waits("maximum messages exceeded")
        assert (await publishing.status()).behind_by == 650
        # Room comes in the midst of what is in flight: none may overtake another.
        for limit in range(60, 700, 40):
            await context.update_stream(config, max_msgs=limit)
            await asyncio.sleep(0.02)
        await context.update_stream(config, max_msgs=-1)
        await publishing.done()
        found = await messages(client)
    assert [one for one, _, _ in found] == [one for one, _ in await publishing.logged()]


async def test_no_event_overtakes_one_that_is_refused(publishing: Publishing, server: NatsServer) -> None:
    """The stream has room for one event of each account: the second of the first account is refused."""
    async with reader(server.url) as client:
        context = client.jetstream()
        config = StreamConfig(name=STREAM, subjects=["inboxd.events.>"], discard=DiscardPolicy.NEW)
        await context.add_stream(config, max_msgs_per_subject=1, discard_new_per_subject=True)
        await publishing.append(2)
        await publishing.append(1, account_id="2")
        await publishing.start()
        await publishing.waits("maximum messages per subject exceeded")
        assert [one for one, _, _ in await messages(client)] == [(await publishing.logged())[0][0]]
        await context.update_stream(config, max_msgs_per_subject=-1)
        await publishing.done()
        found = await messages(client)
    assert [one for one, _, _ in found] == [one for one, _ in await publishing.logged()]


async def test_an_event_that_is_larger_than_the_server_takes_is_set_aside(
    publishing: Publishing, server: NatsServer
) -> None:
    await publishing.append(3)
    await publishing.append(1, size=1_048_576)
    await publishing.append(3)
    await publishing.start()
    await publishing.done()
    async with reader(server.url) as client:
        found = await messages(client)
    logged = [one for one, _ in await publishing.logged()]
    assert [one for one, _, _ in found] == logged[:3] + logged[4:]
    assert publishing.counted("too_large") == 1
    assert (await publishing.status()).set_aside == 1


async def test_an_event_that_is_larger_than_the_stream_takes_is_set_aside(
    publishing: Publishing, server: NatsServer
) -> None:
    async with reader(server.url) as client:
        await client.jetstream().add_stream(name=STREAM, subjects=["inboxd.events.>"], max_msg_size=1000)
        await publishing.append(3)
        await publishing.append(1, size=1000)
        await publishing.append(3)
        await publishing.start()
        await publishing.done()
        found = await messages(client)
    assert len(found) == 6
    assert (await publishing.status()).set_aside == 1


async def test_a_stream_of_others_is_not_changed(publishing: Publishing, server: NatsServer) -> None:
    async with reader(server.url) as client:
        context = client.jetstream()
        await context.add_stream(name=STREAM, subjects=["orders.>"])
        await publishing.append(2)
        await publishing.start()
        state = await publishing.waits("no stream takes the subject")
        assert "does not take the subjects inboxd.events.*.*.*: add inboxd.events.> to it" in str(state.stream_problem)
        assert (await context.stream_info(STREAM)).config.subjects == ["orders.>"]
        await context.update_stream(name=STREAM, subjects=["orders.>", "inboxd.events.>"])
        await publishing.done()
        assert (await context.stream_info(STREAM)).state.messages == 2


async def test_a_stream_that_was_removed_is_made_again(publishing: Publishing, server: NatsServer) -> None:
    await publishing.append(3)
    await publishing.start()
    await publishing.done()
    async with reader(server.url) as client:
        await client.jetstream().delete_stream(STREAM)
        await publishing.append(2)
        await publishing.done()
        assert [one for one, _, _ in await messages(client)] == [one for one, _ in await publishing.logged()][3:]


async def test_somebody_is_asked_to_look_after_a_minute(publishing: Publishing, server: NatsServer) -> None:
    publishing.clock = clock = StandingClock()
    server.end()
    await publishing.append(3)
    await publishing.start()
    await publishing.waits("cannot connect")
    assert await publishing.needs() == []
    clock.ahead_ms = 60_000
    (need,) = await publishing.needs()
    assert need.text.startswith("NATS takes no events, and 3 wait: cannot connect")
    assert need.urgent


async def test_a_stream_that_was_mended_is_looked_at_again(publishing: Publishing, server: NatsServer) -> None:
    publishing.clock = clock = StandingClock()
    async with reader(server.url) as client:
        context = client.jetstream()
        await context.add_stream(name=STREAM, subjects=["inboxd.events.>"], duplicate_window=1)
        await publishing.append(1)
        await publishing.start()
        await publishing.done()
        (need,) = await publishing.needs()
        assert need.text == (
            "NATS: the stream INBOXD recognizes duplicates for only 1 s: set its duplicate window to 2m or more."
        )
        await context.update_stream(name=STREAM, subjects=["inboxd.events.>"], duplicate_window=120)
        clock.seconds += 60
        await publishing.append(1)
        await publishing.done()
        assert await publishing.needs() == []


async def test_a_subject_that_another_stream_takes_is_said(publishing: Publishing, server: NatsServer) -> None:
    async with reader(server.url) as client:
        await client.jetstream().add_stream(name="EVERYTHING", subjects=["inboxd.>"])
        await publishing.append(2)
        await publishing.start()
        await publishing.waits("cannot make the stream INBOXD: subjects overlap with an existing stream")
        assert (await client.jetstream().stream_info("EVERYTHING")).state.messages == 0


async def test_what_was_pruned_is_said_and_the_rest_is_published(publishing: Publishing, server: NatsServer) -> None:
    await publishing.append(10)
    await publishing.start()
    await publishing.done()
    await publishing.stop()
    await publishing.append(20)
    await publishing.database.execute("DELETE FROM events WHERE seq <= 25")
    await publishing.database.execute("UPDATE event_log SET pruned_to = 25")
    await publishing.start()
    await publishing.done()
    async with reader(server.url) as client:
        assert len(await messages(client)) == 15
    assert (await publishing.status()).skipped == 15
    assert publishing.counted("skipped") == 15


async def test_a_new_consumer_begins_with_the_oldest_event(publishing: Publishing, server: NatsServer) -> None:
    await publishing.append(10)
    await publishing.database.execute("DELETE FROM events WHERE seq <= 4")
    await publishing.database.execute("UPDATE event_log SET pruned_to = 4")
    await publishing.start()
    await publishing.done()
    async with reader(server.url) as client:
        assert len(await messages(client)) == 6
    assert (await publishing.status()).skipped == 0


async def test_two_daemons_may_share_a_stream(publishing: Publishing, server: NatsServer) -> None:
    """Each event says which one must be before it; another's in between delays it and loses nothing."""
    await publishing.append(1000)
    async with reader(server.url) as client:
        context = client.jetstream()
        await context.add_stream(name=STREAM, subjects=["inboxd.events.>"])
        await publishing.start()

        async def other() -> None:
            for number in range(200):
                await context.publish("inboxd.events.other.noted.1", b"", headers={"Nats-Msg-Id": f"other {number}"})

        await other()
        await publishing.done()
        found = [one for one, _, _ in await messages(client) if one.startswith("evt_")]
    assert found == [one for one, _ in await publishing.logged()]


async def test_the_cursor_is_stored_at_most_once_a_second(publishing: Publishing, server: NatsServer) -> None:
    publishing.clock = clock = StandingClock()
    await publishing.append(1)
    await publishing.start()
    await publishing.done()
    for _ in range(20):
        await publishing.append(1)

    async def published() -> bool:
        return (await publishing.status()).behind_by == 0

    await eventually(published)
    assert await publishing.database.read("SELECT cursor FROM event_consumers") == [(1,)]
    clock.seconds += 1
    await publishing.done()
    clock.seconds += 0.5
    await publishing.append(1)
    await eventually(published)
    await publishing.stop()
    assert await publishing.database.read("SELECT cursor FROM event_consumers") == [(22,)]


async def test_a_server_that_hangs_is_waited_for_and_holds_nobody(publishing: Publishing, server: NatsServer) -> None:
    await publishing.append(3)
    await publishing.start()
    await publishing.done()
    server.pause(signal.SIGSTOP)
    try:
        await publishing.append(300)

        async def noticed() -> bool:
            return (await publishing.status()).waits_for is not None

        await eventually(noticed, within_s=40)
    finally:
        server.pause(signal.SIGCONT)
    await publishing.done()
    async with reader(server.url) as client:
        found = await messages(client)
    assert [(one, body) for one, _, body in found] == await publishing.logged()


async def test_a_server_that_dies_while_events_are_erased_gets_the_rest_without_them(
    publishing: Publishing, server: NatsServer
) -> None:
    await publishing.append(5)
    await publishing.start()
    await publishing.done()
    server.end()
    await publishing.append(10)
    await publishing.database.execute("DELETE FROM events WHERE seq BETWEEN 6 AND 10")
    await server.start()
    await publishing.done()
    async with reader(server.url) as client:
        found = await messages(client)
    assert len(found) == 10
    assert [(one, body) for one, _, body in found] == await publishing.logged()
