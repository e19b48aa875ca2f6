"""Image folders as cameras, and pairing of two folders by file name."""

from __future__ import annotations

import logging
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from ..errors import CameraError, UsageError, flag, missing
from ..frame import Frame, StampSource
from ..image_file import ImageFileError
from ..pixels import as_frame, read_stored
from .base import NO_EVENTS, CameraEvents, PlaybackCamera, checked_size
from .clock import Epoch, Pace
from .options import NOMINAL_FPS, Options, take, take_word
from .source import IMAGES, no_images

EXIF_TIME, EXIF_SUBSEC, EXIF_IFD = 0x9003, 0x9291, 0x8769
"""DateTimeOriginal, SubSecTimeOriginal, and the directory that holds them (Exif 2.32)."""
log = logging.getLogger("edgemtl_runtime")


class FolderCamera(PlaybackCamera):
    """The images of a folder in the natural order of their names (2 before 10); 16-bit ones keep their bits.

    With ``names``, a pattern, those that have such a name. Stamps are of a rate, with ``?stamps=name`` the names'
    nanoseconds, with ``?stamps=exif`` the images' EXIF times.
    """

    def __init__(self, name: str, folder: Path, epoch: Epoch, options: Options, names: str = "") -> None:
        from . import opencv  # noqa: F401 - raises what to install where OpenCV is missing

        self.name, self.uri, self.folder = name, str(folder / names), folder
        numbers = {key: value for key, value in options.items() if key not in ("stamps", "pair")}
        (fps,) = take(numbers, str(folder), fps=0)
        self.stamps = take_word(options, str(folder), "stamps", ("rate", "name", "exif"))
        self.by_name = take_word(options, str(folder), "pair", ("name", "order")) == "name" and self.stamps == "rate"
        self.sample_index: dict[str, int] | None = None
        """Index of each sample among those of all paired folders, by normalised name."""
        self.live = fps > 0
        self.rate = fps or NOMINAL_FPS
        self.pace = Pace(epoch, fps or NOMINAL_FPS, self.live)
        visible = (file for file in folder.glob(names or "*") if not file.name.startswith("."))
        images = (file for file in visible if file.suffix.lower() in IMAGES and not file.is_dir())
        self.files = sorted(images, key=lambda file: (natural(file.stem), file.name))
        if not self.files:
            raise CameraError(f"{self.label}: {'no image has such a name' if names else no_images(folder)}")
        if self.stamps == "name":
            wrong = [file.name for file in self.files if not (file.stem.isascii() and file.stem.isdigit())]
            if wrong:
                raise CameraError(f"{flag(name, folder / wrong[0])}: ?stamps=name wants names that are nanoseconds")
            self.files.sort(key=lambda file: int(file.stem))
        if self.stamps != "rate":
            epoch.begin(self._capture_ns(self.files[0]))

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the images."""
        return checked_size(self._read(), lambda frame: str(self.folder / frame.name))

    def _read(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            try:
                image = as_frame(read_stored(file).upright())
            except ImageFileError as error:
                raise CameraError(f"{flag(self.name, file)}: {error}") from None
            unix_ns = 0 if self.stamps == "rate" else self._capture_ns(file)
            pace, sample = self.pace, normalised(file.stem) if self.sample_index else ""
            position = self.sample_index[sample] if self.sample_index else index
            stamp_ns = pace.wait_until(pace.epoch.at(unix_ns)) if unix_ns else pace.wait(position)
            if self.pace.closed:
                return
            source: StampSource = "rate" if self.stamps == "rate" else "file"
            now_ns = time.monotonic_ns()
            yield Frame(image, stamp_ns, self.name, index, source, file.stem, now_ns, unix_ns, sample_id=sample)

    def _capture_ns(self, file: Path) -> int:
        """Return the capture time of an image, Unix nanoseconds, from its name or its EXIF data."""
        if self.stamps == "name":
            return int(file.stem)
        try:
            from PIL import Image
        except ImportError as error:
            raise CameraError(missing(error, "PIL", "?stamps=exif needs Pillow: pip install pillow")) from error
        try:
            with Image.open(file) as image:
                exif = image.getexif().get_ifd(EXIF_IFD)
            taken = datetime.strptime(str(exif[EXIF_TIME]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        except (KeyError, ValueError, OSError) as error:
            raise CameraError(
                f"{flag(self.name, file)}: ?stamps=exif, but it does not hold its capture time"
            ) from error
        subsec = str(exif.get(EXIF_SUBSEC, "0")).strip("\0 ") or "0"
        seconds = int(taken.replace(tzinfo=timezone.utc).timestamp())
        return seconds * 1_000_000_000 + int(subsec[:9].ljust(9, "0"))


def normalised(stem: str) -> str:
    """Return a file name stem for comparison: numbers without leading zeros, letters composed (NFC)."""
    return re.sub(r"(?<![0-9.])0+(?=[0-9])", "", unicodedata.normalize("NFC", stem))


def natural(stem: str) -> list[tuple[int, int, str]]:
    """Return the natural sort key of a file name stem: numbers in it compare as numbers."""
    parts = re.split(r"([0-9]+)", stem)
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts if part]


def pair_by_name(cameras: Sequence[FolderCamera]) -> None:
    """Let folders whose images have no capture times be paired by file name: the images of one sample have one name.

    An image whose name the other folder does not have stays without a partner. Raises `UsageError` where the folders
    share no name, or a name stands for two images.
    """
    named = [camera for camera in cameras if camera.by_name]
    if len(named) < 2:
        return
    stems: list[set[str]] = []
    for camera in named:
        by_stem: dict[str, Path] = {}
        for file in camera.files:
            if (other := by_stem.setdefault(normalised(file.stem), file)) is not file:
                raise UsageError(
                    f"{flag(camera.name)} {camera.folder}: {other.name} and {file.name} are called alike; keep one"
                )
        stems.append(set(by_stem))
    first, second = named[0], named[1]
    shared = stems[0].intersection(*stems[1:])
    if not shared:
        raise UsageError(
            f"{flag(first.name)} {first.folder} and {flag(second.name)} {second.folder} share no names "
            f"({first.files[0].name}, {second.files[0].name}): give the images of one sample one name, or ?stamps=name "
            "or ?stamps=exif where they hold their times, or ?pair=order where both folders hold one image a sample"
        )
    unpaired = sum(len(names - shared) for names in stems)
    if unpaired:
        log.warning("%d images have no partner of their name in the other folder", unpaired)
    index = {stem: position for position, stem in enumerate(sorted(stems[0].union(*stems[1:]), key=natural))}
    for camera in named:
        camera.sample_index = index
