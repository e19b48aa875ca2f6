"""Crash recovery of recordings: complete messages, fragments, images or lines are copied into a new file."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from .errors import EdgemtlError, missing

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from .sink.partial_file import PartialFile

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".avi")
FORMATS = {".mkv": "matroska", ".avi": "avi"}
LINE_BYTES = 1 << 26
"""Longest line of a JSON Lines file."""


@dataclass(frozen=True)
class Recovered:
    """Report of a recovery: how many of ``kind``, the seconds they span, damaged parts, and bytes that were skipped.

    ``was_whole`` is true where nothing had to be recovered.
    """

    kind: str
    count: int
    seconds: float
    damaged: int
    lost_bytes: int
    was_whole: bool

    def __str__(self) -> str:
        """Return the report in one line."""
        if self.was_whole:
            return f"is whole: {self.count} {self.kind} over {self.seconds:.1f} s"
        damaged = f", {self.damaged} damaged parts" if self.damaged else ""
        return f"{self.count} {self.kind} over {self.seconds:.1f} s; {self.lost_bytes} bytes{damaged} are skipped"


def recovery_for(file: Path) -> Callable[[Path, PartialFile], Recovered]:
    """Return the function that recovers a file, by its content; raises `EdgemtlError` for other files."""
    from .mcap_walk import MAGIC

    try:
        with file.open("rb") as stream:
            head = stream.read(len(MAGIC))
    except OSError as error:
        raise EdgemtlError(f"{file}: cannot be read ({error.strerror})") from error
    if head == MAGIC:
        return recover_mcap
    if file.name.lower().removesuffix(".part").endswith(VIDEOS):
        return recover_video
    if head[:1] == b"{":
        return recover_lines
    raise EdgemtlError(f"{file}: is neither an MCAP file, nor a video ({', '.join(VIDEOS)}), nor JSON lines")


def recover_mcap(file: Path, output: PartialFile) -> Recovered:
    """Copy the complete chunks, and the complete messages of a truncated one; write the summary section."""
    from . import mcap_recovery

    report = mcap_recovery.recover_mcap(file, output)
    return Recovered("messages", report.messages, report.seconds, report.damaged, report.lost_bytes, report.was_whole)


def recover_lines(file: Path, output: PartialFile) -> Recovered:
    """Copy the lines that are JSON objects."""
    lines = lost_bytes = damaged = 0
    stamps: list[int] = []
    with file.open("rb") as stream:
        while line := stream.readline(LINE_BYTES):
            try:
                record = msgspec.json.decode(line) if line.endswith(b"\n") else None
            except msgspec.DecodeError:
                record = None
            if not isinstance(record, dict):
                lost_bytes, damaged = lost_bytes + len(line), damaged + line.endswith(b"\n")
                continue
            output.write(line)
            lines += 1
            if isinstance(stamp_ns := record.get("stamp_ns"), int):
                stamps = [min([stamp_ns, *stamps]), max([stamp_ns, *stamps])]
    seconds = (stamps[-1] - stamps[0]) / 1e9 if stamps else 0.0
    return Recovered("lines", lines, seconds, damaged, lost_bytes, not lost_bytes)


def recover_video(file: Path, output: PartialFile) -> Recovered:
    """Copy the complete fragments of an MP4 file; remux the packets of another video, so that it has an index."""
    try:
        import av
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "av", f"{file}: PyAV is missing: pip install 'edgemtl-runtime[streams]'")
        ) from error
    from .sink.mp4_boxes import complete_fragments

    size = file.stat().st_size
    end, fragments = complete_fragments(file)
    try:
        if fragments:
            with file.open("rb") as stream:
                shutil.copyfileobj(Prefix(stream, end), output)
            with av.open(str(output.path)) as source:
                images, seconds = _each_packet(source, lambda packet: None)
            return Recovered("images", images, seconds, 0, size - end, end == size)
        format_ = FORMATS.get(Path(file.name.removesuffix(".part")).suffix.lower(), "mp4")
        with av.open(str(file)) as source, av.open(output, "w", format=format_) as target:
            target.metadata.update({k: v for k, v in source.metadata.items() if k.lower() == "comment"})
            copy = target.add_stream_from_template(source.streams.video[0])

            def remux(packet: Packet[VideoStream]) -> None:
                packet.stream = copy
                target.mux(packet)

            images, seconds = _each_packet(source, remux)
    except (av.FFmpegError, IndexError) as error:
        if output.error is not None:
            raise output.error from error
        from .camera.libav import reason

        raise EdgemtlError(
            f"{file}: has no images that can be read ({reason(error)}); an mp4 that was not written in "
            "fragments is lost without its end"
        ) from error
    return Recovered("images", images, seconds, 0, 0, False)


def _each_packet(source: InputContainer, use: Callable[[Packet[VideoStream]], None]) -> tuple[int, float]:
    """Call ``use`` with the complete packets of a video up to its truncated end; return their count, and seconds."""
    import av

    images, seconds = 0, 0.0
    with contextlib.suppress(av.FFmpegError):
        for packet in source.demux(video=0):
            if packet.dts is None or packet.is_corrupt or not packet.size:
                continue
            seconds = float((packet.pts or 0) * packet.time_base)
            use(packet)
            images += 1
    return images, seconds


class Prefix:
    """Readable stream of a file's first bytes."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.left_bytes = stream, size

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or all that are left."""
        data = self.stream.read(self.left_bytes if size < 0 else min(size, self.left_bytes))
        self.left_bytes -= len(data)
        return data
