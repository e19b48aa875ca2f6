"""MCAP files record by record, as far as they are whole: what reads and mends a file that was cut off.

The format is that of https://mcap.dev/spec: a magic number, then records of one byte of kind, eight of length, and
content. The library's readers ask for the index at the end first, which a cut file has not.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import EdgemtlError

if TYPE_CHECKING:
    from mcap.data_stream import RecordBuilder
    from mcap.records import Chunk, McapRecord

MAGIC = b"\x89MCAP0\r\n"
HEAD = struct.Struct("<BQ")
FOOTER_BYTES = HEAD.size + 20
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX = 1, 2, 3, 4, 5, 6, 7
ATTACHMENT, METADATA, DATA_END = 9, 12, 15
RECORD_BYTES = 1 << 31
"""A longer record is not read: a length that was damaged must not fill the memory."""


@dataclass(frozen=True)
class Record:
    """A whole record: its kind, where it begins, where its content begins and how long that is, in bytes."""

    stream: BinaryIO
    kind: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + HEAD.size + self.length

    def content(self) -> bytes:
        """Read the content; raises `EdgemtlError` where it is too long to be true."""
        if self.length > RECORD_BYTES:
            raise EdgemtlError(f"a record of {self.length} bytes at {self.start}")
        self.stream.seek(self.start + HEAD.size)
        return self.stream.read(self.length)


class Walk:
    """Iterate for the whole records of the data section in their order; one at a time is in memory.

    ``end`` is where the last of them ends, and ``is_cut`` says whether the file ends before the data section does.
    Where a record cannot be one, the walk goes on at the next of the places ``resume``, and ``gaps`` tells (place,
    length) of what it left out.
    """

    def __init__(self, stream: BinaryIO, resume: Sequence[int] = ()) -> None:
        self.stream, self.resume = stream, resume
        self.size = stream.seek(0, os.SEEK_END)
        self.end, self.is_cut = len(MAGIC), False
        self.gaps: list[tuple[int, int]] = []
        stream.seek(0)
        if stream.read(len(MAGIC)) != MAGIC:
            raise EdgemtlError("is no MCAP file")

    def __iter__(self) -> Iterator[Record]:
        """Yield records."""
        while True:
            self.stream.seek(self.end)
            head = self.stream.read(HEAD.size)
            kind, length = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0)
            if kind in (FOOTER, DATA_END):
                return
            if kind == 0 or self.end + HEAD.size + length > self.size:
                place = next((place for place in self.resume if place >= self.end + HEAD.size), 0)
                if not place:
                    self.is_cut = True
                    return
                self.gaps.append((self.end, place - self.end))
                self.end = place
                continue
            record = Record(self.stream, kind, self.end, length)
            self.end = record.end
            yield record


def library_of(file: Path) -> str:
    """Return the library that a file's header names, empty where there is none."""
    try:
        with file.open("rb") as stream:
            record = next(iter(Walk(stream)))
            if record.kind != HEADER or record.length > 1 << 16:
                return ""
            return str(parse(record).library)
    except (OSError, EdgemtlError, StopIteration, ValueError, struct.error):
        return ""


def has_end(stream: BinaryIO) -> bool:
    """Whether a file ends as one that was finished: with a footer and the magic number."""
    size = stream.seek(0, os.SEEK_END)
    if size < len(MAGIC) + FOOTER_BYTES:
        return False
    stream.seek(size - len(MAGIC) - FOOTER_BYTES)
    tail = stream.read()
    return tail[0] == FOOTER and tail[1 : HEAD.size] == (20).to_bytes(8, "little") and tail.endswith(MAGIC)


def has_whole_end(stream: BinaryIO) -> bool:
    """Whether a file has an end whose summary is what was written."""
    if not has_end(stream):
        return False
    foot = stream.seek(-len(MAGIC) - FOOTER_BYTES, os.SEEK_END)
    stream.seek(foot + HEAD.size)
    start: int
    told_crc: int
    start, _, told_crc = struct.unpack("<QQI", stream.read(20))
    if start == 0 or told_crc == 0:  # there is no summary, or nobody has summed it up
        return start <= foot
    if not foot - RECORD_BYTES < start <= foot:
        return False
    stream.seek(start)
    return zlib.crc32(stream.read(foot + FOOTER_BYTES - 4 - start)) == told_crc


def parse(record: Record) -> Any:
    """Return a record as the library's type; raises many kinds of errors for damaged ones."""
    return of_bytes(record.kind, record.content())


def of_bytes(kind: int, content: bytes) -> Any:
    """Return content as the library's type of record."""
    from mcap import records
    from mcap.data_stream import ReadDataStream

    stream = ReadDataStream(Strict(content))
    if kind == MESSAGE:
        return records.Message.read(stream, len(content))
    kinds: dict[int, Callable[[ReadDataStream], McapRecord]] = {
        HEADER: records.Header.read,
        SCHEMA: records.Schema.read,
        CHANNEL: records.Channel.read,
        CHUNK: records.Chunk.read,
        MESSAGE_INDEX: records.MessageIndex.read,
        METADATA: records.Metadata.read,
    }
    return kinds[kind](stream)


class Strict(BytesIO):
    """Bytes of which no more are read than there are: the library takes fewer for what it asked for."""

    def read(self, size: int | None = -1) -> bytes:
        """Read so many; raises `EdgemtlError` where there are fewer."""
        found = super().read(size)
        if size is not None and len(found) < size:
            raise EdgemtlError(f"{len(found)} bytes where {size} are told")
        return found


def bytes_of(builder: RecordBuilder) -> bytes:
    """Return what was built; the builder is empty then."""
    return bytes(builder.end())  # type: ignore[no-untyped-call]


def unpacked(chunk: Chunk) -> bytes:
    """Return what is in a whole chunk; raises many kinds of errors where its checksum does not agree."""
    from mcap.stream_reader import get_chunk_data_stream

    if chunk.uncompressed_size > RECORD_BYTES:
        raise EdgemtlError(f"a chunk of {chunk.uncompressed_size} bytes")
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    return stream.read(length)


def whole(record: Record) -> tuple[int, int, bytes]:
    """Return a record outside of chunks as `split` gives those inside; of kinds that hold no message only the kind."""
    return record.kind, 0, record.content() if record.kind in (SCHEMA, CHANNEL, MESSAGE) else b""


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (kind, offset, content) of the whole records in a chunk's data."""
    place = 0
    while place + HEAD.size <= len(data):
        kind, length = HEAD.unpack_from(data, place)
        end = place + HEAD.size + length
        if kind == 0 or end > len(data):
            return
        yield kind, place, data[place + HEAD.size : end]
        place = end
