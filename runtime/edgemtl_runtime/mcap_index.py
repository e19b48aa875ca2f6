"""Summary section of an MCAP file, rebuilt from its records."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING

from .errors import EdgemtlError
from .mcap_walk import (
    ATTACHMENT,
    CHANNEL,
    CHUNK,
    FOOTER,
    HEAD,
    HEADER,
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

PRIVATE = 0x80
"""Opcodes from this one on are private: readers skip their records."""
NO_NAMES = bytes(8)
MESSAGE_HEAD = struct.Struct("<HIQQ")
ATTACHMENT_BYTES = 1 << 16
"""An attachment's times and names are in its first so many bytes."""


class Index:
    """Index of records that are added in their order; `summary` returns the bytes of the file's end.

    A damaged record is skipped, and is in ``damaged``; so is a chunk with messages on undeclared channels.
    """

    def __init__(self) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.chunks: list[ChunkIndex] = []
        self.message_offsets: list[dict[int, list[tuple[int, int]]]] = []
        """Of each chunk, by channel: (time, offset) of each message; of all but the latest chunk only the channels."""
        self.attachments: list[AttachmentIndex] = []
        self.metadata: list[MetadataIndex] = []
        self.counts: Counter[int] = Counter()
        self.first_ns = self.last_ns = 0
        self.damaged: list[Record] = []
        self.lost_bytes = 0
        self.is_after_chunk = False

    @property
    def messages(self) -> int:
        """Number of messages."""
        return self.counts.total()

    def add(self, record: Record) -> None:
        """Add the next record."""
        try:
            self._add(record)
        except Exception:  # damaged bytes make the libraries raise nearly everything
            self.damaged.append(record)
            self.lost_bytes += record.end - record.start
            self.is_after_chunk = self.is_after_chunk and record.opcode != CHUNK

    def patches(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) that make readers skip damaged records; a damaged header loses its names."""
        for record in self.damaged:
            is_header = record.opcode == HEADER and record.length >= len(NO_NAMES)
            yield record.start, (HEAD.pack(HEADER, record.length) + NO_NAMES if is_header else bytes([PRIVATE]))

    def _add(self, record: Record) -> None:
        if record.opcode == CHUNK:
            chunk = parse(record)
            self.add_chunk(chunk, unpacked(chunk), record.start, record.end - record.start)
        elif record.opcode == MESSAGE_INDEX:
            self._add_message_index(record)
        elif record.opcode in (SCHEMA, CHANNEL, MESSAGE):
            self._add_parts([(record.opcode, 0, record.content())])
        elif record.opcode == ATTACHMENT:
            self._add_attachment(record)
        elif record.opcode == METADATA:
            from mcap.records import MetadataIndex

            self.metadata.append(MetadataIndex(record.start, record.end - record.start, parse(record).name))
        elif record.opcode == HEADER:
            parse(record)
        elif record.opcode < PRIVATE:
            raise EdgemtlError(f"a record of opcode {record.opcode} does not belong there")

    def add_chunk(self, chunk: Chunk, data: bytes, start: int, length: int) -> None:
        """Add a chunk at the offset ``start``, and its records; raises many types of errors for a damaged one."""
        from mcap.records import ChunkIndex

        offsets = self._add_parts(split(data))
        self.message_offsets[-1:] = [{channel_id: [] for channel_id in latest} for latest in self.message_offsets[-1:]]
        self.message_offsets.append(offsets)
        self.is_after_chunk = True
        times = [stamp_ns for messages in offsets.values() for stamp_ns, _ in messages] or [0]
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

    def _add_parts(self, records: Iterable[tuple[int, int, bytes]]) -> dict[int, list[tuple[int, int]]]:
        """Add schemas, channels and messages, all or none; return (time, offset) of each message by channel."""
        schemas, channels = dict(self.schemas), dict(self.channels)
        offsets: dict[int, list[tuple[int, int]]] = {}
        for opcode, offset, content in records:
            if opcode == SCHEMA:
                schema = of_bytes(opcode, content)
                schemas[schema.id] = schema
            elif opcode == CHANNEL:
                channel = of_bytes(opcode, content)
                if channel.schema_id and channel.schema_id not in schemas:
                    raise EdgemtlError(f"channel {channel.id} has no schema")
                channels[channel.id] = channel
            elif opcode == MESSAGE:
                channel_id, _, stamp_ns, _ = MESSAGE_HEAD.unpack_from(content)
                if channel_id not in channels:
                    raise EdgemtlError(f"a message is on channel {channel_id}, which nothing describes")
                offsets.setdefault(channel_id, []).append((stamp_ns, offset))
        self.schemas, self.channels = schemas, channels
        times = [stamp_ns for messages in offsets.values() for stamp_ns, _ in messages]
        if times:
            self.first_ns = min(*times, self.first_ns) if self.counts else min(times)
            self.last_ns = max(*times, self.last_ns) if self.counts else max(times)
        self.counts.update({channel_id: len(messages) for channel_id, messages in offsets.items()})
        return offsets

    def _add_message_index(self, record: Record) -> None:
        """Add a chunk's index of one channel, where it agrees with the chunk."""
        if not self.is_after_chunk:
            raise EdgemtlError("an index without its chunk")
        index = parse(record)
        if sorted(index.records) != sorted(self.message_offsets[-1].get(index.channel_id, [])):
            raise EdgemtlError("an index of other messages")
        self._note_message_index(index.channel_id, record.start, record.end)

    def _message_index(self, channel_id: int) -> bytes:
        from mcap.data_stream import RecordBuilder
        from mcap.records import MessageIndex

        builder = RecordBuilder()
        MessageIndex(channel_id, self.message_offsets[-1][channel_id]).write(builder)
        return bytes_of(builder)

    def _note_message_index(self, channel_id: int, start: int, end: int) -> None:
        self.chunks[-1].message_index_offsets[channel_id] = start
        self.chunks[-1].message_index_length += end - start

    def missing_indexes(self, end: int) -> bytes:
        """Return the latest chunk's missing message indexes, to be written at ``end``, where that is right after it."""
        if not self.chunks:
            return b""
        last = self.chunks[-1]
        if last.chunk_start_offset + last.chunk_length + last.message_index_length != end:
            return b""
        additions = b""
        for channel_id in self.message_offsets[-1].keys() - last.message_index_offsets.keys():
            addition = self._message_index(channel_id)
            self._note_message_index(channel_id, end + len(additions), end + len(additions) + len(addition))
            additions += addition
        return additions

    def _add_attachment(self, record: Record) -> None:
        from mcap.data_stream import ReadDataStream
        from mcap.records import AttachmentIndex

        record.stream.seek(record.start + HEAD.size)
        head = ReadDataStream(BytesIO(record.stream.read(min(record.length, ATTACHMENT_BYTES))))
        log_time, create_time = head.read8(), head.read8()
        name, media_type, size = head.read_prefixed_string(), head.read_prefixed_string(), head.read8()
        length = record.end - record.start
        if 36 + len(name.encode()) + len(media_type.encode()) + size != record.length:
            raise EdgemtlError("an attachment of another length")
        self.attachments.append(AttachmentIndex(record.start, length, log_time, create_time, size, name, media_type))

    def summary(self, offset: int) -> bytes:
        """Return the end of the file, to be written at ``offset``: end of data, summary, footer, magic number."""
        from mcap.data_stream import RecordBuilder
        from mcap.opcode import Opcode
        from mcap.records import DataEnd, Footer, Statistics, SummaryOffset

        for chunk, channels in zip(self.chunks, self.message_offsets, strict=True):
            if channels.keys() - chunk.message_index_offsets.keys():  # without any, readers look into the chunk
                chunk.message_index_offsets, chunk.message_index_length = {}, 0
        begin, body = RecordBuilder(), RecordBuilder()
        DataEnd(0).write(begin)
        start = offset + begin.count
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
        for opcode, records in groups:
            group_start = body.count
            for record in records:
                record.write(body)
            if records:
                offsets.append(SummaryOffset(opcode, start + group_start, body.count - group_start))
        offsets_start = start + body.count
        for group in offsets:
            group.write(body)
        summary = bytes_of(body)
        foot = struct.pack("<BQQQ", FOOTER, 20, start, offsets_start)
        end = RecordBuilder()
        Footer(start, offsets_start, zlib.crc32(foot, zlib.crc32(summary))).write(end)
        return bytes_of(begin) + summary + bytes_of(end) + MAGIC
