"""The image size that labels were made for, held against the image's, and what an EXIF orientation does to both.

A camera that was turned stores its rows as the sensor gave them and an EXIF orientation (1: upright already; 2 to 4:
mirrored or upside down; 5 to 8: a quarter turn). Some tools draw boxes on the image as it is stored, others on the
upright one: only the size that their labels state tells which.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgemtl_runtime.pixels import UPRIGHT, StoredImage

from .problems import Problem, Problems

Size = tuple[int, int]
"""Height and width, pixels."""
ON_UPRIGHT, ON_STORED = ON_IMAGE = ("upright", "stored")
"""The image that labels were made on, where it is known."""


def place_on_labels(
    image: StoredImage, sizes: Iterable[Size], has_labels: bool, exif: str, file: Path, problems: Problems
) -> StoredImage | None:
    """Return an image in the pixels of its labels, with nothing left to turn, or None with a problem added.

    ``sizes`` are those that the labels state; ``has_labels`` is whether any label depends on where pixels are; ``exif``
    is `ON_UPRIGHT` or `ON_STORED` where it is known what the labels were made on, else "".
    """
    if exif in ON_IMAGE and image.orientation != UPRIGHT:
        image = _upright(image) if exif == ON_UPRIGHT else _stored(image)
    stated = dict.fromkeys(sizes)
    for size in stated:
        if size not in (image.size, image.upright_size):
            actual = _text(image.size)
            if image.upright_size != image.size:
                actual += f", by its EXIF orientation {image.orientation} {_text(image.upright_size)}"
            problems.append(Problem(file, 0, f"is {actual}, its labels were made for {_text(size)}"))
            return None
    if image.orientation == UPRIGHT or not has_labels:
        return _upright(image)
    if image.size == image.upright_size or not stated:
        problems.append(
            Problem(
                file,
                0,
                f"has the EXIF orientation {image.orientation}, and nothing tells whether its labels were made on the "
                "image as stored or turned: give exif: upright or stored in data.yaml, or write it turned (by "
                "ImageMagick: mogrify -auto-orient) or without the orientation (exiftool -Orientation=)",
            ),
            "EXIF orientation",
        )
        return None
    if len(stated) > 1:
        problems.append(Problem(file, 0, f"has labels for {' and for '.join(map(_text, stated))}: sizes must be equal"))
        return None
    return _upright(image) if image.upright_size in stated else _stored(image)


def place_on_image(image: StoredImage, size: Size) -> StoredImage:
    """Return another modality's image turned to ``size``, if either of its sizes is that; else upright."""
    return _stored(image) if image.upright_size != size == image.size else _upright(image)


def _upright(image: StoredImage) -> StoredImage:
    return image if image.orientation == UPRIGHT else replace(image, pixels=image.upright(), orientation=UPRIGHT)


def _stored(image: StoredImage) -> StoredImage:
    return replace(image, orientation=UPRIGHT)


def has_size(file: Path, shape: Size, size: Size | None, problems: Problems, what: str = "") -> bool:
    """Return whether a label map, whose first two dimensions are ``shape``, has its image's size, if it is known.

    Where not, a problem is added.
    """
    if size is None or shape == size:
        return True
    is_what = f"{what} is" if what else "is"
    problems.append(Problem(file, 0, f"{is_what} {_text(shape)}, its image {_text(size)}: sizes must be equal"))
    return False


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
