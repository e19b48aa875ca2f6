"""A folder of a custom dataset: images of any cameras, labels of any tasks, and a data.yaml that describes them.

data.yaml            names (of the boxes), semantic, attributes: lists or {id: name}; all other keys are optional:
                     path; train, val, test and train_ir, …: folders of images; folders: {TASK: its folder's name};
                     depth: metric | relative, whose scale means nothing
                     missing_labels: problem | unlabelled | empty, what an image without a label file means
rgb/SPLIT/STEM.jpg   ir/SPLIT/STEM.png           the cameras' views, equal sizes, IR with 8 or 16 bits
labels/SPLIT/STEM.txt                            "class cx cy w h", normalised; labels_rgb/ and labels_ir/ next to it
semantic/ depth/ normals/ edges/                 label maps, as `readers.maps` describes; also for a part
attributes.csv                                   columns stem, is_day and attributes

A task's folder stands next to the images': rgb/train has depth/train, and train/images has train/labels, as YOLO
datasets do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from edgemtl_runtime.limits import parse_yaml, read_bounded

from ...errors import EdgemtlError
from ...tasks import TASKS
from ..annotations import IMAGE_SUFFIXES, Entry, Index, LabelReader, constant_label, pair_by_stem
from ..policies import FOLDERS
from ..readers.maps import READERS, read_map
from ..readers.table import Table, read_table
from ..readers.yolo_text import YoloText

SPLITS = ("train", "val", "test")
IMAGE_FOLDERS = ("rgb", "ir", "images")
"""Names of image folders, in whose stead a task's folder stands."""
KEYS = ["path", *SPLITS, *(f"{split}_ir" for split in SPLITS), "folders", "missing_labels"]
"""Keys of data.yaml; those of tasks' classes come on top."""
MISSING = ("problem", "unlabelled", "empty")
DESCRIPTION = "data.yaml"


def class_keys() -> dict[str, str]:
    """Return the keys of data.yaml that list a task's classes, and the tasks."""
    return {task.class_key: name for name, task in TASKS.items() if task.class_key}


@dataclass(frozen=True)
class Description:
    """A data.yaml: ``splits`` are the image folders by split and modality, ``missing`` one of `MISSING`."""

    file: Path
    base: Path
    splits: dict[str, dict[str, Path]]
    classes: dict[str, tuple[str, ...]]
    folders: dict[str, str]
    missing: str

    def label_folder(self, split: str, name: str) -> Path:
        """Return the folder ``name`` that belongs to a split's images."""
        images = next(iter(self.splits[split].values()))
        name = self.folders.get(name, name)
        parts = list(images.relative_to(self.base).parts) if images.is_relative_to(self.base) else []
        for index in reversed(range(len(parts))):
            if parts[index] in IMAGE_FOLDERS:
                return self.base.joinpath(*parts[:index], name, *parts[index + 1 :])
        return self.base / name / split

    @property
    def attributes_file(self) -> Path:
        """The table of whole images."""
        return self.base / "attributes.csv"


def matches(root: Path) -> bool:
    """Whether this is such a folder, or a data.yaml itself: what no other format matches is taken for one."""
    return True


def index(root: Path, label_policy: str) -> Index:
    """Index what the folder holds; ``label_policy`` selects the boxes where each view has its own."""
    result = Index(root)
    description = _describe(root, result)
    if description is None:
        return result
    result.classes = dict(description.classes)
    if not description.splits:
        result.problem(description.file, "names no folder of images, and there is no rgb/train nor ir/train")
    table = read_table(description.attributes_file, result.classes.get("attributes", ()), result.problems)
    for split in description.splits:
        _index_split(result, description, split, label_policy, table)
    for task in (*READERS, "boxes", "attributes"):
        _check_task(result, description, task, label_policy)
    _check_splits(result, description, label_policy)
    return result


def _check_splits(result: Index, description: Description, label_policy: str) -> None:
    """Add problems where the splits disagree, and for labels of classes without names."""
    first = next(iter(description.splits), "")
    for split, folders in description.splits.items():
        if folders.keys() != description.splits[first].keys():
            ours, others = ("+".join(description.splits[s]) for s in (split, first))
            result.problem(next(iter(folders.values())), f"split '{split}' is {ours}, split '{first}' is {others}")
        for key, task in class_keys().items():
            if task == "attributes" or TASKS[task](()).channels:  # a table; a task that may do without classes
                continue
            folder = description.label_folder(split, FOLDERS[label_policy][0] if task == "boxes" else task)
            if folder.is_dir() and task not in description.classes and split == first:
                result.problem(description.file, f"is missing '{key}', the classes of {folder}")


def _check_task(result: Index, description: Description, task: str, label_policy: str) -> None:
    """Keep a task in the classes if any sample has its label, and if so in every split that training needs."""
    labelled = {name: any(task in entry.labels for entry in entries) for name, entries in result.splits.items()}
    if not any(labelled.values()):
        result.classes.pop(task, None)  # it may be named without any label
        return
    result.classes.setdefault(task, ())
    for split in [name for name, is_labelled in labelled.items() if not is_labelled and name != "test"]:
        name = FOLDERS[label_policy][0] if task == "boxes" else task
        file = description.attributes_file if task == "attributes" else description.label_folder(split, name)
        result.problem(file, f"split '{split}' has no {task} labels, the other one has")


def _describe(root: Path, result: Index) -> Description | None:
    file = root if root.suffix in (".yaml", ".yml") else root / DESCRIPTION
    try:
        meta: dict[str, Any] = dict(parse_yaml(read_bounded(file)))
        classes = {task: TASKS[task].read_classes(meta[key]) for key, task in class_keys().items() if meta.get(key)}
        classes = {task: names for task, names in classes.items() if names}
        path = os.path.expandvars(str(meta.get("path", ".")))
        base = (file.parent / Path(path).expanduser()).resolve()
        folders = {str(task): str(name) for task, name in dict(meta.get("folders") or {}).items()}
        missing = str(meta.get("missing_labels", MISSING[0]))
    except (EdgemtlError, OSError, KeyError, TypeError, ValueError) as error:
        reason = f"is missing {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        result.problem(file, f"cannot be read as a data description: {reason}")
        return None
    message, keys = "", [*KEYS, *class_keys()]
    if "$" in path:
        message = f"path {path}: the variable is not set"
    elif not base.is_dir():
        message = f"path {base} is no folder"
    elif missing not in MISSING:
        message = f"missing_labels '{missing}' is not one of {', '.join(MISSING)}"
    elif unknown := sorted(folders.keys() - {*READERS, "labels", "labels_rgb", "labels_ir"}):
        message = f"folders names '{unknown[0]}'; known: {', '.join(READERS)}, labels"
    elif typos := [
        (key, near) for key in meta if key not in keys and (near := get_close_matches(str(key), keys, 1, 0.75))
    ]:
        message = f"unknown key '{typos[0][0]}'; did you mean '{typos[0][1][0]}'?"
    if message:
        result.problem(file, message)
        return None
    splits = {split: image_folders for split in SPLITS if (image_folders := _image_folders(meta, base, split))}
    return Description(file, base, splits, classes, folders, missing)


def _image_folders(meta: Mapping[str, Any], base: Path, split: str) -> dict[str, Path]:
    """Return a split's folders of images by modality: those that are named, else those that exist."""
    folders = {}
    for modality, key in (("rgb", split), ("ir", f"{split}_ir")):
        if meta.get(key):
            folders[modality] = base / str(meta[key])
        elif (base / modality / split).is_dir():
            folders[modality] = base / modality / split
    return folders


def _index_split(result: Index, description: Description, split: str, label_policy: str, table: Table) -> None:
    folders = description.splits[split]
    for folder in folders.values():
        if not folder.is_dir():
            result.problem(folder, f"this folder of split '{split}' does not exist")
            return
    pairs = pair_by_stem(folders, result)
    files = (file for folder in folders.values() for file in folder.iterdir())
    stems = {file.stem for file in files if file.suffix.lower() in IMAGE_SUFFIXES}
    if not stems:
        result.problem(next(iter(folders.values())), f"split '{split}' is empty")
        return
    label_folders = {name: description.label_folder(split, name) for name in (*READERS, *FOLDERS[label_policy])}
    for name, folder in label_folders.items():
        for file in sorted(folder.glob(f"*{READERS[name].suffix}" if name in READERS else "*.txt")):
            if file.stem not in stems:
                result.problem(file, "labels an image that does not exist")
    entries = []
    for stem, image_files in pairs.items():
        readers = _label_readers(description, label_folders, label_policy, stem)
        row = table.get(stem)
        if row and len(row.attributes):
            readers["attributes"] = partial(constant_label, row.attributes)
        entries.append(Entry(stem, image_files, readers, row.is_day if row else None))
    result.splits[split] = entries


def _label_readers(
    description: Description, label_folders: Mapping[str, Path], label_policy: str, stem: str
) -> dict[str, LabelReader]:
    """Return the readers of an image's boxes and label maps."""
    readers: dict[str, LabelReader] = {}
    views = [label_folders[name] for name in FOLDERS[label_policy]]
    if "boxes" in description.classes and all(view.is_dir() for view in views):
        files = tuple(view / f"{stem}.txt" for view in views)
        if description.missing == "empty":
            files = tuple(file for file in files if file.is_file())
        if description.missing != "unlabelled" or all(file.is_file() for file in files):
            readers["boxes"] = YoloText(files, description.classes["boxes"])
    for task, label_files in READERS.items():
        file, classes = label_folders[task] / f"{stem}{label_files.suffix}", description.classes.get(task, ())
        if TASKS[task](classes).channels and file.is_file():
            readers[task] = partial(read_map, task, file, classes)
    return readers
