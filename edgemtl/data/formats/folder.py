"""A folder of one's own: pictures of any cameras, labels of any tasks, and a data.yaml that says what they mean.

data.yaml            names (of the boxes), semantic, attributes: lists or {id: name}; all other keys are optional:
                     path; train, val, test and train_ir, …: folders of pictures; folders: {TASK: its folder's name};
                     depth: metric | relative, whose scale means nothing
                     missing_labels: problem | unlabelled | empty, what a picture without a label file means
rgb/SPLIT/STEM.jpg   ir/SPLIT/STEM.png           the cameras' views, equal sizes, IR with 8 or 16 bits
labels/SPLIT/STEM.txt                            "class cx cy w h", normalised; labels_rgb/ and labels_ir/ beside it
semantic/ depth/ normals/ edges/                 label pictures, as `maps` says; also for a part
attributes.csv                                   columns stem, is_day and attributes

A task's folder stands beside the pictures': rgb/train has depth/train, and train/images has train/labels, as YOLO
data sets do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from edgemtl_runtime.limits import parse_yaml, read_bounded

from ...errors import EdgemtlError
from ..annotations import IMAGES, Entry, Index, Read, known, paired
from ..policies import FOLDERS
from ..readers.maps import READERS, read_map
from ..readers.table import Table, read_table
from ..readers.yolo_text import YoloText

SPLITS = ("train", "val", "test")
MODALITIES = ("rgb", "ir")
PICTURES = ("rgb", "ir", "images")
"""Names of picture folders, in whose place a task's folder stands."""
NAMED = {"names": "boxes", "semantic": "semantic", "attributes": "attributes"}
"""Keys of data.yaml that list a task's classes."""
KEYS = ["path", *SPLITS, *(f"{split}_ir" for split in SPLITS), *NAMED, "depth", "folders", "missing_labels"]
MISSING = ("problem", "unlabelled", "empty")
DEPTHS = ("metric", "relative")
DESCRIPTION = "data.yaml"


@dataclass(frozen=True)
class Description:
    """What data.yaml says."""

    file: Path
    base: Path
    splits: dict[str, dict[str, tuple[Path, bool]]]
    """Folders of pictures by split and modality, and whether they are named or only looked for."""
    classes: dict[str, tuple[str, ...]]
    folders: dict[str, str]
    missing: str

    def beside(self, pictures: Path, split: str, name: str) -> Path:
        """Return the folder ``name`` that belongs to a folder of pictures."""
        name = self.folders.get(name, name)
        parts = list(pictures.relative_to(self.base).parts) if pictures.is_relative_to(self.base) else []
        for place in reversed(range(len(parts))):
            if parts[place] in PICTURES:
                return self.base.joinpath(*parts[:place], name, *parts[place + 1 :])
        return self.base / name / split


def matches(root: Path) -> bool:
    """Whether this is such a folder, or a data.yaml itself; what is like no other layout is taken for one."""
    return True


def index(root: Path, labels: str) -> Index:
    """List what the folder holds; ``labels`` says whose boxes count where each view has its own."""
    result = Index(root)
    described = _describe(root, result)
    if described is None:
        return result
    result.classes = dict(described.classes)
    if not described.splits:
        result.problem(described.file, "names no folder of pictures, and there is no rgb/train nor ir/train")
    table = read_table(described.base / "attributes.csv", result.classes.get("attributes", ()), result.problems)
    for split, folders in described.splits.items():
        _index_split(result, described, split, folders, labels, table)
    for task in (*READERS, "boxes", "attributes"):
        _settle(result, described, task, labels)
    _check_whole(result, described, labels)
    return result


def _check_whole(result: Index, described: Description, labels: str) -> None:
    """Note what the splits disagree about, and labels of classes without names."""
    first = next(iter(described.splits), "")
    for split, folders in described.splits.items():
        if folders.keys() != described.splits[first].keys():
            ours, theirs = ("+".join(described.splits[s]) for s in (split, first))
            result.problem(next(iter(folders.values()))[0], f"split '{split}' is {ours}, split '{first}' is {theirs}")
        for key, name in (("names", FOLDERS[labels][0]), ("semantic", "semantic")):
            folder = described.beside(next(iter(folders.values()))[0], split, name)
            if folder.is_dir() and NAMED[key] not in described.classes and split == first:
                result.problem(described.file, f"is missing '{key}', the classes of {folder}")


def _settle(result: Index, described: Description, task: str, labels: str) -> None:
    """Keep a task in the classes if somebody labelled it, and if so in every split that training needs."""
    labelled = {name: any(task in entry.labels for entry in entries) for name, entries in result.splits.items()}
    if not any(labelled.values()):
        result.classes.pop(task, None)  # named, perhaps, but nobody drew them
        return
    result.classes.setdefault(task, ())
    for split in [name for name, any_known in labelled.items() if not any_known and name != "test"]:
        first = next(iter(described.splits[split].values()))[0]
        name = FOLDERS[labels][0] if task == "boxes" else task
        where = described.base / "attributes.csv" if task == "attributes" else described.beside(first, split, name)
        result.problem(where, f"split '{split}' has no {task} labels, the other one has")


def _describe(root: Path, result: Index) -> Description | None:
    file = root if root.suffix in (".yaml", ".yml") else root / DESCRIPTION
    try:
        meta = dict(parse_yaml(read_bounded(file)))
        classes = {task: _names(meta[key]) for key, task in NAMED.items() if meta.get(key)}
        where = os.path.expandvars(str(meta.get("path", ".")))
        base = (file.parent / Path(where).expanduser()).resolve()
        folders = {str(task): str(name) for task, name in dict(meta.get("folders") or {}).items()}
        if meta.get("depth", DEPTHS[0]) == DEPTHS[1]:
            classes["depth"] = (DEPTHS[1],)
        missing = str(meta.get("missing_labels", MISSING[0]))
    except (EdgemtlError, OSError, KeyError, TypeError, ValueError) as error:
        reason = f"is missing {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        result.problem(file, f"cannot be read as a data description: {reason}")
        return None
    wrong = ""
    if "$" in where:
        wrong = f"path {where}: the variable is not set"
    elif not base.is_dir():
        wrong = f"path {base} is no folder"
    elif missing not in MISSING:
        wrong = f"missing_labels '{missing}' is not one of {', '.join(MISSING)}"
    elif meta.get("depth", DEPTHS[0]) not in DEPTHS:
        wrong = f"depth '{meta['depth']}' is not one of {', '.join(DEPTHS)}"
    elif strange := sorted(folders.keys() - {*READERS, "labels", "labels_rgb", "labels_ir"}):
        wrong = f"folders names '{strange[0]}'; known: {', '.join(READERS)}, labels"
    elif typos := [
        (key, near) for key in meta if key not in KEYS and (near := get_close_matches(str(key), KEYS, 1, 0.75))
    ]:
        wrong = f"unknown key '{typos[0][0]}'; did you mean '{typos[0][1][0]}'?"
    if wrong:
        result.problem(file, wrong)
        return None
    splits = {split: _folders(meta, base, split) for split in SPLITS}
    return Description(file, base, {s: found for s, found in splits.items() if found}, classes, folders, missing)


def _folders(meta: dict[str, Any], base: Path, split: str) -> dict[str, tuple[Path, bool]]:
    """Return a split's folders of pictures by modality: those that are named, else those that are there."""
    found = {}
    for modality, key in (("rgb", split), ("ir", f"{split}_ir")):
        if meta.get(key):
            found[modality] = (base / str(meta[key]), True)
        elif (base / modality / split).is_dir():
            found[modality] = (base / modality / split, False)
    return found


def _names(names: Any) -> tuple[str, ...]:
    ordered = names if isinstance(names, list) else [names[i] for i in range(len(names))]
    return tuple(str(name) for name in ordered)


def _index_split(
    result: Index,
    described: Description,
    split: str,
    folders: dict[str, tuple[Path, bool]],
    labels: str,
    table: Table,
) -> None:
    for folder, _ in folders.values():
        if not folder.is_dir():
            result.problem(folder, f"this folder of split '{split}' does not exist")
            return
    pairs = dict(paired({modality: folder for modality, (folder, _) in folders.items()}, result))
    first = next(iter(folders.values()))[0]
    stems = {file.stem for folder, _ in folders.values() for file in folder.iterdir() if file.suffix.lower() in IMAGES}
    if not stems:
        result.problem(first, f"split '{split}' is empty")
        return
    places = {task: described.beside(first, split, task) for task in (*READERS, *FOLDERS[labels])}
    for name, folder in places.items():
        for file in sorted(folder.glob("*.png" if name in READERS else "*.txt")):
            if file.stem not in stems:
                result.problem(file, "labels a picture that is not there")
    entries = []
    for stem, files in pairs.items():
        found_labels = _labels(described, places, labels, stem)
        row = table.get(stem)
        if row and len(row.attributes):
            found_labels["attributes"] = partial(known, row.attributes)
        entries.append(Entry(stem, files, found_labels, row.is_day if row else None))
    result.splits[split] = entries


def _labels(described: Description, places: dict[str, Path], labels: str, stem: str) -> dict[str, Read]:
    """Return the readers of what a picture is labelled with, box by box and pixel by pixel."""
    found: dict[str, Read] = {}
    views = [places[name] for name in FOLDERS[labels]]
    if "boxes" in described.classes and all(view.is_dir() for view in views):
        files = tuple(view / f"{stem}.txt" for view in views)
        if described.missing == "empty":
            files = tuple(file for file in files if file.is_file())
        if described.missing != "unlabelled" or all(file.is_file() for file in files):
            found["boxes"] = YoloText(files, described.classes["boxes"])
    for task in READERS:
        file = places[task] / f"{stem}.png"
        if (task != "semantic" or task in described.classes) and file.is_file():
            found[task] = partial(read_map, task, file, described.classes.get(task, ()))
    return found
