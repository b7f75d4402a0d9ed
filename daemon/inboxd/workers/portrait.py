"""Making an avatar of whatever bytes came: decoded, checked, made small, written anew without metadata."""

import io
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

SIDE: Final = 320
MAX_PIXELS: Final = 24_000_000
CONTENT_TYPE: Final = "image/webp"
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
_QUALITY: Final = 82
_BROKEN: Final = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,  # what Pillow calls a broken PNG
    ValueError,
    EOFError,
)


class NotAPictureError(ValueError):
    """The bytes are no picture that we take."""


def portrait(data: bytes) -> bytes:
    """A WebP of at most SIDE by SIDE pixels, made only of the picture's pixels. Use a thread.

    Raises NotAPictureError for what is not one of four formats, is broken, or is larger than MAX_PIXELS.
    """
    try:
        picture = _opened(data)
        picture.draft("RGB", (SIDE, SIDE))
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        upright.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        clean = Image.new("RGB", upright.size)
        clean.paste(upright)
        out = io.BytesIO()
        clean.save(out, "WEBP", quality=_QUALITY)
    except NotAPictureError:
        raise
    except _BROKEN as error:
        raise NotAPictureError(f"not a picture: {type(error).__name__}") from error
    return out.getvalue()


def _opened(data: bytes) -> Image.Image:
    """The picture, its pixels not yet decoded: so far only its header was believed."""
    picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    if picture.width * picture.height > MAX_PIXELS:
        msg = f"{picture.width} x {picture.height} pixels are too many"
        raise NotAPictureError(msg)
    return picture
