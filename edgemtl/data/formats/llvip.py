"""LLVIP (Jia et al. 2021): street scenes in low light, person, aligned pairs of 1280×1024.

visible/{train,test}/STEM.jpg   infrared/{train,test}/STEM.jpg   Annotations/STEM.xml
"""

from __future__ import annotations

from pathlib import Path

from ..annotations import Entry, Index, pair_by_stem
from ..readers.voc_xml import VocXml

CLASSES = ("person",)


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return all((root / name).is_dir() for name in ("visible", "infrared", "Annotations"))


def index(root: Path, label_policy: str) -> Index:
    """Index the pairs; the test split is evaluated as "val"."""
    result = Index(root, {"boxes": CLASSES})
    for split, folder in (("train", "train"), ("val", "test")):
        views = {"rgb": root / "visible" / folder, "ir": root / "infrared" / folder}
        result.splits[split] = []
        for stem, files in pair_by_stem(views, result).items():
            boxes = VocXml(root / "Annotations" / f"{stem}.xml", CLASSES, {})
            result.splits[split].append(Entry(stem, files, {"boxes": boxes}, False, boxes.stated_size))
    return result
