"""Files that are sent as attachments: taken, checked, bounded, and served to Meta for a time."""

import asyncio
import io
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.domain.media_type import UnsendableFileError, media_type
from inboxd.domain.outbound import AttachmentType, OutboundAttachment
from inboxd.http.problems import problem_middleware
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.runtime.secret import Secret
from inboxd.sending.uploads.public_files import AT_ONCE, PublicFiles
from inboxd.sending.uploads.service import UploadService
from inboxd.sending.uploads.store import KEEP_MS, UploadStore, lost, use
from inboxd.sending.uploads.sweeper import UploadSweeper
from inboxd.sending.uploads.upload import LINK_S, NoUploadRoomError, Sender, Upload, UploadGoneError, WrongUploadError
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database, open_for_reading
from yarl import URL

from tests.support import ADMIN_TOKEN, Client, Json, ManualClock, eventually

PATH = "/api/messaging/uploads"
BASE = "https://inbox.example.com"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)
MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(200)
MB = 1024 * 1024
ADMIN = Sender("admin")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, public=msgspec.structs.replace(settings.public, base_url=BASE))


async def uploaded(client: Client, data: object, query: str = "", *, status: int = 201, **headers: str) -> Json:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", **headers}
    async with client.session.post(client.admin_url + PATH + query, data=data, headers=headers) as response:
        body: Json = await response.json(content_type=None)
        assert response.status == status, body
        return body


def attached(upload: Upload, kind: AttachmentType = AttachmentType.IMAGE) -> OutboundAttachment:
    return OutboundAttachment(type=kind, upload_id=str(upload.id))


async def queued(database: Database, upload: Upload) -> None:
    """The message 1 sends the file."""

    def queue(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO outbound_messages "
            "(id, account_id, kind, lane, state, sent_by, requested_by, created_at, updated_at) "
            "VALUES (1, '1', 'message', 'p:2', 'queued', 'human', 'admin', 1, 1)"
        )
        use(connection, 1, [attached(upload)], upload.created_at)

    await database.write(queue)


async def _is(value: bool) -> bool:  # noqa: FBT001 - what `eventually` waits for
    return value


@pytest.mark.parametrize(
    ("data", "kind", "content_type"),
    [
        (PNG, "image", "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(90), "image", "image/jpeg"),
        (b"GIF89a" + bytes(90), "image", "image/gif"),
        (b"%PDF-1.7" + bytes(90), "file", "application/pdf"),
        (b"RIFF\x00\x00\x00\x00WAVE" + bytes(90), "audio", "audio/wav"),
        (b"RIFF\x00\x00\x00\x00AVI " + bytes(90), "video", "video/x-msvideo"),
        (b"\xff\xf1\x50\x80" + bytes(90), "audio", "audio/aac"),
        (b"\x00\x00\x00\x18ftypM4A " + bytes(90), "audio", "audio/mp4"),
        (MP4, "video", "video/mp4"),
        (b"\x00\x00\x00\x14ftypqt  " + bytes(90), "video", "video/quicktime"),
        (b"OggS" + bytes(90), "video", "video/ogg"),
        (b"\x1a\x45\xdf\xa3" + bytes(90), "video", "video/webm"),
    ],
)
def test_what_a_file_is_is_told_by_its_first_bytes(data: bytes, kind: str, content_type: str) -> None:
    found = media_type(data)
    assert (found.kind, found.content_type) == (kind, content_type)


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"MZ" + bytes(90), b"\xff\xfb\x90" + bytes(90), b"RIFF\x00\x00\x00\x00WEBP"]
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(UnsendableFileError, match="no file that Instagram takes"):
        media_type(data)


def test_heic_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnsendableFileError, match="Convert it to JPEG"):
        media_type(b"\x00\x00\x00\x18ftypheic" + bytes(90))


async def test_an_mp4_is_audio_when_that_is_wanted_and_a_picture_never(client: Client) -> None:
    assert (await uploaded(client, MP4, "?type=audio"))["type"] == "audio"
    assert (await uploaded(client, MP4))["type"] == "video"
    problem = await uploaded(client, PNG, "?type=audio", status=415)
    assert problem["detail"] == "The file is of type image/png, which is sent as 'image', not as 'audio'."


async def test_a_file_comes_as_the_body_or_in_a_form(client: Client) -> None:
    assert (await uploaded(client, PNG))["bytes"] == len(PNG)
    form = aiohttp.FormData()
    form.add_field("comment", "a field before it")
    form.add_field("file", PNG, filename="a picture.png", content_type="text/plain")
    found = await uploaded(client, form)
    assert (found["bytes"], found["contentType"]) == (len(PNG), "image/png")
    shown = await client.get(f"{PATH}/{found['id']}")
    assert shown == found


async def test_a_broken_form_is_a_clear_problem(client: Client, tmp_path: Path) -> None:
    for body, content_type in (
        (b"no form", "multipart/form-data"),
        (b"no form", 'multipart/form-data; boundary="x"'),
        (b"--x\r\n\xff: \x00\r\n\r\nx\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 20_000, "multipart/form-data; boundary=x"),
    ):
        problem = await uploaded(client, body, status=400, **{"Content-Type": content_type})
        assert problem["detail"]
    assert not list((tmp_path / "uploads").glob("*"))


@pytest.mark.long
async def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(client: Client, tmp_path: Path) -> None:
    large = PNG + bytes(8 * MB)
    problem = await uploaded(client, io.BytesIO(large), status=413)
    assert problem["detail"] == "The file is larger than the 8 MB that Instagram takes of image/png."

    async def endless() -> AsyncIterator[bytes]:
        yield MP4
        for _ in range(26):
            yield bytes(MB)

    problem = await uploaded(client, endless(), status=413)
    assert "25 MB" in problem["detail"]
    assert not list((tmp_path / "uploads").glob("*"))
    assert (await uploaded(client, io.BytesIO(MP4 + bytes(24 * MB))))["bytes"] == 24 * MB + len(MP4)


async def test_an_upload_that_breaks_off_leaves_nothing(client: Client, tmp_path: Path) -> None:

    def files() -> list[Path]:
        return list((tmp_path / "uploads").glob("*"))

    host, port = client.admin_url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: 5000\r\n\r\n"
    writer.write(head.encode() + PNG)
    await writer.drain()
    await eventually(lambda: _is(bool(files())))
    writer.close()
    await eventually(lambda: _is(not files()))


async def test_uploading_needs_the_scope_send(settings: Settings, secrets: Secrets, tmp_path: Path) -> None:
    writer = NamedToken("writer", ("read", "write"), Secret("a-token-that-may-not-send"))
    async with (
        app.run_daemon(
            settings,
            msgspec.structs.replace(secrets, named_tokens=(writer,)),
            tmp_path / "inboxd.sqlite3",
            on_give_up=lambda: None,
        ) as daemon,
        aiohttp.ClientSession() as session,
        session.post(
            daemon.admin_url + PATH, data=PNG, headers={"Authorization": "Bearer a-token-that-may-not-send"}
        ) as response,
    ):
        assert response.status == HTTPStatus.FORBIDDEN
    assert not (tmp_path / "uploads").exists()


async def test_without_a_public_address_nothing_is_taken(settings: Settings, secrets: Secrets, tmp_path: Path) -> None:
    nowhere = msgspec.structs.replace(settings, public=msgspec.structs.replace(settings.public, base_url=""))
    async with (
        app.run_daemon(nowhere, secrets, tmp_path / "inboxd.sqlite3", on_give_up=lambda: None) as daemon,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, daemon.public_url, daemon.admin_url, tmp_path / "inboxd.sqlite3")
        problem = await uploaded(client, PNG, status=409)
    assert "base_url in [public]" in problem["detail"]


async def test_meta_fetches_a_file_under_an_address_that_ends(database: Database, tmp_path: Path) -> None:
    clock = ManualClock()
    store = UploadStore(database, tmp_path / "uploads")
    service = UploadService(store, clock, base_url=BASE, max_bytes=lambda: 100 * MB)
    application = web.Application()
    PublicFiles(service, store).add_routes(application)

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG

    upload = await service.receive(pieces(), None, ADMIN)
    await queued(database, upload)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        address = (await service.address(1, upload.id)).replace(BASE, url)
        async with session.get(address) as response:
            assert (response.status, await response.read()) == (200, PNG)
            assert response.headers["Content-Type"] == "image/png"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        async with session.head(address) as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(PNG)))
        folder, _, last = address.rpartition("/")
        number, end, seal = last.split("-")
        for wrong in (
            f"{number}-{end}-{seal[:-5]}{'0' if seal[-5] != '0' else '1'}.png",
            f"{number}-{int(end) + 1}-{seal}",
            f"{int(number) + 1}-{end}-{seal}",
            f"{number}-{end}",
            upload.name,
            f"..%2f{upload.name}",
        ):
            async with session.get(f"{folder}/{wrong}") as response:
                assert response.status == HTTPStatus.NOT_FOUND, wrong
        clock.now += LINK_S * 1000
        async with session.get(address) as response:
            assert response.status == HTTPStatus.NOT_FOUND
        assert await service.address(1, upload.id) != address.replace(url, BASE)


async def test_files_that_are_fetched_slowly_are_few_and_end(database: Database, tmp_path: Path) -> None:
    store = UploadStore(database, tmp_path / "uploads")
    service = UploadService(store, ManualClock(), base_url=BASE, max_bytes=lambda: 100 * MB)
    application = web.Application()
    PublicFiles(service, store, most_s=5).add_routes(application)

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG + bytes(7 * MB)

    upload = await service.receive(pieces(), None, ADMIN)
    await queued(database, upload)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        address = (await service.address(1, upload.id)).replace(BASE, url)
        path, where = address.removeprefix(url), URL(url)

        async def status() -> int:
            async with session.get(address) as response:
                return response.status

        async def has_room() -> bool:
            return await status() == HTTPStatus.OK

        async with AsyncExitStack() as clients:
            for _ in range(AT_ONCE):
                await clients.enter_async_context(one_who_reads_nothing_more(where, path))
            assert await status() == HTTPStatus.SERVICE_UNAVAILABLE
            await eventually(has_room)


@asynccontextmanager
async def one_who_reads_nothing_more(where: URL, path: str) -> AsyncIterator[None]:
    """A client that has the first byte of the answer, so that the server counts it, and leaves the rest unread."""
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (where.host, where.port))
        await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await loop.sock_recv(client, 1) == b"H"
        yield


async def test_files_go_when_their_time_is_over_and_no_message_waits_for_them(
    database: Database, tmp_path: Path
) -> None:
    clock = ManualClock()
    store = UploadStore(database, tmp_path / "uploads")
    service = UploadService(store, clock, base_url=BASE, max_bytes=lambda: 100 * MB)
    sweeper = UploadSweeper(store, clock)

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG

    uploads = [await service.receive(pieces(), None, ADMIN) for _ in range(3)]
    (tmp_path / "uploads" / "0123456789abcdef").write_bytes(b"of a crash before the commit")

    def queue(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO outbound_messages "
            "(account_id, kind, lane, state, sent_by, requested_by, created_at, updated_at) "
            "VALUES ('1', 'message', 'p:2', 'queued', 'human', 'admin', 1, 1)"
        )
        with pytest.raises(WrongUploadError, match="of type 'image'"):
            use(connection, 1, [attached(uploads[0], AttachmentType.VIDEO)], clock.now)
        use(connection, 1, [attached(uploads[0])], clock.now)

    await database.write(queue)
    await sweeper.poll()
    assert {path.name for path in (tmp_path / "uploads").glob("*")} == {one.name for one in uploads}
    clock.now += KEEP_MS
    await sweeper.poll()
    assert [path.name for path in (tmp_path / "uploads").glob("*")] == [uploads[0].name]
    await database.execute("UPDATE outbound_messages SET state = 'sent'")
    await sweeper.poll()
    assert not list((tmp_path / "uploads").glob("*"))
    with pytest.raises(UploadGoneError, match="Upload the file again"):
        await database.write(lambda connection: use(connection, 1, [attached(uploads[1])], clock.now))


async def test_the_same_file_with_the_same_key_is_one_upload(database: Database, tmp_path: Path) -> None:
    clock = ManualClock()
    store = UploadStore(database, tmp_path / "uploads")
    service = UploadService(store, clock, base_url=BASE, max_bytes=lambda: 200 * MB)

    async def upload(content: bytes = MP4, *, by: str = "shop", key: str | None = "k", wanted: str = "video") -> Upload:
        async def pieces() -> AsyncIterator[bytes]:
            yield content

        return await service.receive(pieces(), wanted, Sender(by, key))

    first = await upload()
    clock.now += 1000
    again = await upload()
    assert again == first._replace(expires_at=first.expires_at + 1000)
    others = [await upload(MP4 + b"x"), await upload(by="crm"), await upload(key="l"), await upload(wanted="audio")]
    others += [await upload(key=None), await upload(key=None)]
    assert len({first.id, *(one.id for one in others)}) == 7
    assert len(list((tmp_path / "uploads").glob("*"))) == 7
    assert await store.sweep() == (0, 0)
    await store.remove(first.id)
    assert (await upload()).id != first.id


async def test_all_files_together_are_bounded(database: Database, tmp_path: Path) -> None:
    store = UploadStore(database, tmp_path / "uploads")
    service = UploadService(store, ManualClock(), base_url=BASE, max_bytes=lambda: 26 * MB)
    gate = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG
        await gate.wait()
        yield bytes(2 * MB)

    first = asyncio.create_task(service.receive(pieces(), None, ADMIN))
    await eventually(lambda: _is(bool(list((tmp_path / "uploads").glob("*")))))
    with pytest.raises(NoUploadRoomError, match="max_uploads_mb"):
        await service.receive(pieces(), None, ADMIN)
    gate.set()
    await first
    with pytest.raises(NoUploadRoomError):
        await service.receive(pieces(), None, ADMIN)


async def test_a_full_disk_is_said_and_leaves_nothing(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "uploads").write_text("a file where the folder should be")
    service = UploadService(
        UploadStore(database, tmp_path / "uploads"), ManualClock(), base_url=BASE, max_bytes=lambda: 100 * MB
    )

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG

    with pytest.raises(StorageUnavailableError, match="cannot store a file"):
        await service.receive(pieces(), None, ADMIN)
    assert "upload_not_stored" in capsys.readouterr().out


async def test_a_file_that_cannot_be_read_is_said_and_waited_for(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "uploads"
    store = UploadStore(database, folder)
    service = UploadService(store, ManualClock(), base_url=BASE, max_bytes=lambda: 100 * MB)
    application = web.Application(middlewares=[problem_middleware])
    PublicFiles(service, store).add_routes(application)

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG

    upload = await service.receive(pieces(), None, ADMIN)
    await queued(database, upload)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        address = (await service.address(1, upload.id)).replace(BASE, url)

        async def status() -> int:
            async with session.get(address) as response:
                assert str(folder).encode() not in await response.read(), "everybody sees that"
                return response.status

        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(StorageUnavailableError, match=f"cannot read a file in {folder}: No such file"):
            await service.address(1, upload.id)
        assert await lost(database.read, folder) == (1, ["No such file or directory"])
        assert "upload_missing" in capsys.readouterr().out
        assert await status() == HTTPStatus.SERVICE_UNAVAILABLE
        assert "upload_missing" in capsys.readouterr().out
        (tmp_path / "elsewhere").rename(folder)
        assert (await status(), await lost(database.read, folder)) == (HTTPStatus.OK, (1, []))
        store.path(upload).unlink()
        with pytest.raises(UploadGoneError, match="Upload it again") as gone:  # nobody would bring it back
            await service.address(1, upload.id)
        assert str(folder) not in str(gone.value)
        assert await status() == HTTPStatus.NOT_FOUND
        assert f"{store.path(upload)}" in capsys.readouterr().out


async def test_the_daemon_serves_what_was_uploaded_and_logs_no_address(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await uploaded(client, PNG)
    async with open_for_reading(client.database) as connection:
        rows = await connection.execute_fetchall(
            "SELECT id, name, key, type, content_type, bytes, created_at, expires_at FROM uploads"
        )
    link = Upload(*next(iter(rows))).link("png", int(time.time() * 1000))
    async with client.session.get(f"{client.public_url}/webhooks/instagram/media/{link}") as response:
        assert (response.status, await response.read()) == (200, PNG)
    await client.send("DELETE", f"{PATH}/{upload['id']}", status=204)
    async with client.session.get(f"{client.public_url}/webhooks/instagram/media/{link}") as response:
        assert response.status == HTTPStatus.NOT_FOUND
    assert not list((client.database.parent / "uploads").glob("*"))
    assert link not in capsys.readouterr().out


async def test_a_file_that_has_the_id_of_a_removed_one_is_not_sent_in_its_place(
    database: Database, tmp_path: Path
) -> None:
    store = UploadStore(database, tmp_path / "uploads")
    service = UploadService(store, ManualClock(), base_url=BASE, max_bytes=lambda: 100 * MB)

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG

    removed = await service.receive(pieces(), None, ADMIN)
    await queued(database, removed)
    await store.remove(removed.id)
    other = await service.receive(pieces(), None, ADMIN)
    assert other.id == removed.id
    with pytest.raises(UploadGoneError):
        await service.address(1, removed.id)
