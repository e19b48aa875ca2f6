"""What a data set holds, counted picture by picture, and every problem in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .annotations import Index, Problems
from .datasets import read_all
from .formats import index
from .sample import IGNORE, Sample

LIGHT = {True: "day", False: "night", None: "unknown"}


class Census:
    """Counts of one split."""

    def __init__(self, classes: dict[str, tuple[str, ...]]) -> None:
        self.classes = classes
        self.pictures = self.empty = 0
        self.light: Counter[bool | None] = Counter()
        self.labelled: Counter[str] = Counter()
        self.boxes = np.zeros(len(classes.get("boxes", ())), np.int64)
        self.pixels = np.zeros(len(classes.get("semantic", ())), np.int64)
        self.attributes = np.zeros((2, len(classes.get("attributes", ()))), np.int64)
        self.sizes: set[tuple[int, int]] = set()
        self.bits: dict[str, set[int]] = {}

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        self.pictures += 1
        self.light[sample.is_day] += 1
        self.labelled.update(sample.labels.keys())
        self.sizes.add(sample.size)
        for modality, image in sample.images.items():
            self.bits.setdefault(modality, set()).add(8 * image.itemsize)
        if (boxes := sample.labels.get("boxes")) is not None:
            self.boxes += np.bincount(boxes.classes, minlength=len(self.boxes))
            self.empty += not len(boxes.classes)
        if (ids := sample.labels.get("semantic")) is not None:
            self.pixels += np.bincount(ids[ids != IGNORE], minlength=len(self.pixels))
        if (held := sample.labels.get("attributes")) is not None:
            self.attributes += np.stack([held == 1, ~np.isnan(held)])

    def to_dict(self) -> dict[str, Any]:
        """Return the counts for people and programs; shares are of the pixels, or the pictures, that are labelled."""
        told: dict[str, Any] = {"pictures": self.pictures}
        if self.light[True] or self.light[False]:
            told |= {name: self.light[key] for key, name in LIGHT.items()}
        told["labelled"] = {task: self.labelled[task] for task in self.classes}
        if "boxes" in self.classes:
            told["boxes"] = dict(zip(self.classes["boxes"], self.boxes.tolist(), strict=True))
            told["empty"] = self.empty
        if "semantic" in self.classes:
            told["semantic"] = _shares(self.classes["semantic"], self.pixels, self.pixels.sum())
        if "attributes" in self.classes:
            told["attributes"] = _shares(self.classes["attributes"], *self.attributes)
        told["sizes"] = [f"{w}x{h}" for h, w in sorted(self.sizes)]
        told["bits"] = {modality: sorted(bits) for modality, bits in self.bits.items()}
        return told


def _shares(names: tuple[str, ...], counts: Any, of: Any) -> dict[str, float]:
    return dict(zip(names, (counts / np.maximum(of, 1)).round(4).tolist(), strict=True))


def check(path: str | Path, labels: str = "fused") -> tuple[Index, dict[str, Any]]:
    """Read a whole data set; return its index, with the problems of its files as well, and its counts by split."""
    found = index(path, labels)
    counts = {}
    for split, entries in found.splits.items():
        census = Census(found.classes)
        problems: Problems = []
        for sample in read_all(entries, problems, f"reading {split}"):
            if sample is not None:
                census.add(sample)
        found.problems += problems
        counts[split] = census.to_dict()
    return found, counts


def rows(counts: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the counts as rows of words, a header first."""
    splits = list(counts)
    flat = {split: dict(_flat(told)) for split, told in counts.items()}
    names = list(dict.fromkeys(name for told in flat.values() for name in told))
    return [["", *splits], *([name, *(flat[split].get(name, "") for split in splits)] for name in names)]


def _flat(told: dict[str, Any]) -> list[tuple[str, str]]:
    out = []
    for key, value in told.items():
        if isinstance(value, dict):
            out += [(f"{key}: {name}", word) for name, word in _flat(value)]
        elif isinstance(value, float):
            out.append((key, f"{value:.1%}"))
        else:
            out.append((key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return out
