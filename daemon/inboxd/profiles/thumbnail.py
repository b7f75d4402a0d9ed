"""Making an avatar of whatever bytes came: decoded, checked, made small, written anew without metadata.

Decoding is where memory goes: 24 million pixels take 96 MB and more. What it will take is estimated from the header
alone, and what does not fit into BUDGET_BYTES is refused. A JPEG is decoded at an eighth of its size, so almost any
fits; other formats know no such way.
"""

import io
from collections.abc import Iterator
from typing import Final, Literal

from PIL import Image, PngImagePlugin

SIDE: Final = 320
MAX_PIXELS: Final = 24_000_000
BUDGET_BYTES: Final = 48 * 1024 * 1024
"""What decoding one picture may take."""
CONTENT_TYPE: Final = "image/webp"
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
_QUALITY: Final = 82
_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Of Pillow's image; every other mode has four."""
_AS_THEY_ARE: Final = frozenset({"L", "RGB"})
"""Modes that are made small before they are converted; the others have to be converted first."""
_WEBP_BYTES: Final = 16
"""Of libwebp for each pixel, beside Pillow's image: two canvases, the frame, and a copy."""
_COEFFICIENT_BYTES: Final = 2
_MAX_TEXT: Final = 1024 * 1024
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG: Final = b"\xff\xd8\xff"
_EXIF: Final = b"Exif\0\0"
_ORIENTATION: Final = 0x0112
_MAX_ENTRIES: Final = 200
_APP1: Final = 0xE1
_APP13: Final = 0xED
_APP15: Final = 0xEF
_COMMENT: Final = 0xFE
_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS: Final = 0xDA
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


class NotAPictureError(ValueError):
    """The bytes are no picture that we take."""


def portrait(data: bytes) -> bytes:
    """A WebP of at most SIDE by SIDE pixels, made only of the picture's pixels. Use a thread, one at a time.

    Raises NotAPictureError for what is not one of four formats, is broken, or is larger than we have memory for.
    """
    try:
        return _made(data)
    except NotAPictureError:
        raise
    except Exception as error:  # what Pillow raises for bytes from outside has no end of kinds
        raise NotAPictureError(f"not a picture: {type(error).__name__}") from error


def _made(data: bytes) -> bytes:
    picture, exif = _opened(data)
    turn = _TURNS.get(_orientation(exif))
    small: Image.Image = picture if picture.mode in _AS_THEY_ARE else picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    if turn is not None:
        small = small.transpose(turn)
    clean = Image.new("RGB", small.size)
    clean.paste(small.convert("RGB"))
    out = io.BytesIO()
    clean.save(out, "WEBP", quality=_QUALITY)
    return out.getvalue()


def _opened(data: bytes) -> tuple[Image.Image, bytes]:
    """The picture, its pixels not yet decoded (so far only its header was believed), and its EXIF."""
    PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT  # Pillow's own limit is 64 MB of comments
    exif, coefficients = b"", 0
    if data.startswith(_JPEG):
        coefficients = _coefficient_bytes(data)
        data, exif = _without_metadata(data)
    picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise NotAPictureError(f"{width} x {height} pixels are too many")
    picture.draft("RGB", (SIDE, SIDE))
    pixel = _PIXEL_BYTES.get(picture.mode, 4)
    if picture.mode not in _AS_THEY_ARE:
        pixel += 4  # a copy as RGB
    if picture.format == "WEBP":
        pixel += _WEBP_BYTES
    if coefficients + picture.width * picture.height * pixel > BUDGET_BYTES:
        raise NotAPictureError(f"{width} x {height} pixels of {picture.format} are too many")
    found = picture.info.get("exif")
    return picture, exif or (found if isinstance(found, bytes) else b"")


def _orientation(exif: bytes) -> int:
    """Which way up it is, from raw EXIF ("Exif", section 4.6: a TIFF header, and the entries of its first directory).

    1 when that is not said in the one way that cameras say it: a picture is none the worse for odd metadata.
    """
    tiff = exif.removeprefix(_EXIF)
    order: Literal["big", "little"] = "little" if tiff[:2] == b"II" else "big"
    first = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[first : first + 2], order)
    for number in range(min(count, _MAX_ENTRIES)):
        entry = tiff[first + 2 + 12 * number :][:12]
        if int.from_bytes(entry[:2], order) == _ORIENTATION:
            is_one_short = entry[2:8] == (3).to_bytes(2, order) + (1).to_bytes(4, order)
            return int.from_bytes(entry[8:10], order) if is_one_short else 1
    return 1


def _without_metadata(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG without what only tells of it, and its EXIF: Pillow takes EXIF apart when it opens a file, as it must not.

    What tells how to read its colours stays (APP0, APP14).
    """
    kept, exif, at = [data[:2]], b"", 2
    for marker, segment, end in _segments(data):
        if _APP1 <= marker <= _APP13 or marker in {_APP15, _COMMENT}:
            exif = exif or (segment if marker == _APP1 and segment.startswith(_EXIF) else b"")
        else:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]]), exif


def _coefficient_bytes(data: bytes) -> int:
    """What libjpeg keeps of the whole picture, at full size, when it comes in more than one scan."""
    planes: list[int] = []
    width = height = 0
    progressive = False
    for marker, segment, _ in _segments(data):
        if marker in _SOF and len(segment) >= 6:
            progressive = marker in _PROGRESSIVE
            height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            planes = [(one >> 4) * (one & 15) for one in segment[7::3][: segment[5]]]
        elif marker == _SOS:
            if not planes or (segment[:1] == bytes([len(planes)]) and not progressive):
                return 0
            return width * height * sum(planes) * _COEFFICIENT_BYTES // max(1, *planes)
    return 0


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The segments of a JPEG up to its first scan: the marker, what is in it, and where it ends."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in {0x00, 0x01, 0xFF} or 0xD0 <= marker <= 0xD8:  # without a length
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        yield marker, data[at + 4 : end], end
        if marker == _SOS:
            return
        at = end
