"""Boxes as YOLO's text files have them: "class cx cy w h" a line, in shares of the image; one or two views."""

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


@dataclass(frozen=True)
class YoloText:
    """Reads the label files of an image, one a view; objects that both views show count once."""

    files: tuple[Path, ...]
    classes: tuple[str, ...]

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels:
        """Return the boxes in pixels, without the lines that are problems."""
        views = [list(self._rows(file, problems)) for file in self.files]
        no_rows: list[Row] = []
        rows = np.array(reduce(union, views, no_rows), np.float32).reshape(-1, 5)
        h, w = size or (1, 1)
        centre, half = rows[:, 1:3], rows[:, 3:5] / 2
        xyxy = np.clip(np.concatenate([centre - half, centre + half], 1), 0, 1) * np.array([w, h, w, h], np.float32)
        return BoxLabels(xyxy.astype(np.float32), rows[:, 0].astype(np.int64))

    def _rows(self, file: Path, problems: Problems) -> Iterator[Row]:
        """Yield class, cx, cy, w, h of every good line; an empty file is an image without objects."""
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            problems.append(Problem(file, 0, "missing or unreadable label file (an empty one means no objects)"))
            return
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = tuple(float(text) for text in line.split())
            except ValueError:
                row = ()
            if len(row) != 5 or not np.isfinite(row).all():
                problems.append(Problem(file, number, f"expected 'class cx cy w h', found '{line[:60]}'"))
            elif row[0] != int(row[0]) or not 0 <= row[0] < len(self.classes):
                known = f"0 to {len(self.classes) - 1}"
                problems.append(Problem(file, number, f"unknown class {line.split()[0]}; data.yaml names {known}"))
            elif not all(0 <= v <= 1 for v in row[1:]) or min(row[3:]) <= 0:
                problems.append(Problem(file, number, f"box outside [0, 1] or without area: '{line[:60]}'"))
            else:
                yield row


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
