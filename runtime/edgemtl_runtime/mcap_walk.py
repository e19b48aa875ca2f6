"""Record-by-record reader of MCAP files, complete or truncated.

The format is that of https://mcap.dev/spec: a magic number, then records of an opcode (one byte), a length (eight) and
content. The library's readers need the index at the end, which a truncated file lacks.
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
RECORD_BYTES = 1 << 30
"""A longer record is not read: a corrupt length must not fill the memory."""


@dataclass(frozen=True)
class Record:
    """A whole record: its opcode, the offset of its first byte, and the length of its content in bytes."""

    stream: BinaryIO
    opcode: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """Offset of the byte after it."""
        return self.start + HEAD.size + self.length

    def content(self) -> bytes:
        """Read the content; raises `EdgemtlError` where it is longer than `RECORD_BYTES`."""
        if self.length > RECORD_BYTES:
            raise EdgemtlError(f"a record of {self.length} bytes at {self.start}")
        self.stream.seek(self.start + HEAD.size)
        return self.stream.read(self.length)


class Walk:
    """Iterator over the whole records of the data section in their order; one at a time is in memory.

    ``end`` is the offset where the last of them ends; ``is_cut`` is true where the file ends before the data section
    does. After bytes that are no record it continues at the next of the offsets ``resume``; ``gaps`` has (offset,
    length) of what was skipped.
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
            opcode, length = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0)
            if opcode in (FOOTER, DATA_END):
                return
            if opcode == 0 or self.end + HEAD.size + length > self.size:
                offset = next((offset for offset in self.resume if offset >= self.end + HEAD.size), 0)
                if not offset:
                    self.is_cut = True
                    return
                self.gaps.append((self.end, offset - self.end))
                self.end = offset
                continue
            record = Record(self.stream, opcode, self.end, length)
            self.end = record.end
            yield record


def library_of(file: Path) -> str:
    """Return the library that a file's header names, empty where there is none."""
    try:
        with file.open("rb") as stream:
            record = next(iter(Walk(stream)))
            if record.opcode != HEADER or record.length > 1 << 16:
                return ""
            return str(parse(record).library)
    except (OSError, EdgemtlError, StopIteration, ValueError, struct.error):
        return ""


def has_end(stream: BinaryIO) -> bool:
    """Whether a file ends with a footer and the magic number."""
    size = stream.seek(0, os.SEEK_END)
    if size < len(MAGIC) + FOOTER_BYTES:
        return False
    stream.seek(size - len(MAGIC) - FOOTER_BYTES)
    tail = stream.read()
    return tail[0] == FOOTER and tail[1 : HEAD.size] == (20).to_bytes(8, "little") and tail.endswith(MAGIC)


def has_whole_end(stream: BinaryIO) -> bool:
    """Whether a file has an end whose summary agrees with its checksum."""
    if not has_end(stream):
        return False
    foot = stream.seek(-len(MAGIC) - FOOTER_BYTES, os.SEEK_END)
    stream.seek(foot + HEAD.size)
    start: int
    expected_crc: int
    start, _, expected_crc = struct.unpack("<QQI", stream.read(20))
    if start == 0 or expected_crc == 0:  # there is no summary, or it has no checksum
        return start <= foot
    if not foot - RECORD_BYTES < start <= foot:
        return False
    stream.seek(start)
    return zlib.crc32(stream.read(foot + FOOTER_BYTES - 4 - start)) == expected_crc


def parse(record: Record) -> Any:
    """Return a record as the library's type; raises many types of errors for damaged ones."""
    return of_bytes(record.opcode, record.content())


def of_bytes(opcode: int, content: bytes) -> Any:
    """Return content as the library's type of record."""
    from mcap import records
    from mcap.data_stream import ReadDataStream

    stream = ReadDataStream(Strict(content))
    if opcode == MESSAGE:
        return records.Message.read(stream, len(content))
    readers: dict[int, Callable[[ReadDataStream], McapRecord]] = {
        HEADER: records.Header.read,
        SCHEMA: records.Schema.read,
        CHANNEL: records.Channel.read,
        CHUNK: records.Chunk.read,
        MESSAGE_INDEX: records.MessageIndex.read,
        METADATA: records.Metadata.read,
    }
    return readers[opcode](stream)


class Strict(BytesIO):
    """Stream that raises at its end: the library does not notice reads that return fewer bytes than it asked for."""

    def read(self, size: int | None = -1) -> bytes:
        """Read ``size`` bytes; raises `EdgemtlError` where there are fewer."""
        data = super().read(size)
        if size is not None and len(data) < size:
            raise EdgemtlError(f"{len(data)} bytes, {size} expected")
        return data


def bytes_of(builder: RecordBuilder) -> bytes:
    """Return the builder's bytes; it is empty then."""
    return bytes(builder.end())


def unpacked(chunk: Chunk) -> bytes:
    """Return a whole chunk's decompressed content; raises many types of errors where its checksum does not agree."""
    from mcap.stream_reader import get_chunk_data_stream

    if chunk.uncompressed_size > RECORD_BYTES:
        raise EdgemtlError(f"a chunk of {chunk.uncompressed_size} bytes")
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    return stream.read(length)


def whole(record: Record) -> tuple[int, int, bytes]:
    """Return a record outside of chunks as `split` returns those inside; content only where `of_bytes` needs it."""
    return record.opcode, 0, record.content() if record.opcode in (SCHEMA, CHANNEL, MESSAGE) else b""


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (opcode, offset, content) of the whole records in a chunk's data."""
    offset = 0
    while offset + HEAD.size <= len(data):
        opcode, length = HEAD.unpack_from(data, offset)
        end = offset + HEAD.size + length
        if opcode == 0 or end > len(data):
            return
        yield opcode, offset, data[offset + HEAD.size : end]
        offset = end
