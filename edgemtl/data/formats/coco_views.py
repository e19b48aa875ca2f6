"""The images of a split in COCO's format by camera and sample, and whose boxes are whose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..annotations import Index, images_in
from ..label_size import ON_STORED, Size
from ..problems import Problems
from ..readers.coco_json import Boxes, CocoJson, ImageRow
from ..readers.coco_text import others
from ..readers.pixel_boxes import pixel_boxes
from ..readers.yolo_text import union
from ..sample import BoxLabels
from .coco_files import MODALITY_WORDS, ImageFolders, LabelFile, image_folders, named_by, sibling

FOLDER_WORDS = {m: [word for word, modality in MODALITY_WORDS.items() if modality == m] for m in ("rgb", "ir")}
"""The names of a modality's folder."""
IMAGE_WORDS = ("images", *MODALITY_WORDS)
"""The names of folders of images, in whose stead those of labels and of other cameras stand."""
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
    boxes: dict[str, dict[str, Boxes]] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        """The cameras, the colour one first."""
        return sorted(self.images, reverse=True)

    def samples(self) -> list[str]:
        """Return the samples that every camera has an image of."""
        if not self.images:
            return []
        first, *rest = self.images.values()
        return [name for name in first if all(name in images for images in rest)]


@dataclass(frozen=True)
class CocoBoxes:
    """Reads the boxes of a sample, of one view or two; objects that both show count once."""

    views: tuple[Boxes, ...]
    file: Path

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels:
        """Return the boxes in pixels, clipped to the image."""
        rows = [tuple(row) for row in self.views[0].tolist()]
        for view in self.views[1:]:
            both = union([_centred(row) for row in rows], [_centred(tuple(row)) for row in view.tolist()])
            rows = [_cornered(row) for row in both]
        return pixel_boxes(rows, size, self.file, problems)


def _centred(row: tuple[float, ...]) -> tuple[float, ...]:
    class_id, x0, y0, x1, y1 = row
    return class_id, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def _cornered(row: tuple[float, ...]) -> tuple[float, ...]:
    class_id, x, y, w, h = row
    return class_id, x - w / 2, y - h / 2, x + w / 2, y + h / 2


@dataclass(frozen=True, eq=False)
class NamedImages:
    """The images of a JSON file that exist, by their place in it: camera, path in its folder, and file."""

    label_file: LabelFile
    content: CocoJson
    images: dict[int, tuple[str, PurePosixPath, Path]]

    @property
    def modalities(self) -> set[str]:
        """The cameras of the images."""
        return {modality for modality, _, _ in self.images.values()}


def views_of(files: Sequence[tuple[LabelFile, CocoJson]], result: Index) -> Views:
    """Return the images that the files of a split name, and their boxes; an image that does not exist is a problem."""
    named = [_locate(label_file, content, result) for label_file, content in files]
    are_pairs = len(set().union(*(images.modalities for images in named))) > 1
    views = Views()
    for images in named:
        _add_images(views, images, are_pairs, result)
    return views


def _add_images(views: Views, named: NamedImages, are_pairs: bool, result: Index) -> None:
    content = named.content
    own_modality = named.label_file.modality
    has_cameras = len(named.modalities) > 1
    names: set[tuple[str, str]] = set()
    rows: dict[Path, str] = {}
    for index, (modality, path, file) in named.images.items():
        row = content.images[index]
        if rows.setdefault(file, row.path) != row.path:
            result.problem(content.file, f"names {rows[file]} and {row.path}, and only {file} is there for both")
            continue
        name = sample_name(path) if are_pairs else str(path.with_suffix(""))
        if (modality, name) in names:
            name = str(file.relative_to(result.root) if file.is_relative_to(result.root) else file)
        names.add((modality, name))
        views.images.setdefault(modality, {})[name] = ImageFile(file, row.size, _exif(row))
        if content.is_labelled:
            of_camera = own_modality or (modality if has_cameras else "")
            views.boxes.setdefault(of_camera, {})[name] = content.boxes_of(index)


def _exif(row: ImageRow) -> str:
    """Return which image COCO's own boxes are of: they were drawn when browsers did not turn images yet."""
    return ON_STORED if COCO_HOST in (row.coco_url or "") else ""


def _locate(label_file: LabelFile, content: CocoJson, result: Index) -> NamedImages:
    folders = image_folders(result.root, label_file)
    on_disk = ImageFolders(folders)
    files = on_disk.locate([row.path for row in content.images])
    missing = [row.path for row, file in zip(content.images, files, strict=True) if file is None]
    if missing:
        kind = "an address, whose image is not downloaded, and it" if "://" in missing[0] else "which"
        where = ", ".join(str(folder.relative_to(result.root)) for folder in folders[:6])
        message = f"names {missing[0]}, {kind} is in none of the folders {where}"
        result.problem(content.file, message + others(len(missing)))
    modality_of: dict[Path, str] = {}
    images = {}
    for index, file in enumerate(files):
        if file is not None:
            if file.parent not in modality_of:
                modality_of[file.parent] = label_file.modality or _modality(file.parent, result.root)
            images[index] = modality_of[file.parent], on_disk.inner(file), file
    return NamedImages(label_file, content, images)


def _modality(folder: Path, root: Path) -> str:
    """Return the modality that a folder of images, or the dataset's, is named after; else colour."""
    inner = folder.relative_to(root).parts if folder.is_relative_to(root) else folder.parts[-1:]
    return named_by((root.resolve().name, *inner), MODALITY_WORDS) or "rgb"


def sample_name(path: PurePosixPath) -> str:
    """Return what an image's path and that of its partner from another camera have in common."""
    folders = [part for part in path.parts[:-1] if part.lower() not in MODALITY_WORDS]
    return "/".join([*folders, MODALITY_END.sub("", path.stem)])


def add_partners(views: Views, result: Index) -> None:
    """Add the other camera's images where those of one stand next to a folder of the other's name.

    rgb/train has ir/train, train2017 has thermal/train2017; an image without a partner is a problem.
    """
    if len(views.images) != 1:
        return
    ((modality, images),) = views.images.items()
    other = "ir" if modality == "rgb" else "rgb"
    replaced = ("images", *FOLDER_WORDS[modality])
    by_folder: dict[Path, dict[str, Path] | None] = {}
    partners: dict[str, ImageFile] = {}
    for name, image in images.items():
        folder = image.file.parent
        if folder not in by_folder:
            next_to = sibling(folder, result.root, FOLDER_WORDS[other], replaced)
            by_folder[folder] = images_in(next_to, result) if next_to else None
        stems = by_folder[folder]
        if stems is not None and image.file.stem in stems:
            partners[name] = ImageFile(stems[image.file.stem])
    if partners:
        views.images[other] = partners


def check_pairs(views: Views, split: str, result: Index) -> None:
    """Add a problem for images without a partner of the other camera."""
    if len(views.images) < 2:
        return
    for modality, images in views.images.items():
        other = next(m for m in views.images if m != modality)
        alone = [image for name, image in images.items() if name not in views.images[other]]
        if len(alone) == len(images):
            result.problem(
                alone[0].file,
                f"split '{split}': the images of {modality} and {other} share no name, so none are pairs; read the "
                "folder of one camera, or name its JSON file in a data.yaml (annotations: {train: FILE})",
            )
            return
        if alone:
            result.problem(alone[0].file, f"has no {other} partner" + others(len(alone)))


def sources(views: Views, label_policy: str, result: Index) -> list[dict[str, Boxes]]:
    """Return the boxes that count, by sample, of one camera or several; those of another camera alone are a problem."""
    if label_policy in views.boxes:
        return [views.boxes[label_policy]]
    if label_policy != "union" and "" in views.boxes:
        return [views.boxes[""]]
    if label_policy in views.images and views.boxes and len(views.images) > 1:
        other = next(iter(views.boxes))
        message = (
            f"label_policy={label_policy}: no file has boxes of {label_policy}, only of {other}; label_policy={other}"
        )
        result.problem(result.root, message)
        return []
    return list(views.boxes.values())
