"""Forgetting, exporting and expiring comments."""

import sqlite3

import msgspec
from inboxd.config.schema import Settings

from tests.comments.conftest import Run
from tests.comments.rig import Shop, thread, threads
from tests.privacy.receipts import take_receipts
from tests.privacy.test_participant_eraser import traces
from tests.support import ACCOUNT, ANA, BRUNO, T0, Client, eventually

DAY_MS = 86_400_000


async def test_a_person_is_forgotten_with_what_was_answered_to_them(client: Client, shop: Shop) -> None:
    written = await shop.comment(client, "quokka asks")
    await shop.comment(client, "wombat says 20 €", parent_id=written.id, from_id=ACCOUNT, username="the.shop")
    await shop.comment(client, "bruno agrees", parent_id=written.id, from_id=BRUNO, username="bruno")
    await shop.comment(client, "bruno asks", from_id=BRUNO, username="bruno", created_ms=T0 + 1000)
    shop.answers[("POST", f"{written.id}/replies")] = {"error": {"message": "no", "code": 100}}
    number = next(one["id"] for one in await threads(client) if one["comment"]["text"] == "quokka asks")
    await client.send("POST", f"/api/comments/{number}/replies", {"text": "platypus waits"}, status=202)

    async def has_failed() -> bool:
        return bool((await thread(client, number, "?refresh=false"))["outbound"][0]["state"] == "failed")

    await eventually(has_failed)

    person = await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export")
    (comment,) = person["comments"]
    assert (comment["text"], comment["authorUsername"], comment["isOwn"]) == ("quokka asks", "ana_x", False)
    assert comment["commentedAt"].startswith("2026-09-21T")

    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert (report["journalEmptied"], report["comments"]) == (True, 1)
    left = await threads(client)
    assert [one["comment"]["text"] for one in left] == ["bruno asks", "bruno agrees"]
    assert left[1]["comment"]["platformParentId"] is None
    await client.get(f"/api/comments/{number}", status=404)
    assert take_receipts(client.database) == [ANA]
    assert traces(client.database.parent, ANA, "quokka", "wombat", "platypus", written.id) == []


async def test_who_only_commented_is_somebody_also_when_the_events_are_gone(client: Client, shop: Shop) -> None:
    await shop.comment(client)
    await threads(client)
    with sqlite3.connect(client.database) as database:
        for table in ("events", "webhook_events", "deliveries"):
            database.execute(f"DELETE FROM {table}")
    assert len((await client.get(f"/api/participants/{ACCOUNT}/{ANA}/export"))["comments"]) == 1
    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert report["comments"] == 1
    assert await threads(client) == []


async def test_one_of_many_in_a_thread_is_forgotten(client: Client, shop: Shop) -> None:
    written = await shop.comment(client, "the first", from_id=BRUNO, username="bruno")
    await shop.comment(client, "me too", parent_id=written.id)
    (found,) = await threads(client)
    assert found["replyCount"] == 1
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    whole = await thread(client, found["id"], "?refresh=false")
    assert (whole["comment"]["text"], whole["replies"], whole["replyCount"]) == ("the first", [], 0)


async def test_an_account_is_erased_with_its_comments(client: Client, shop: Shop) -> None:
    for number in range(3):
        await shop.comment(client, f"comment {number}")
    await client.send("POST", "/api/deletions", {"accountId": ACCOUNT}, status=202)

    async def is_gone() -> bool:
        connection = sqlite3.connect(f"file:{client.database}?mode=ro", uri=True)
        try:
            counts = connection.execute("SELECT (SELECT count(*) FROM comments), (SELECT count(*) FROM comment_media)")
            return bool(counts.fetchone() == (0, 0))
        finally:
            connection.close()

    await eventually(is_gone)


async def test_old_comments_leave_and_what_was_answered_later_stays_without_them(
    run: Run, shop: Shop, settings: Settings
) -> None:
    async with run() as client:
        first = await shop.comment(client, "an old one")
        await shop.comment(client, "a later reply", parent_id=first.id, from_id=BRUNO, username="bruno")
        await shop.comment(client, "old and alone", created_ms=T0 - 1000)
        path = client.database
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "UPDATE comments SET created_at = created_at - ? WHERE text IN ('an old one', 'old and alone')",
            (40 * DAY_MS,),
        )
    connection.close()
    storage = msgspec.structs.replace(settings.storage, keep_messages_days=30)
    async with run(storage=storage) as client:

        async def are_gone() -> bool:
            return [one["comment"]["text"] for one in await threads(client)] == [None]

        await eventually(are_gone)
        (found,) = await threads(client)
        assert found["comment"]["author"]["username"] is None
        whole = await thread(client, found["id"], "?refresh=false")
        assert [one["text"] for one in whole["replies"]] == ["a later reply"]
