"""Generated avatar pictures: a symmetrical pattern in a colour of its own, from the person's id."""

import hashlib
import io
from typing import Final

from PIL import Image

_CELLS: Final = 5
_SIZE: Final = 320


def avatar(who: str) -> bytes:
    """A PNG for the person of an IGSID, the same every time."""
    digest = hashlib.sha256(b"avatar" + who.encode()).digest()
    colour = (64 + digest[0] % 160, 64 + digest[1] % 160, 64 + digest[2] % 160)
    small = Image.new("RGB", (_CELLS, _CELLS), (240, 240, 240))
    for column in range(_CELLS // 2 + 1):
        for row in range(_CELLS):
            if digest[3 + column * _CELLS + row] % 2:
                small.putpixel((column, row), colour)
                small.putpixel((_CELLS - 1 - column, row), colour)
    out = io.BytesIO()
    small.resize((_SIZE, _SIZE), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()
