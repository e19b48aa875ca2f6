"""Labels and predictions drawn on images, by the runtime's own drawing, so that both look alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.draw import COLUMNS, canvas, draw
from edgemtl_runtime.draw.layout import MIN_WIDTH
from edgemtl_runtime.draw.scales import Range, depth_range
from edgemtl_runtime.draw.text import put, shortened
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import DepthMap, HeadResult, Result

from .data.sample import Label, Sample
from .errors import EdgemtlError
from .tasks import TASKS

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""
PANEL_PX = 440
"""Width of a panel on a contact sheet and in a report."""
SHEET_PX = 1800
"""A contact sheet is at most this wide, or one sample wide where that is more."""
GAP_PX = 6
MOST_PX = 1280
PALETTE_PX = 5_000_000
"""Pixels of a contact sheet above which a PNG has a palette of 256 colours."""


def perfect_result(task: str, label: Label, classes: tuple[str, ...]) -> HeadResult:
    """Return a label as the result of a perfect head."""
    return TASKS[task](classes).as_result(label)


def draw_results(
    sample: Sample,
    heads: dict[str, HeadResult],
    width: int = 0,
    columns: int = COLUMNS,
    limits: Range | None = None,
    are_labels: bool = False,
) -> Image:
    """Return a sample's images with results of its size drawn on, in rows of ``columns`` panels.

    Panels are ``width`` pixels wide, by default as `draw` has them but at most 1280. ``limits`` are those of a depth's
    colours, by default its own. Labels have no scores.
    """
    frames = {name: Frame(image, 0, name, 0) for name, image in sample.images.items()}
    pair, results = FramePair(frames), Result(heads, next(iter(frames)), 0, 0, 0, sample.name)
    size = replace(
        canvas(pair, results, width or MIN_WIDTH, width or MOST_PX), scores=not are_labels, depth_range=limits
    )
    return draw(pair, results, size, columns)


def label_results(sample: Sample, classes: Mapping[str, tuple[str, ...]]) -> dict[str, HeadResult]:
    """Return a sample's labels of the tasks in ``classes`` as results of perfect heads."""
    labelled = [task for task in classes if task in sample.labels]
    return {task: perfect_result(task, sample.label(task), classes[task]) for task in labelled}


def draw_labels(
    sample: Sample, classes: Mapping[str, tuple[str, ...]], width: int = PANEL_PX, columns: int = COLUMNS
) -> Image:
    """Return a sample's images with its labels of the tasks in ``classes`` drawn on."""
    return draw_results(sample, label_results(sample, classes), width, columns, are_labels=True)


def depth_limits(heads: Mapping[str, HeadResult]) -> Range | None:
    """Return the range of the colours of the depth among some results, so that others are drawn in the same."""
    return next((depth_range(head) for head in heads.values() if isinstance(head, DepthMap)), None)


def with_title(image: Image, text: str, size: float = 0.45) -> Image:
    """Return an image with a line of text above it; ``size`` is in OpenCV's units."""
    bar = np.full((round(50 * size), image.shape[1], 3), 45, np.uint8)
    put(bar, shortened(text, size, image.shape[1] - 12), (6, round(9 * size)), size, (255, 255, 255))
    return np.vstack([bar, image])


def contact_sheet(images: list[Image], title: str = "") -> Image:
    """Return images in rows, each in a cell of the largest one's size, with a title above them."""
    height = max(image.shape[0] for image in images) + GAP_PX
    width = max(image.shape[1] for image in images) + GAP_PX
    columns = min(max(1, (SHEET_PX + GAP_PX) // width), len(images))
    cells = [
        cv2.copyMakeBorder(image, 0, height - image.shape[0], 0, width - image.shape[1], cv2.BORDER_CONSTANT)
        for image in images
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    sheet = np.asarray(np.vstack(rows), np.uint8)
    return with_title(sheet, title, 0.6) if title else sheet


def encode_sheet(sheet: Image, suffix: str) -> bytes:
    """Return a contact sheet as a file: .jpg, .webp or .png, a large one of 256 colours.

    Raises `EdgemtlError` where the format has no images of this size.
    """
    from PIL import Image as PilImage

    height, width = sheet.shape[:2]
    image = PilImage.fromarray(sheet)
    buffer = BytesIO()
    try:
        if suffix == ".png":
            small = height * width <= PALETTE_PX
            (image if small else image.quantize(256, PilImage.Quantize.MEDIANCUT, dither=PilImage.Dither.NONE)).save(
                buffer, "png", optimize=not small
            )
        else:
            image.save(buffer, "webp" if suffix == ".webp" else "jpeg", quality=85)
    except (OSError, ValueError) as error:
        raise EdgemtlError(f"an image of {width}x{height} cannot be written as {suffix} ({error}); use .png") from error
    return buffer.getvalue()
