"""The index at the end of an MCAP file, made from what the file holds."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING

from .mcap_walk import (
    ATTACHMENT,
    CHANNEL,
    CHUNK,
    FOOTER,
    HEAD,
    MAGIC,
    MESSAGE,
    MESSAGE_INDEX,
    METADATA,
    SCHEMA,
    Record,
    bytes_of,
    of_bytes,
    parse,
    split,
    unpacked,
)

if TYPE_CHECKING:
    from mcap.records import AttachmentIndex, Channel, Chunk, ChunkIndex, MetadataIndex, Schema

MESSAGE_HEAD = struct.Struct("<HIQQ")
ATTACHMENT_BYTES = 1 << 16
"""An attachment's times and names stand in this many bytes at its begin."""


class Index:
    """Takes records in their order; `summary` gives the bytes of the end that readers look for.

    ``damaged`` are places of chunks that are not what they were when they were written.
    """

    def __init__(self) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.chunks: list[ChunkIndex] = []
        self.attachments: list[AttachmentIndex] = []
        self.metadata: list[MetadataIndex] = []
        self.counts: Counter[int] = Counter()
        self.first_ns = self.last_ns = 0
        self.damaged: list[int] = []
        self.lost_bytes = 0
        self.places: dict[int, list[tuple[int, int]]] | None = None
        """Of the latest chunk, by channel: when and where each message is. None behind a damaged one."""

    @property
    def messages(self) -> int:
        """How many there are."""
        return self.counts.total()

    def add(self, record: Record) -> None:
        """Take the next record."""
        if record.kind == CHUNK:
            self._add_chunk(record)
        elif record.kind == MESSAGE_INDEX:
            self._add_message_index(record)
        elif record.kind in (SCHEMA, CHANNEL, MESSAGE):
            self._note(record.kind, 0, record.content())
        elif record.kind == ATTACHMENT:
            self._add_attachment(record)
        elif record.kind == METADATA:
            from mcap.records import MetadataIndex

            name = parse(record).name
            self.metadata.append(MetadataIndex(record.start, record.end - record.start, name))

    def _add_chunk(self, record: Record) -> None:
        try:
            chunk = parse(record)
            data = unpacked(chunk)
        except Exception:  # damaged bytes make the libraries raise nearly everything
            self.damaged.append(record.start)
            self.lost_bytes += record.end - record.start
            self.places = None
            return
        self.take_chunk(chunk, data, record.start, record.end - record.start)

    def take_chunk(self, chunk: Chunk, data: bytes, start: int, length: int) -> None:
        """Take a chunk that stands at ``start``, and what is in it."""
        from mcap.records import ChunkIndex

        self.places = {}
        for kind, place, content in split(data):
            self._note(kind, place, content)
        times = [stamp_ns for places in self.places.values() for stamp_ns, _ in places] or [0]
        self.chunks.append(
            ChunkIndex(
                chunk_start_offset=start,
                chunk_length=length,
                compression=chunk.compression,
                compressed_size=len(chunk.data),
                uncompressed_size=len(data),
                message_start_time=min(times),
                message_end_time=max(times),
                message_index_offsets={},
                message_index_length=0,
            )
        )

    def _note(self, kind: int, place: int, content: bytes) -> None:
        if kind == SCHEMA:
            schema = of_bytes(kind, content)
            self.schemas[schema.id] = schema
        elif kind == CHANNEL:
            channel = of_bytes(kind, content)
            self.channels[channel.id] = channel
        elif kind == MESSAGE:
            channel_id, _, stamp_ns, _ = MESSAGE_HEAD.unpack_from(content)
            self.first_ns = min(self.first_ns, stamp_ns) if self.counts else stamp_ns
            self.last_ns = max(self.last_ns, stamp_ns)
            self.counts[channel_id] += 1
            if self.places is not None:
                self.places.setdefault(channel_id, []).append((stamp_ns, place))

    def _add_message_index(self, record: Record) -> None:
        if self.places is None:  # of a damaged chunk
            self.damaged.append(record.start)
            return
        self._put_message_index(int.from_bytes(record.content()[:2], "little"), record.start, record.end)

    def _put_message_index(self, channel_id: int, start: int, end: int) -> None:
        if self.chunks:
            self.chunks[-1].message_index_offsets[channel_id] = start
            self.chunks[-1].message_index_length += end - start

    def missing(self, end: int) -> bytes:
        """Return what the latest chunk lacks of its own index, to stand at ``end``, behind the chunk."""
        from mcap.data_stream import RecordBuilder
        from mcap.records import MessageIndex

        builder = RecordBuilder()
        if not self.chunks or self.places is None:
            return b""
        last = self.chunks[-1]
        if last.chunk_start_offset + last.chunk_length + last.message_index_length != end:
            return b""
        for channel_id, places in self.places.items():
            if channel_id not in last.message_index_offsets:
                start = builder.count
                MessageIndex(channel_id, places).write(builder)
                self._put_message_index(channel_id, end + start, end + builder.count)
        return bytes_of(builder)

    def _add_attachment(self, record: Record) -> None:
        from mcap.data_stream import ReadDataStream
        from mcap.records import AttachmentIndex

        record.stream.seek(record.start + HEAD.size)
        head = ReadDataStream(BytesIO(record.stream.read(min(record.length, ATTACHMENT_BYTES))))
        log_time, create_time = head.read8(), head.read8()
        name, media_type, size = head.read_prefixed_string(), head.read_prefixed_string(), head.read8()
        length = record.end - record.start
        self.attachments.append(AttachmentIndex(record.start, length, log_time, create_time, size, name, media_type))

    def summary(self, at: int) -> bytes:
        """Return the end of the file, to stand at ``at``: end of data, summary, footer, magic number."""
        from mcap.data_stream import RecordBuilder
        from mcap.opcode import Opcode
        from mcap.records import DataEnd, Footer, Statistics, SummaryOffset

        begin, body = RecordBuilder(), RecordBuilder()
        DataEnd(0).write(begin)
        start = at + begin.count
        statistics = Statistics(
            attachment_count=len(self.attachments),
            channel_count=len(self.channels),
            channel_message_counts=dict(self.counts),
            chunk_count=len(self.chunks),
            message_count=self.messages,
            metadata_count=len(self.metadata),
            message_start_time=self.first_ns,
            message_end_time=self.last_ns,
            schema_count=len(self.schemas),
        )
        groups = (
            (Opcode.SCHEMA, list(self.schemas.values())),
            (Opcode.CHANNEL, list(self.channels.values())),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, self.chunks),
            (Opcode.ATTACHMENT_INDEX, self.attachments),
            (Opcode.METADATA_INDEX, self.metadata),
        )
        offsets = []
        for kind, records in groups:
            group_start = body.count
            for record in records:
                record.write(body)
            if records:
                offsets.append(SummaryOffset(kind, start + group_start, body.count - group_start))
        offsets_start = start + body.count
        for offset in offsets:
            offset.write(body)
        summary = bytes_of(body)
        foot = struct.pack("<BQQQ", FOOTER, 20, start, offsets_start)
        end = RecordBuilder()
        Footer(start, offsets_start, zlib.crc32(foot, zlib.crc32(summary))).write(end)
        return bytes_of(begin) + summary + bytes_of(end) + MAGIC
