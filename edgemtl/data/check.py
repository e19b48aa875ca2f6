"""Statistics of a dataset, over all its samples, and every problem in its files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ..tasks import TASKS
from ..tasks.semantic import ClassMapStatistics
from .annotations import Index
from .box_counts import check_any_box
from .damage import add_damage
from .datasets import read_all
from .formats import index
from .modalities import keep_complete
from .problems import Problems
from .sample import Sample

LIGHT = {True: "day", False: "night", None: "unknown"}
Statistics = dict[str, Any]
"""As JSON holds them: numbers, lists, and dictionaries of these."""


class SplitStatistics:
    """Counts of images, labels, boxes, pixels and attributes by class over one split."""

    def __init__(self, classes: dict[str, tuple[str, ...]]) -> None:
        self.classes = classes
        self.images = 0
        self.light: Counter[bool | None] = Counter()
        self.labelled: Counter[str] = Counter()
        self.by_task = {task: TASKS[task](names).statistics() for task, names in classes.items() if task in TASKS}
        self.sizes: set[tuple[int, int]] = set()
        self.bits: dict[str, set[int]] = {}

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        self.images += 1
        self.light[sample.is_day] += 1
        self.labelled.update(sample.labels.keys())
        self.sizes.add(sample.size)
        for modality, image in sample.images.items():
            self.bits.setdefault(modality, set()).add(8 * image.itemsize)
        for task, task_statistics in self.by_task.items():
            if task in sample.labels:
                task_statistics.add(sample.label(task))

    def to_dict(self) -> Statistics:
        """Return the counts for people and programs; shares are of the pixels, or the images, that are labelled."""
        statistics: Statistics = {"pictures": self.images}
        if self.light[True] or self.light[False]:
            statistics |= {name: self.light[key] for key, name in LIGHT.items()}
        statistics["labelled"] = {task: self.labelled[task] for task in self.classes}
        for task_statistics in self.by_task.values():
            statistics |= task_statistics.to_dict()
        statistics["sizes"] = [f"{w}x{h}" for h, w in sorted(self.sizes)]
        statistics["bits"] = {modality: sorted(bits) for modality, bits in self.bits.items()}
        return statistics


def check(path: str | Path, label_policy: str = "fused", modality: str = "") -> tuple[Index, dict[str, Statistics]]:
    """Read a whole dataset; return its index, with the problems of all its files, and its statistics by split."""
    dataset_index = index(path, label_policy, modality)
    keep_complete(dataset_index)
    by_split, counted = {}, []
    for split, entries in dataset_index.splits.items():
        statistics = SplitStatistics(dataset_index.classes)
        problems = Problems()
        for sample in read_all(entries, problems, f"reading {split}"):
            if sample is not None:
                statistics.add(sample)
        add_damage(entries, problems)
        dataset_index.problems.extend(problems)
        counted.append(statistics)
        by_split[split] = statistics.to_dict()
        if not dataset_index.problems:
            check_any_box(dataset_index, split, len(entries), sum(by_split[split].get("boxes", {}).values()))
    check_class_maps(dataset_index, counted)
    return dataset_index, by_split


def check_class_maps(dataset_index: Index, splits: list[SplitStatistics]) -> None:
    """Add a problem where the second of two classes is written as 255, which is unknown, in all splits."""
    maps = [part for split in splits if isinstance(part := split.by_task.get("semantic"), ClassMapStatistics)]
    labelled = [part for part in maps if part.pixels.any() or part.unknown]
    if labelled and all(part.are_binary for part in labelled):
        second = labelled[0].classes[1]
        dataset_index.problem(
            dataset_index.root,
            f"no pixel is '{second}': the masks hold 0 and 255 alone, and 255 is unknown; write 1 where '{second}' is",
        )


def rows(by_split: dict[str, Statistics]) -> list[list[str]]:
    """Return the statistics as rows of a table, a header first."""
    flat = {split: dict(_flat(statistics)) for split, statistics in by_split.items()}
    names = list(dict.fromkeys(name for cells in flat.values() for name in cells))
    return [["", *by_split], *([name, *(cells.get(name, "") for cells in flat.values())] for name in names)]


def _flat(statistics: Statistics) -> list[tuple[str, str]]:
    cells = []
    for key, value in statistics.items():
        if isinstance(value, dict):
            cells += [(f"{key}: {name}", text) for name, text in _flat(value)]
        elif isinstance(value, float):
            cells.append((key, f"{value:.1%}"))
        else:
            cells.append((key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return cells
