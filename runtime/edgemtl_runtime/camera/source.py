"""What the address of a camera names: a device, a stream, a recording, images or a video, however it is written."""

from __future__ import annotations

import difflib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from ..errors import CameraError, UsageError, flag, nearest_hint
from .redaction import redact

Kind = Literal["pattern", "recording", "pipeline", "device", "stream", "topic", "sdk", "images", "video"]
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".ts", ".m4v", ".mpg", ".mjpeg", ".wmv")
TOPIC_SCHEMES = ("zenoh", "ros2")
SDK_SCHEMES = ("realsense", "oak", "genicam")
LOCAL_SCHEMES = ("pattern", "mcap", "bag", "gst", "csi", "v4l2", "file", *TOPIC_SCHEMES, *SDK_SCHEMES)
STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp")
WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
HOST = re.compile(
    r"(?:[^/\s]*@)?(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|localhost|[\w-]+(?:\.[\w-]+)+)(?::[0-9]+(?:/.*)?|/.*)?"
)
"""A host with a port or a path, or behind a user: an address without its scheme."""
NUMBERED = re.compile(r"%0?[0-9]*d")
"""A running number in a file name, as FFmpeg and C write it."""
BAG_FILES = (".db3", ".mcap")
MOST_LISTED = 5


@dataclass(frozen=True)
class Source:
    """What an address names: ``path`` of a recording, images or a video; else ``address``.

    ``address`` is the topic of a recording, and the pattern of the names of images.
    """

    kind: Kind
    address: str = ""
    path: Path = Path()


def normalised(uri: str) -> str:
    """Return a URI without the blanks and quotes around it, its scheme in lower case."""
    text = uri.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    scheme, mark, rest = text.partition(":")
    if mark and scheme.lower() in (*LOCAL_SCHEMES, *STREAM_SCHEMES):
        return f"{scheme.lower()}:{rest}"
    return text


def source_of(address: str, name: str) -> Source:
    """Return what a normalised address without options names; raises `CameraError` where it names nothing."""
    scheme, mark, rest = address.partition(":")
    scheme = scheme if mark else ""
    if not address:
        raise UsageError(f"{flag(name)}: names no camera; give a device, URL, file, folder or 'pattern:'")
    if address == "pattern:":
        return Source("pattern")
    if scheme in ("gst", "csi"):
        return Source("pipeline", address if scheme == "gst" or "//" in rest else f"csi://{rest}")
    if scheme == "v4l2":
        return Source("device", rest.removeprefix("//"))
    if address.isascii() and address.isdigit() and len(address) < 4:
        return Source("device", address)
    if scheme in TOPIC_SCHEMES:
        return _topic(scheme, rest, name)
    if scheme in SDK_SCHEMES:
        return _sdk(scheme, rest, name)
    if scheme in ("mcap", "bag"):
        return _recording(scheme, rest, flag(name, redact(address)))
    if scheme != "file" and "://" in address:
        return _stream(address, scheme, name)
    return _local(address, name)


def _stream(address: str, scheme: str, name: str) -> Source:
    near = difflib.get_close_matches(scheme.lower(), STREAM_SCHEMES, n=len(STREAM_SCHEMES), cutoff=0.75)
    near.sort(key=lambda known: sorted(known) != sorted(scheme.lower()))  # letters in another order come first
    if near and scheme.lower() not in STREAM_SCHEMES:
        raise UsageError(f"{flag(name)}: there are no {scheme}:// streams; did you mean {near[0]}://?")
    return Source("stream", address)


def _topic(scheme: str, rest: str, name: str) -> Source:
    topic = rest.strip("/")
    if not topic or not re.fullmatch(r"[^\s/*$#?]+(/[^\s/*$#?]+)*", topic):
        raise UsageError(f"{flag(name, f'{scheme}:{rest}')}: names no topic; give {scheme}://NAME/OF/THE/TOPIC")
    return Source("topic", f"{scheme}://{topic}")


def _sdk(scheme: str, rest: str, name: str) -> Source:
    device = rest.removeprefix("//")
    if scheme == "realsense" and ("/" in device or Path(device).suffix in (".bag", ".db3")):
        if not expanded(device).is_file():
            raise CameraError(f"{flag(name, f'{scheme}:{rest}')}: there is no such file")
        return Source("sdk", f"{scheme}:{expanded(device)}")
    return Source("sdk", f"{scheme}://{device.strip('/')}")


def _local(address: str, name: str) -> Source:
    """Return what a path names: also in a file: URL, after "~", with a topic after "#", or as a pattern of names."""
    text = address
    if address.startswith("file:"):
        text = re.sub(r"^file:(?://(?:localhost(?=/))?)?", "", address)
        text = text if Path(text).exists() else unquote(text)
    if os.name == "posix" and "\\" in text and not Path(text).exists() and not WINDOWS_PATH.match(text):
        text = text.replace("\\", "/")
    path = expanded(text)
    if _is_device(path):
        return Source("device", str(path))
    if path.is_dir():
        is_bag = (path / "metadata.yaml").is_file() and any(file.suffix in BAG_FILES for file in path.iterdir())
        return Source("recording" if is_bag else "images", path=path)
    if path.is_file():
        return _file(path, flag(name, redact(address)))
    if "#" in text:
        file, topic = _split_topic(text)
        if file.exists() and (file.suffix.lower() in BAG_FILES or file.is_dir()):
            return Source("recording", topic, _bag_of(file, flag(name, redact(address))))
    if path.parent.is_dir() and (re.search(r"[*?\[]", path.name) or NUMBERED.search(path.name)):
        return Source("images", NUMBERED.sub("[0-9]*", path.name), path.parent)
    if path.exists():
        raise UsageError(
            f"{flag(name, redact(address))}: is a pipe or a socket; give a file, a folder or a stream's URL"
        )
    raise CameraError(
        f"{flag(name, redact(address))}: no such folder or file, nor a camera number, URL or 'pattern:'"
        f"{_missing_hint(address, path)}"
    )


def _file(file: Path, label: str) -> Source:
    suffix = file.suffix.lower()
    if suffix in IMAGES:
        return Source("images", re.sub(r"([*?\[])", r"[\1]", file.name), file.parent)
    if suffix == ".bag":
        raise UsageError(
            f"{label}: is a bag of ROS 1; convert it (rosbags-convert --src {file.name} --dst FOLDER) and give that"
        )
    if suffix in BAG_FILES or file.name == "metadata.yaml":
        return Source("recording", path=_bag_of(file, label))
    return Source("video", path=file)


def _recording(scheme: str, rest: str, label: str) -> Source:
    path, topic = expanded(rest), ""
    if not path.exists() and "#" in rest:
        path, topic = _split_topic(rest)
    if not path.exists():
        raise CameraError(f"{label}: there is no such {'file' if scheme == 'mcap' else 'folder'}")
    return Source("recording", topic, _bag_of(path, label))


def _split_topic(text: str) -> tuple[Path, str]:
    """Return a file and what follows its "#": the longest path that exists, for a folder's name may hold a "#" too."""
    marks = [index for index, letter in enumerate(text) if letter == "#"]
    for index in reversed(marks):
        if (path := expanded(text[:index])).exists():
            return path, text[index + 1 :]
    return expanded(text[: marks[0]]), text[marks[0] + 1 :]


def _bag_of(path: Path, label: str) -> Path:
    """Return an MCAP file, or the folder of a bag for a file of it; raises `UsageError`."""
    if path.is_dir() or path.suffix.lower() == ".mcap":
        return path
    if path.suffix.lower() != ".db3" and path.name != "metadata.yaml":
        return path
    if not (path.parent / "metadata.yaml").is_file():
        raise UsageError(
            f"{label}: has no metadata.yaml beside it, as a ROS 2 bag has; `ros2 bag reindex` its folder and give that"
        )
    return path.parent


def expanded(text: str) -> Path:
    """Return a path whose leading "~" is a home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of a user that is not there
        return Path(text)


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except (OSError, ValueError):
        return path.parent in (Path("/dev"), Path("/dev/v4l/by-id"), Path("/dev/v4l/by-path")) and not path.exists()


def present_devices() -> str:
    """Return which video devices are there, as the end of an error."""
    devices = sorted(map(str, Path("/dev").glob("video[0-9]*")))
    return f"; here are {', '.join(devices)}" if devices else "; no /dev/video* is here"


def _missing_hint(address: str, path: Path) -> str:
    if os.name == "posix" and WINDOWS_PATH.match(address):
        drive, rest = address[0].lower(), address[3:].replace("\\", "/")
        mounted = Path(f"/mnt/{drive}/{rest}")
        return f"; it is a Windows path{f', here {mounted}' if mounted.exists() else ', and this machine is none'}"
    scheme = address.partition(":")[0].lower()
    if scheme in STREAM_SCHEMES:
        return f"; a URL begins with {scheme}://"
    if HOST.fullmatch(address) and ("@" in address or re.search(r":[0-9]|^[0-9.]+(?=/|$)", address)):
        return "; of a camera in the network give rtsp:// or http:// before it"
    if re.search(r"[*?]", address):
        return "; wildcards may stand in the last part of a path"
    if path.parent.is_dir() and path.parent != Path():
        names = sorted(entry.name for entry in path.parent.iterdir())
        if near := difflib.get_close_matches(path.name, names, n=1, cutoff=0.6):
            return nearest_hint(path.name, near)
    return ""


def no_images(folder: Path) -> str:
    """Return what a folder without images holds instead, as the reason of an error."""
    entries = sorted(folder.iterdir())
    hints = {
        "videos": [entry.name for entry in entries if entry.suffix.lower() in VIDEOS],
        "recordings": [entry.name for entry in entries if entry.suffix.lower() in (*BAG_FILES, ".bag")],
        "folders with images": [entry.name for entry in entries if entry.is_dir() and _has_image(entry)],
    }
    for what, names in hints.items():
        if names:
            more = ", ..." if len(names) > MOST_LISTED else ""
            return f"holds no images, but {what} ({', '.join(names[:MOST_LISTED])}{more}): give one of them"
    return f"holds no images ({', '.join(IMAGES)})"


def _has_image(folder: Path) -> bool:
    return any(file.suffix.lower() in IMAGES for file in folder.iterdir())
