"""Image files in bytes: their type, whether they are complete, and their EXIF orientation. Nothing is decoded.

Decoders return an image for half a file: its missing part is grey. So the structure of JPEG (ITU-T T.81), PNG (ISO/IEC
15948), TIFF 6.0 and BMP is walked to the end before any pixel is decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import EdgemtlError

SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "BMP": (b"BM",),
}
ORIENTATION, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 0x0112, 273, 279, 324, 325
"""Tags of an image file directory (TIFF 6.0, section 8; EXIF 2.32)."""
TAGS = (ORIENTATION, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES)
TIFF_TYPES = {1: "B", 3: "H", 4: "I"}
"""Unsigned whole numbers by their field type."""
MOST_VALUES = 1 << 20
"""Entries of a tag that are read at most: strips of an image of a million rows."""
SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that ends a scan: neither a stuffed byte nor a restart marker nor fill."""
AFTER_SCAN = frozenset((0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)))
"""Markers that may follow a scan: tables, another scan, the number of lines, comments."""
INFO_HEADER, UNCOMPRESSED = 40, (0, 3)
"""The length of a BMP's header from which its fields are known, and the values of its compression for plain rows."""
EOI, SOS, APP1 = 0xD9, 0xDA, 0xE1


class ImageFileError(EdgemtlError):
    """An image file that is incomplete or damaged, or of a type that is not read; the message names no file."""


@dataclass(frozen=True)
class ImageFile:
    """What an image file states of itself: its type, its EXIF orientation (1 to 8, 1 is upright), and its origin.

    ``has_counts`` is true of a FLIR radiometric JPEG: its pixels are a picture, its counts lie in a segment beside.
    """

    type: str
    orientation: int = 1
    has_counts: bool = False


def inspect(data: bytes) -> ImageFile:
    """Return what an image file states of itself; raises `ImageFileError` where it is incomplete.

    Files of another type than JPEG, PNG, TIFF and BMP are of type "" and not checked.
    """
    if not data:
        raise ImageFileError("is empty; copy or record it again")
    if not data.strip(b"\0"):
        raise ImageFileError(f"holds {len(data)} zero bytes and no image: it was not written to the end")
    kind = next((kind for kind, heads in SIGNATURES.items() if data.startswith(heads)), "")
    try:
        return READERS[kind](data) if kind else ImageFile("")
    except (struct.error, IndexError):
        raise _incomplete(kind, len(data)) from None


def _incomplete(kind: str, size: int, wanted: str = "its end") -> ImageFileError:
    return ImageFileError(
        f"is an incomplete {kind} file: {wanted} is missing after {size} bytes; copy or record it again"
    )


def _jpeg(data: bytes) -> ImageFile:
    at, orientation, has_counts = 2, 1, False
    while True:
        while data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):  # fill, and what decoders skip
            at += 1
        marker = data[at + 1]
        if marker == EOI:
            return ImageFile("JPEG", orientation, has_counts)
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # stand alone
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        segment = data[at + 4 : at + 2 + length]
        if marker == APP1:
            has_counts |= segment.startswith(b"FLIR\0")
            if segment.startswith(b"Exif\0\0"):
                orientation = _exif_orientation(segment[6:])
        at += 2 + length
        if marker == SOS:
            end_marker = SCAN_END.search(data, at)
            if end_marker is None:
                raise _incomplete("JPEG", len(data), "the end of its image")
            at = end_marker.start()
            if data[at + 1] != EOI and data[at + 1] not in AFTER_SCAN:
                raise ImageFileError(
                    f"is a damaged JPEG file: its image breaks off at byte {at} of {len(data)}; copy or record it again"
                )


def _png(data: bytes) -> ImageFile:
    at, orientation = 8, 1
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise _incomplete("PNG", len(data), f"the end of its {name.decode('latin-1')} chunk")
        if name == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        if name == b"IEND":
            return ImageFile("PNG", orientation)
        at += 12 + length


def _bmp(data: bytes) -> ImageFile:
    offset, header, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    row = (width * bits + 31) // 32 * 4
    end = offset + row * abs(height)
    if header >= INFO_HEADER and compression in UNCOMPRESSED and end > len(data):
        raise _incomplete("BMP", len(data), f"its image, which ends at byte {end},")
    return ImageFile("BMP")


def _tiff(data: bytes) -> ImageFile:
    tags = dict(_tags(data))
    for offsets, sizes in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)):
        for begin, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
            if begin + size > len(data):
                raise _incomplete("TIFF", len(data), f"its image, which ends at byte {begin + size},")
    return ImageFile("TIFF", _valid(tags.get(ORIENTATION, ())))


def without_orientation(data: bytes) -> bytes:
    """Return a TIFF file with the orientation tag of an upright image: some decoders turn images by it, some do not."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, at)
    changed = bytearray(data)
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        if struct.unpack_from(f"{order}H", data, entry) == (ORIENTATION,):
            struct.pack_into(f"{order}HIHH", changed, entry + 2, 3, 1, 1, 0)
    return bytes(changed)


def _tags(data: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the tags of whole numbers in the first directory of a TIFF file."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
        if kind not in TIFF_TYPES or tag not in TAGS:  # a note that points past the end harms no image
            continue
        form = f"{order}{min(count, MOST_VALUES)}{TIFF_TYPES[kind]}"
        inline = struct.calcsize(form) <= 4
        offset = entry + 8 if inline else struct.unpack_from(f"{order}I", data, entry + 8)[0]
        yield tag, struct.unpack_from(form, data, offset)


def _exif_orientation(data: bytes) -> int:
    """Return the orientation in EXIF data, 1 where it cannot be read: a note that is cut harms no image."""
    try:
        return _valid(dict(_tags(data)).get(ORIENTATION, ()))
    except struct.error:
        return 1


def _valid(values: tuple[int, ...]) -> int:
    return values[0] if values and 1 <= values[0] <= 8 else 1


READERS = {"JPEG": _jpeg, "PNG": _png, "TIFF": _tiff, "BMP": _bmp}
