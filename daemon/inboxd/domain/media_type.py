"""What a file is, by its first bytes, and whether Instagram takes it as an attachment.

Source: "Send messages" of the Instagram Platform: png, jpeg and gif up to 8 MB; aac, m4a, wav and mp4, video in mp4,
ogg, avi, mov and webm, and pdf up to 25 MB. Instagram's own HEIC pictures are refused there.
"""

from typing import Final, NamedTuple

SNIFFED_BYTES: Final = 64
"""How many bytes `media_type` looks at."""
MAX_IMAGE_BYTES: Final = 8 * 1024 * 1024
MAX_BYTES: Final = 25 * 1024 * 1024
_M4A_BRANDS: Final = frozenset({b"M4A ", b"M4B ", b"F4A "})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"hevc", b"heif", b"mif1", b"msf1", b"avif"})


class MediaType(NamedTuple):
    """A type of file that can be sent."""

    kind: str
    """The type of the attachment: `image`, `video`, `audio` or `file`."""
    content_type: str
    extension: str

    @property
    def max_bytes(self) -> int:
        """The size of the largest file of this type that Instagram takes."""
        return MAX_IMAGE_BYTES if self.kind == "image" else MAX_BYTES


class UnsendableFileError(ValueError):
    """Instagram does not take the file. The text says why."""


_PNG: Final = MediaType("image", "image/png", "png")
_JPEG: Final = MediaType("image", "image/jpeg", "jpg")
_GIF: Final = MediaType("image", "image/gif", "gif")
_PDF: Final = MediaType("file", "application/pdf", "pdf")
_WAV: Final = MediaType("audio", "audio/wav", "wav")
_AVI: Final = MediaType("video", "video/x-msvideo", "avi")
_AAC: Final = MediaType("audio", "audio/aac", "aac")
_M4A: Final = MediaType("audio", "audio/mp4", "m4a")
_MP4: Final = MediaType("video", "video/mp4", "mp4")
_MOV: Final = MediaType("video", "video/quicktime", "mov")
_OGG: Final = MediaType("video", "video/ogg", "ogg")
_WEBM: Final = MediaType("video", "video/webm", "webm")
_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"%PDF-", _PDF),
    (b"OggS", _OGG),
    (b"\x1a\x45\xdf\xa3", _WEBM),
)


_EXTENSIONS: Final = {
    one.content_type: one.extension
    for one in (_PNG, _JPEG, _GIF, _PDF, _WAV, _AVI, _AAC, _M4A, _MP4, _MOV, _OGG, _WEBM)
}


def extension_of(content_type: str) -> str:
    """What the name of a file of this type ends with; `bin` when Instagram does not take it."""
    return _EXTENSIONS.get(content_type, "bin")


def media_type(beginning: bytes, *, wanted: str | None = None) -> MediaType:
    """The type of the file that begins with these bytes.

    `wanted` is the type of attachment that the sender asks for. An MP4 with sound alone begins as one with pictures
    does, and Instagram takes it as `audio` only, so `audio` is believed of an MP4. Raises UnsendableFileError.
    """
    found = _sniffed(beginning)
    if found is None:
        msg = (
            "This is no file that Instagram takes: png, jpeg or gif; aac, m4a, wav or mp4; mp4, ogg, avi, mov or webm; "
            "pdf. What a file is, is told by its first bytes, not by its name."
        )
        raise UnsendableFileError(msg)
    if wanted == "audio" and found is _MP4:
        return _M4A
    if wanted is not None and wanted != found.kind:
        msg = f"The file is of type {found.content_type}, which is sent as '{found.kind}', not as '{wanted}'."
        raise UnsendableFileError(msg)
    return found


def _sniffed(beginning: bytes) -> MediaType | None:
    for start, found in _BEGINNINGS:
        if beginning.startswith(start):
            return found
    if beginning.startswith(b"RIFF"):
        return {b"WAVE": _WAV, b"AVI ": _AVI}.get(beginning[8:12])
    if beginning[4:8] == b"ftyp":
        return _by_brand(beginning[8:12])
    # ADTS: twelve bits of ones, then a layer of zero.
    is_adts = len(beginning) > 1 and beginning[0] == 0xFF and beginning[1] & 0xF6 == 0xF0
    return _AAC if is_adts else None


def _by_brand(brand: bytes) -> MediaType | None:
    """The type of a file of the MP4 family. Raises UnsendableFileError for HEIC and AVIF."""
    if brand in _HEIC_BRANDS:
        msg = "Instagram refuses HEIC and AVIF pictures. Convert it to JPEG or PNG."
        raise UnsendableFileError(msg)
    if brand in _M4A_BRANDS:
        return _M4A
    return _MOV if brand == b"qt  " else _MP4
