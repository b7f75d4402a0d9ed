"""Pictures: fetched, made small and harmless, kept, served from disk, and removed."""

import io
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile
from inboxd.meta.pictures import PictureClient, PictureRules
from inboxd.profiles import avatar_worker
from inboxd.profiles import store as profiles
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.avatar_worker import AvatarDownloader
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.thumbnail import SIDE, NotAPictureError, make_thumbnail
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageClosedError
from inboxd.runtime.worker import work
from inboxd.simulator.avatars import avatar
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database
from PIL import Image
from prometheus_client import CollectorRegistry

from tests.meta.test_pictures import LOCAL
from tests.support import ACCOUNT, ANA, BRUNO, ManualClock

KEY = ConversationKey(ACCOUNT, ANA)


class Rig:
    def __init__(self, database: Database, folder: Path, client: PictureClient, graph: tuple[GraphServer, str]) -> None:
        self.database = database
        self.server, self.url = graph
        self.clock = ManualClock()
        self.folder = folder
        self.avatars = AvatarStore(database, folder)
        self.downloader = AvatarDownloader(
            self.avatars, client, self.clock, ProfileMetrics(CollectorRegistry()), lambda: 0.0, max_count=100
        )

    async def profile(self, who: str = ANA, *, picture: bool = True, host: str | None = None) -> None:
        key = ConversationKey(ACCOUNT, who)
        url = f"{host or self.url}/pictures/{who}.png" if picture else None

        def transaction(connection: object) -> None:
            profiles.ensure(connection, [key], self.clock.now)  # type: ignore[arg-type]
            profiles.complete(connection, key, Profile("ana_x", profile_pic=url), self.clock.now)  # type: ignore[arg-type]

        await self.database.write(transaction)

    async def row(self, who: str = ANA) -> tuple[str | None, int | None, int | None]:
        """Avatar, when it is due, when the profile is due; in ms from now."""
        ((name, due_at, profile_at),) = await self.database.read(
            "SELECT avatar, avatar_due_at, next_attempt_at FROM participants WHERE participant_id = ?", (who,)
        )
        return name, *(None if at is None else at - self.clock.now for at in (due_at, profile_at))

    def files(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*/*"))


class PictureHost:
    """A host of pictures that answers as it is told to: a status, or None to hang up."""

    def __init__(self) -> None:
        self.url = ""
        self.status: int | None = 200
        self.broken: str | None = None
        self.asked_for: Counter[str] = Counter()

    @property
    def asked(self) -> int:
        return self.asked_for.total()

    async def give(self, request: web.Request) -> web.Response:
        who = request.match_info["who"]
        self.asked_for[who] += 1
        if self.status is None:
            assert request.transport is not None
            request.transport.abort()
        status = 500 if who == self.broken else self.status or 500
        return web.Response(status=status, body=picture((10, 10), "PNG"))


@pytest.fixture
async def host() -> AsyncIterator[PictureHost]:
    found = PictureHost()
    app = web.Application()
    app.router.add_get("/pictures/{who}.png", found.give)
    async with serving(app) as found.url:
        yield found


@pytest.fixture
async def rig(database: Database, tmp_path: Path, graph: tuple[GraphServer, str]) -> AsyncIterator[Rig]:
    rules = PictureRules(hosts=["127.0.0.1"], allow_http=True, allow_networks=LOCAL)
    async with PictureClient(rules) as client:
        yield Rig(database, tmp_path / "avatars", client, graph)


async def test_a_picture_becomes_an_avatar_named_by_its_content(rig: Rig) -> None:
    await rig.profile()
    assert await rig.downloader.fetch_due() == 1
    assert await rig.downloader.fetch_due() == 0

    name, due_at, _ = await rig.row()
    assert due_at is None
    assert name is not None
    path = rig.avatars.path(name)
    assert path is not None
    assert Image.open(io.BytesIO(path.read_bytes())).format == "WEBP"
    assert rig.avatars.path("../" + name) is None

    rig.clock.now += 1000
    await rig.profile()
    await rig.downloader.fetch_due()
    assert rig.files() == [name], "a new address of the same picture is the same avatar"


async def test_whoever_takes_their_picture_away_has_none_and_the_file_goes(rig: Rig) -> None:
    await rig.profile()
    await rig.profile(BRUNO)
    while await rig.downloader.fetch_due():
        pass
    assert len(rig.files()) == 2
    await rig.profile(picture=False)
    assert await rig.row() == (None, None, None)

    assert await rig.avatars.sweep() == (1, 0)
    assert rig.files() == [(await rig.row(BRUNO))[0]]


async def test_a_picture_has_its_name_once_it_is_whole(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks after a power cut finds the whole file under its name, or none."""
    whole: list[list[Path]] = []
    fsync = os.fsync

    def durable(descriptor: int) -> None:
        whole.append(list(rig.folder.glob("*/*.webp")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", durable)
    await rig.profile()
    await rig.downloader.fetch_due()
    assert whole == [[]]
    assert len(rig.files()) == 1


async def test_the_latest_is_fetched_first(rig: Rig) -> None:
    for who in (ANA, BRUNO):
        await rig.profile(who)
        rig.clock.now += 1
    assert [due.key.participant_id for due in await rig.avatars.due(rig.clock.now, 10)] == [BRUNO, ANA]


async def test_the_oldest_leave_when_there_are_too_many(rig: Rig) -> None:
    await rig.profile()
    await rig.downloader.fetch_due()
    rig.clock.now += 1000
    await rig.profile(BRUNO)
    await rig.downloader.fetch_due()

    assert await rig.avatars.trim(1, 200) == 1
    assert (await rig.row())[0] is None
    assert (await rig.row(BRUNO))[0] is not None
    assert await rig.avatars.trim(1, 200) == 0


async def test_a_dead_address_is_renewed_with_the_profile_when_that_is_old(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(dead_pictures=True)
    await rig.profile()
    await rig.downloader.fetch_due()
    assert await rig.row() == (None, None, None), "a fresh address that is dead would be dead again"

    await rig.profile()
    rig.clock.now += 3 * 86_400_000
    await rig.downloader.fetch_due()
    assert await rig.row() == (None, None, 0), "the profile is due, and with it a new address"


async def test_a_passing_fault_is_tried_three_times(rig: Rig) -> None:
    await rig.profile()
    rig.server.behaviour = Behaviour(picture_redirect="http://127.0.0.1:1/")
    for seconds in (60, 120):
        await rig.downloader.fetch_due()
        assert (await rig.row())[1] == seconds * 1000
        rig.clock.now += seconds * 1000
    await rig.downloader.fetch_due()
    assert await rig.row() == (None, None, None)


async def test_an_outage_of_the_host_costs_no_picture_an_attempt(rig: Rig, host: PictureHost) -> None:
    people = [str(7_000_000 + number) for number in range(250)]
    for who in people:
        await rig.profile(who, host=host.url)
    for status in (500, 503, 429, None):
        host.status = status
        for _ in range(5):
            before = host.asked
            while await rig.downloader.fetch_due():
                pass
            # Two at once, and aiohttp asks again when a kept connection is closed.
            assert host.asked - before <= 4, "a host that rests is let alone"
            rig.clock.now += 5 * 60_000 + 10
    host.status = 200
    while await rig.downloader.fetch_due():
        pass
    assert {(await rig.row(who))[0] for who in people} == {rig.files()[0]}


async def test_one_picture_that_its_host_does_not_give_holds_up_no_other(
    rig: Rig, host: PictureHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avatar_worker, "AT_ONCE", 1)
    host.broken = ANA
    others = [str(7_000_000 + number) for number in range(6)]
    for who in (*others, ANA):  # the latest is asked for first
        await rig.profile(who, host=host.url)
    while await rig.downloader.fetch_due():
        pass
    assert {(await rig.row(who))[0] for who in others} == {rig.files()[0]}
    assert (await rig.row())[1] is not None, "it is asked for again"


async def test_a_picture_that_its_host_alone_does_not_give_is_given_up(rig: Rig, host: PictureHost) -> None:
    host.broken = ANA
    await rig.profile(ANA, host=host.url)
    for number in range(10):
        await rig.profile(str(7_000_000 + number), host=host.url)
        while await rig.downloader.fetch_due():
            pass
        rig.clock.now += 3_600_000
    assert await rig.row() == (None, None, None)
    assert 3 <= host.asked_for[ANA] <= 5
    assert len(rig.files()) == 1


@pytest.mark.parametrize("target", ["http://169.254.169.254/", "http://127.0.0.2/", "https://elsewhere.example/"])
async def test_a_hostile_redirect_is_refused_for_good(rig: Rig, target: str) -> None:
    await rig.profile()
    rig.server.behaviour = Behaviour(picture_redirect=target)
    await rig.downloader.fetch_due()
    assert await rig.row() == (None, None, None)


async def test_whatever_goes_wrong_with_one_picture_is_its_failure_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in (ANA, BRUNO):
        await rig.profile(who)
    fetch = rig.downloader._pictures.fetch

    async def broken(url: str) -> bytes:
        if ANA in url:
            msg = "nobody thought of this"
            raise AttributeError(msg)
        return await fetch(url)

    monkeypatch.setattr(rig.downloader._pictures, "fetch", broken)
    assert await rig.downloader.fetch_due() == 2
    assert (await rig.row())[:2] == (None, 60_000)
    assert (await rig.row(BRUNO))[0] is not None


async def test_what_was_put_off_by_a_clock_that_was_ahead_is_not_waited_for(rig: Rig) -> None:
    await rig.profile()
    rig.server.behaviour = Behaviour(picture_redirect="http://127.0.0.1:1/")
    rig.clock.now += 365 * 86_400_000
    await rig.downloader.fetch_due()
    rig.clock.now -= 365 * 86_400_000
    assert await rig.downloader.fetch_due() == 0
    await rig.downloader._tidy()
    assert await rig.downloader.fetch_due() == 1


@pytest.mark.parametrize("error", [struct.error, TypeError, AttributeError, OverflowError, MemoryError, RecursionError])
async def test_whatever_pillow_raises_is_a_refusal(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def raises(*_: object, **__: object) -> None:
        raise error

    await rig.profile()
    monkeypatch.setattr(Image, "open", raises)
    assert await rig.downloader.fetch_due() == 1
    assert await rig.row() == (None, None, None)


async def test_pictures_are_decoded_one_at_a_time_and_not_on_the_event_loop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, threads = 0, 0, set()

    def watched(data: bytes) -> bytes:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        threads.add(threading.get_ident())
        time.sleep(0.05)
        at_once -= 1
        return data

    for who in (ANA, BRUNO):
        await rig.profile(who)
    monkeypatch.setattr("inboxd.profiles.avatar_worker._thumbnail", watched)
    assert await rig.downloader.fetch_due() == 2
    assert most == 1
    assert threading.get_ident() not in threads


async def test_the_loop_ends_when_the_database_is_closed(rig: Rig) -> None:
    await rig.profile()
    await rig.database.close()
    with pytest.raises(StorageClosedError):
        await work(rig.downloader, rig.clock, logs.get("avatars"), avatar_worker.SCHEDULE)


async def test_it_ends_too_when_the_database_is_closed_while_a_picture_comes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in (ANA, BRUNO):
        await rig.profile(who)

    async def closing(_url: str) -> bytes:
        await rig.database.close()
        return picture((10, 10), "PNG")

    monkeypatch.setattr(rig.downloader._pictures, "fetch", closing)
    with pytest.raises(StorageClosedError):
        await work(rig.downloader, rig.clock, logs.get("avatars"), avatar_worker.SCHEDULE)


def picture(size: tuple[int, int], kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_thumbnails_are_small_and_say_nothing_but_the_picture(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    options = {"exif": exif} if kind in {"JPEG", "PNG", "WEBP"} else {}
    made = Image.open(io.BytesIO(make_thumbnail(picture((1000, 500), kind, **options))))

    assert made.format == "WEBP"
    assert made.size == (SIDE, SIDE // 2)
    assert not made.getexif()
    assert b"taken at home" not in make_thumbnail(picture((1000, 500), kind, **options))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        picture((10, 10), "BMP"),
        picture((10, 10), "TIFF"),
        avatar(ANA)[:200],
        picture((300, 300), "JPEG")[:300],
        picture((6000, 6000), "PNG"),
    ],
)
def test_what_is_no_picture_for_us_is_refused(data: bytes) -> None:
    with pytest.raises(NotAPictureError):
        make_thumbnail(data)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    small = picture((10, 10), "PNG")
    width = (50_000).to_bytes(4, "big")
    with pytest.raises(NotAPictureError):
        make_thumbnail(small[:16] + width + width + small[24:])
