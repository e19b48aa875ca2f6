"""COCO's object detection JSON (Lin et al. 2014): images of one camera or two, their boxes, and label maps with them.

annotations/instances_train2017.json   train2017/                      as COCO has them
train/_annotations.coco.json           train/                          as Roboflow writes them; valid is "val"
annotations/train.json                 images/train/, train/, images/  and other names with the word of a split
result.json, labels.json …             images/, data/                  one file of no split is "train"
annotations/instances_train_ir.json    ir/train/                       a second camera: a file with its word, or …
rgb/train/                             ir/train/, thermal/train/       … images next to those that the file names
depth/train/STEM.png …                                                 maps of other tasks, as `readers.maps` describes

Boxes alone are read from the files (`readers.coco_json`). Where both cameras have a file, ``label_policy`` selects
whose boxes count; "fused" takes both, unless a file is of no camera.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..annotations import Entry, Index, LabelReader
from ..readers.coco_json import CocoJson, read_coco_json, with_classes
from .coco_files import LabelFile, label_files, other_files
from .coco_views import CocoBoxes, add_partners, check_pairs, sources, views_of

SPLITS = ("train", "val", "test")
SHAPE = "boxes are read from instances_train….json, train.json, train/_annotations.coco.json or the like"


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return root.is_dir() and not (root / "data.yaml").is_file() and bool(label_files(root) or other_files(root))


def index(root: Path, label_policy: str) -> Index:
    """Index the images of every split that has a file."""
    result = Index(root)
    files = _by_split(label_files(root), result)
    if not files and not result.problems:
        names = ", ".join(str(file.relative_to(root)) for file in other_files(root)[:4])
        result.problem(root, f"{names}: no file of boxes; {SHAPE}")
    read: dict[str, list[tuple[LabelFile, CocoJson]]] = {}
    for split, of_split in files.items():
        for file in of_split:
            if (content := read_coco_json(file.file, result.problems)) is not None:
                read.setdefault(split, []).append((file, content))
    result.classes["boxes"] = _unite_classes(read, result)
    for split, pairs in read.items():
        _index_split(result, split, pairs, label_policy)
    return result


def _by_split(files: Iterable[LabelFile], result: Index) -> dict[str, list[LabelFile]]:
    """Return the files by split, one a camera; several of one split and camera are a problem."""
    candidates: dict[tuple[str, str], list[LabelFile]] = {}
    for file in files:
        candidates.setdefault((file.split, file.modality), []).append(file)
    has_splits = any(split for split, _ in candidates)
    by_split: dict[str, list[LabelFile]] = {}
    for (split, _), alike in sorted(candidates.items(), key=lambda pair: [*SPLITS, ""].index(pair[0][0])):
        if has_splits and not split:
            result.problems.skip("JSON files of no split", alike[0].file, count=len(alike))
            continue
        kept = alike if len(alike) == 1 else [file for file in alike if _has_folder(file, result.root)]
        if len(kept) != 1:
            names = ", ".join(str(file.file.relative_to(result.root)) for file in alike[:4])
            of_split = f"split '{split}'" if split else "one split"
            result.problem(result.root, f"has {len(alike)} files for {of_split}: {names}; keep one of them")
            continue
        if len(alike) > 1:
            result.problems.skip("JSON files of images that are not present", alike[0].file, count=len(alike) - 1)
        by_split.setdefault(split or "train", []).append(kept[0])
    return by_split


def _has_folder(file: LabelFile, root: Path) -> bool:
    """Whether there is a folder of images of the file's own name: train2017/ of instances_train2017.json."""
    return (root / file.file.stem.rpartition("_")[2]).is_dir()


def _unite_classes(read: dict[str, list[tuple[LabelFile, CocoJson]]], result: Index) -> tuple[str, ...]:
    """Give every file the first one's classes; others may list fewer, in another order, but none that is new."""
    classes: tuple[str, ...] = ()
    first = Path()
    for split, files in read.items():
        united = []
        for label_file, content in files:
            if not classes:
                classes, first = content.classes, content.file
            new = [name for name in content.classes if name not in classes]
            if new:
                result.problem(content.file, f"has the categories {', '.join(new)[:100]}, which {first} does not have")
            else:
                united.append((label_file, with_classes(content, classes)))
        read[split] = united
    return classes


def _index_split(result: Index, split: str, files: list[tuple[LabelFile, CocoJson]], label_policy: str) -> None:
    for _, content in files:
        if not content.is_labelled and split != "test":
            result.problem(content.file, "has no annotations")
    views = views_of(files, result)
    add_partners(views, result)
    check_pairs(views, split, result)
    counted = sources(views, label_policy, result)
    entries = []
    for name in views.samples():
        images = {modality: views.images[modality][name] for modality in views.modalities}
        first = images[views.modalities[0]]
        labels: dict[str, LabelReader] = {}
        if boxes := tuple(source[name] for source in counted if name in source):
            labels["boxes"] = CocoBoxes(boxes, files[0][1].file)
        stated = next((image.stated_size for image in images.values() if image.stated_size), None)
        entries.append(Entry(name, {m: image.file for m, image in images.items()}, labels, None, stated, first.exif))
    result.splits[split] = entries
