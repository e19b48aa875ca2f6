"""Boxes of fragmented MP4 files (ISO/IEC 14496-12): how much of a truncated file is complete."""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEAD = struct.Struct(">I4s")
LONG = struct.Struct(">Q")


def complete_fragments(file: Path) -> tuple[int, int]:
    """Return the number of bytes up to the end of the last complete fragment (moof and mdat), and of fragments."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        offset = end = fragments = 0
        is_open = False
        while offset + HEAD.size <= size:
            stream.seek(offset)
            length, box_type = HEAD.unpack(stream.read(HEAD.size))
            if length == 1 and offset + HEAD.size + LONG.size <= size:
                (length,) = LONG.unpack(stream.read(LONG.size))
            if length < HEAD.size or offset + length > size:
                break
            offset += length
            fragments += is_open and box_type == b"mdat"
            is_open = box_type == b"moof" or (is_open and box_type != b"mdat")  # until its samples follow
            end = end if is_open else offset
    return end, fragments


def truncate_to_fragments(file: Path) -> int:
    """Cut an incomplete fragment off a file's end, and return the number of complete ones."""
    end, fragments = complete_fragments(file)
    if end < file.stat().st_size:
        os.truncate(file, end)
    return fragments
