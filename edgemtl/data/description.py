"""data.yaml, the description of a folder's dataset: its keys, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from edgemtl_runtime.limits import parse_yaml, read_bounded
from edgemtl_runtime.rig import Rig

from ..errors import DataError, EdgemtlError
from ..tasks import TASKS
from .exports import candidates, read_export
from .label_size import ON_IMAGE
from .problems import Problem, Problems
from .registration import Registered

SPLITS = ("train", "val", "test")
MODALITIES = ("rgb", "ir")
IMAGED = ("depth",)
"""Modalities whose images have to be named, as train_depth: the folder of that name holds labels."""
MISSING = ("problem", "unlabelled", "empty")
BOX_FOLDERS = ("labels", "labels_rgb", "labels_ir")
SPLIT_KEYS = (*SPLITS, *(f"{split}_{modality}" for split in SPLITS for modality in (*MODALITIES, *IMAGED)))
REGISTRATIONS = ("rig", "ir_to_rgb", "resize")
ANNOTATIONS = "annotations"
"""Key of the JSON files of COCO's format."""
KEYS = ("path", *SPLIT_KEYS, ANNOTATIONS, "folders", "missing_labels", "modality", "exif", *REGISTRATIONS)
"""Keys of data.yaml; those of tasks' classes come on top."""
OTHERS_KEYS = frozenset(
    """
    nc download kpt_shape kpt_names flip_idx channels roboflow minival author date license licence version description
    url info colors colours yaml_file task stride imgsz batch train_download val_download contributor year
    """.split()  # noqa: SIM905
)
"""Keys of other tools that are known, and mean nothing to the labels that are read."""
DESCRIPTION = "data.yaml"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def class_keys() -> dict[str, str]:
    """Return the keys of data.yaml that list a task's classes, and the tasks."""
    return {task.class_key: name for name, task in TASKS.items() if task.class_key}


def required_key(task: str) -> str:
    """Return the key of the classes without which a task's labels mean nothing; "" where they do."""
    return TASKS[task].class_key if not TASKS[task](()).channels else ""


def task_folders() -> tuple[str, ...]:
    """Return the folders of labels; ``folders`` may give them other names."""
    return (*BOX_FOLDERS, *(name for name, task in TASKS.items() if task.label_files is not None))


@dataclass(frozen=True)
class Description:
    """A data.yaml: ``splits`` are what it gives by split and modality, ``missing_labels`` one of `MISSING` or ""."""

    file: Path
    base: Path
    splits: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    missing_labels: str = ""
    modality: str = ""
    exif: str = ""
    registered: Registered | None = None
    keypoints: int = 0
    """Numbers after the four of a box that are keypoints, by ``kpt_shape``."""
    annotations: dict[str, str] = field(default_factory=dict)
    """COCO's JSON files by split, or split and camera ("train_ir"); that of "" is their folder, or the only one."""

    def folder_name(self, name: str) -> str:
        """Return the name of a folder of labels."""
        return self.folders.get(name, name)

    def exists(self, paths: Iterable[str]) -> bool:
        """Whether any of these paths of a split does."""
        return any(path.exists() for text in paths for path in candidates(self.base, text))

    @property
    def attributes_file(self) -> Path:
        """The table of whole images."""
        return self.base / "attributes.csv"


def describe(root: Path, problems: Problems) -> Description | None:
    """Return the description of a folder, or of a data.yaml itself; None, with problems added, where it is wrong."""
    file = root if root.is_file() else root / DESCRIPTION
    try:
        if file.suffix.lower() in ARCHIVES:
            raise DataError("it is an archive; unpack it and give the folder")
        file = _yaml_file(root) or file
        if file.is_file():
            return _description(file, _parse(file), problems)
        if (exported := read_export(root)) is not None:
            return _description(*exported, problems)
        around = next((folder for folder in root.absolute().parents[:3] if (folder / DESCRIPTION).is_file()), None)
        hint = (
            f"there is one in {around}" if around else "write one with the names of the classes: names: [person, car]"
        )
        raise DataError(f"it does not exist; {hint}")
    except (EdgemtlError, OSError, TypeError, ValueError) as error:
        message = str(error).splitlines()[0].removeprefix(f"{file}: ")
        problems.append(Problem(file, 0, f"cannot be read as a data description: {message}"))
        return None


def _yaml_file(root: Path) -> Path | None:
    """Return the YAML file of a folder that has one alone, under another name than data.yaml; else None."""
    if root.is_file() or (root / DESCRIPTION).is_file():
        return None
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    if len(files) > 1:
        raise DataError(f"it does not exist; give one of {', '.join(file.name for file in files[:4])} for the folder")
    return next(iter(files), None)


def _parse(file: Path) -> dict[str, Any]:
    values = parse_yaml(read_bounded(file))
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else f"the text '{str(values)[:60]}'"
        raise ValueError(f"it holds {kind}; keys with values are wanted, as names: [person, car]")
    return {str(key): value for key, value in values.items()}


def _base(file: Path, text: str) -> Path:
    """Return the folder that ``path`` names: from the description's folder, or from one of datasets around it."""
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        raise ValueError(f"path {text}: the variable is not set")
    given, around = Path(expanded).expanduser(), file.absolute().parent
    paths = [around / given, around / "datasets" / given, around.parent / given, around.parent / "datasets" / given]
    if given.name == around.name:
        paths.append(around)
    found_path = next((path.resolve() for path in paths if path.is_dir()), None)
    if found_path is None:
        raise ValueError(f"path {(around / given).resolve()} is no folder")
    return found_path


def _description(file: Path, values: Mapping[str, Any], problems: Problems) -> Description:
    _check_keys(file, values, problems)
    base = _base(file, str(values.get("path") or "."))
    named = {task: values[key] for key, task in class_keys().items() if values.get(key) is not None}
    classes = {task: TASKS[task].read_classes(value) for task, value in named.items()}
    classes = {task: names for task, names in classes.items() if names}
    if isinstance(values.get("nc"), int) and "boxes" in classes and values["nc"] != len(classes["boxes"]):
        raise ValueError(f"nc is {values['nc']}, and names has {len(classes['boxes'])} names")
    splits = {split: given for split in SPLITS if (given := _split(values, base, split))}
    shape = values.get("kpt_shape")
    keypoints = int(np.prod(shape)) if isinstance(shape, list) and all(isinstance(n, int) for n in shape) else 0
    return Description(
        file,
        base,
        splits,
        classes,
        _folders(values.get("folders")),
        _one_of(values, "missing_labels", MISSING),
        _one_of(values, "modality", (*MODALITIES, *IMAGED)),
        _one_of(values, "exif", ON_IMAGE),
        _registered(values, file.parent, base),
        keypoints,
        _annotations(values.get(ANNOTATIONS)),
    )


def _check_keys(file: Path, values: Mapping[str, Any], problems: Problems) -> None:
    """Raise `ValueError` for a key that is misspelt; count those that nothing reads."""
    known = [*KEYS, *class_keys()]
    for key in values:
        if key in known or key in OTHERS_KEYS:
            continue
        if near := get_close_matches(key, known, 1, 0.75):
            raise ValueError(f"unknown key '{key}'; did you mean '{near[0]}'?")
        problems.skip("keys that nothing reads", file, detail=key)


def _one_of(values: Mapping[str, Any], key: str, known: Iterable[str]) -> str:
    value = values.get(key)
    if value is not None and value not in tuple(known):
        raise ValueError(f"{key} '{value}' is not one of {', '.join(known)}")
    return str(value or "")


def _annotations(value: object) -> dict[str, str]:
    if isinstance(value, str):
        return {"": value}
    given = value if isinstance(value, dict) else {}
    unknown = [str(key) for key in given if key not in SPLIT_KEYS]
    if unknown or not all(isinstance(path, str) for path in given.values()) or (value is not None and not given):
        raise ValueError(
            f"annotations is '{str(value)[:60]}'; COCO's JSON files by split are wanted, as {{train: a.json, val: "
            "b.json}, with {train_ir: c.json} of a second camera, or their folder"
        )
    return {str(key): str(path) for key, path in given.items()}


def _folders(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"folders is '{str(value)[:60]}'; a mapping is wanted, as folders: {{depth: range}}")
    unknown = sorted({str(name) for name in value} - set(task_folders()))
    if unknown:
        raise ValueError(f"folders names '{unknown[0]}'; known: {', '.join(task_folders())}")
    return {str(task): str(name) for task, name in value.items()}


def _split(values: Mapping[str, Any], base: Path, split: str) -> dict[str, tuple[str, ...]]:
    """Return where a split's images are, by modality: what is named, else the folders that exist."""
    given = {}
    named = [key.removeprefix(f"{split}_") for key in values if key.startswith(f"{split}_")]
    for modality in dict.fromkeys([*MODALITIES, *(modality for modality in named if modality in IMAGED)]):
        keys = [f"{split}_{modality}", *([split] if modality == MODALITIES[0] else [])]
        value = next((values[key] for key in keys if values.get(key)), None)
        if value is not None:
            given[modality] = _paths(keys[-1], value)
        elif modality in MODALITIES and (base / modality / split).is_dir():
            given[modality] = (f"{modality}/{split}",)
    return given


def _paths(key: str, value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    for path in listed:
        if not isinstance(path, str):
            raise ValueError(
                f"{key} names '{str(path)[:60]}'; a folder, a .txt list of images, or a list of these is wanted"
            )
    return tuple(listed)


def _registered(values: Mapping[str, Any], *folders: Path) -> Registered | None:
    given = [key for key in REGISTRATIONS if values.get(key)]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; one brings the cameras together")
    if not given:
        return None
    value = values[given[0]]
    if given == ["rig"]:
        paths = [folder / os.path.expandvars(str(value)) for folder in folders]
        rig = Rig.open(next((path for path in paths if path.is_file()), paths[0]))
        if rig.reference != MODALITIES[0] or set(rig.cameras) != set(MODALITIES):
            raise ValueError(
                f"rig is of {' and '.join(rig.cameras)}, onto {rig.reference}; wanted: rgb and ir, onto rgb"
            )
        return Registered(rig)
    if given == ["resize"]:
        if value is not True:
            raise ValueError(f"resize is '{value}'; true is wanted")
        return Registered()
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or np.linalg.cond(matrix) > 1e12:
        raise ValueError(f"ir_to_rgb is '{str(value)[:60]}'; a homography is wanted: three rows of three numbers")
    return Registered(ir_to_rgb=matrix)
