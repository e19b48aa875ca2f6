"""A folder of a custom dataset: images of any cameras, labels of any tasks, and a data.yaml that describes them.

data.yaml            names (of the boxes), semantic, attributes: lists or {id: name}; all other keys are optional:
                     path; train, val, test and train_ir, …: folders of images, .txt lists of images, or several of them
                     folders: {TASK: its folder's name}; depth: metric | relative, whose scale means nothing
                     missing_labels: problem | unlabelled | empty, what an image without a label file means
                     train_depth, …: images of distances as an input; modality: ir, of a single thermal camera;
                     exif: upright | stored, what the labels were made on
                     rig: FILE, ir_to_rgb: [[…]] or resize: true, for cameras of unequal sizes
rgb/SPLIT/STEM.jpg   ir/SPLIT/STEM.png           the cameras' views, IR with 8 or 16 bits
labels/SPLIT/STEM.txt                            "class cx cy w h", normalised; labels_rgb/ and labels_ir/ next to it
semantic/ depth/ normals/ edges/                 label maps, as `readers.maps` describes; also for a part
attributes.csv                                   columns stem, is_day and attributes

A task's folder stands next to the images': rgb/train has depth/train, and train/images has train/labels, as YOLO
datasets do. Exports of YOLO that have no data.yaml (Darknet's obj.data, a classes.txt) are read as well.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..annotations import Entry, Index, LabelReader, constant_label
from ..description import SPLITS, Description, describe, required_key
from ..image_lists import ImageSet, image_folder, image_set
from ..label_files import LabelFinder, similar_folder, skip_unread_folders
from ..policies import FOLDERS
from ..readers.maps import READERS, read_map
from ..readers.table import Table, read_table
from ..readers.yolo_text import YoloText

NO_OBJECTS = "images without a label file as images without objects"


def matches(root: Path) -> bool:
    """Whether this is such a folder, or a data.yaml itself: what no other format matches is taken for one."""
    return True


def index(root: Path, label_policy: str) -> Index:
    """Index what the folder holds; ``label_policy`` selects the boxes where each view has its own."""
    result = Index(root)
    description = describe(root, result.problems)
    if description is None:
        return result
    result.classes = dict(description.classes)
    if not description.splits:
        result.problem(description.file, "names no folder of images, and there is no rgb/train nor ir/train")
    if description.registered and label_policy != "fused":
        result.problem(description.file, f"label_policy={label_policy} reads labels of images before registration")
    if description.modality and any(len(views) > 1 for views in description.splits.values()):
        result.problem(description.file, f"modality: {description.modality} is of one camera, and there are two")
    table = read_table(description.attributes_file, result.classes.get("attributes", ()), result.problems)
    splits = []
    for split in description.splits:
        if (images := _images(result, description, split)) is not None:
            splits.append(_Split(description, split, images, label_policy))
            result.splits[split] = splits[-1].entries(result, table)
    if splits:
        for task in (*READERS, "boxes", "attributes"):
            _check_task(result, description, task, splits[0], table)
        names = [entry.name for entries in result.splits.values() for entry in entries]
        table.check_names(names, result.problems)
        skip_unread_folders(description, result.problems)
    return result


def _images(result: Index, description: Description, split: str) -> dict[str, ImageSet] | None:
    """Return a split's images by modality; None, mostly with a problem added, where there are none."""
    views: dict[str, ImageSet] = {}
    num_problems = len(result.problems)
    for modality, texts in description.splits[split].items():
        key = split if modality == "rgb" else f"{split}_{modality}"
        if split == SPLITS[-1] and not description.exists(texts):
            result.problems.skip("folders of the split 'test', which do not exist", description.base / texts[0])
            continue
        view = image_set(texts, description.base, key, modality, result.problems)
        if view is None:
            return None
        is_sole = len(description.splits[split]) == 1
        views[(is_sole and description.modality) or modality] = view
    if views and not any(view.files for view in views.values()):
        if len(result.problems) == num_problems:
            texts = next(iter(description.splits[split].values()))
            result.problem(description.base / texts[0], f"split '{split}' is empty")
        return None
    return views or None


class _Split:
    """The samples of a split: their images by modality, and the files of their labels."""

    def __init__(self, description: Description, split: str, images: dict[str, ImageSet], label_policy: str) -> None:
        self.description, self.images, self.label_policy = description, images, label_policy
        self.views = FOLDERS[label_policy]
        self.labels = LabelFinder(description, split)
        self.first = next(file for view in images.values() for file in view.files.values())
        parts = self.first.relative_to(description.base).parts if self.first.is_relative_to(description.base) else ()
        folder = image_folder(parts[:-1])
        is_yolo = folder is None or parts[folder] == "images"
        self.missing_labels = description.missing_labels or ("empty" if is_yolo else "problem")

    def entries(self, result: Index, table: Table) -> list[Entry]:
        """Return the samples in the order of their names; count label files that belong to none."""
        entries = []
        for name in sorted(set().union(*(view.files for view in self.images.values()))):
            files = {modality: view.files[name] for modality, view in self.images.items() if name in view.files}
            row = table.row(name)
            labels = self._readers(next(iter(files.values())), result)
            if row and len(row.attributes):
                labels["attributes"] = partial(constant_label, row.attributes)
            entry = Entry(
                name,
                files,
                labels,
                row.is_day if row else None,
                exif=self.description.exif,
                registered=self.description.registered,
            )
            entries.append(entry)
        self.labels.skip_orphans(self.images.values(), result.problems)
        return entries

    def _readers(self, image: Path, result: Index) -> dict[str, LabelReader]:
        """Return the readers of an image's boxes and label maps."""
        readers: dict[str, LabelReader] = {}
        classes = self.description.classes
        found_files = [self.labels.find(view, image, (".txt",)) for view in self.views]
        if "boxes" in classes and all(found_file.has_folder for found_file in found_files):
            present = tuple(found_file.file for found_file in found_files if found_file.exists)
            if self.missing_labels == "problem" or len(present) == len(found_files):
                files = tuple(found_file.file for found_file in found_files)
                readers["boxes"] = YoloText(files, classes["boxes"], self.description.keypoints)
            elif self.missing_labels == "empty":
                readers["boxes"] = YoloText(present, classes["boxes"], self.description.keypoints)
                result.problems.note(NO_OBJECTS, image)
        for task, label_files in READERS.items():
            label = self.labels.find(task, image, label_files.suffixes)
            if (task in classes or not required_key(task)) and label.exists:
                readers[task] = partial(read_map, task, label.file, classes.get(task, ()))
        return readers

    def folder(self, task: str) -> Path:
        """Return where a task's labels are looked for."""
        if task == "attributes":
            return self.description.attributes_file
        return self.labels.folder(self.views[0] if task == "boxes" else task, self.first.parent)


def _check_task(result: Index, description: Description, task: str, first: _Split, table: Table) -> None:
    """Keep a task in the classes if it has labels in every split that training needs, else count what is skipped.

    Names of classes without any label are a problem, and labels without names.
    """
    key = required_key(task)
    is_named = task in result.classes
    if result.keep_task(task, first.folder(task)):
        return
    if key and is_named and not (task == "attributes" and table.is_wrong):
        result.problem(description.file, _without_labels(key, task, first))
    elif key and task != "attributes" and first.folder(task).is_dir():
        result.problem(description.file, f"is missing '{key}', the classes of {first.folder(task)}")
    elif task in READERS and any(file.is_file() for file in _files(first.folder(task))):
        result.problem(first.folder(task), _of_no_image(task, first))
    elif task in READERS and (near := similar_folder(first.folder(task))):
        result.problem(near, f"is read by nothing: name it {task}, or give folders: {{{task}: {near.name}}}")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix) if folder.is_dir() else []


def _of_no_image(task: str, first: _Split) -> str:
    """Return what is wrong with a folder whose files are the labels of no image: their type, or their names."""
    files = _files(first.folder(task))
    suffixes = (".txt",) if task == "boxes" else READERS[task].suffixes
    message = "holds none for these images"
    if of_type := [file for file in files if file.suffix.lower() in suffixes]:
        return f"{message}: it has {of_type[0].name}, and {first.first.stem}{suffixes[0]} is wanted"
    wanted = "text files of YOLO, .txt" if task == "boxes" else ", ".join(suffixes)
    others = ", ".join(sorted({file.suffix for file in files}))
    return f"{message}: it has {others}, and {wanted} are wanted" if files else message


def _without_labels(key: str, task: str, first: _Split) -> str:
    """Return what is wrong where classes are named and no image has a label of them."""
    expected = first.folder(task)
    if task == "attributes":
        return f"names {key}, and no row of {expected} is of an image"
    state = _of_no_image(task, first) if expected.is_dir() else "does not exist"
    message = f"names the classes of {task} ({key}), and there are no labels: {expected} {state}"
    policies = [policy for policy, views in FOLDERS.items() if len(views) == 1 and policy != first.label_policy]
    for policy in policies if task == "boxes" else []:
        if first.labels.folder(FOLDERS[policy][0], first.first.parent).is_dir():
            return f"{message}; {FOLDERS[policy][0]} is there, which data.label_policy={policy} reads"
    if not expected.is_dir() and (near := similar_folder(expected)):
        name = FOLDERS[first.label_policy][0] if task == "boxes" else task
        return f"{message}; {near.name}/ is there: name it {name}, or give folders: {{{name}: {near.name}}}"
    return message
