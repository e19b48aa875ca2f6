"""FLIR-aligned (Zhang et al. 2020, of FLIR's free ADAS dataset): person, car, bicycle; aligned pairs of 640×512.

JPEGImages/STEM_RGB.jpg   JPEGImages/STEM_PreviewData.jpeg   Annotations/STEM_PreviewData.xml
align_train.txt   align_validation.txt: STEM_PreviewData a line
"""

from __future__ import annotations

from pathlib import Path

from ..annotations import Entry, Index, read_list
from ..readers.voc_xml import VocXml

CLASSES = ("person", "car", "bicycle")
ALIASES = {"people": "person", "dog": None}
"""A few dogs are drawn although the dataset has three classes."""
LISTS = {"train": "align_train.txt", "val": "align_validation.txt"}


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return (root / "JPEGImages").is_dir() and all((root / name).is_file() for name in LISTS.values())


def index(root: Path, label_policy: str) -> Index:
    """Index the pairs that the two lists name."""
    result = Index(root, {"boxes": CLASSES})
    images = root / "JPEGImages"
    for split, name in LISTS.items():
        result.splits[split] = []
        for line in read_list(root / name, result):
            stem = line.removesuffix("_PreviewData")
            files = {"rgb": images / f"{stem}_RGB.jpg", "ir": images / f"{stem}_PreviewData.jpeg"}
            if result.require(files.values()):
                boxes = VocXml(root / "Annotations" / f"{stem}_PreviewData.xml", CLASSES, ALIASES)
                result.splits[split].append(Entry(stem, files, {"boxes": boxes}, None, boxes.stated_size))
    return result
