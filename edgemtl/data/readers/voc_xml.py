"""Boxes in XML files as Pascal VOC has them: <object><name>, <bndbox> with xmin … or x, y, w, h, in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ..annotations import clip_boxes
from ..label_size import Size
from ..problems import Problem, Problems
from ..sample import BoxLabels


@dataclass(frozen=True)
class VocXml:
    """Reads one file; ``aliases`` maps names that are not a class to one, or to None for objects that are skipped."""

    file: Path
    classes: tuple[str, ...]
    aliases: Mapping[str, str | None]

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels | None:
        """Return the boxes in pixels, clipped to the image."""
        try:
            objects = ElementTree.parse(self.file).getroot().findall("object")
            rows = [row for item in objects if (row := self._row(item)) is not None]
        except (OSError, ElementTree.ParseError, ValueError) as error:
            problems.append(Problem(self.file, 0, f"cannot be read as VOC's XML: {error}"))
            return None
        boxes, num_outside = clip_boxes(rows, size)
        if num_outside:
            problems.append(Problem(self.file, 0, f"{num_outside} boxes without area inside the image"))
        return boxes

    def _row(self, item: ElementTree.Element) -> tuple[float, ...] | None:
        label_name = (item.findtext("name") or "").strip()
        name = self.aliases.get(label_name, label_name)
        if name is None:
            return None
        if name not in self.classes:
            raise ValueError(f"unknown class '{label_name}'; known: {', '.join(self.classes)}")
        box = item.find("bndbox")
        if box is None:
            raise ValueError(f"a {label_name} without <bndbox>")

        def number(key: str) -> float:
            text = box.findtext(key)
            if text is None:
                raise ValueError(f"a {label_name} without <{key}>")
            return float(text)

        class_id = self.classes.index(name)
        if box.find("xmin") is not None:
            return (class_id, *(number(key) for key in ("xmin", "ymin", "xmax", "ymax")))
        x, y, w, h = (number(key) for key in ("x", "y", "w", "h"))
        return class_id, x, y, x + w, y + h
