"""attributes.csv: attributes of whole images, a row each: stem, is_day, attributes; all but stem 0, 1 or empty."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..problems import Problem, Problems

VALUES = {"0": 0.0, "1": 1.0, "": float("nan")}


@dataclass(frozen=True, eq=False)
class Row:
    """One image: by day or by night, and ``attributes`` (A,) float32 0 or 1, NaN where unknown."""

    is_day: bool | None
    attributes: NDArray[np.float32]


Table = dict[str, Row]


def read_table(file: Path, names: tuple[str, ...], problems: Problems) -> Table:
    """Return the rows by stem, with the attributes ``names``; adds to ``problems``."""
    if not file.is_file():
        return {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        problems.append(Problem(file, 0, "is not UTF-8 text"))
        return {}
    rows = csv.DictReader(lines)
    missing = [name for name in ("stem", *names) if name not in (rows.fieldnames or ())]
    if missing:
        problems.append(Problem(file, 1, f"has no column {', '.join(missing)}"))
        return {}
    table: Table = {}
    for row in rows:
        values = {}
        for name in ("is_day", *names):
            text = (row.get(name) or "").strip()
            if text not in VALUES:
                problems.append(Problem(file, rows.line_num, f"{name} is 0, 1 or empty, not '{text}'"))
            values[name] = VALUES.get(text, float("nan"))
        is_day = None if np.isnan(values["is_day"]) else bool(values["is_day"])
        table[row["stem"]] = Row(is_day, np.array([values[name] for name in names], np.float32))
    return table
