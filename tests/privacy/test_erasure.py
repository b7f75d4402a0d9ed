"""After an erasure nothing is left: every table of the schema, and every byte of every file."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from inboxd.meta.signed_request import sign_request
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist, Item

from tests.privacy.receipts import take_receipts
from tests.support import ACCOUNT, ANA, APP_SECRET, BRUNO, T0, Client, Json, eventually

WORDS = ("zanzibar", "marmalade", "quokka", "xylograph")
EDITED = "wyvern"
MID = "aWdfZAG1faXRlbToanas"
UPLOAD = "0123456789abcdef"
FILLED_BY_HAND = {
    "graph_stops": (
        "INSERT INTO graph_stops SELECT value || ?, 'a boot', 0, 1, 1, 'throttled', 2022, 1 FROM json_each(?)",
        (ACCOUNT, '["", "sends:"]'),
    ),
    "schedules": ("INSERT OR REPLACE INTO schedules VALUES ('backfill', ?)", (T0,)),
    "event_consumers": ("INSERT INTO event_consumers (name, cursor) VALUES ('nats', 1)", ()),
    "search_changed": ("INSERT OR IGNORE INTO search_changed SELECT id FROM messages", ()),
    "early_changes": (
        "INSERT INTO early_changes SELECT ?, mid_key, mid, ?, 1 FROM messages WHERE mid LIKE '%anas%'",
        (ACCOUNT, EDITED),
    ),
    "webhook_endpoints": (
        """
        INSERT INTO webhook_endpoints
            (id, kind, url, event_types, account_ids, enabled, timeout_s, cursor, created_at, updated_at)
        VALUES ('we_1', 'standard', 'https://crm.example.com/', '[]', '[]', 0, 15, 0, 1, 1)
        """,
        (),
    ),
    "webhook_retries": (
        """
        INSERT INTO webhook_retries
            (endpoint_id, seq, item_id, type, lane, state, attempts, next_attempt_at, recorded_at)
        VALUES ('we_1', 1, 'evt_1', 'message.received', 'c1', 'retrying', 1, 1, 1)
        """,
        (),
    ),
    "webhook_attempts": (
        """
        INSERT INTO webhook_attempts
            (endpoint_id, item_id, type, account_id, attempt, at, latency_ms, status, response)
        VALUES ('we_1', 'evt_1', 'message.received', ?, 1, 1, 1, 200, ?)
        """,
        (ACCOUNT, f"thanks, {ANA} said {EDITED}"),
    ),
    "imported_conversations": (
        "INSERT INTO imported_conversations VALUES (?, 1, ?, NULL, 0, 1, NULL)",
        (ACCOUNT, ANA),
    ),
    "listed_conversations": (
        "INSERT INTO listed_conversations VALUES (?, 1, 'aWdfZAG06', ?, ?, 1, 1, NULL, 0, 0, NULL)",
        (ACCOUNT, ANA, f'[{{"id": "{ANA}", "username": "{EDITED}"}}]'),
    ),
    "reconciliation_checks": (
        "INSERT INTO reconciliation_checks (account_id, reason, started_at) VALUES (?, 'restart', 1)",
        (ACCOUNT,),
    ),
    "missed_messages": (
        """INSERT INTO missed_messages (account_id, participant_id, mid_key, mid, sent_at, found_at, cause)
        SELECT ?, ?, mid_key, mid, 1, 2, 'down' FROM messages WHERE mid LIKE '%anas%'""",
        (ACCOUNT, ANA),
    ),
    "completeness_hours": ("INSERT OR IGNORE INTO completeness_hours (account_id, hour) VALUES (?, 1)", (ACCOUNT,)),
    "delivery_gaps": (
        "INSERT INTO delivery_gaps (account_id, cause, since, until) VALUES (?, 'down', 1, 2)",
        (ACCOUNT,),
    ),
    "message_lookups": (
        """INSERT OR IGNORE INTO message_lookups (account_id, mid_key, mid, noticed_at)
        SELECT ?, mid_key, mid, 1 FROM messages WHERE mid LIKE '%anas%'""",
        (ACCOUNT,),
    ),
    "reconciled_accounts": (
        "INSERT OR IGNORE INTO reconciled_accounts (account_id, since, checked_to) VALUES (?, 1, 1)",
        (ACCOUNT,),
    ),
    "daemon_heartbeat": ("INSERT OR IGNORE INTO daemon_heartbeat VALUES (1, 1)", ()),
    "outbound_messages": (
        """
        INSERT INTO outbound_messages (id, account_id, kind, participant_id, lane, state, holds, sent_by, body,
                                       requested_by, created_at, updated_at)
        VALUES (7, ?, 'message', ?, 'p', 'failed', 0, 'human', json_object('text', ?), 'admin', 1, 1)
        """,
        (ACCOUNT, ANA, EDITED),
    ),
    "outbound_parts": (
        """
        INSERT INTO outbound_parts (id, outbound_id, position, state, content, mid)
        VALUES (7, 7, 0, 'failed', json_object('text', ?), ?)
        """,
        (EDITED, MID),
    ),
    "outbound_attempts": (
        "INSERT INTO outbound_attempts (part_id, began_at, outcome, reason) VALUES (7, 1, 'refused', ?)",
        (EDITED,),
    ),
    "uploads": (
        """
        INSERT INTO uploads (id, name, key, type, content_type, bytes, requested_by, created_at, expires_at)
        VALUES (7, ?, x'00', 'image', 'image/png', 3, 'admin', 1, 9000000000000000)
        """,
        (UPLOAD,),
    ),
    "upload_uses": ("INSERT INTO upload_uses VALUES (7, 7)", ()),
    "deletions": ("INSERT INTO deletions (code, requested_at, completed_at) VALUES ('an-old-one', 1, 2)", ()),
}
"""What a daemon writes too rarely to wait for."""


def tables(connection: sqlite3.Connection) -> list[str]:
    """Every table of the file, those of the search indexes too."""
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    return [name for (name,) in found]


def cells(connection: sqlite3.Connection, table: str) -> Iterator[tuple[str, bytes]]:
    """Every value of a table as bytes, with its column."""
    connection.text_factory = bytes
    cursor = connection.execute(f'SELECT * FROM "{table}"')
    names = [column[0] for column in cursor.description]
    for row in cursor:
        for name, value in zip(names, row, strict=True):
            yield name, value if isinstance(value, bytes) else str(value).encode()
    connection.text_factory = str


def left(folder: Path, *traces: str) -> list[str]:
    """Where any of `traces` still stands: tables and columns, and files as bytes."""
    needles = [trace.encode() for trace in traces]
    found = []
    with closing(sqlite3.connect(folder / "inboxd.sqlite3")) as connection:
        for table in tables(connection):
            for column, value in cells(connection, table):
                found += [f"{table}.{column}: {needle!r}" for needle in needles if needle in value]
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [f"{path.name}: {needle!r}" for needle in needles if needle in content]
    return found


async def live(client: Client) -> dict[str, str]:
    """Ana and Bruno live a life that reaches every table; what tells of Ana."""
    for who, words in ((ANA, WORDS), (BRUNO, ("buenos", "dias"))):
        person = Conversationalist(ACCOUNT, who, T0)
        said = [person.says(word) for word in words]
        if who == ANA:
            for number, item in enumerate(said):
                item["message"]["mid"] = f"{MID}{number}"
        await client.deliver(*said, person.reacts(said[0]), person.opens_link(f"from-{words[0]}"))
    edit: Item = {"timestamp": T0 + 9, "message_edit": {"mid": f"{MID}0", "num_edit": 1, "text": EDITED}}
    await client.deliver(edit)  # Meta leaves the parties out: nothing but the mid says whose it is
    odd: Item = {"sender": {"id": ANA}, "recipient": {"id": ACCOUNT}, "timestamp": T0, "brand_new": WORDS[1]}
    await client.post(
        json.dumps({"object": "instagram", "entry": [{"id": ACCOUNT, "time": T0, "messaging": [odd]}]})
        .encode()
        .replace(WORDS[1].encode(), WORDS[1].encode() + b"\xff")
    )
    value = {"from": {"id": ANA, "username": "ana_x"}, "comment_id": "18", "text": WORDS[2], "media": {"id": "1"}}
    entry = {"id": ACCOUNT, "time": 1_790_000_000, "changes": [{"field": "comments", "value": value}]}
    await client.post(json.dumps({"object": "instagram", "entry": [entry]}).encode())
    await client.post(f'{{"not": "for us", "of": "{ACCOUNT} {ANA} {WORDS[3]} '.encode() + b'\xff"}')  # set aside
    await client.settled()

    async def complete() -> bool:
        people = (await client.get("/api/participants"))["participants"]
        return len(people) == 2 and all(person["avatar"] for person in people)

    await eventually(complete)
    run = await client.send(
        "POST",
        "/api/workers/backfill-profiles",
        {"accountId": ACCOUNT, "force": True, "olderThanSeconds": 0},
        status=202,
    )

    async def over() -> bool:
        return str((await client.get(f"/api/workers/backfill-profiles/{run['jobId']}"))["status"]) == "completed"

    await eventually(over)

    async def indexed() -> bool:
        return bool((await client.get(f"/api/messaging/messages?q={EDITED}"))["results"])

    await eventually(indexed)
    ana = await client.get(f"/api/participants/{ACCOUNT}/{ANA}")
    (client.database.parent / "uploads").mkdir(exist_ok=True)
    (client.database.parent / "uploads" / UPLOAD).write_text(f"the invoice of {ana['username']}")
    with closing(sqlite3.connect(client.database, timeout=10)) as connection:
        for sql, parameters in FILLED_BY_HAND.values():
            connection.execute(sql, parameters)
        connection.commit()
        empty = [name for name in tables(connection) if not connection.execute(f'SELECT 1 FROM "{name}"').fetchone()]
    assert set(empty) <= {"search_changed"}, "fill the new table with something of Ana's here, so that it is looked at"
    name = str(ana["avatar"]).rpartition("/")[2]
    picture = (client.database.parent / "avatars" / name[:2] / f"{name}.webp").read_bytes()
    return {"username": str(ana["username"]), "picture": picture[40:80].hex(), "name": name}


def of_account(database: Path) -> set[str]:
    """The tables in which there is a row that says that it is of the account."""
    found = set()
    with closing(sqlite3.connect(database)) as connection:
        for table in tables(connection):
            columns = {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}
            for column in columns & {"account_id", "scope"}:
                if connection.execute(f'SELECT 1 FROM "{table}" WHERE "{column}" = ?', (ACCOUNT,)).fetchone():
                    found.add(table)
    return found


def told(ana: dict[str, str]) -> list[str]:
    """Everything that would tell of Ana. Index entries may have lost their first letters to a neighbour."""
    return [ANA, MID, ana["username"], ana["name"], EDITED, *(word[1:] for word in WORDS)]


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "avatars").rglob("*") if path.is_file())


async def test_nothing_is_left_of_a_person_in_any_table_or_file(client: Client) -> None:
    ana = await live(client)
    folder = client.database.parent
    assert left(folder, *told(ana))
    report = await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert (report["deliveriesWaiting"], report["journalEmptied"]) == (0, True)
    assert report["events"] > len(WORDS)
    assert take_receipts(client.database) == [ANA]
    assert left(folder, *told(ana)) == []
    assert len(pictures(folder)) == 1
    assert not (folder / "uploads" / UPLOAD).exists()
    (other,) = await client.conversations()
    assert other["participantPlatformId"] == BRUNO
    assert (await client.get("/api/messaging/messages?q=buenos"))["results"]


async def ask_for_deletion(client: Client, user_id: str = ACCOUNT, *, issued_at: int = 1_790_000_000) -> str:
    """Ask as Meta does; the address of the page that says how it stands."""
    payload = {"user_id": user_id, "algorithm": "HMAC-SHA256", "issued_at": issued_at}
    signed = sign_request(json.dumps(payload).encode(), APP_SECRET)
    url = f"{client.public_url}/webhooks/instagram/data-deletion"
    async with client.session.post(url, data={"signed_request": signed}) as response:
        assert response.status == 200
        answer: Json = await response.json()
        return f"{url}/{answer['confirmation_code']}"


async def said(client: Client, page: str) -> str:
    async with client.session.get(page) as response:
        return re.sub(r"<[^>]*>", " ", await response.text())


async def test_nothing_is_left_of_an_account_that_meta_had_deleted(client: Client) -> None:
    ana = await live(client)
    folder = client.database.parent
    early: Item = {"timestamp": T0, "message_edit": {"mid": "aWdfZAGnever", "num_edit": 1, "text": "of nobody"}}
    await client.deliver(early)  # its message never comes, so it is in no conversation
    await client.settled()
    of_its_own = of_account(client.database)
    assert of_its_own > {
        "graph_calls",
        "graph_stops",
        "runs",
        "early_changes",
        "conversations",
        "webhook_events",
    }
    page = await ask_for_deletion(client)

    async def completed() -> bool:
        return "completed at" in await said(client, page)

    await eventually(completed, within_s=40)
    assert left(folder, *told(ana), BRUNO, "uenos", "from-", "aWdfZAGnever") == []
    assert of_account(client.database) == set()
    assert pictures(folder) == []
    assert not (folder / "uploads" / UPLOAD).exists()
    assert (await client.get("/api/deliveries"))["total"] == 0


async def test_who_removed_the_app_first_is_still_known_when_they_ask_for_deletion(client: Client) -> None:
    await client.send("POST", f"/api/accounts/{ACCOUNT}/check")  # which tells the app-scoped id
    await live(client)
    payload = {"user_id": f"9{ACCOUNT}", "algorithm": "HMAC-SHA256", "issued_at": 1_790_000_000}
    signed = sign_request(json.dumps(payload).encode(), APP_SECRET)
    address = f"{client.public_url}/webhooks/instagram/deauthorize"
    async with client.session.post(address, data={"signed_request": signed}) as response:
        assert response.status == 200
    page = await ask_for_deletion(client, f"9{ACCOUNT}")

    async def completed() -> bool:
        return "completed at" in await said(client, page)

    await eventually(completed, within_s=40)
    assert left(client.database.parent, ANA, BRUNO) == []


async def test_a_request_that_cannot_be_matched_is_not_called_completed(client: Client) -> None:
    nothing = await ask_for_deletion(client, "12345")
    assert "nothing of this person is kept here" in await said(client, nothing)

    person = Conversationalist(ACCOUNT, ANA, T0)
    await client.deliver(person.says("hola"))
    await client.settled()
    # Whose the account is nobody has asked Meta yet: with Facebook Login nobody ever can.
    text = await said(client, page := await ask_for_deletion(client, "54321"))
    assert "Nothing has been deleted" in text
    assert "completed" not in text
    assert "confirmation code" in text
    assert (await client.get("/api/deliveries"))["total"] == 1

    await client.send("POST", f"/api/accounts/{ACCOUNT}/check")
    other = await ask_for_deletion(client, "11111")  # now it is known to be of somebody else
    assert "nothing of this person is kept here" in await said(client, other)
    assert "Nothing has been deleted" in await said(client, page)


async def test_a_deletion_is_not_completed_while_the_journal_keeps_traces(client: Client) -> None:
    ana = await live(client)
    with closing(sqlite3.connect(client.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchall()
        page = await ask_for_deletion(client)

        async def noticed() -> bool:
            return "journal" in await said(client, page)

        await eventually(noticed, within_s=40)
        assert "completed at" not in await said(client, page)
        assert left(client.database.parent, *told(ana))
    await ask_for_deletion(client)  # the same request again: it is looked at again

    async def completed() -> bool:
        return "completed at" in await said(client, page)

    await eventually(completed, within_s=40)
    assert left(client.database.parent, *told(ana)) == []


async def test_who_is_forgotten_while_meta_is_asked_about_them_is_not_remembered(
    client: Client, graph: tuple[GraphServer, str]
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=1500)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says(WORDS[0]))
    await client.settled()
    run = await client.send("POST", "/api/workers/backfill-profiles", {"accountId": ACCOUNT}, status=202)

    async def asked() -> bool:
        return any(ANA in call for call in graph[0].calls)

    await eventually(asked)
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")

    async def over() -> bool:
        return str((await client.get(f"/api/workers/backfill-profiles/{run['jobId']}"))["status"]) == "completed"

    await eventually(over)
    await asyncio.sleep(1.6)  # so long does the answer take
    assert take_receipts(client.database) == [ANA]
    assert left(client.database.parent, ANA, WORDS[0][1:]) == []
    await client.get(f"/api/participants/{ACCOUNT}/{ANA}", status=404)


async def test_whoever_looks_after_the_inbox_erases_an_account_that_could_not_be_matched(client: Client) -> None:
    ana = await live(client)
    page = await ask_for_deletion(client, "54321")
    code = page.rpartition("/")[2]
    assert (await client.get(f"/api/deletions/{code}"))["status"] == "not_matched"
    await client.send("POST", "/api/deletions", {"accountId": ACCOUNT, "code": "0" * 32}, status=404)

    mistyped = {"accountId": ACCOUNT + "7", "code": code}
    await client.send("POST", "/api/deletions", mistyped, status=409)
    assert (await client.get(f"/api/deletions/{code}"))["status"] == "not_matched"

    asked = await client.send("POST", "/api/deletions", {"accountId": ACCOUNT, "code": code}, status=202)
    assert asked["code"] == code

    async def completed() -> bool:
        return str((await client.get(f"/api/deletions/{code}"))["status"]) == "completed"

    await eventually(completed, within_s=40)
    assert "completed at" in await said(client, page)
    assert left(client.database.parent, *told(ana), BRUNO) == []
    assert (await client.get(f"/api/accounts/{ACCOUNT}"))["state"] == "deauthorized"
    await client.send("POST", "/api/deletions", {"accountId": ACCOUNT, "code": code}, status=409)
