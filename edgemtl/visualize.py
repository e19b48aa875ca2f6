"""Labels and predictions drawn on images, by the runtime's own drawing, so that both look alike."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.draw import draw, write
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import HeadResult, Result

from .data.sample import Label, Sample
from .tasks import TASKS

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""
SHEET_PX = 4000
"""A contact sheet is at most this wide."""


def perfect_result(task: str, label: Label, classes: tuple[str, ...]) -> HeadResult:
    """Return a label as the result of a perfect head."""
    return TASKS[task](classes).as_result(label)


def draw_results(sample: Sample, heads: dict[str, HeadResult]) -> Image:
    """Return a sample's images side by side with results of its size drawn on."""
    frames = {name: Frame(image, 0, name, 0) for name, image in sample.images.items()}
    return draw(FramePair(frames), Result(heads, next(iter(frames)), 0, 0, 0, sample.name))


def draw_labels(sample: Sample, classes: Mapping[str, tuple[str, ...]]) -> Image:
    """Return a sample's images with its labels of the tasks in ``classes`` drawn on."""
    labelled = [task for task in classes if task in sample.labels]
    return draw_results(sample, {task: perfect_result(task, sample.label(task), classes[task]) for task in labelled})


def with_title(image: Image, text: str) -> Image:
    """Return an image with a line of text above it."""
    bar = np.full((22, image.shape[1], 3), 30, np.uint8)
    write(bar, text, (4, 15), 0.45, (255, 255, 255))
    return np.vstack([bar, image])


def contact_sheet(images: list[Image], columns: int) -> Image:
    """Return images in rows of ``columns``, each in a cell of the largest one's size, scaled to fit."""
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    columns = min(columns, len(images))
    cells = [
        cv2.copyMakeBorder(image, 0, height - image.shape[0] + 4, 0, width - image.shape[1] + 4, cv2.BORDER_CONSTANT)
        for image in images
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    sheet = np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])
    if sheet.shape[1] > SHEET_PX:
        scale = SHEET_PX / sheet.shape[1]
        sheet = cv2.resize(sheet, (SHEET_PX, round(sheet.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    return np.asarray(sheet, np.uint8)
