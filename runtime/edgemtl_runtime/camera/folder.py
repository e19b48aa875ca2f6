"""A folder of pictures as a camera."""

from __future__ import annotations

import logging
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from ..errors import CameraError, UsageError, flag, missing
from ..frame import Frame, StampSource
from . import NOMINAL_FPS, Options, checked_size, take, take_word
from .clock import Epoch, Pace
from .opencv import rgb  # or it says what to install

import cv2  # isort: skip

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
EXIF_TIME, EXIF_PART, EXIF_IFD = 0x9003, 0x9291, 0x8769
"""DateTimeOriginal and its part of a second, and the directory they stand in (Exif 2.32)."""
log = logging.getLogger("edgemtl_runtime")


class FolderCamera:
    """The pictures of a folder in the natural order of their names (2 before 10); 16-bit ones keep their bits.

    Stamps are of a rate, or with ``?stamps=name`` the names' nanoseconds, with ``?stamps=exif`` what the pictures tell.
    """

    owned_pictures = True

    def __init__(self, name: str, folder: Path, epoch: Epoch, options: Options) -> None:
        self.name, self.folder = name, folder
        numbers = {key: value for key, value in options.items() if key not in ("stamps", "pair")}
        (fps,) = take(numbers, str(folder), fps=0)
        self.stamps = take_word(options, str(folder), "stamps", ("rate", "name", "exif"))
        self.by_name = take_word(options, str(folder), "pair", ("name", "order")) == "name" and self.stamps == "rate"
        self.moments: dict[str, int] | None = None
        self.live = fps > 0
        self.rate = fps or NOMINAL_FPS
        self.pace = Pace(epoch, fps or NOMINAL_FPS, self.live)
        seen = (file for file in folder.iterdir() if not file.name.startswith("."))
        pictures = (file for file in seen if file.suffix.lower() in IMAGES and not file.is_dir())
        self.files = sorted(pictures, key=lambda file: (natural(file.stem), file.name))
        if not self.files:
            raise CameraError(f"{flag(name, folder)}: holds no pictures ({', '.join(IMAGES)})")
        if self.stamps == "name":
            wrong = [file.name for file in self.files if not (file.stem.isascii() and file.stem.isdigit())]
            if wrong:
                raise CameraError(f"{flag(name, folder / wrong[0])}: ?stamps=name wants names that are nanoseconds")
            self.files.sort(key=lambda file: int(file.stem))
        if self.stamps != "rate":
            epoch.begin(self._told_ns(self.files[0]))

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures."""
        return checked_size(self._read(), lambda frame: str(self.folder / frame.name))

    def _read(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            image = cv2.imread(str(file), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
            if image is None:
                raise CameraError(f"{file}: cannot be read as a picture; remove or replace it")
            if image.dtype not in (np.uint8, np.uint16):
                raise CameraError(f"{file}: has {8 * image.itemsize} bits a value; give pictures of 8 or 16 bits")
            told_ns = 0 if self.stamps == "rate" else self._told_ns(file)
            pace, moment = self.pace, same(file.stem) if self.moments else ""
            place = self.moments[moment] if self.moments else index
            stamp_ns = pace.wait_until(pace.epoch.at(told_ns)) if told_ns else pace.wait(place)
            if self.pace.closed:
                return
            source: StampSource = "rate" if self.stamps == "rate" else "file"
            now_ns = time.monotonic_ns()
            yield Frame(rgb(image), stamp_ns, self.name, index, source, file.stem, now_ns, told_ns, sample_id=moment)

    def _told_ns(self, file: Path) -> int:
        """Return when a picture was taken, as its name or its EXIF data tell."""
        if self.stamps == "name":
            return int(file.stem)
        try:
            from PIL import Image
        except ImportError as error:
            raise CameraError(missing(error, "PIL", "?stamps=exif needs Pillow: pip install pillow")) from error
        try:
            with Image.open(file) as picture:
                told = picture.getexif().get_ifd(EXIF_IFD)
            taken = datetime.strptime(str(told[EXIF_TIME]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        except (KeyError, ValueError, OSError) as error:
            raise CameraError(
                f"{flag(self.name, file)}: ?stamps=exif, but it does not tell when it was taken"
            ) from error
        part = str(told.get(EXIF_PART, "0")).strip("\0 ") or "0"
        seconds = int(taken.replace(tzinfo=timezone.utc).timestamp())
        return seconds * 1_000_000_000 + int(part[:9].ljust(9, "0"))

    def close(self) -> None:
        """End the reading."""
        self.pace.closed = True


def same(stem: str) -> str:
    """Return what names that mean the same have in common: numbers without leading zeros, letters composed (NFC)."""
    return re.sub(r"(?<![0-9.])0+(?=[0-9])", "", unicodedata.normalize("NFC", stem))


def natural(stem: str) -> list[tuple[int, int, str]]:
    """Return what names are sorted by, so that numbers in them count as numbers."""
    parts = re.split(r"([0-9]+)", stem)
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts if part]


def pair_by_name(cameras: Sequence[FolderCamera]) -> None:
    """Let folders whose pictures have no times be paired by their names: what is of one moment has one name.

    A picture whose name the other folder does not have is left without a partner. Raises `UsageError` where the folders
    share no name, or a name stands for two pictures.
    """
    named = [camera for camera in cameras if camera.by_name]
    if len(named) < 2:
        return
    stems: list[set[str]] = []
    for camera in named:
        called: dict[str, Path] = {}
        for file in camera.files:
            if (other := called.setdefault(same(file.stem), file)) is not file:
                raise UsageError(
                    f"{flag(camera.name)} {camera.folder}: {other.name} and {file.name} are called alike; keep one"
                )
        stems.append(set(called))
    first, second = named[0], named[1]
    shared = stems[0].intersection(*stems[1:])
    if not shared:
        raise UsageError(
            f"{flag(first.name)} {first.folder} and {flag(second.name)} {second.folder} share no names "
            f"({first.files[0].name}, {second.files[0].name}): give pictures of one moment one name, or ?stamps=name "
            "or ?stamps=exif where they tell their times, or ?pair=order where both folders hold one picture a moment"
        )
    alone = sum(len(seen - shared) for seen in stems)
    if alone:
        log.warning("%d pictures have no partner of their name in the other folder", alone)
    moments = {stem: place for place, stem in enumerate(sorted(stems[0].union(*stems[1:]), key=natural))}
    for camera in named:
        camera.moments = moments
