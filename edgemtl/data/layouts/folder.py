"""Paired RGB-IR pictures in the YOLO layout: found, read and checked in one pass.

data.yaml            path, train, val (colour folders), train_ir, val_ir, names; optional: semantic, attributes (names)
rgb/SPLIT/STEM.jpg   ir/SPLIT/STEM.jpg|png       the two views, equal sizes, IR with 8 or 16 bits
labels/SPLIT/STEM.txt                            "class cx cy w h", normalised; labels_rgb/ and labels_ir/ beside it
semantic/ depth/ normals/ edges/                 label pictures, as `maps` says; optional, also for a part
attributes.csv                                   columns stem, is_day and attributes; optional
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from ..errors import DataError
from .maps import READERS, read_map
from .policies import FOLDERS, POLICIES
from .sample import BoxLabels, Sample
from .table import Problem, Row, Table, read_table

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
SHOWN = 20
"""How many problems an error prints; the count is always told."""


@dataclass
class Scan:
    """All that one pass over a data set found."""

    root: Path
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of every task that is labelled."""
    splits: dict[str, list[Sample]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raise `DataError` with the first twenty problems, if there are any."""
        if self.problems:
            lines = [str(problem) for problem in self.problems[:SHOWN]]
            if len(self.problems) > SHOWN:
                lines.append(f"and {len(self.problems) - SHOWN} more")
            count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
            raise DataError(
                "\n".join([f"{self.root}: {count}; mend the files and run `edgemtl data check` again", *lines])
            )

    def to_dict(self) -> dict[str, Any]:
        """Return counts for people and programs."""
        return {
            "path": str(self.root),
            "splits": {name: self._split(samples) for name, samples in self.splits.items()},
            "problems": [str(problem) for problem in self.problems],
        }

    def _split(self, samples: list[Sample]) -> dict[str, Any]:
        names = self.classes["boxes"]
        histogram = Counter(names[c] for s in samples for c in s.labels["boxes"].classes.tolist())
        light = Counter({True: "day", False: "night", None: "unknown"}[s.is_day] for s in samples)
        return {
            "pairs": len(samples),
            "day": light["day"],
            "night": light["night"],
            "unknown": light["unknown"],
            "boxes": {name: histogram[name] for name in names},
            "empty": sum(not len(s.labels["boxes"].classes) for s in samples),
            "labelled": {t: sum(t in s.labels for s in samples) for t in self.classes if t != "boxes"},
            "sizes": sorted({f"{w}x{h}" for h, w in (s.size for s in samples)}),
            "ir_bits": sorted({8 * s.images["ir"].itemsize for s in samples}),
        }


class PairFolder:
    """One split of a checked data set, decoded once and kept in memory."""

    def __init__(self, scan: Scan, split: str) -> None:
        self.samples = scan.splits[split]
        self.classes = scan.classes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def open_pairs(path: str | Path, labels: str = "fused") -> dict[str, PairFolder]:
    """Return the splits "train" and "val"; raises `DataError` with every problem found in them."""
    result = scan(path, labels)
    result.raise_problems()
    return {split: PairFolder(result, split) for split in result.splits}


def scan(path: str | Path, labels: str = "fused") -> Scan:
    """Read a whole data set, its images and its labels, and note every problem."""
    if labels not in POLICIES:
        raise DataError(f"label policy '{labels}' is not one of {', '.join(POLICIES)}")
    root = Path(path)
    result = Scan(root)
    meta = _read_meta(result)
    if meta is None:
        return result
    base = (root / str(meta.get("path", "."))).resolve()
    table = read_table(root / "attributes.csv", result.classes.get("attributes", ()), result.problems)
    for split in ("train", "val"):
        _read_split(result, base, meta, split, labels, table)
    for task in (*READERS, "attributes"):
        labelled = {name: any(task in s.labels for s in samples) for name, samples in result.splits.items()}
        if any(labelled.values()):
            result.classes.setdefault(task, ())
        else:
            result.classes.pop(task, None)  # named, perhaps, but nobody drew them
        for split in [name for name, known in labelled.items() if not known and any(labelled.values())]:
            where = root / "attributes.csv" if task == "attributes" else base / task / split
            result.problems.append(Problem(where, 0, f"split '{split}' has no {task} labels, the other one has"))
    return result


def _read_meta(result: Scan) -> dict[str, Any] | None:
    file = result.root / "data.yaml"
    try:
        meta = yaml.safe_load(file.read_text())
        result.classes = {"boxes": _names(meta["names"])}
        for task in ("semantic", "attributes"):
            if meta.get(task):
                result.classes[task] = _names(meta[task])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = f"is missing {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        result.problems.append(Problem(file, 0, f"cannot be read as a data description: {reason}"))
        return None
    return dict(meta)


def _names(names: Any) -> tuple[str, ...]:
    ordered = names if isinstance(names, list) else [names[i] for i in range(len(names))]
    return tuple(str(name) for name in ordered)


def _read_split(result: Scan, base: Path, meta: dict[str, Any], split: str, labels: str, table: Table) -> None:
    folders = {}
    for modality, key in (("rgb", split), ("ir", f"{split}_ir")):
        folders[modality] = base / str(meta.get(key, f"{modality}/{split}"))
        if not folders[modality].is_dir():
            result.problems.append(Problem(folders[modality], 0, f"this folder of split '{split}' does not exist"))
            return
    files = {modality: _images(result, folder) for modality, folder in folders.items()}
    if not files["rgb"] and not files["ir"]:
        result.problems.append(Problem(folders["rgb"], 0, f"split '{split}' is empty"))
        return
    for modality, other in (("rgb", "ir"), ("ir", "rgb")):
        for stem in sorted(files[modality].keys() - files[other].keys()):
            result.problems.append(Problem(files[modality][stem], 0, f"has no {other} partner in {folders[other]}"))
    stems = sorted(files["rgb"].keys() & files["ir"].keys())
    for folder in FOLDERS[labels]:
        for file in sorted((base / folder / split).glob("*.txt")):
            if file.stem not in files["rgb"] and file.stem not in files["ir"]:
                result.problems.append(Problem(file, 0, "labels a picture that is not there"))
    for task in READERS:
        for file in sorted((base / task / split).glob("*.png")):
            if file.stem not in files["rgb"] and file.stem not in files["ir"]:
                result.problems.append(Problem(file, 0, "labels a picture that is not there"))
    read = (_read_sample(result, base, split, labels, s, {m: files[m][s] for m in files}, table.get(s)) for s in stems)
    result.splits[split] = [sample for sample in read if sample is not None]


def _images(result: Scan, folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by stem; a file that is none, or a second one of a stem, is a problem."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.suffix.lower() not in IMAGES:
            result.problems.append(Problem(file, 0, f"is no picture of a known kind ({', '.join(IMAGES)})"))
        elif file.stem in found:
            result.problems.append(Problem(file, 0, f"has the same stem as {found[file.stem].name}"))
        else:
            found[file.stem] = file
    return found


def _read_sample(
    result: Scan, base: Path, split: str, labels: str, stem: str, files: dict[str, Path], row: Row | None
) -> Sample | None:
    rgb = _read_image(result, files["rgb"], cv2.IMREAD_COLOR)
    ir = _read_image(result, files["ir"], cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    boxes = [list(_read_labels(result, base / folder / split / f"{stem}.txt")) for folder in FOLDERS[labels]]
    if rgb is None or ir is None:
        return None
    if ir.dtype not in (np.uint8, np.uint16):
        result.problems.append(Problem(files["ir"], 0, f"has {8 * ir.itemsize} bits a value; thermal has 8 or 16"))
        return None
    if ir.shape != rgb.shape[:2]:
        sizes = f"{ir.shape[1]}x{ir.shape[0]}, its rgb picture {rgb.shape[1]}x{rgb.shape[0]}"
        result.problems.append(Problem(files["ir"], 0, f"ir is {sizes}: sizes must be equal"))
        return None
    rows = np.array(boxes[0] if len(boxes) == 1 else union(*boxes), np.float32).reshape(-1, 5)
    h, w = rgb.shape[:2]
    centre, half = rows[:, 1:3], rows[:, 3:5] / 2
    xyxy = np.clip(np.concatenate([centre - half, centre + half], 1), 0, 1) * np.array([w, h, w, h], np.float32)
    images = {"rgb": np.ascontiguousarray(rgb[:, :, ::-1]), "ir": ir}
    known: dict[str, Any] = {"boxes": BoxLabels(xyxy.astype(np.float32), rows[:, 0].astype(np.int64))}
    known |= _read_maps(result, base, split, stem, (h, w))
    if row and len(row.attributes):
        known["attributes"] = row.attributes
    return Sample(images, known, row.is_day if row else None, stem)


def _read_image(result: Scan, file: Path, flags: int) -> NDArray[Any] | None:
    image = cv2.imread(str(file), flags)
    if image is None:
        result.problems.append(Problem(file, 0, "cannot be read as an image"))
    return image


def _read_maps(result: Scan, base: Path, split: str, stem: str, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Return what is labelled pixel by pixel; a task without a picture of this stem is not labelled here."""
    found = {}
    for task in READERS:
        file = base / task / split / f"{stem}.png"
        if (task == "semantic" and task not in result.classes) or not file.is_file():
            continue
        try:
            found[task] = read_map(task, file, result.classes.get(task, ()), size)
        except ValueError as error:
            result.problems.append(Problem(file, 0, str(error)))
    return found


def _read_labels(result: Scan, file: Path) -> Iterator[tuple[float, ...]]:
    """Yield class, cx, cy, w, h of every good line; an empty file is a picture without objects."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        result.problems.append(Problem(file, 0, "missing or unreadable label file (an empty one says: no objects)"))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = tuple(float(word) for word in line.split())
        except ValueError:
            row = ()
        if len(row) != 5 or not np.isfinite(row).all():
            result.problems.append(Problem(file, number, f"expected 'class cx cy w h', found '{line[:60]}'"))
        elif row[0] != int(row[0]) or not 0 <= row[0] < len(result.classes["boxes"]):
            known = f"0 to {len(result.classes['boxes']) - 1}"
            result.problems.append(Problem(file, number, f"unknown class {line.split()[0]}; data.yaml names {known}"))
        elif not all(0 <= v <= 1 for v in row[1:]) or min(row[3:]) <= 0:
            result.problems.append(Problem(file, number, f"box outside [0, 1] or without area: '{line[:60]}'"))
        else:
            yield row


def union(
    first: list[tuple[float, ...]], second: list[tuple[float, ...]], same: float = 0.5
) -> list[tuple[float, ...]]:
    """Return the boxes of both views; one of the second that overlaps one of its class in the first is the same object.

    ``same`` is the intersection over union from which two boxes are one object.
    """
    return first + [row for row in second if not any(row[0] == r[0] and _iou(row, r) >= same for r in first)]


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    overlap = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (1, 2)
    ]
    inside = max(overlap[0], 0) * max(overlap[1], 0)
    return inside / (a[3] * a[4] + b[3] * b[4] - inside)
