"""The JSON files of a dataset in COCO's format: the words in their paths name split and camera, or a data.yaml does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..description import SPLITS, Description
from ..exports import candidates
from ..problems import Problem, Problems

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
MODALITY_WORDS = {
    "rgb": "rgb",
    "visible": "rgb",
    "vis": "rgb",
    "color": "rgb",
    "colour": "rgb",
    "ir": "ir",
    "thermal": "ir",
    "infrared": "ir",
    "lwir": "ir",
}
LABEL_WORDS = {"annotation", "annotations", "coco", "instances", "labels"}
"""Words of a file of boxes, apart from a split's."""
LONE_STEMS = {"result"}
"""Names of files of boxes that have none of these words (Label Studio)."""
OTHER_WORDS = {"caption", "captions", "keypoints", "panoptic", "stuff", "info", "map"}
"""Words of COCO's files that hold no boxes of objects."""
DEPTH = 3
"""Folders are looked for so deep."""


def words(text: str) -> list[str]:
    """Return the words of a path, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def named_by(parts: Sequence[str], names: dict[str, str]) -> str:
    """Return what the last part of a path that has such a word names, or nothing where it names two."""
    for part in reversed(parts):
        named = {names[word] for word in words(part) if word in names}
        if named:
            return named.pop() if len(named) == 1 else ""
    return ""


@dataclass(frozen=True)
class LabelFile:
    """A JSON file; ``split`` and ``modality`` are empty where its path does not name them."""

    file: Path
    split: str
    modality: str


def label_files(root: Path) -> list[LabelFile]:
    """Return a dataset's JSON files of boxes by their names."""
    return [described(file, root) for file in _json_files(root) if not _is_other(file)]


def other_files(root: Path) -> list[Path]:
    """Return COCO's JSON files that hold no boxes of objects, by their names."""
    return [file for file in _json_files(root) if _is_other(file)]


def described_files(description: Description, problems: Problems) -> list[LabelFile]:
    """Return the JSON files that a data.yaml names, or those whose names are of files of boxes."""
    base = description.base
    named: list[LabelFile] = []
    for key, text in description.annotations.items():
        paths = candidates(base, text)
        file = next((path for path in paths if path.exists()), None)
        split, _, modality = key.partition("_")
        if file is None:
            problems.append(Problem(paths[0], 0, f"does not exist; annotations{'.' * bool(key)}{key} names it"))
        elif file.is_dir():
            named += [described(path, base) for path in sorted(file.rglob("*.json")) if not _is_other(path)]
        else:
            by_words = described(file, base)
            named.append(replace(by_words, split=split or "train", modality=modality or by_words.modality))
    return named if description.annotations else label_files(base)


def by_split(files: Iterable[LabelFile], root: Path, problems: Problems) -> dict[str, list[LabelFile]]:
    """Return the files by split, one a camera; several of one split and camera are a problem."""
    alike: dict[tuple[str, str], list[LabelFile]] = {}
    for file in files:
        alike.setdefault((file.split, file.modality), []).append(file)
    has_splits = any(split for split, _ in alike)
    selected: dict[str, list[LabelFile]] = {}
    for (split, _), group in sorted(alike.items(), key=lambda pair: [*SPLITS, ""].index(pair[0][0])):
        if has_splits and not split:
            problems.skip("JSON files of no split", group[0].file, count=len(group))
            continue
        kept = group if len(group) == 1 else [file for file in group if _has_folder(file, root)]
        if len(kept) == 1:
            selected.setdefault(split or "train", []).append(kept[0])
        else:
            names = ", ".join(str(file.file.relative_to(root)) for file in group[:4])
            of_split = f"of split '{split}'" if split else "of no split"
            wanted = f"name one in a data.yaml: annotations: {{{split or 'train'}: FILE}}"
            problems.append(Problem(root, 0, f"has {len(group)} files {of_split}: {names}; {wanted}"))
        if len(kept) == 1 < len(group):
            problems.skip("JSON files of images that are not present", group[0].file, count=len(group) - 1)
    return selected


def _has_folder(file: LabelFile, root: Path) -> bool:
    """Whether there is a folder of images of the file's own name: train2017/ of instances_train2017.json."""
    return (root / file.file.stem.rpartition("_")[2]).is_dir()


def described(file: Path, root: Path) -> LabelFile:
    """Return what the path of a JSON file names."""
    parts = file.relative_to(root).with_suffix("").parts if file.is_relative_to(root) else (file.stem,)
    return LabelFile(file, named_by(parts, SPLIT_WORDS), named_by(parts, MODALITY_WORDS))


def _is_other(file: Path) -> bool:
    return bool(OTHER_WORDS & set(words(file.stem)))


def _json_files(root: Path) -> Iterator[Path]:
    """Yield JSON files whose name, or whose folder's, is that of a file of boxes."""
    for folder in folders(root, 2):
        in_annotations = is_annotations(folder) and folder != root
        for file in sorted(folder.glob("*.json")):
            stem = set(words(file.stem))
            is_lone = folder == root and file.stem in LONE_STEMS
            if in_annotations or is_lone or stem & (LABEL_WORDS | SPLIT_WORDS.keys()):
                yield file


def is_annotations(folder: Path) -> bool:
    """Whether a folder is named after annotations: any JSON file in it is one of boxes."""
    return bool({"annotation", "annotations"} & set(words(folder.name)))


def folders(root: Path, depth: int = DEPTH) -> list[Path]:
    """Return a folder and those in it, so deep; hidden ones are left out."""
    tree = [root]
    if depth:
        with os.scandir(root) as entries:
            inner = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        for name in inner:
            tree += folders(root / name, depth - 1)
    return tree
