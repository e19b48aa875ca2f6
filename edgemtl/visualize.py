"""Labels and predictions as people see them: drawn by the runtime's own hand, so that both look alike."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import result
from edgemtl_runtime.draw import UNKNOWN, draw, write
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import HeadResult, Result

from .data.sample import IGNORE, BoxLabels, Sample

Picture = NDArray[np.uint8]
SHEET_PX = 4000
"""A contact sheet is at most this wide."""


def truth(task: str, label: Any, classes: tuple[str, ...]) -> HeadResult:
    """Return a label as the result that a perfect head would give; unknown pixels are a class of their own, or zero."""
    if task == "boxes":
        assert isinstance(label, BoxLabels)
        return result.Boxes(label.xyxy, np.ones(len(label.classes), np.float32), label.classes, classes)
    if task == "semantic":
        return result.LabelMap(np.where(label == IGNORE, len(classes), label).astype(np.uint8), (*classes, UNKNOWN))
    if task == "depth":
        return result.DepthMap(label)
    if task == "normals":
        return result.NormalMap(label)
    if task == "edges":
        return result.EdgeMap(np.where(label == IGNORE, 0.3, label).astype(np.float32), 0.5)
    known = ~np.isnan(label)
    names = tuple(name for name, there in zip(classes, known, strict=True) if there)
    return result.Attributes(label[known].astype(np.float32), names, 0.5)


def drawn(sample: Sample, heads: dict[str, HeadResult]) -> Picture:
    """Return a sample's pictures side by side with results of its own size drawn on: (H, W, 3) uint8 RGB."""
    frames = {name: Frame(image, 0, name, 0) for name, image in sample.images.items()}
    return draw(FramePair(frames), Result(heads, next(iter(frames)), 0, 0, 0, sample.name))


def labelled(sample: Sample, classes: dict[str, tuple[str, ...]]) -> Picture:
    """Return a sample with its labels of the tasks in ``classes`` drawn on."""
    known = [task for task in classes if task in sample.labels]
    return drawn(sample, {task: truth(task, sample.labels[task], classes[task]) for task in known})


def titled(picture: Picture, text: str) -> Picture:
    """Return a picture with a line of text above it."""
    bar = np.full((22, picture.shape[1], 3), 30, np.uint8)
    write(bar, text, (4, 15), 0.45, (255, 255, 255))
    return np.vstack([bar, picture])


def sheet(pictures: list[Picture], columns: int) -> Picture:
    """Return pictures in rows of ``columns``, each in a cell of the largest one's size, scaled to fit."""
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    columns = min(columns, len(pictures))
    cells = [
        cv2.copyMakeBorder(p, 0, height - p.shape[0] + 4, 0, width - p.shape[1] + 4, cv2.BORDER_CONSTANT)
        for p in pictures
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    whole = np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])
    if whole.shape[1] > SHEET_PX:
        scale = SHEET_PX / whole.shape[1]
        whole = cv2.resize(whole, (SHEET_PX, round(whole.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    return np.asarray(whole, np.uint8)
