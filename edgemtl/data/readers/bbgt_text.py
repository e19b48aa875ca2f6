"""Boxes in text files as Dollár's toolbox writes them: "% bbGt version=3", then an object a line, in pixels.

name x y w h occluded vx vy vw vh ignore angle: what follows the box is optional; an object marked ignore is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..label_size import Size
from ..problems import Problem, Problems
from ..sample import BoxLabels
from .pixel_boxes import IGNORED, NO_CLASS, pixel_boxes

COMMENT = "%"
IGNORE = 10
"""The field that says whether an object is marked ignore."""


@dataclass(frozen=True)
class BbGtText:
    """Reads one file; ``aliases`` maps names that are not a class to one, or to None for objects that are skipped."""

    file: Path
    classes: tuple[str, ...]
    aliases: Mapping[str, str | None]

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels | None:
        """Return the boxes in pixels, clipped to the image."""
        try:
            lines = self.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(self.file, 0, f"cannot be read as text: {error}"))
            return None
        rows = []
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields or fields[0].startswith(COMMENT):
                continue
            name = self.aliases.get(fields[0], fields[0])
            ignored = fields[IGNORE : IGNORE + 1] == ["1"]
            if name is None or ignored:
                problems.skip(NO_CLASS if name is None else IGNORED, self.file, number, fields[0])
                continue
            try:
                x, y, w, h = (float(field) for field in fields[1:5])
                if name not in self.classes or not np.isfinite([x, y, w, h]).all():
                    raise ValueError
            except ValueError:
                form = f"'{'|'.join(self.classes)} x y w h …'"
                problems.append(Problem(self.file, number, f"expected {form}, found '{line[:60]}'"))
                continue
            rows.append((self.classes.index(name), x, y, x + w, y + h))
        return pixel_boxes(rows, size, self.file, problems)
