"""Recovery of truncated and damaged MCAP files, in place: the index at the end is written again.

Nothing that was recorded is moved. The whole messages of a truncated chunk go into a new chunk; damaged records in the
middle are marked as private ones, which readers skip.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import EdgemtlError, missing
from .mcap_index import MESSAGE_HEAD, PRIVATE, Index
from .mcap_walk import CHUNK, HEAD, MESSAGE, Walk, bytes_of, has_end, has_whole_end, split

if TYPE_CHECKING:
    from mcap.records import Chunk

    from .sink.partial_file import PartialFile

TAIL_BYTES = 1 << 26
"""The rest of a longer record is not read."""
PIECE = 1 << 12
DATA_BYTES = 1 << 28
"""No more of a truncated chunk is decompressed."""
CHUNK_HEAD = struct.Struct("<QQQII")


@dataclass(frozen=True)
class McapRecovery:
    """Outcome of a recovery: messages, seconds from the first to the last; damaged parts, and bytes that were skipped.

    ``was_whole`` is true where nothing had to be recovered.
    """

    messages: int
    seconds: float
    damaged: int
    lost_bytes: int
    was_whole: bool


def recover_mcap(file: Path, copy: PartialFile | None = None) -> McapRecovery:
    """Recover a file in place, or into ``copy``, and return what it holds then.

    Memory holds one chunk and the index; a whole file is not written. Raises `EdgemtlError` for what is no MCAP
    file, `OSError` from the disk; the file is then as it was.
    """
    try:
        import mcap.records  # noqa: F401
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "mcap", f"{file}: mcap is missing: pip install 'edgemtl-runtime[mcap]'")
        ) from error
    with file.open("rb") as stream:
        try:
            walk, index = Walk(stream, resume=_chunk_offsets(stream)), Index()
            for record in walk:
                index.add(record)
        except EdgemtlError as error:
            raise EdgemtlError(f"{file}: {error}") from error
        was_whole = has_whole_end(stream) and not (walk.is_cut or walk.gaps or index.damaged)
        lost = index.lost_bytes + sum(length for _, length in walk.gaps)
        if not was_whole:
            stream.seek(walk.end)
            before = stream.read(TAIL_BYTES)
            addition, skipped_bytes = _end(walk, index, before)
            lost += skipped_bytes
            if copy is None:
                with file.open("r+b", buffering=0) as raw:
                    _put(raw, walk, index, addition, before)
            else:
                _copy(stream, walk.end, copy)
                _put(copy, walk, index, addition)
        damaged = len(index.damaged) + len(walk.gaps)
        return McapRecovery(index.messages, (index.last_ns - index.first_ns) / 1e9, damaged, lost, was_whole)


def _end(walk: Walk, index: Index, before: bytes) -> tuple[bytes, int]:
    """Return what goes after the last whole record, the truncated chunk's messages and the index; and bytes lost."""
    lost = walk.size - walk.end if walk.is_cut else 0
    addition = index.missing_indexes(walk.end)
    if walk.is_cut and (saved := _saved(before)) is not None:
        chunk, data = saved
        written = _bytes_of(chunk)
        with contextlib.suppress(Exception):  # the rest of a damaged chunk may be anything
            index.add_chunk(chunk, data, walk.end + len(addition), len(written))
            addition += written
            addition += index.missing_indexes(walk.end + len(addition))
            lost = max(lost - len(written), 0)
    return addition + index.summary(walk.end + len(addition)), lost


def _put(
    stream: RawIOBase | PartialFile, walk: Walk, index: Index, addition: bytes, before: bytes | None = None
) -> None:
    """Write a file's end, and mark what is damaged; where the disk fails, ``before`` is written back."""
    try:
        _write(stream, walk.end, addition)
        stream.truncate()
        for offset, patch in index.patches():
            _write(stream, offset, patch)
        for offset, length in walk.gaps:
            _write(stream, offset, HEAD.pack(PRIVATE, length - HEAD.size))
    except OSError:
        if before is not None and walk.size - walk.end <= len(before):
            with contextlib.suppress(OSError):
                _write(stream, walk.end, before)
                stream.truncate()
        raise


def _write(stream: RawIOBase | PartialFile, offset: int, data: bytes) -> None:
    stream.seek(offset)
    view = memoryview(data)
    while view:
        view = view[stream.write(view) or 0 :]


def _copy(source: BinaryIO, count: int, to: PartialFile) -> None:
    source.seek(0)
    while count > 0 and (piece := source.read(min(count, 1 << 20))):
        to.write(piece)
        count -= len(piece)


def _chunk_offsets(stream: BinaryIO) -> list[int]:
    """Return the offsets of chunks by the index at the end; none where there is no index."""
    if not has_end(stream):
        return []
    try:
        from mcap.reader import SeekingReader

        stream.seek(0)
        summary = SeekingReader(stream).get_summary()
    except Exception:  # damaged bytes make the library raise nearly everything
        return []
    return sorted(chunk.chunk_start_offset for chunk in summary.chunk_indexes) if summary else []


def _saved(tail: bytes) -> tuple[Chunk, bytes] | None:
    """Return the whole messages of a truncated chunk, as a new chunk and its data; None where there are none."""
    from mcap.records import Chunk

    if len(tail) < HEAD.size + CHUNK_HEAD.size or tail[0] != CHUNK:
        return None
    *_, name_bytes = CHUNK_HEAD.unpack_from(tail, HEAD.size)
    name_end = HEAD.size + CHUNK_HEAD.size + name_bytes
    compression = tail[HEAD.size + CHUNK_HEAD.size : name_end].decode(errors="replace")
    data = b"".join(_unpacked(compression, tail[name_end + 8 :]))
    whole = max((offset + HEAD.size + len(content) for _, offset, content in split(data)), default=0)
    if not whole:
        return None
    data = data[:whole]
    times = [MESSAGE_HEAD.unpack_from(content)[2] for opcode, _, content in split(data) if opcode == MESSAGE] or [0]
    return Chunk(compression, _packed(compression, data), max(times), min(times), zlib.crc32(data), len(data)), data


def _unpacked(compression: str, data: bytes) -> Iterator[bytes]:
    """Yield what can be decompressed of truncated data."""
    if not compression:
        yield data
        return
    unpacker: Any
    try:
        if compression == "zstd":
            import zstandard

            unpacker = zstandard.ZstdDecompressor().decompressobj()
        elif compression == "lz4":
            import lz4.frame

            unpacker = lz4.frame.LZ4FrameDecompressor()
        else:
            return
        count = 0
        for start in range(0, len(data), PIECE):
            piece = unpacker.decompress(data[start : start + PIECE])
            if (count := count + len(piece)) > DATA_BYTES:
                return
            yield piece
    except Exception:  # damaged, or zeros where a disk has not written: what came before is good
        return


def _packed(compression: str, data: bytes) -> bytes:
    if compression == "zstd":
        import zstandard

        return zstandard.compress(data)
    if compression == "lz4":
        import lz4.frame

        return bytes(lz4.frame.compress(data))
    return data


def _bytes_of(chunk: Chunk) -> bytes:
    from mcap.data_stream import RecordBuilder

    builder = RecordBuilder()
    chunk.write(builder)
    return bytes_of(builder)
