"""Pixels: the one way from an image file, a message or a camera's frame to a modality's image.

Training and the runtime share it, so that the network sees on the robot what it was trained on. A modality is colour
("rgb") or one channel ("ir" and any other):

colour   (H, W, 3) uint8 RGB: 8-bit colour as it is, 8-bit grey in three channels, of 16-bit colour the upper bits.
         Counts of 16 bits are no colour and are rejected, whether in one channel or in three equal ones.
thermal  (H, W) uint8 or uint16: one channel as it is, or one of three equal ones; signed, 32-bit and floating-point
         values where all are whole numbers from 0 to 65535. A colour palette over temperatures is rejected.

Files are read completely or rejected. Palettes are applied, alpha is dropped, CMYK becomes RGB.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import missing
from .image_file import ImageFileError, inspect, without_orientation

Array = NDArray[Any]
COLOUR = "rgb"
"""The modality of colour images; images of any other one have one channel."""
UPRIGHT = 1
"""The EXIF orientation of an image that is stored upright."""
LOSSY_SPREAD = 16
"""Levels by which the channels of a grey pixel may differ after lossy compression."""
COLOURED_SHARE = 0.1
"""Share of coloured pixels from which an image is false colour: time and logo over a grey image are fewer."""
EQUAL_COUNTS = 2
"""Counts by which three equal channels of 16 bits may differ."""
LUMA = (9798, 19235, 3735)
"""Weights of red, green and blue in luma, of 2 to the power of 15."""
SAMPLED = 4
"""Every fourth row and column is looked at for colour."""


class PixelError(ImageFileError):
    """Pixels that are not the image that is asked for; the message names both forms, and no file."""


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as a file stores it: ``pixels`` (H, W) or (H, W, 3) RGB, of any type, and its EXIF ``orientation``.

    Pixel coordinates of labels are of the stored image or of the upright one: compare their stated size with ``size``
    and ``upright_size``. ``has_counts``: the pixels are a picture of counts that the file holds beside (FLIR).
    """

    pixels: Array
    orientation: int = 1
    has_counts: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as stored."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        return self.size[::-1] if self.orientation >= 5 else self.size

    def upright(self) -> Array:
        """Return the pixels turned by the orientation (EXIF 2.32, 4.6.4), as viewers show them."""
        return turned(self.pixels, self.orientation)


def turned(pixels: Array, orientation: int) -> Array:
    """Return stored pixels, or a map of their size, upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def read_image(file: Path, modality: str) -> Array:
    """Return an image file as a modality's image, upright; raises `ImageFileError`, whose message names no file."""
    return as_modality(read_stored(file), modality)


def read_stored(file: Path) -> StoredImage:
    """Decode an image file; raises `ImageFileError`, whose message names no file."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ImageFileError(f"cannot be read ({error.strerror or error})") from error
    return decode(data)


def decode(data: bytes, reduce: int = 1) -> StoredImage:
    """Decode the bytes of an image file; raises `ImageFileError` where they are incomplete or no image.

    With ``reduce`` 2, 4 or 8 an image of 8 bits is decoded at that part of its size, in colour.
    """
    try:
        import cv2
    except ImportError as error:
        hint = "images need OpenCV: pip install 'edgemtl-runtime[opencv]'"
        raise ImageFileError(missing(error, "cv2", hint)) from error
    stated = inspect(data)
    if stated.type == "TIFF" and stated.orientation != 1:
        data = without_orientation(data)
    pixels: Array | None = None
    with contextlib.suppress(cv2.error), _quiet():
        flags = cv2.IMREAD_UNCHANGED
        if reduce > 1:
            flags = getattr(cv2, f"IMREAD_REDUCED_COLOR_{reduce}") | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or not pixels.size:
        raise ImageFileError(f"cannot be read as an image ({stated.type or 'of no known type'}, {len(data)} bytes)")
    if pixels.ndim == 3 and pixels.dtype in (np.uint8, np.uint16):  # many times faster than NumPy
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    elif pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[:, :, 2::-1])
    return StoredImage(pixels, stated.orientation, stated.has_counts)


def is_thermal(pixels: Array) -> bool:
    """Whether pixels are thermal counts: more than 8 bits a value, in one channel or in three equal ones."""
    return pixels.dtype != np.uint8 and _one_channel(pixels) is not None


def as_frame(pixels: Array) -> Array:
    """Return pixels (H, W[, 3]) of any type as a camera's frame has them; raises `PixelError`.

    (H, W, 3) uint8 RGB, (H, W) uint8, or (H, W) uint16 for counts. The modality is not known yet.
    """
    if pixels.ndim == 3 and pixels.dtype == np.uint8:
        return pixels
    channel = _one_channel(pixels)
    if channel is not None:
        return _unsigned(channel)
    if pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    raise PixelError(f"is {describe(pixels)}; colour has three channels of 8 or 16 bits")


def as_modality(image: StoredImage | Array, modality: str) -> Array:
    """Return a modality's image: colour (H, W, 3) uint8, any other (H, W) uint8 or uint16; raises `PixelError`."""
    stored = image if isinstance(image, StoredImage) else StoredImage(image)
    pixels = as_frame(stored.upright() if stored.orientation != 1 else stored.pixels)
    if modality == COLOUR:
        return _colour(pixels)
    if pixels.ndim == 2:
        return pixels
    if _is_coloured(pixels):
        where = "; its counts lie beside the picture: extract them (exiftool -b -RawThermalImage)"
        raise PixelError(
            f"is a colour image; {modality} has one channel of 8 or 16 bits, or three equal ones: colours of a palette "
            f"are no temperatures{where if stored.has_counts else ', so export counts or grey levels'}"
        )
    return luma(pixels)


def describe(pixels: Array) -> str:
    """Return the form of pixels in words, as "1 channel of 16 bits"."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kinds = {"u": "", "i": " signed", "f": " floating-point"}
    plural = "s" if channels > 1 else ""
    return f"{channels} channel{plural} of {8 * pixels.itemsize}{kinds.get(pixels.dtype.kind, '')} bits"


def _colour(pixels: Array) -> Array:
    if pixels.dtype == np.uint16:
        raise PixelError(
            f"is {describe(pixels)}, counts from {pixels.min()} to {pixels.max()}; colour has 8 bits: name thermal "
            "images ir, or write 8 bits"
        )
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def _one_channel(pixels: Array) -> Array | None:
    """Return the channel of an image that has one, or several equal ones of more than 8 bits; else None."""
    if pixels.ndim == 2:
        return pixels
    first = pixels[:, :, 0]
    if pixels.dtype == np.uint8:
        return None
    for other in (pixels[:, :, 1], pixels[:, :, 2]):
        # The corner first: most colour images differ there, and the whole is not compared.
        for part in (np.s_[:8, :8], np.s_[:]):
            with np.errstate(invalid="ignore"):  # of infinite values
                difference = np.abs(first[part].astype(np.float64) - other[part]).max()
            if not difference <= EQUAL_COUNTS:
                return None
    return np.ascontiguousarray(first)


def _unsigned(channel: Array) -> Array:
    if channel.dtype in (np.uint8, np.uint16):
        return channel
    low, high = channel.min(), channel.max()
    if channel.dtype.kind in "iuf" and low >= 0 and high <= 65535:
        counts = channel.astype(np.uint16)
        if np.array_equal(counts, channel):
            return counts
    raise PixelError(
        f"is {describe(channel)}, values from {low:g} to {high:g}; thermal has whole numbers from 0 to 65535: write "
        "unsigned 16 bits, for temperatures in hundredths of a kelvin"
    )


def _is_coloured(pixels: Array) -> bool:
    red, green, blue = (pixels[::SAMPLED, ::SAMPLED, channel] for channel in range(3))
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return bool((most - least > LOSSY_SPREAD).mean() > COLOURED_SHARE)


def luma(pixels: Array) -> NDArray[np.uint8]:
    """Return the luma (H, W) of colours (H, W, 3) uint8 (ITU-R BT.601), in whole numbers of 15 bits as OpenCV has it.

    That of equal channels is their value.
    """
    try:
        import cv2
    except ImportError:
        sums = pixels.astype(np.int32) @ np.array(LUMA, np.int32)
        return ((sums + (1 << 14)) >> 15).astype(np.uint8)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY), np.uint8)


_LOCK = threading.Lock()
_QUIET = [0, 0]
"""How many threads are within `_quiet`, and OpenCV's log level before the first."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV's own lines about a file away: an error of ours is one line, theirs are five."""
    import cv2

    with _LOCK:
        if not _QUIET[0]:
            _QUIET[1] = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        _QUIET[0] += 1
    try:
        yield
    finally:
        with _LOCK:
            _QUIET[0] -= 1
            if not _QUIET[0]:
                cv2.utils.logging.setLogLevel(_QUIET[1])
