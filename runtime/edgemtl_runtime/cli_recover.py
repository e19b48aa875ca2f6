"""``edgemtl-runtime recover``: recordings that a kill, a full disk or a broken copy has cut off."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import EdgemtlError, missing
from .sink.partial_file import PartialFile, rename_no_replace

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".avi")
FORMATS = {".mkv": "matroska", ".avi": "avi"}
LINE_BYTES = 1 << 26
"""A longer line is none."""


@dataclass(frozen=True)
class Recovered:
    """What was found: how many of what, the seconds they span, damaged places, bytes that were left out.

    ``was_whole`` says that there was nothing to do.
    """

    kind: str
    count: int
    seconds: float
    damaged: int
    lost_bytes: int
    was_whole: bool

    def __str__(self) -> str:
        """Return it in one line."""
        if self.was_whole:
            return f"is whole: {self.count} {self.kind} over {self.seconds:.1f} s"
        damaged = f", {self.damaged} damaged places" if self.damaged else ""
        return f"{self.count} {self.kind} over {self.seconds:.1f} s; {self.lost_bytes} bytes{damaged} are left out"


def add_recover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    recover = commands.add_parser(
        "recover",
        help="write a recording that was cut off anew, whole",
        description="Write what is whole in an MCAP file, a video or JSON lines into a new file. The source stays.",
    )
    recover.add_argument("file", metavar="FILE", type=Path, help="the recording, or the hidden .part of one")
    recover.add_argument("--out", metavar="FILE", type=Path, help="what to write (default: NAME-recovered.EXT)")
    recover.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    recover.set_defaults(command=command_recover)


def command_recover(args: argparse.Namespace) -> int:
    """Recover a file, and print what is in it."""
    file: Path = args.file
    recover = way_of(file)
    out = args.out or free_name(file)
    if args.out is not None and args.out.exists():
        raise EdgemtlError(f"{out}: is there already; name another with --out")
    aside = out.with_name(f".{out.stem}.recovering{out.suffix}")
    try:
        part = PartialFile(aside)
    except FileExistsError as error:
        raise EdgemtlError(f"{aside}: is there already, of a recovery that was ended; remove it") from error
    except OSError as error:
        raise EdgemtlError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        told = recover(file, part)
        if not told.count:
            raise EdgemtlError(f"{file}: holds nothing that is whole")
        if told.was_whole:
            out = file
        else:
            part.sync()
            if not rename_no_replace(aside, out):
                raise EdgemtlError(f"{out}: is there already; name another with --out")
    except OSError as error:
        raise EdgemtlError(f"{file}: cannot be recovered to {out} ({error.strerror or error})") from error
    finally:
        part.discard()  # nothing, once it has its name
    print(json.dumps(asdict(told) | {"file": str(out)}) if args.json else f"{out}: {told}")
    return 0


def free_name(file: Path) -> Path:
    """Return NAME-recovered.EXT, with a number where that is taken; of a hidden part without what marks it as one."""
    name = file.name.removesuffix(".part")
    plain = Path(name.removeprefix(".") if ".part" in file.name else name)
    stem = plain.stem.removesuffix(".part")
    names = (f"{stem}-recovered{'' if n == 1 else f'-{n}'}{plain.suffix}" for n in count(1))
    return next(place for name in names if not (place := file.with_name(name)).exists())


def way_of(file: Path) -> Callable[[Path, PartialFile], Recovered]:
    """Return what recovers a file, by its content; raises `EdgemtlError` for what is no recording."""
    from .mcap_walk import MAGIC

    try:
        with file.open("rb") as stream:
            begin = stream.read(len(MAGIC))
    except OSError as error:
        raise EdgemtlError(f"{file}: cannot be read ({error.strerror})") from error
    if begin == MAGIC:
        return of_mcap
    if file.name.lower().removesuffix(".part").endswith(VIDEOS):
        return of_video
    if begin[:1] == b"{":
        return of_lines
    raise EdgemtlError(f"{file}: is neither an MCAP file, nor a video ({', '.join(VIDEOS)}), nor JSON lines")


def of_mcap(file: Path, to: PartialFile) -> Recovered:
    """Write an MCAP file whole: index, statistics, every message of whole chunks, and whole ones of the cut chunk."""
    from .mcap_recovery import recover_mcap

    told = recover_mcap(file, to)
    return Recovered("messages", told.messages, told.seconds, told.damaged, told.lost_bytes, told.was_whole)


def of_lines(file: Path, to: PartialFile) -> Recovered:
    """Copy the lines that are JSON."""
    import msgspec

    lines = lost = damaged = 0
    stamps: list[int] = []
    with file.open("rb") as stream:
        while line := stream.readline(LINE_BYTES):
            try:
                told = msgspec.json.decode(line) if line.endswith(b"\n") else None
            except msgspec.DecodeError:
                told = None
            if not isinstance(told, dict):
                lost, damaged = lost + len(line), damaged + line.endswith(b"\n")
                continue
            to.write(line)
            lines += 1
            if isinstance(stamp_ns := told.get("stamp_ns"), int):
                stamps = [min([stamp_ns, *stamps]), max([stamp_ns, *stamps])]
    seconds = (stamps[-1] - stamps[0]) / 1e9 if stamps else 0.0
    return Recovered("lines", lines, seconds, damaged, lost, not lost)


def of_video(file: Path, to: PartialFile) -> Recovered:
    """Copy the whole fragments of an mp4; put the pictures of another video, as they are, into a file with an index."""
    try:
        import av
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "av", f"{file}: PyAV is missing: pip install 'edgemtl-runtime[streams]'")
        ) from error
    from .sink.mp4_boxes import whole

    size = file.stat().st_size
    end, fragments = whole(file)
    try:
        if fragments:
            with file.open("rb") as stream:
                shutil.copyfileobj(Limited(stream, end), to)
            with av.open(str(to.path)) as source:
                pictures, seconds = _count(source, lambda packet: None)
            return Recovered("pictures", pictures, seconds, 0, size - end, end == size)
        kind = FORMATS.get(Path(file.name.removesuffix(".part")).suffix.lower(), "mp4")
        with av.open(str(file)) as source, av.open(to, "w", format=kind) as target:
            target.metadata.update({k: v for k, v in source.metadata.items() if k.lower() == "comment"})
            copy = target.add_stream_from_template(source.streams.video[0])

            def put(packet: Packet[Any]) -> None:
                packet.stream = copy
                target.mux(packet)

            pictures, seconds = _count(source, put)
    except (av.FFmpegError, IndexError) as error:
        if to.failed is not None:
            raise to.failed from error
        raise EdgemtlError(
            f"{file}: has no pictures that can be read ({error}); an mp4 that was not written in fragments is lost "
            "without its end"
        ) from error
    return Recovered("pictures", pictures, seconds, 0, 0, False)


def _count(source: InputContainer, use: Callable[[Packet[Any]], None]) -> tuple[int, float]:
    """Hand on the whole pictures of a video up to where it is cut; return how many, and the seconds they span."""
    import av

    pictures, seconds = 0, 0.0
    with contextlib.suppress(av.FFmpegError):
        for packet in source.demux(video=0):
            if packet.dts is None or packet.is_corrupt or not packet.size:
                continue
            seconds = float((packet.pts or 0) * packet.time_base)
            use(packet)
            pictures += 1
    return pictures, seconds


class Limited:
    """The begin of a file, to be read."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or all that are left."""
        found = self.stream.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(found)
        return found
