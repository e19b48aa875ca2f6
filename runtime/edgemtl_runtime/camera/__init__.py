"""Cameras by URI: a device, a stream, a file, a folder of pictures, a recording, or a test pattern.

v4l2:///dev/video0      a camera device, stamped by its driver; ?width= ?height= ?fps= ?format=MJPG|YUYV|GREY|Y16
0                       the same by number
csi://0                 a ribbon camera of a Jetson or Raspberry Pi, by GStreamer; ?width= ?height= ?fps=
gst:PIPELINE            what a GStreamer pipeline gives; ?format=RGB|GRAY8|GRAY16_LE
rtsp://host/stream      a stream, also http:// (MJPEG); ?transport=udp; its own query stays as it is
drive.mp4               a video file; ?fps=20 paces it, ?fps=0 is as fast as it is used
frames/night            a folder of pictures, in the order of their names; ?fps=20 paces it; ?stamps=name: those are
                        nanoseconds of capture, ?stamps=exif: the pictures tell it
mcap:drive.mcap#/ir     an image topic of an MCAP file, bag:FOLDER#/ir of a ROS 2 bag; ?speed=1 plays it live
pattern:                plain moving shapes; ?fps=20&frames=100&width=320&height=240

Of every source: ?rotate=90|180|270 turns the pictures clockwise, ?offset_ms=-120 is added to the stamps, ?repeats=keep
takes a live camera's repeated pictures for new ones. ${NAME} is the environment's NAME, ${file:NAME} what a file
holds: passwords belong there, where no list of processes shows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl

from ..errors import CameraError, UsageError, nearest_hint
from ..frame import Frame
from .clock import Epoch
from .secrets import discreet, fill, secrets_in, without
from .secrets import redact as redact

NOMINAL_FPS = 30.0
"""Rate that the stamps of a folder's pictures run at when none is given."""
PLAUSIBLE_NS = 5_000_000_000
"""A driver's stamp that is older than this, or of the future, is of another clock."""
COMMON = ("rotate", "offset_ms", "repeats")
"""Options of every source."""
OF_STREAMS = (*COMMON, "transport")
"""What is ours in a stream's URL; the rest of its query is its own."""
Options = Mapping[str, str]


class Camera(Protocol):
    """A source of frames. ``live`` sources do not wait: what is not taken in time is lost and counted."""

    name: str
    live: bool

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the source ends; raises `CameraError` when it fails."""
        ...

    def close(self) -> None:
        """Release the source; may be called twice, and from another thread."""
        ...


def open_cameras(uris: Mapping[str, str], *, wait: bool = False) -> dict[str, Camera]:
    """Open the cameras of a pair by their URIs; recordings begin together.

    A device or stream that fails later is opened again until it is back. With ``wait`` that holds from the start on,
    so that a camera may come later than the program.
    """
    epoch = Epoch()
    cameras: dict[str, Camera] = {}
    try:
        for name, uri in uris.items():
            cameras[name] = open_camera(uri, name, epoch, wait=wait)
    except CameraError:
        for camera in cameras.values():
            camera.close()
        raise
    return cameras


def open_camera(uri: str, name: str, epoch: Epoch | None = None, *, wait: bool = False) -> Camera:
    """Open a source by its URI; ``epoch`` is the common begin of recorded sources."""
    from .adjust import Adjusted
    from .reopen import Reopened

    uri, filled = fill(uri, name)
    secrets = sorted({*filled, *secrets_in(uri)}, key=len, reverse=True)
    place, options = split_options(uri)
    common = {key: options.pop(key) for key in COMMON if key in options}
    try:
        kind, opener = _opener(place, name, epoch or Epoch(), options)
    except CameraError as error:
        raise without(error, secrets) from None
    opener = discreet(opener, secrets)
    camera: Camera = Reopened(name, opener, wait) if kind == "device" else opener()
    try:
        return Adjusted.of(camera, common, redact(uri))
    except CameraError as error:
        raise without(error, secrets) from None


def _opener(place: str, name: str, epoch: Epoch, options: Options) -> tuple[str, Callable[[], Camera]]:
    """Return what opens a place, and whether that is a device, to be opened again when it fails, or a recording."""
    scheme = place.partition(":")[0]
    if place == "pattern:":
        from .pattern import PatternCamera

        return "recording", lambda: PatternCamera(name, epoch, options)
    if scheme in ("mcap", "bag"):
        from .recorded import RecordedCamera

        return "recording", lambda: RecordedCamera(name, place, epoch, options)
    if scheme in ("gst", "csi"):
        from .gstreamer import GStreamerCamera

        return "device", lambda: GStreamerCamera(name, place, options)
    if scheme == "v4l2" or (place.isascii() and place.isdigit() and len(place) < 4):
        return "device", _device(place.removeprefix("v4l2://"), name, options)
    if "://" in place and scheme != "file":
        return "device", _stream(place, name, options)
    path = Path(place.removeprefix("file://").removeprefix("file:"))
    if path.is_dir():
        from .folder import FolderCamera

        return "recording", lambda: FolderCamera(name, path, epoch, options)
    if path.is_file():
        return "recording", _video(path, name, epoch, options)
    raise CameraError(f"--{name} {redact(place)}: no such folder or file, nor a camera number, URL or 'pattern:'")


def _device(place: str, name: str, options: Options) -> Callable[[], Camera]:
    from importlib.util import find_spec

    if find_spec("linuxpy") is None:
        from .opencv import DeviceCamera

        return lambda: DeviceCamera(name, place, options)
    from .v4l2 import V4l2Camera

    return lambda: V4l2Camera(name, f"/dev/video{place}" if place.isdigit() else place, options)


def _stream(place: str, name: str, options: Options) -> Callable[[], Camera]:
    from importlib.util import find_spec

    if find_spec("av") is None:
        from .opencv import StreamCamera

        return lambda: StreamCamera(name, place, options)
    from .stream import AvStreamCamera

    return lambda: AvStreamCamera(name, place, options)


def _video(path: Path, name: str, epoch: Epoch, options: Options) -> Callable[[], Camera]:
    from importlib.util import find_spec

    if find_spec("av") is None:
        from .opencv import VideoCamera

        return lambda: VideoCamera(name, path, epoch, options)
    from .video import AvVideoCamera

    return lambda: AvVideoCamera(name, path, epoch, options)


def split_options(uri: str) -> tuple[str, dict[str, str]]:
    """Split ``place?key=value`` into the place and its options; of a stream's URL only ours are taken."""
    before = _secret_end(uri)
    place, mark, query = uri[before:].partition("?")
    place = uri[:before] + place
    if not mark:
        return uri, {}
    if uri.startswith("gst:"):
        return _split_pipeline(uri)
    pairs = parse_qsl(query, keep_blank_values=True)
    if "://" not in place or place.startswith(("v4l2:", "csi:", "file:")):
        return place, dict(pairs)
    ours = {key: value for key, value in pairs if key in OF_STREAMS}
    own = "&".join(part for part in query.split("&") if part.partition("=")[0] not in OF_STREAMS)
    return f"{place}?{own}" if own else place, ours


def _secret_end(uri: str) -> int:
    """Return where a URL's host begins: behind a password that may hold a "?"."""
    scheme, mark, rest = uri.partition("://")
    if not mark or uri.startswith("gst:"):
        return 0
    user, at, _ = rest.rpartition("@")
    authority = re.split(r"[/?#]", rest)[0]
    host = "@" not in authority and re.fullmatch(r"[^:]*(:[0-9]+)?|\[.*\](:[0-9]+)?", authority)
    return 0 if not at or host else len(scheme) + len(mark) + len(user) + len(at)


def _split_pipeline(uri: str) -> tuple[str, dict[str, str]]:
    """Split a pipeline's options off its end: its own addresses may hold a "?" as well."""
    place, _, query = uri.rpartition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    return (place, pairs) if pairs and not pairs.keys() - {*COMMON, "format"} else (uri, {})


def take(options: Options, uri: str, **defaults: float) -> list[float]:
    """Return options that are numbers in the order of ``defaults``; an unknown one names the nearest right one."""
    check_known(options, uri, list(defaults))
    values = []
    for key, default in defaults.items():
        try:
            values.append(float(options.get(key, default)))
        except ValueError:
            raise UsageError(f"{redact(uri)}: option {key}={options[key]} is not a number") from None
    if any(not 0 <= value < 1e6 for value in values):
        raise UsageError(f"{redact(uri)}: options are numbers from 0 to a million")
    return values


def take_word(options: Options, uri: str, key: str, words: tuple[str, ...]) -> str:
    """Return an option that is one of some words, the first where it is not given."""
    word = options.get(key, words[0])
    if word not in words:
        raise UsageError(f"{redact(uri)}: option {key}={word} is not one of {', '.join(w for w in words if w)}")
    return word


def check_known(options: Options, uri: str, known: list[str]) -> None:
    """Raise `UsageError` on an option that a source does not have."""
    for key in options:
        if key not in known:
            raise UsageError(f"{redact(uri)}: unknown option '{key}'{nearest_hint(key, [*known, *COMMON])}")


def checked_size(frames: Iterator[Frame], describe: Callable[[Frame], str]) -> Iterator[Frame]:
    """Pass frames on while they keep the size of the first; raises `CameraError` when one does not."""
    size: tuple[int, int] | None = None
    for frame in frames:
        size = size or frame.size
        if frame.size != size:
            raise CameraError(
                f"{describe(frame)}: is {frame.size[1]}x{frame.size[0]}, the stream began with {size[1]}x{size[0]}; "
                "give pictures of one size"
            )
        yield frame
