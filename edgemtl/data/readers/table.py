"""attributes.csv: attributes of whole images, a row each: stem, is_day, attributes; all but stem 0, 1 or empty."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..image_lists import IMAGE_SUFFIXES
from ..problems import Problem, Problems

VALUES = {"0": 0.0, "1": 1.0, "": float("nan")}


@dataclass(frozen=True, eq=False)
class Row:
    """One image: by day or by night, and ``attributes`` (A,) float32 0 or 1, NaN where unknown."""

    is_day: bool | None
    attributes: NDArray[np.float32]


@dataclass
class Table:
    """The rows of a table by stem, or by a sample's whole name."""

    file: Path
    rows: dict[str, Row] = field(default_factory=dict)
    is_wrong: bool = False
    """Whether it could not be read."""

    def row(self, name: str) -> Row | None:
        """Return the row of a sample; of one in a sub-folder its whole name or the last part of it counts."""
        return self.rows.get(name) or self.rows.get(name.rpartition("/")[2])

    def check_names(self, names: Iterable[str], problems: Problems) -> None:
        """Count the rows of no sample."""
        known = {key for name in names for key in (name, name.rpartition("/")[2])}
        for stem in self.rows.keys() - known:
            problems.skip("rows without an image", self.file, detail=stem)


def read_table(file: Path, names: tuple[str, ...], problems: Problems) -> Table:
    """Return the rows by stem, with the attributes ``names``; adds to ``problems``."""
    table = Table(file)
    if not file.is_file():
        return table
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        problems.append(Problem(file, 0, "is not UTF-8 text"))
        table.is_wrong = True
        return table
    rows = csv.DictReader(lines, skipinitialspace=True)
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    missing = [name for name in ("stem", *names) if name not in columns]
    if missing:
        actual = ", ".join(columns)[:100] or "none"
        problems.append(
            Problem(file, 1, f"has no column {', '.join(missing)}; its columns, between commas, are {actual}")
        )
        table.is_wrong = True
        return table
    for row in rows:
        values = {}
        for name in ("is_day", *names):
            text = (row.get(name) or "").strip()
            if text not in VALUES:
                problems.append(Problem(file, rows.line_num, f"{name} is 0, 1 or empty, not '{text}'"))
            values[name] = VALUES.get(text, float("nan"))
        is_day = None if np.isnan(values["is_day"]) else bool(values["is_day"])
        stem = _stem((row["stem"] or "").strip())
        if stem in table.rows:
            problems.append(Problem(file, rows.line_num, f"has a second row of '{stem}'"))
        table.rows[stem] = Row(is_day, np.array([values[name] for name in names], np.float32))
    return table


def _stem(text: str) -> str:
    """Return a stem without an image's suffix."""
    path = PurePosixPath(text)
    return path.with_suffix("").as_posix() if path.suffix.lower() in IMAGE_SUFFIXES else text
