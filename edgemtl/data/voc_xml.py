"""Boxes in XML files as Pascal VOC has them: <object><name>, <bndbox> with xmin … or x, y, w, h, in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from .index import Problem, Problems, Size
from .sample import BoxLabels


@dataclass(frozen=True)
class VocXml:
    """Reads one file; ``renamed`` says which class a name stands for where it is not its own, None for none."""

    file: Path
    classes: tuple[str, ...]
    renamed: dict[str, str | None]

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels | None:
        """Return the boxes in pixels, clipped to the picture."""
        try:
            objects = ElementTree.parse(self.file).getroot().findall("object")
            rows = [row for item in objects if (row := self._row(item)) is not None]
        except (OSError, ElementTree.ParseError, ValueError) as error:
            problems.append(Problem(self.file, 0, f"cannot be read as VOC's XML: {error}"))
            return None
        xyxy = np.array([row[1:] for row in rows], np.float32).reshape(-1, 4)
        if size is not None:
            h, w = size
            xyxy = xyxy.clip(0, np.array([w, h, w, h], np.float32))
        whole = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
        if not whole.all():
            problems.append(Problem(self.file, 0, f"{int((~whole).sum())} boxes without area inside the picture"))
        return BoxLabels(xyxy[whole], np.array([row[0] for row in rows], np.int64)[whole])

    def _row(self, item: ElementTree.Element) -> tuple[float, ...] | None:
        said = (item.findtext("name") or "").strip()
        name = self.renamed.get(said, said)
        if name is None:
            return None
        if name not in self.classes:
            raise ValueError(f"unknown class '{said}'; known: {', '.join(self.classes)}")
        box = item.find("bndbox")
        if box is None:
            raise ValueError(f"a {said} without <bndbox>")

        def number(key: str) -> float:
            text = box.findtext(key)
            if text is None:
                raise ValueError(f"a {said} without <{key}>")
            return float(text)

        kind = self.classes.index(name)
        if box.find("xmin") is not None:
            return (kind, *(number(key) for key in ("xmin", "ymin", "xmax", "ymax")))
        x, y, w, h = (number(key) for key in ("x", "y", "w", "h"))
        return kind, x, y, x + w, y + h
