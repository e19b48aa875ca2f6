"""Boxes in XML files as Pascal VOC has them: <object><name>, <bndbox> with xmin … or x, y, w, h, in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ..annotations import Problem, Problems, Size, boxes_inside
from ..sample import BoxLabels


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
        found, lost = boxes_inside(rows, size)
        if lost:
            problems.append(Problem(self.file, 0, f"{lost} boxes without area inside the picture"))
        return found

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
