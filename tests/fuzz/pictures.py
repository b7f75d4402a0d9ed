"""Whatever the CDN may answer where a picture should be, beside pictures with which nothing is wrong."""

import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from PIL import Image

from tests.fuzz.daemon import Daemon, running, until
from tests.fuzz.mutations import mutated_bytes
from tests.fuzz.raw_server import response
from tests.fuzz.surface import Failure, Surface
from tests.fuzz.talk import deliver_from, profile_of

SOUND: Final = 5
"""Pictures with which nothing is wrong, among each round's others."""
STATUSES: Final = ("200 OK", "204 No Content", "206 Partial Content", "301 Moved", "404 Not Found", "500 Oops", "999 X")
LOCATIONS: Final = (
    b"http://169.254.169.254/", b"http://[::1]/", b"//elsewhere.example/x.png", b"", b"ftp://x/", b"http://\xff/",
    b"http://127.0.0.1:99999/", b"javascript:alert(1)", b"?", b"http://127.0.0.1:1/", b"https://x@y:z/",
)  # fmt: skip


class Pictures(Surface):
    """HTTP responses of the CDN, as a whole."""

    name: ClassVar[str] = "pictures"
    per_round: ClassVar[int] = 60

    def __init__(self) -> None:
        self._pictures = [*_pictures()]

    def make(self, chance: random.Random) -> bytes:
        body = chance.choice(self._pictures)
        if chance.random() < 0.8:
            body = mutated_bytes(body[: chance.choice((64, 256, len(body)))], chance, most=6) + body[256:]
        elif chance.random() < 0.3:
            body = chance.choice(
                (b"", b"<html><body>Sorry</body></html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
            )
        found = response(body, headers=b"Content-Type: image/jpeg\r\n")
        if chance.random() < 0.15:
            location = chance.choice(LOCATIONS)
            found = response(b"", status="302 Found", headers=b"Location: %s\r\n" % location)
        elif chance.random() < 0.1:
            found = response(body, status=chance.choice(STATUSES), headers=b"Content-Encoding: gzip\r\n")
        return mutated_bytes(found[:120], chance) + found[120:] if chance.random() < 0.1 else found

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        people = [f"82{number:014d}" for number in range(len(inputs) + SOUND)]
        async with running(folder) as daemon:
            sound = people[:: max(1, len(people) // SOUND)][:SOUND]
            odd = [who for who in people if who not in sound]
            for who, answer in zip(odd, inputs, strict=True):
                daemon.meta.answers[f"{who}.png"] = answer
            for who in sound:
                daemon.meta.answers[f"{who}.png"] = response(_saved("PNG"), headers=b"Content-Type: image/png\r\n")
            for who in people:
                daemon.meta.answers[who] = profile_of(who, profile_pic=f"{daemon.meta.url}/{who}.png")
            await deliver_from(daemon, people)
            await until(lambda: _all_tried(daemon, len(people)), "not every picture is fetched")
            shown = await daemon.look_over()
        known = {one["participantPlatformId"]: one["avatar"] for one in shown.lists["/api/participants"]}
        without = [who for who in sound if not known.get(who)]
        if without:
            raise Failure(f"{len(without)} of {SOUND} sound pictures are not shown")


async def _all_tried(daemon: Daemon, count: int) -> bool:
    return await daemon.metric("inboxd_avatars_total") >= count


def _saved(kind: str, size: tuple[int, int] = (300, 200), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    picture.save(out, kind, **options)
    return out.getvalue()


def _pictures() -> list[bytes]:
    """One of every kind that differs in how it is decoded."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    frames = [Image.new("P", (80, 60), number) for number in range(8)]
    png = _saved("PNG")
    width = (50_000).to_bytes(4, "big")
    return [
        _saved("JPEG", exif=exif),
        _saved("JPEG", (1200, 900), progressive=True),
        _saved("JPEG", mode="CMYK"),
        _saved("JPEG", mode="L", comment=b"x" * 60_000),
        png,
        _saved("PNG", mode="RGBA"),
        _saved("PNG", mode="P"),
        _saved("PNG", mode="1", exif=exif),
        _saved("PNG", mode="I;16"),
        png[:16] + width + width + png[24:],
        _saved("PNG", (4000, 4000), mode="1"),
        _saved("GIF", mode="P"),
        _saved("GIF", mode="P", save_all=True, append_images=frames, loop=0),
        _saved("WEBP", exif=exif),
        _saved("WEBP", mode="RGBA", lossless=True),
        _saved("WEBP", (80, 60), save_all=True, append_images=[one.convert("RGB") for one in frames]),
        _saved("BMP"),
        _saved("TIFF"),
        b"",
    ]
