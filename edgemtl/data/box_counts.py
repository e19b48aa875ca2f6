"""All boxes of a split, read once before a training: what is wrong stops it then, and not in its middle."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .annotations import Entry, Index
from .problems import Problems
from .sample import BoxLabels

CHUNK = 256
"""Samples that a thread reads at a time."""
THREADS = 4


def count_boxes(index: Index, split: str, samples: Sequence[Entry]) -> int:
    """Return how many boxes a split has, without decoding an image; adds the problems of its label files.

    In a training split without any there is nothing to train, which is a problem.
    """
    entries = [entry for entry in samples if "boxes" in entry.labels]
    chunks = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]
    total = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for count, problems in pool.map(_count, chunks):
            total += count
            index.problems.extend(problems)
    if not index.problems:
        check_any_box(index, split, len(samples), total)
    return total


def check_any_box(index: Index, split: str, num_images: int, total: int) -> None:
    """Add a problem where the training split is labelled, and has no box."""
    if split == "train" and not total and "boxes" in index.classes and num_images:
        index.problem(
            index.root, f"none of the {num_images} images of split 'train' has a box: nothing could be trained"
        )


def _count(entries: Sequence[Entry]) -> tuple[int, Problems]:
    problems, count = Problems(), 0
    for entry in entries:
        boxes = entry.labels["boxes"](entry.size_of_labels(), problems)
        count += len(boxes.classes) if isinstance(boxes, BoxLabels) else 0
    return count, problems
