"""Thumbnails: a picture from outside is decoded, checked, scaled down, and encoded again without metadata.

Decoding takes the memory: 96 MB and more for 24 million pixels. The need is estimated from the header alone, and a
picture that needs more than BUDGET_BYTES is refused. A JPEG can be decoded at an eighth of its size, so almost every
JPEG fits; other formats cannot.
"""

import io
from collections.abc import Iterator
from typing import Final, Literal

from PIL import Image, PngImagePlugin

SIDE: Final = 320
MAX_PIXELS: Final = 24_000_000
BUDGET_BYTES: Final = 48 * 1024 * 1024
"""Memory that decoding one picture may take."""
CONTENT_TYPE: Final = "image/webp"
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
_QUALITY: Final = 82
_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Bytes of a pixel in Pillow's image, by mode; four in every other mode."""
_AS_THEY_ARE: Final = frozenset({"L", "RGB"})
"""Modes that are scaled before they are converted; the others have to be converted first."""
_WEBP_BYTES: Final = 16
"""Bytes that libwebp takes for each pixel, beside Pillow's image: two canvases, the frame, and a copy."""
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
    """The bytes are not a picture that is accepted."""


def make_thumbnail(data: bytes) -> bytes:
    """A WebP of at most SIDE by SIDE pixels, without metadata. Call it in a thread, one at a time.

    Raises NotAPictureError for what is not one of the four formats, is broken, or needs more than BUDGET_BYTES.
    """
    try:
        return _made(data)
    except NotAPictureError:
        raise
    except Exception as error:  # Pillow raises many kinds of exceptions for broken bytes
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
    """The orientation, from raw EXIF ("Exif", section 4.6: a TIFF header, and the entries of its first directory).

    1 when it is not written in the way that cameras write it: odd metadata does not make a picture invalid.
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
    """A JPEG without its metadata, and its EXIF: Pillow must not parse EXIF, as it does when it opens a file.

    The segments that say how to read the colours stay (APP0, APP14).
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
    """Bytes of the coefficients that libjpeg keeps, at full size, when the picture comes in more than one scan."""
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
    """The segments of a JPEG up to its first scan: marker, content, and where it ends."""
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
