"""Fragmented mp4 files box by box: how far one is whole that was cut off while it was written."""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEAD = struct.Struct(">I4s")
LONG = struct.Struct(">Q")


def whole(file: Path) -> tuple[int, int]:
    """Return how many bytes of a file are whole, and how many fragments they have."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        place = end = fragments = 0
        is_open = False
        while place + HEAD.size <= size:
            stream.seek(place)
            length, kind = HEAD.unpack(stream.read(HEAD.size))
            if length == 1 and place + HEAD.size + LONG.size <= size:
                (length,) = LONG.unpack(stream.read(LONG.size))
            if length < HEAD.size or place + length > size:
                break
            place += length
            fragments += is_open and kind == b"mdat"
            is_open = kind == b"moof" or (is_open and kind != b"mdat")  # until its pictures are there as well
            end = end if is_open else place
    return end, fragments


def trim(file: Path) -> int:
    """Cut half a fragment off a file's end, and return how many fragments there are."""
    end, fragments = whole(file)
    if end < file.stat().st_size:
        os.truncate(file, end)
    return fragments
