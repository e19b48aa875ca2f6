"""Cameras by URI: a device, a stream, a file, a folder of images, a recording, or a test pattern.

/dev/video0             a camera device, also v4l2:///dev/video0, stamped by its driver; ?width= ?height= ?fps=
                        ?format=MJPG|YUYV|GREY|Y16; ?reduce=2|4|8 decodes JPEG at that part of its size, faster
0                       the same by number
csi://0                 a CSI camera of a Jetson or Raspberry Pi, by GStreamer; ?width= ?height= ?fps=
gst:PIPELINE            what a GStreamer pipeline gives; ?format=RGB|GRAY8|GRAY16_LE
rtsp://host/stream      a stream, also http:// (MJPEG, or one image a request); ?transport=udp; ?clock=ntp where the
                        camera and this machine are set by one NTP; ?reduce= as above for MJPEG; its own query stays as
                        it is
drive.mp4               a video file; ?fps=20 paces it, ?fps=0 is as fast as it is used
ros2://camera/image_raw an image topic of ROS 2, raw or compressed; zenoh://camera/image_raw the same without ROS here,
                        of nodes with rmw_zenoh, a bridge, or edgemtl; ?endpoint=tcp/HOST:PORT; ?clock=arrival where
                        the publisher's clock does not agree with this machine's
realsense://            an Intel RealSense, with a serial number behind it that one, or a file that its library recorded
                        (realsense:drive.db3); ?stream=color|depth|infrared ?width= ?height= ?fps=; depth in
                        millimetres
oak://                  a Luxonis OAK, by its id or address; ?stream=color|left|right|depth ?width= ?height= ?fps=
genicam://              an industrial camera by GenICam, by its serial number; ?cti=FILE is its maker's producer
frames/night            a folder of images, or some of them (frames/*.png), in the order of their names; ?fps=20 paces
                        it; ?stamps=name: those are nanoseconds of capture, ?stamps=exif: the images hold it; two
                        folders are paired by the names of their images, with ?pair=order by their order
drive.mcap#/ir          an image topic of an MCAP file, FOLDER#/ir of a ROS 2 bag, also with mcap: or bag: before it;
                        ?speed=1 plays it live
pattern:                plain moving shapes; ?fps=20&frames=100&width=320&height=240&channels=1 (ir has 1, others 3)

Of every source: ?rotate=90|180|270 rotates the images clockwise, ?offset_ms=-120 is added to the stamps, ?repeats=keep
takes a live camera's repeated images for new ones. ${NAME} is the environment's NAME, ${file:NAME} what a file
holds: passwords belong there, where no list of processes shows them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from ..errors import CameraError
from .base import Camera as Camera
from .base import CameraBase
from .clock import Epoch
from .options import COMMON, Options, split_options
from .redaction import redact as redact
from .redaction import secrets_in, without
from .secrets import fill
from .source import normalised, source_of

Opener = Callable[[], CameraBase]


def open_cameras(uris: Mapping[str, str], *, wait: bool = False) -> dict[str, Camera]:
    """Open the cameras of a pair by their URIs; recordings begin together.

    A device or stream that fails later is opened again until it is back. With ``wait`` that holds from the start on,
    so that a camera may come later than the program.
    """
    from .folder import FolderCamera, pair_by_name
    from .wrappers import complete

    epoch = Epoch()
    cameras: dict[str, Camera] = {}
    try:
        for name, uri in uris.items():
            cameras[name] = open_camera(uri, name, epoch, wait=wait)
        innermost = [complete(camera).unwrapped for camera in cameras.values()]
        pair_by_name([camera for camera in innermost if isinstance(camera, FolderCamera)])
    except BaseException:  # a library's own error and Ctrl-C leave nothing open either
        for camera in cameras.values():
            with contextlib.suppress(Exception):  # another error is on its way
                camera.close()
        raise
    return cameras


def check_addresses(uris: Mapping[str, str]) -> None:
    """Raise `CameraError` where an address names nothing; nothing is opened."""
    for name, uri in uris.items():
        address, filled = fill(normalised(uri), name)
        try:
            source_of(split_options(address)[0], name)
        except CameraError as error:
            raise without(error, sorted({*filled, *secrets_in(address)}, key=len, reverse=True)) from None


def open_camera(uri: str, name: str, epoch: Epoch | None = None, *, wait: bool = False) -> Camera:
    """Open a camera by its URI; ``epoch`` is the common begin of recordings."""
    from .reconnect import Reconnecting
    from .wrappers import Adjusted, redacting

    uri, filled = fill(normalised(uri), name)
    secrets = sorted({*filled, *secrets_in(uri)}, key=len, reverse=True)
    address, options = split_options(uri)
    common = {key: options.pop(key) for key in COMMON if key in options}
    try:
        live, opener = _opener(address, name, epoch or Epoch(), options)
    except CameraError as error:
        raise without(error, secrets) from None
    opener = redacting(opener, secrets)
    camera: CameraBase = Reconnecting(name, opener, wait) if live else opener()
    try:
        return Adjusted.of(camera, common, redact(uri))
    except CameraError as error:
        raise without(error, secrets) from None


def _opener(address: str, name: str, epoch: Epoch, options: Options) -> tuple[bool, Opener]:
    """Return whether an address is of a live source, to be opened again when it fails, and what opens it."""
    source = source_of(address, name)
    if source.kind == "device":
        return True, _device(source.address, name, options)
    if source.kind == "stream":
        return True, _stream(source.address, name, options)
    if source.kind == "topic":
        return True, _topic(source.address, name, options)
    if source.kind == "sdk":
        return True, _sdk(source.address, name, options)
    if source.kind == "pipeline":
        from .gstreamer import GStreamerCamera

        return True, lambda: GStreamerCamera(name, source.address, options)
    if source.kind == "recording":
        from .bag import BagCamera

        return False, lambda: BagCamera(name, source.path, source.address, epoch, options)
    if source.kind == "images":
        from .folder import FolderCamera

        return False, lambda: FolderCamera(name, source.path, epoch, options, source.address)
    if source.kind == "video":
        return False, _video(source.path, name, epoch, options)
    from .pattern import PatternCamera

    return False, lambda: PatternCamera(name, epoch, options)


def _device(device: str, name: str, options: Options) -> Opener:
    if find_spec("linuxpy") is None:
        from .opencv import DeviceCamera

        return lambda: DeviceCamera(name, device, options)
    from .v4l2 import V4l2Camera

    return lambda: V4l2Camera(name, f"/dev/video{device}" if device.isdigit() else device, options)


def _stream(url: str, name: str, options: Options) -> Opener:
    if find_spec("av") is None:
        from .opencv import StreamCamera

        return lambda: StreamCamera(name, url, options)
    from .stream import open_stream

    return lambda: open_stream(name, url, options)


def _topic(address: str, name: str, options: Options) -> Opener:
    if address.startswith("ros2:"):
        from .topic.ros2 import Ros2Camera

        return lambda: Ros2Camera(name, address, options)
    from .topic.zenoh import ZenohCamera

    return lambda: ZenohCamera(name, address, options)


def _sdk(address: str, name: str, options: Options) -> Opener:
    if address.startswith("realsense:"):
        from .sdk.realsense import RealSenseCamera

        return lambda: RealSenseCamera(name, address, options)
    if address.startswith("oak:"):
        from .sdk.oak import OakCamera

        return lambda: OakCamera(name, address, options)
    from .sdk.genicam import GenicamCamera

    return lambda: GenicamCamera(name, address, options)


def _video(path: Path, name: str, epoch: Epoch, options: Options) -> Opener:
    if find_spec("av") is None:
        from .opencv import VideoCamera

        return lambda: VideoCamera(name, path, epoch, options)
    from .video import AvVideoCamera

    return lambda: AvVideoCamera(name, path, epoch, options)
