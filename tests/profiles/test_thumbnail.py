"""Pictures from outside: whatever is in them, the worst that happens is that there is no avatar."""

import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from inboxd.profiles.thumbnail import BUDGET_BYTES, MAX_PIXELS, SIDE, NotAPictureError, make_thumbnail
from PIL import Image

MUTATIONS = 1500
ENOUGH_MB = 150
MEASURED = """
import sys
from pathlib import Path
import inboxd.app
from inboxd.profiles import thumbnail
def most():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
before = most()
thumbnail.make_thumbnail(Path(sys.argv[1]).read_bytes())
print(before, most())
"""


def exif(*, kind: int = 3, count: int = 1, value: bytes = b"\0\x06\0\0", tag: int = 0x0112) -> bytes:
    """EXIF with one entry, the orientation unless told otherwise."""
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHI", tag, kind, count) + value + b"\0\0\0\0"


ODD_EXIF = [
    exif(kind=5, value=b"\0\0\0\x08"),  # a rational whose place is the header
    exif(kind=2, count=4, value=b"six\0"),
    exif(count=0),
    exif(count=0xFFFFFFFF),
    exif(kind=99),
    exif(kind=12, count=1, value=b"\xff\xff\xff\xff"),
    exif(value=b"\0\x63\0\0"),
    exif(tag=0x8769, kind=2, count=4, value=b"text"),  # a pointer that is none
    exif(tag=0x8769, kind=4, value=b"\xff\xff\xff\xf0"),
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    b"Exif\0\0MM\0*\xff\xff\xff\xff",
    b"Exif\0\0",
    b"Exif\0\0II",
]


def picture(kind: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    image = Image.effect_noise((size[0] // 8 or 1, size[1] // 8 or 1), 90).resize(size, Image.Resampling.NEAREST)
    coloured = image.convert("RGB")
    coloured.paste((200, 20, 20), (0, 0, 4, 4))  # or a palette would be taken for shades of grey
    coloured.convert(mode).save(out, kind, **options)
    return out.getvalue()


def with_exif(kind: str, block: bytes) -> bytes:
    """A picture with this EXIF, whatever Pillow would say of it."""
    plain = picture(kind)
    match kind:
        case "JPEG":
            return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]
        case "PNG":
            body = b"eXIf" + block[6:]
            return plain[:33] + struct.pack(">I", len(block) - 6) + body + struct.pack(">I", crc(body)) + plain[33:]
        case "WEBP":
            padded = block + b"\0" * (len(block) % 2)
            head = b"VP8X" + struct.pack("<II", 10, 8) + struct.pack("<I", 63)[:3] + struct.pack("<I", 47)[:3]
            chunks = b"WEBP" + head + plain[12:] + b"EXIF" + struct.pack("<I", len(block)) + padded
            return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
        case _:
            return plain[:-1] + b"!\xff\x0bEXIF-block!" + bytes([min(255, len(block))]) + block[:255] + b"\0;"


def crc(body: bytes) -> int:
    import zlib  # noqa: PLC0415 - for this alone

    return zlib.crc32(body)


def taken(data: bytes) -> bool:
    """Whether it became an avatar; anything but that or a refusal is raised."""
    try:
        made = Image.open(io.BytesIO(make_thumbnail(data)))
    except NotAPictureError:
        return False
    assert made.format == "WEBP"
    assert max(made.size) <= SIDE
    return True


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("block", range(len(ODD_EXIF)))
def test_a_picture_is_none_the_worse_for_odd_exif(kind: str, block: int) -> None:
    assert taken(with_exif(kind, ODD_EXIF[block])) or kind == "GIF"


@pytest.mark.parametrize(("orientation", "corner"), [(1, 0), (3, 2), (6, 1), (8, 3), (2, 1), (4, 3), (5, 0), (7, 2)])
def test_pictures_are_turned_upright(orientation: int, corner: int) -> None:
    image = Image.new("RGB", (400, 200), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 100, 50))
    out, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = orientation
    image.save(out, "JPEG", exif=tags)
    made = Image.open(io.BytesIO(make_thumbnail(out.getvalue()))).convert("L")
    width, height = made.size
    assert (width > height) == (orientation < 5)
    corners = ((5, 5), (width - 6, 5), (width - 6, height - 6), (5, height - 6))
    white = [made.tobytes()[y * width + x] > 128 for x, y in corners]
    assert white == [number == corner for number in range(4)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_mutated_pictures_are_pictures_or_refused(kind: str) -> None:
    chance = random.Random(f"{kind} of 2026")
    seeds = [with_exif(kind, block) for block in ODD_EXIF] + [picture(kind)]
    if kind == "JPEG":
        seeds += [picture(kind, progressive=True), picture(kind, mode="CMYK"), picture(kind, mode="L")]
    if kind == "PNG":
        seeds += [picture(kind, mode=mode) for mode in ("RGBA", "P", "1", "LA", "I;16")]
    refused = 0
    for _ in range(MUTATIONS):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            mutate(chance, data)
        refused += not taken(bytes(data))
    assert 0 < refused < MUTATIONS


def mutate(chance: random.Random, data: bytearray) -> None:
    """One change, more often near the beginning, where everything is that describes the rest."""
    at = min(int(chance.expovariate(1 / 60)), len(data) - 1) if chance.random() < 0.7 else chance.randrange(len(data))
    how: list[Callable[[], None]] = [
        lambda: data.__setitem__(at, chance.randrange(256)),
        lambda: data.__setitem__(at, data[at] ^ (1 << chance.randrange(8))),
        lambda: data.__setitem__(slice(at, at + 4), bytes(chance.choice((0, 255, 1)) for _ in range(4))),
        lambda: data.__delitem__(slice(at, at + chance.randrange(1, 9))) if len(data) > 40 else None,
        lambda: data.__setitem__(slice(at, at), bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))),
        lambda: data.__delitem__(slice(max(40, at), None)),
    ]
    chance.choice(how)()


# What just fits, of each kind; and what does not.
FITS: dict[str, tuple[str, tuple[int, int], str, dict[str, object]]] = {
    "a JPEG of 24 million pixels": ("JPEG", (6000, 4000), "RGB", {}),
    "a JPEG of 24 million pixels for printers": ("JPEG", (6000, 4000), "CMYK", {}),
    "a JPEG too narrow to be decoded smaller": ("JPEG", (60_000, 200), "RGB", {}),
    "a progressive JPEG": ("JPEG", (4600, 3500), "RGB", {"progressive": True}),
    "a PNG": ("PNG", (4000, 3140), "RGB", {"compress_level": 1}),
    "a PNG with transparency": ("PNG", (3000, 2050), "RGBA", {"compress_level": 1}),
    "a PNG with a palette": ("PNG", (3500, 2850), "P", {"compress_level": 1}),
    "a WebP": ("WEBP", (1580, 1580), "RGB", {}),
    "a lossless WebP with transparency": ("WEBP", (1440, 1440), "RGBA", {"lossless": True}),
    "a GIF": ("GIF", (3500, 2850), "P", {}),
}
TOO_LARGE: dict[str, tuple[str, tuple[int, int], str, dict[str, object]]] = {
    "a JPEG": ("JPEG", (6100, 4000), "RGB", {}),
    "a progressive JPEG": ("JPEG", (6000, 4000), "RGB", {"progressive": True}),
    "a progressive JPEG of all colours": ("JPEG", (4600, 3600), "RGB", {"progressive": True, "subsampling": 0}),
    "a PNG": ("PNG", (6000, 4000), "RGB", {"compress_level": 1}),
    "a WebP": ("WEBP", (2400, 2400), "RGB", {}),
    "a GIF": ("GIF", (6000, 4000), "P", {}),
}


@pytest.mark.parametrize("which", FITS)
def test_decoding_takes_little_memory(which: str, tmp_path: Path) -> None:
    kind, size, mode, options = FITS[which]
    (tmp_path / "picture").write_bytes(picture(kind, size, mode, **options))
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "picture")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    before, most = map(int, done.stdout.split())
    assert most < ENOUGH_MB
    assert most - before < (BUDGET_BYTES >> 20) + 16


@pytest.mark.parametrize("which", TOO_LARGE)
def test_what_would_take_too_much_is_refused_before_it_is_decoded(which: str) -> None:
    kind, size, mode, options = TOO_LARGE[which]
    with pytest.raises(NotAPictureError, match="too many"):
        make_thumbnail(picture(kind, size, mode, **options))


def test_a_comment_bomb_is_no_way_around_it() -> None:
    import zlib  # noqa: PLC0415 - for this alone

    plain = picture("PNG")
    text = b"zTXt" + b"Comment\0\0" + zlib.compress(b"x" * 1_000_000, 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", crc(text))
    assert taken(plain[:33] + chunk + plain[33:])
    assert not taken(plain[:33] + chunk * 60 + plain[33:])


def test_the_limit_of_pixels_is_what_is_documented() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"{MAX_PIXELS // 1_000_000} million pixels" in text
