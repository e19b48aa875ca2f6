"""COCO's object detection JSON (Lin et al. 2014): images of one camera or two, their boxes, and label maps with them.

annotations/instances_train2017.json   train2017/                      as COCO has them
train/_annotations.coco.json           train/                          as Roboflow writes them; valid is "val"
annotations/train.json                 images/train/, train/, images/  and other names with the word of a split
result.json, labels.json …             images/, data/                  one file of no split is "train"
annotations/instances_train_ir.json    ir/train/                       a second camera: a file with its word, or …
rgb/train/                             ir/train/, thermal/train/       … images next to those that the file names
depth/train/STEM.png, attributes.csv                                   labels of other tasks, as `folder` has them
data.yaml                              annotations: the files by split ({train: a.json, train_ir: b.json}), or their
                                       folder; and all keys of `folder`, each optional

Boxes alone are read from the files (`readers.coco_json`). Where cameras have a file each, ``label_policy`` selects
whose boxes count; "fused" and "union" take those of all, and an object that two views show once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgemtl_runtime.limits import parse_yaml, read_bounded

from ...errors import EdgemtlError
from ..annotations import Entry, Index, constant_label
from ..description import ANNOTATIONS, DESCRIPTION, Description, describe
from ..problems import Problem, Problems
from ..readers.coco_json import CocoJson, read_coco_json, with_classes
from ..readers.table import Table, read_table
from .coco_files import LabelFile, by_split, described, described_files, is_annotations, label_files, other_files
from .coco_maps import LabelMaps
from .coco_views import CocoBoxes, add_partners, sources, views_of

SHAPE = "boxes are read from instances_train….json, train.json, train/_annotations.coco.json or the like"
Contents = dict[str, list[tuple[LabelFile, CocoJson]]]
"""What the files of each split hold."""


def matches(root: Path) -> bool:
    """Whether this is such a folder, a JSON file, or a data.yaml that names some; one with ``names`` is of YOLO."""
    if root.is_file():
        return root.suffix.lower() == ".json" or ANNOTATIONS in _keys(root)
    keys = _keys(root / DESCRIPTION)
    return ANNOTATIONS in keys or ("names" not in keys and bool(label_files(root) or other_files(root)))


def _keys(file: Path) -> frozenset[str]:
    """Return the keys of a description, none where it cannot be read, which `describe` reports."""
    try:
        return frozenset(parse_yaml(read_bounded(file)))
    except (EdgemtlError, ValueError, TypeError):
        return frozenset()


def index(root: Path, label_policy: str) -> Index:
    """Index the images of every split that has a file."""
    result = Index(root)
    description = _describe(root, result.problems)
    if description is None:
        return result
    result.classes = dict(description.classes)
    contents = _read(root, description, result)
    table = read_table(description.attributes_file, result.classes.get("attributes", ()), result.problems)
    maps = LabelMaps(description)
    for split, files in contents.items():
        _index_split(result, description, split, files, label_policy, maps, table)
    maps.check(result)
    return result


def _describe(root: Path, problems: Problems) -> Description | None:
    """Return the dataset's description, or one that has all its defaults."""
    if root.suffix.lower() == ".json":
        parent = root.absolute().parent
        return Description(root, parent.parent if is_annotations(parent) else parent)
    if root.is_dir() and not (root / DESCRIPTION).is_file():
        return Description(root / DESCRIPTION, root)
    return describe(root, problems)


def _read(root: Path, description: Description, result: Index) -> Contents:
    """Return what the files hold, and set the classes of the boxes."""
    base, problems = description.base, result.problems
    files = (
        [described(root.absolute(), base)] if root.suffix.lower() == ".json" else described_files(description, problems)
    )
    selected = by_split(files, base, problems)
    if not selected and not problems:
        names = ", ".join(str(file.relative_to(base)) for file in other_files(base)[:4])
        problems.append(Problem(root, 0, f"{names or 'holds'}: no file of boxes; {SHAPE}"))
    contents: Contents = {}
    for split, of_split in selected.items():
        for label_file in of_split:
            content = read_coco_json(label_file.file, problems)
            if content is not None and (content.is_labelled or split == "test"):
                contents.setdefault(split, []).append((label_file, content))
            elif content is not None:
                problems.append(Problem(content.file, 0, "has no annotations; a list of boxes is wanted"))
    return _unite_classes(contents, description, result)


def _unite_classes(contents: Contents, description: Description, result: Index) -> Contents:
    """Return the files with one list of classes: that of ``names``, else the first file's.

    Another file may list fewer, in another order, but none that is new.
    """
    owner = description.file
    united: Contents = {}
    for split, files in contents.items():
        for label_file, content in files:
            if "boxes" not in result.classes:
                result.classes["boxes"], owner = content.classes, content.file
            classes = result.classes["boxes"]
            if new := [name for name in content.classes if name not in classes]:
                result.problem(content.file, f"has the categories {', '.join(new)[:100]}, which {owner} does not have")
            else:
                united.setdefault(split, []).append((label_file, with_classes(content, classes)))
    return united


def _index_split(
    result: Index,
    description: Description,
    split: str,
    files: list[tuple[LabelFile, CocoJson]],
    label_policy: str,
    maps: LabelMaps,
    table: Table,
) -> None:
    views = views_of(files, description, split, result.problems)
    add_partners(views, description, split, result)
    counted = sources(views, label_policy, description, result.problems)
    entries = []
    modalities = views.modalities
    for name in views.samples:
        images = {m: views.images[m][name] for m in modalities if name in views.images[m]}
        first = next(iter(images.values()))
        labels = maps.readers(first.file, name)
        if boxes := tuple(source[name] for source in counted if name in source):
            labels["boxes"] = CocoBoxes(boxes, files[0][1].file)
        row = table.row(name)
        if row and len(row.attributes):
            labels["attributes"] = partial(constant_label, row.attributes)
        entries.append(
            Entry(
                name,
                {modality: image.file for modality, image in images.items()},
                labels,
                row.is_day if row else None,
                next((image.stated_size for image in images.values() if image.stated_size), None),
                description.exif or first.exif,
                description.registered,
            )
        )
    result.splits[split] = entries
