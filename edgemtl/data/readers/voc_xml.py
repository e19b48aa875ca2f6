"""Boxes in XML files as Pascal VOC has them (Everingham et al. 2010), in pixels, and the image size that they are of.

<annotation> <size> <width> <height> </size>
             <object> <name> <difficult> <bndbox> <xmin> <ymin> <xmax> <ymax>, or <x> <y> <w> <h> </bndbox> </object>

Objects marked difficult are skipped with a count, as VOC's own evaluation does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ..label_size import Size
from ..problems import Problem, Problems
from ..sample import BoxLabels
from .pixel_boxes import IGNORED, NO_CLASS, pixel_boxes

ROOT = "annotation"
CORNERS, EXTENT = ("xmin", "ymin", "xmax", "ymax"), ("x", "y", "w", "h")


@dataclass(frozen=True)
class VocXml:
    """Reads one file; ``aliases`` maps names that are not a class to one, or to None for objects that are skipped."""

    file: Path
    classes: tuple[str, ...]
    aliases: Mapping[str, str | None]

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels | None:
        """Return the boxes in pixels, clipped to the image."""
        try:
            objects = enumerate(_parse(self.file).findall("object"), 1)
            rows = [row for number, item in objects if (row := self._row(number, item, problems)) is not None]
        except ValueError as error:
            problems.append(Problem(self.file, 0, str(error)))
            return None
        return pixel_boxes(rows, size, self.file, problems)

    def stated_size(self) -> Size | None:
        """Return the size of the image that the boxes were drawn on; None where the file does not state it."""
        try:
            width, height = (float(_parse(self.file).findtext(f"size/{key}") or 0) for key in ("width", "height"))
            return (int(height), int(width)) if width >= 1 and height >= 1 else None
        except ValueError:
            return None  # which reading the boxes reports

    def _row(self, number: int, item: ElementTree.Element, problems: Problems) -> tuple[float, ...] | None:
        """Return an object's class and corners, None where it is skipped; raises `ValueError` with its number."""
        label_name = (item.findtext("name") or "").strip()
        what = f"object {number} ({label_name})" if label_name else f"object {number}"
        name = self.aliases.get(label_name, label_name)
        if name is None:
            problems.skip(NO_CLASS, self.file, detail=what)
            return None
        if not label_name:
            raise ValueError(f"{what} has no <name>")
        if name not in self.classes:
            raise ValueError(f"object {number} has the unknown class '{label_name}'; known: {', '.join(self.classes)}")
        if (item.findtext("difficult") or "").strip() == "1":
            problems.skip(IGNORED, self.file, detail=what)
            return None
        box = item.find("bndbox")
        if box is None:
            raise ValueError(f"{what} has no <bndbox>")
        keys = EXTENT if box.find("x") is not None else CORNERS
        x0, y0, x1, y1 = (_number(box, key, what) for key in keys)
        return (self.classes.index(name), x0, y0, *((x1, y1) if keys == CORNERS else (x0 + x1, y0 + y1)))


def _parse(file: Path) -> ElementTree.Element:
    """Return the root of a file; raises `ValueError` with what it is instead."""
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except FileNotFoundError:
        raise ValueError("does not exist (an image without objects has a file without <object>)") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"cannot be read as XML: {error}") from None
    if root.tag != ROOT:
        raise ValueError(f"is XML of <{root.tag}>; VOC's is of <{ROOT}>, with <object> and <bndbox>")
    return root


def _number(box: ElementTree.Element, key: str, what: str) -> float:
    text = (box.findtext(key) or "").strip()
    if not text:
        raise ValueError(f"{what} has no <{key}>")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{what} has the <{key}> '{text[:40]}'; a number of pixels is wanted")
    return value
