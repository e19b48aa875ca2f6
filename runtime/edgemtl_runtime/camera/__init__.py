"""Cameras by URI: a device, a stream, a file, a folder of pictures, a recording, or a test pattern.

v4l2:///dev/video0      a camera device, stamped by its driver; ?width= ?height= ?fps= ?format=MJPG|YUYV|GREY|Y16
0                       the same by number
csi://0                 a ribbon camera of a Jetson or Raspberry Pi, by GStreamer; ?width= ?height= ?fps=
gst:PIPELINE            what a GStreamer pipeline gives; ?format=RGB|GRAY8|GRAY16_LE
rtsp://host/stream      a stream, also http:// (MJPEG); ?transport=udp; ?clock=ntp where the camera and this machine
                        are set by one NTP; its own query stays as it is
drive.mp4               a video file; ?fps=20 paces it, ?fps=0 is as fast as it is used
frames/night            a folder of pictures, in the order of their names; ?fps=20 paces it; ?stamps=name: those are
                        nanoseconds of capture, ?stamps=exif: the pictures tell it; two folders are paired by the
                        names of their pictures, with ?pair=order by their places
mcap:drive.mcap#/ir     an image topic of an MCAP file, bag:FOLDER#/ir of a ROS 2 bag; ?speed=1 plays it live
pattern:                plain moving shapes; ?fps=20&frames=100&width=320&height=240

Of every source: ?rotate=90|180|270 turns the pictures clockwise, ?offset_ms=-120 is added to the stamps, ?repeats=keep
takes a live camera's repeated pictures for new ones. ${NAME} is the environment's NAME, ${file:NAME} what a file
holds: passwords belong there, where no list of processes shows them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl

from ..errors import CameraError, UsageError, flag, nearest_hint
from ..frame import Frame
from .address import host_begin
from .clock import Epoch
from .secrets import discreet, fill, secrets_in, without
from .secrets import redact as redact

NOMINAL_FPS = 30.0
"""Rate that the stamps of a folder's pictures run at when none is given."""
PLAUSIBLE_NS = 5_000_000_000
"""A driver's stamp that is older than this, or of the future, is of another clock."""
COMMON = ("rotate", "offset_ms", "repeats")
"""Options of every source."""
OF_STREAMS = (*COMMON, "transport", "clock")
"""What is ours in a stream's URL; the rest of its query is its own."""
_QUERY = re.compile(r"[^\s!\"']*")
"""What may stand behind the last "?" of a pipeline for it to be options."""
Options = Mapping[str, str]


class Camera(Protocol):
    """A source of frames, which is read once. ``live`` sources do not wait: what is not taken in time is lost.

    `frames` is run by a thread of its own, `close` called by another. A picture that was given is shown and run later:
    a camera that fills each into memory of its own, and does not touch it again, says so by an attribute
    ``owned_pictures = True``; the pictures of any other are copied as they come. It may also have ``rate`` (frames a
    second), ``drops_repeats`` (whether a picture that is the one before tells nothing new), and two attributes that are
    set when it is read: ``told`` (state, detail), to say that it is lost and why, and ``dropped`` (cause), to count a
    frame that it could not give.
    """

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
        _pair_folders(cameras)
    except BaseException:  # a library's own error and Ctrl-C leave nothing open either
        for camera in cameras.values():
            with contextlib.suppress(Exception):  # another error is on its way
                camera.close()
        raise
    return cameras


def _pair_folders(cameras: Mapping[str, Camera]) -> None:
    from .wrappers import Adjusted

    plain = [camera.camera if isinstance(camera, Adjusted) else camera for camera in cameras.values()]
    folders = [camera for camera in plain if hasattr(camera, "folder")]
    if len(folders) > 1:
        from .folder import FolderCamera, pair_by_name

        pair_by_name([camera for camera in folders if isinstance(camera, FolderCamera)])


def open_camera(uri: str, name: str, epoch: Epoch | None = None, *, wait: bool = False) -> Camera:
    """Open a source by its URI; ``epoch`` is the common begin of recorded sources."""
    from .reconnect import Reopened
    from .wrappers import Adjusted

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
        from .bag import RecordedCamera

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
    raise CameraError(f"{flag(name, redact(place))}: no such folder or file, nor a camera number, URL or 'pattern:'")


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
    from .stream import open_stream

    return lambda: open_stream(name, place, options)


def _video(path: Path, name: str, epoch: Epoch, options: Options) -> Callable[[], Camera]:
    from importlib.util import find_spec

    if find_spec("av") is None:
        from .opencv import VideoCamera

        return lambda: VideoCamera(name, path, epoch, options)
    from .video import AvVideoCamera

    return lambda: AvVideoCamera(name, path, epoch, options)


def split_options(uri: str) -> tuple[str, dict[str, str]]:
    """Split ``place?key=value`` into the place and its options; of a stream's URL only ours are taken.

    So it is with an address at the end of a GStreamer pipeline; those in its middle are the pipeline's.
    """
    known: tuple[str, ...]
    if uri.startswith("gst:"):
        place, mark, query = uri.rpartition("?")
        if not mark or not _QUERY.fullmatch(query):
            return uri, {}
        has_own, known = "://" in place.split()[-1], (*COMMON, "format")
    else:
        before = host_begin(uri)
        place, mark, query = uri[before:].partition("?")
        place = uri[:before] + place
        if not mark:
            return uri, {}
        has_own, known = "://" in place and not place.startswith(("v4l2:", "csi:", "file:")), OF_STREAMS
    pairs = parse_qsl(query, keep_blank_values=True)
    if not has_own:
        return place, dict(pairs)
    ours = {key: value for key, value in pairs if key in known}
    own = "&".join(part for part in query.split("&") if part.partition("=")[0] not in known)
    return f"{place}?{own}" if own else place, ours


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
