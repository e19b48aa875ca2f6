"""Images that hold labels: class ids, disparities, masks.

Class ids are read as the file stores them: of an image with a palette (PASCAL VOC's masks are such) the indices, which
the palette only colours for viewers, and of a PNG of 1, 2 or 4 bits the samples, which viewers stretch to 255.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgemtl_runtime.image_file import ImageFileError, inspect
from edgemtl_runtime.pixels import decode, describe

BIT_DEPTH, COLOUR_TYPE, GREY = 24, 25, 0
"""Bytes of a PNG's header, and its colour type of grey (ISO/IEC 15948, 11.2.2)."""


def read_label_image(file: Path, as_shown: bool = False) -> NDArray[Any]:
    """Return the values of an image, (H, W) or (H, W, 3) RGB, not turned; raises `ImageFileError`.

    With ``as_shown`` they are what viewers show, as of a mask that is white where an object is.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ImageFileError(f"cannot be read ({error.strerror or error})") from error
    kind = inspect(data).type
    indices = None if as_shown else _palette_indices(data)
    if indices is not None:
        return indices
    values = decode(data).pixels
    if kind == "PNG" and data[COLOUR_TYPE] == GREY and data[BIT_DEPTH] < 8 and not as_shown:
        values = values // (255 // (2 ** data[BIT_DEPTH] - 1))
    return values


def read_label_channel(file: Path, as_shown: bool = False) -> NDArray[Any]:
    """Return (H, W) values of one channel, also from three equal ones; raises `ImageFileError` for colours."""
    return one_channel(read_label_image(file, as_shown))


def one_channel(values: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W) of an image of one channel, or of three equal ones; raises `ImageFileError` for colours."""
    if values.ndim == 3:
        if (values != values[:, :, :1]).any():
            raise ImageFileError(f"is {describe(values)}, colours; labels have one channel, or a palette")
        values = np.ascontiguousarray(values[:, :, 0])
    return values


def _palette_indices(data: bytes) -> NDArray[np.uint8] | None:
    """Return the indices of an image with a palette, None for one without."""
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads the header only
            return np.array(image) if image.mode == "P" else None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, ImportError):
        return None  # the decoder says what is wrong with it (ultralytics' Image.open imports another reader then)
