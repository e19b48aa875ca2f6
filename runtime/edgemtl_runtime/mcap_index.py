"""The index at the end of an MCAP file, made from what the file holds."""

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
"""Kinds of records from here on are programs' own: readers skip them."""
NO_NAMES = bytes(8)
MESSAGE_HEAD = struct.Struct("<HIQQ")
ATTACHMENT_BYTES = 1 << 16
"""An attachment's times and names stand in this many bytes at its begin."""


class Index:
    """Takes records in their order; `summary` gives the bytes of the end that readers look for.

    A record that is not what it was when it was written is left out, and is in ``damaged``; so is a chunk whose
    messages are on channels that nothing describes.
    """

    def __init__(self) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.chunks: list[ChunkIndex] = []
        self.places: list[dict[int, list[tuple[int, int]]]] = []
        """Of each chunk, by channel: when and where each message is; of all but the latest only the channels."""
        self.attachments: list[AttachmentIndex] = []
        self.metadata: list[MetadataIndex] = []
        self.counts: Counter[int] = Counter()
        self.first_ns = self.last_ns = 0
        self.damaged: list[Record] = []
        self.lost_bytes = 0
        self.is_behind_chunk = False

    @property
    def messages(self) -> int:
        """How many there are."""
        return self.counts.total()

    def add(self, record: Record) -> None:
        """Take the next record."""
        try:
            self._add(record)
        except Exception:  # damaged bytes make the libraries raise nearly everything
            self.damaged.append(record)
            self.lost_bytes += record.end - record.start
            self.is_behind_chunk = self.is_behind_chunk and record.kind != CHUNK

    def patches(self) -> Iterator[tuple[int, bytes]]:
        """Yield (place, bytes) that make readers skip what is damaged; a header then names nobody."""
        for record in self.damaged:
            is_header = record.kind == HEADER and record.length >= len(NO_NAMES)
            yield record.start, (HEAD.pack(HEADER, record.length) + NO_NAMES if is_header else bytes([PRIVATE]))

    def _add(self, record: Record) -> None:
        if record.kind == CHUNK:
            chunk = parse(record)
            self.take_chunk(chunk, unpacked(chunk), record.start, record.end - record.start)
        elif record.kind == MESSAGE_INDEX:
            self._add_message_index(record)
        elif record.kind in (SCHEMA, CHANNEL, MESSAGE):
            self._take([(record.kind, 0, record.content())])
        elif record.kind == ATTACHMENT:
            self._add_attachment(record)
        elif record.kind == METADATA:
            from mcap.records import MetadataIndex

            self.metadata.append(MetadataIndex(record.start, record.end - record.start, parse(record).name))
        elif record.kind == HEADER:
            parse(record)
        elif record.kind < PRIVATE:
            raise EdgemtlError(f"a record of kind {record.kind} does not belong here")

    def take_chunk(self, chunk: Chunk, data: bytes, start: int, length: int) -> None:
        """Take a chunk that stands at ``start``, and what is in it; raises many kinds of errors for a damaged one."""
        from mcap.records import ChunkIndex

        places = self._take(split(data))
        self.places[-1:] = [{channel_id: [] for channel_id in each} for each in self.places[-1:]]
        self.places.append(places)
        self.is_behind_chunk = True
        times = [stamp_ns for found in places.values() for stamp_ns, _ in found] or [0]
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

    def _take(self, records: Iterable[tuple[int, int, bytes]]) -> dict[int, list[tuple[int, int]]]:
        """Take schemas, channels and messages, all or none; return when and where each message is, by channel."""
        schemas, channels = dict(self.schemas), dict(self.channels)
        places: dict[int, list[tuple[int, int]]] = {}
        for kind, place, content in records:
            if kind == SCHEMA:
                schema = of_bytes(kind, content)
                schemas[schema.id] = schema
            elif kind == CHANNEL:
                channel = of_bytes(kind, content)
                if channel.schema_id and channel.schema_id not in schemas:
                    raise EdgemtlError(f"channel {channel.id} has no schema")
                channels[channel.id] = channel
            elif kind == MESSAGE:
                channel_id, _, stamp_ns, _ = MESSAGE_HEAD.unpack_from(content)
                if channel_id not in channels:
                    raise EdgemtlError(f"a message is on channel {channel_id}, which nothing describes")
                places.setdefault(channel_id, []).append((stamp_ns, place))
        self.schemas, self.channels = schemas, channels
        times = [stamp_ns for found in places.values() for stamp_ns, _ in found]
        if times:
            self.first_ns = min(*times, self.first_ns) if self.counts else min(times)
            self.last_ns = max(*times, self.last_ns) if self.counts else max(times)
        self.counts.update({channel_id: len(found) for channel_id, found in places.items()})
        return places

    def _add_message_index(self, record: Record) -> None:
        """Take a chunk's index of one channel, where it says what the chunk holds."""
        if not self.is_behind_chunk:
            raise EdgemtlError("an index without its chunk")
        told = parse(record)
        if sorted(told.records) != sorted(self.places[-1].get(told.channel_id, [])):
            raise EdgemtlError("an index of other messages")
        self._put_message_index(told.channel_id, record.start, record.end)

    def _message_index(self, channel_id: int) -> bytes:
        from mcap.data_stream import RecordBuilder
        from mcap.records import MessageIndex

        builder = RecordBuilder()
        MessageIndex(channel_id, self.places[-1][channel_id]).write(builder)
        return bytes_of(builder)

    def _put_message_index(self, channel_id: int, start: int, end: int) -> None:
        self.chunks[-1].message_index_offsets[channel_id] = start
        self.chunks[-1].message_index_length += end - start

    def missing(self, end: int) -> bytes:
        """Return what the latest chunk lacks of its own index, to stand at ``end``, where that is behind the chunk."""
        if not self.chunks:
            return b""
        last = self.chunks[-1]
        if last.chunk_start_offset + last.chunk_length + last.message_index_length != end:
            return b""
        found = b""
        for channel_id in self.places[-1].keys() - last.message_index_offsets.keys():
            addition = self._message_index(channel_id)
            self._put_message_index(channel_id, end + len(found), end + len(found) + len(addition))
            found += addition
        return found

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

    def summary(self, at: int) -> bytes:
        """Return the end of the file, to stand at ``at``: end of data, summary, footer, magic number."""
        from mcap.data_stream import RecordBuilder
        from mcap.opcode import Opcode
        from mcap.records import DataEnd, Footer, Statistics, SummaryOffset

        for chunk, places in zip(self.chunks, self.places, strict=True):
            if places.keys() - chunk.message_index_offsets.keys():  # without any, readers look into the chunk
                chunk.message_index_offsets, chunk.message_index_length = {}, 0
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
