"""The images of a split in COCO's format by camera and sample, and whose boxes are whose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..annotations import Index, images_in
from ..description import Description
from ..image_lists import image_set
from ..label_size import ON_STORED, Size
from ..problems import Problem, Problems
from ..readers.coco_json import Boxes, CocoJson, ImageRow
from ..readers.pixel_boxes import pixel_boxes
from ..readers.yolo_text import union
from ..sample import BoxLabels
from .coco_files import MODALITY_WORDS, LabelFile
from .coco_images import NamedImages, named_images, sibling

FOLDER_WORDS = {m: [word for word, modality in MODALITY_WORDS.items() if modality == m] for m in ("rgb", "ir")}
"""The names of a modality's folder."""
MODALITY_END = re.compile(rf"[-_ ](?:{'|'.join(MODALITY_WORDS)})$", re.IGNORECASE)
COCO_HOST = "cocodataset.org"


@dataclass(frozen=True, eq=False)
class ImageFile:
    """One camera's image of a sample; its labels were made for an image of ``stated_size``."""

    file: Path
    stated_size: Size | None = None
    exif: str = ""


@dataclass
class Views:
    """The images of a split by camera and sample; the boxes by the camera that they are of ("": of none)."""

    images: dict[str, dict[str, ImageFile]] = field(default_factory=dict)
    boxes: dict[str, dict[str, Labelled]] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        """The cameras, the colour one first."""
        return sorted(self.images, reverse=True)

    @property
    def samples(self) -> list[str]:
        """The samples that any camera has an image of."""
        return list(dict.fromkeys(name for modality in self.modalities for name in self.images[modality]))


@dataclass(frozen=True)
class Labelled:
    """Boxes, and the size of the image that they were made for, if it is stated."""

    boxes: Boxes
    stated_size: Size | None


@dataclass(frozen=True)
class CocoBoxes:
    """Reads the boxes of a sample, of one view or two; objects that both show count once."""

    views: tuple[Labelled, ...]
    file: Path

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels | None:
        """Return the boxes in pixels, clipped to the image."""
        rows: list[tuple[float, ...]] = []
        for index, view in enumerate(self.views):
            if size and view.stated_size and view.stated_size != size:
                sizes = f"{view.stated_size[1]}x{view.stated_size[0]}, the sample's image is {size[1]}x{size[0]}"
                problems.append(Problem(self.file, 0, f"has boxes for an image of {sizes}"))
                return None
            new = [tuple(row) for row in view.boxes.tolist()]
            rows = [_cornered(row) for row in union([*map(_centred, rows)], [*map(_centred, new)])] if index else new
        return pixel_boxes(rows, size, self.file, problems)


def _centred(row: tuple[float, ...]) -> tuple[float, ...]:
    class_id, x0, y0, x1, y1 = row
    return class_id, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def _cornered(row: tuple[float, ...]) -> tuple[float, ...]:
    class_id, x, y, w, h = row
    return class_id, x - w / 2, y - h / 2, x + w / 2, y + h / 2


def views_of(
    files: Sequence[tuple[LabelFile, CocoJson]], description: Description, split: str, problems: Problems
) -> Views:
    """Return the images that the files of a split name, and their boxes; an image that does not exist is a problem."""
    named = [named_images(label_file, content, description, split, problems) for label_file, content in files]
    are_pairs = len(set().union(*(images.modalities for images in named))) > 1
    views = Views()
    for images in named:
        _add_images(views, images, are_pairs, description.base, problems)
    if description.modality and len(views.images) == 1:
        views.images = {description.modality: next(iter(views.images.values()))}
    return views


def _add_images(views: Views, named: NamedImages, are_pairs: bool, base: Path, problems: Problems) -> None:
    content, has_cameras = named.content, len(named.modalities) > 1
    names: set[tuple[str, str]] = set()
    rows: dict[Path, str] = {}
    for index, (modality, path, file) in named.images.items():
        row = content.images[index]
        if rows.setdefault(file, row.path) != row.path:
            message = f"names {rows[file]} and {row.path}, and only {file} is there for both"
            problems.append(Problem(content.file, 0, message))
            continue
        name = sample_name(path) if are_pairs else str(path.with_suffix(""))
        if (modality, name) in names:
            name = str(file.relative_to(base) if file.is_relative_to(base) else file)
        names.add((modality, name))
        views.images.setdefault(modality, {})[name] = ImageFile(file, row.size, _exif(row))
        if content.is_labelled:
            of_camera = named.label_file.modality or (modality if has_cameras else "")
            views.boxes.setdefault(of_camera, {})[name] = Labelled(content.boxes_of(index), row.size)


def _exif(row: ImageRow) -> str:
    """Return which image COCO's own boxes are of: they were drawn when browsers did not turn images yet."""
    return ON_STORED if COCO_HOST in (row.coco_url or "") else ""


def sample_name(path: PurePosixPath) -> str:
    """Return what an image's path and that of its partner from another camera have in common."""
    folders = [part for part in path.parts[:-1] if part.lower() not in MODALITY_WORDS]
    return "/".join([*folders, MODALITY_END.sub("", path.stem)])


def add_partners(views: Views, description: Description, split: str, result: Index) -> None:
    """Add the other camera's images: those of the folder that a data.yaml names, or that stands next to the first's.

    rgb/train has ir/train, and train2017 has thermal/train2017.
    """
    if len(views.images) != 1:
        return
    ((modality, images),) = views.images.items()
    other = "ir" if modality == "rgb" else "rgb"
    texts = description.splits.get(split, {}).get(other)
    named = image_set(texts, description.base, f"{split}_{other}", other, result.problems) if texts else None
    by_folder: dict[Path, dict[str, Path]] = {}
    partners: dict[str, ImageFile] = {}
    for name, image in images.items():
        folder = image.file.parent
        if named is None and folder not in by_folder:
            next_to = sibling(folder, description.base, FOLDER_WORDS[other], ("images", *FOLDER_WORDS[modality]))
            by_folder[folder] = images_in(next_to, result) if next_to else {}
        file = named.files.get(name) if named else by_folder[folder].get(image.file.stem)
        if file is not None and file != image.file:
            partners[name] = ImageFile(file)
    if partners:
        views.images[other] = partners
    elif named is not None and named.files:
        message = f"names images of which none has the name of one of {modality}'s: '{next(iter(named.files))}'"
        result.problem(description.file, f"{split}_{other} {message}, and '{next(iter(images))}'")


def sources(views: Views, label_policy: str, description: Description, problems: Problems) -> list[dict[str, Labelled]]:
    """Return the boxes that count, by sample, of one camera or several; those of another camera alone are a problem."""
    cameras = sorted(views.boxes, key=lambda camera: camera == "ir")
    if label_policy in views.images:
        cameras = next(([camera] for camera in (label_policy, "") if camera in views.boxes), cameras)
    if cameras and len(views.images) > 1:
        message = ""
        if label_policy in views.images and label_policy not in cameras and "" not in cameras:
            message = (
                f"no file has boxes of {label_policy}, only of {cameras[0]}; label_policy={cameras[0]} takes these"
            )
        elif description.registered and "ir" in cameras:
            message = "boxes of ir are of its image before it is registered; label_policy=rgb takes those of rgb"
        if message:
            problems.append(Problem(description.file, 0, f"label_policy={label_policy}: {message}"))
            return []
    return [views.boxes[camera] for camera in cameras]
