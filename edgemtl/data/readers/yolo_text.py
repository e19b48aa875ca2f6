"""Boxes as YOLO's text files have them: "class cx cy w h" a line, in shares of the image; one or two views.

A polygon, "class x1 y1 x2 y2 x3 y3 …", is read as the box around it, as other tools do; keypoints after a box are
skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from ..label_size import Size
from ..problems import Problem, Problems
from ..sample import BoxLabels

Row = tuple[float, ...]
"""Class, cx, cy, w, h."""
NUM_BOX = 5
MIN_POLYGON = 7
"""Numbers of a box, and of a triangle, with the class."""
ROUNDING = 0.01
"""How far outside of [0, 1] a coordinate is taken for rounded; beyond, it is no share of the image."""


@dataclass(frozen=True)
class YoloText:
    """Reads the label files of an image, one a view; objects that both views show count once.

    ``keypoints`` is how many numbers of keypoints follow those of a box.
    """

    files: tuple[Path, ...]
    classes: tuple[str, ...]
    keypoints: int = 0

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels:
        """Return the boxes in pixels, without the lines that are problems; as shares where the size is not known."""
        views = [list(self._rows(file, problems)) for file in self.files]
        no_rows: list[Row] = []
        rows = np.array(reduce(union, views, no_rows), np.float32).reshape(-1, NUM_BOX)
        h, w = size or (1, 1)
        centre, half = rows[:, 1:3], rows[:, 3:5] / 2
        xyxy = np.clip(np.concatenate([centre - half, centre + half], 1), 0, 1) * np.array([w, h, w, h], np.float32)
        return BoxLabels(xyxy.astype(np.float32), rows[:, 0].astype(np.int64))

    def _rows(self, file: Path, problems: Problems) -> Iterator[Row]:
        """Yield every good line of a file, each once; an empty file is an image without objects."""
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except OSError:
            problems.append(Problem(file, 0, "missing or unreadable label file (an empty one means no objects)"))
            return
        except UnicodeDecodeError:
            problems.append(Problem(file, 0, "is not UTF-8 text"))
            return
        rows: set[Row] = set()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = self._row(line, file, number, problems)
            except ValueError as error:
                problems.append(Problem(file, number, str(error)))
                continue
            if row in rows:
                problems.skip("boxes that repeat a line", file, number)
            elif row is not None:
                rows.add(row)
                yield row

    def _row(self, line: str, file: Path, number: int, problems: Problems) -> Row | None:
        """Return a line's box, None where it is skipped; raises `ValueError`."""
        try:
            numbers = tuple(float(text) for text in line.split())
        except ValueError:
            numbers = ()
        if not np.isfinite(numbers).all() or (not self._is_box(len(numbers)) and not self._is_polygon(len(numbers))):
            extra = (
                "; a sixth number, as predictions have it, is none of a label" if len(numbers) == NUM_BOX + 1 else ""
            )
            raise ValueError(f"expected 'class cx cy w h', found '{line[:60]}'{extra}")
        class_id, *coordinates = numbers
        if class_id != int(class_id) or not 0 <= class_id < len(self.classes):
            raise ValueError(f"unknown class {line.split()[0]}; data.yaml names 0 to {len(self.classes) - 1}")
        if self._is_box(len(numbers)):
            if len(numbers) > NUM_BOX:
                problems.skip("keypoints", file, number)
            cx, cy, w, h = coordinates[: NUM_BOX - 1]
            to_check = [cx, cy, w, h]
        else:
            problems.note("polygons as the boxes around them", file, number)
            x, y = coordinates[::2], coordinates[1::2]
            cx, cy, w, h = (min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)
            to_check = coordinates
        if min(w, h) < 0 or not -ROUNDING <= min(to_check) <= max(to_check) <= 1 + ROUNDING:
            raise ValueError(f"box outside [0, 1]: '{line[:60]}'; coordinates are shares of the image")
        if not (min(to_check) >= 0 and max(to_check) <= 1):
            problems.note("coordinates rounded past the image as its edge", file, number)
        box = [value.clip(0, 1) for value in np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])]
        if not (box[2] > box[0] and box[3] > box[1]):
            problems.skip("boxes without area inside the image", file, number)
            return None
        return class_id, cx, cy, w, h

    def _is_box(self, count: int) -> bool:
        return count == NUM_BOX or (self.keypoints > 0 and count == NUM_BOX + self.keypoints)

    def _is_polygon(self, count: int) -> bool:
        return not self.keypoints and count >= MIN_POLYGON and count % 2 == 1


def union(first: list[Row], second: list[Row], same: float = 0.5) -> list[Row]:
    """Return the boxes of both views; one of the second that overlaps one of its class in the first is the same object.

    ``same`` is the intersection over union from which two boxes are one object.
    """
    return first + [row for row in second if not any(row[0] == r[0] and _iou(row, r) >= same for r in first)]


def _iou(a: Row, b: Row) -> float:
    overlap = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (1, 2)
    ]
    inside = max(overlap[0], 0) * max(overlap[1], 0)
    return inside / (a[3] * a[4] + b[3] * b[4] - inside)
