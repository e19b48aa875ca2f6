"""One JSON file of COCO's object detection format (Lin et al. 2014): images, categories and boxes, all of it checked.

Boxes alone are read: segmentations, keypoints and captions are not. Crowds (``iscrowd``) and objects marked ``ignore``
are skipped with a count, and so are boxes without area and repeated annotations. Ids join the parts of a file, so an
image's or a category's that is not unique, or that nothing has, is wrong; those of annotations join nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, Struct, UnsetType
from numpy.typing import NDArray

from edgemtl_runtime.limits import check_text

from ..label_size import Size
from ..problems import Problem, Problems
from .coco_text import decode, others
from .pixel_boxes import IGNORED, NO_AREA, OUTSIDE

Floats = NDArray[np.float64]
Boxes = Floats
"""Rows (N, 5) of class, x0, y0, x1, y1 in pixels."""
MIN_BOXES = 10
"""From so many boxes on their numbers show another convention than [x, y, width, height] in pixels."""
NO_SUPERCATEGORY = "none"
"""What Roboflow writes as the supercategory of the category that heads the others."""


class ImageRow(Struct, gc=False):
    """A row of ``images``."""

    id: int | str
    file_name: str | None = None
    coco_url: str | None = None
    width: int | None = None
    height: int | None = None

    @property
    def path(self) -> str:
        """The file that is named, or the address where there is only one."""
        return self.file_name or self.coco_url or ""

    @property
    def size(self) -> Size | None:
        """The size that the labels were made for, if it is stated."""
        return (self.height, self.width) if self.width and self.height else None


class CategoryRow(Struct, gc=False):
    """A row of ``categories``."""

    id: int | str
    name: str
    supercategory: Any = None
    keypoints: Any = None


class AnnotationRow(Struct, gc=False):
    """A row of ``annotations``."""

    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]
    id: int | str | None = None
    iscrowd: bool | int | None = 0
    ignore: bool | int | None = 0


class CocoRows(Struct, gc=False):
    """A whole file."""

    images: list[ImageRow]
    categories: list[CategoryRow]
    annotations: list[AnnotationRow] | UnsetType = UNSET


@dataclass(frozen=True, eq=False)
class CocoJson:
    """A file whose parts fit each other; ``starts`` (images + 1,) are the first rows of each image in ``boxes``."""

    file: Path
    images: list[ImageRow]
    classes: tuple[str, ...]
    """The names of the categories, in the order of their ids."""
    boxes: Boxes
    starts: NDArray[np.int64]
    is_labelled: bool
    """Whether it has annotations at all: a split to be evaluated elsewhere has none."""

    def boxes_of(self, image: int) -> Boxes:
        """Return the boxes of an image by its place in ``images``."""
        return self.boxes[self.starts[image] : self.starts[image + 1]]


def read_coco_json(file: Path, problems: Problems) -> CocoJson | None:
    """Return what a file holds, or None with problems added."""
    rows = decode(file, CocoRows, problems)
    if rows is None:
        return None
    before = len(problems)
    annotations = rows.annotations or []
    image_places = _unique("images", "id", [row.id for row in rows.images], file, problems)
    categories = _unique("categories", "id", [row.id for row in rows.categories], file, problems)
    images_of = _places("image_id", [row.image_id for row in annotations], image_places, file, problems)
    category_of = _places("category_id", [row.category_id for row in annotations], categories, file, problems)
    _unique("images", "file_name", [row.path for row in rows.images], file, problems)
    if not rows.images:
        problems.append(Problem(file, 0, "lists no images"))
    classes, class_of = _classes(rows.categories, set(category_of.tolist()), file, problems)
    xywh = np.array([row.bbox for row in annotations], np.float64).reshape(-1, 4)
    if infinite := np.flatnonzero(~np.isfinite(xywh).all(1)).tolist():
        message = f"annotations[{infinite[0]}].bbox is {xywh[infinite[0]].tolist()}: four finite numbers are wanted"
        problems.append(Problem(file, 0, message + others(len(infinite))))
    if len(problems) > before:
        return None
    sizes = np.array([row.size or (np.inf, np.inf) for row in rows.images]).reshape(-1, 2)[images_of]
    kept = _kept(annotations, xywh, sizes, file, problems)
    _check_convention(xywh[kept], sizes[kept], file, problems)
    kept = kept[np.argsort(images_of[kept], kind="stable")]
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    boxes = np.concatenate([class_of[category_of, None], xyxy], 1)[kept]
    starts = np.searchsorted(images_of[kept], np.arange(len(rows.images) + 1))
    return CocoJson(file, rows.images, classes, boxes, starts, rows.annotations is not UNSET)


def _classes(
    categories: list[CategoryRow], used: set[int], file: Path, problems: Problems
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names by id, and each category's place among them.

    The category that heads the others in what Roboflow writes has no objects, and is no class.
    """
    headings = {row.supercategory for row in categories if isinstance(row.supercategory, str)}
    kept = []
    for index, row in enumerate(categories):
        if row.supercategory == NO_SUPERCATEGORY and row.name in headings and index not in used:
            problems.skip("categories that head others and have no objects", file, detail=f"{row.name!r}")
        else:
            kept.append(index)
    _unique("categories", "name", [categories[index].name.strip() for index in kept], file, problems)
    for index in kept:
        try:
            check_text(f"categories[{index}].name", categories[index].name.strip())
        except ValueError as error:
            problems.append(Problem(file, 0, str(error)))
    kept.sort(key=lambda index: (isinstance(categories[index].id, str), _comparable(categories[index].id)))
    if not kept:
        problems.append(Problem(file, 0, "lists no categories"))
    if any(row.keypoints for row in categories):
        problems.skip("categories with keypoints, whose boxes alone are read", file)
    class_of = np.full(len(categories), -1, np.int64)
    class_of[kept] = np.arange(len(kept))
    return tuple(categories[index].name.strip() for index in kept), class_of


def _unique(
    section: str, key: str, values: Sequence[int | str], file: Path, problems: Problems
) -> dict[int | str, int]:
    """Return the place of each value; a problem where one is empty or not unique, with its places."""
    places: dict[int | str, int] = {}
    repeated = []
    for index, value in enumerate(map(_comparable, values) if key == "id" else values):
        if (first := places.setdefault(value, index)) != index:
            repeated.append((first, index, value))
    if "" in places:
        problems.append(Problem(file, 0, f"{section}[{places['']}] has no {key}"))
    elif repeated:
        first, second, value = repeated[0]
        message = f"{section}[{first}] and {section}[{second}] both have the {key} {value!r}; each needs its own"
        problems.append(Problem(file, 0, message + others(len(repeated))))
    return places


def _comparable(value: int | str) -> int | str:
    """Return an id as a number where it is one in quotes: some tools write both in one file."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


def _places(
    key: str, ids: Sequence[int | str], known: dict[int | str, int], file: Path, problems: Problems
) -> NDArray[np.int64]:
    """Return the place that each annotation's id stands at; a problem for each id that nothing has."""
    places = np.array([known.get(_comparable(id_), -1) for id_ in ids], np.int64)
    section = "images" if key == "image_id" else "categories"
    unknown = np.flatnonzero(places < 0).tolist()
    counts = Counter(ids[index] for index in unknown if known)
    for id_, count in counts.items():
        index = next(index for index in unknown if ids[index] == id_)
        message = f"annotations[{index}] has {key} {id_!r}, which is no id in {section} ({_span(known)})"
        problems.append(Problem(file, 0, message + others(count)))
    return places


def _span(known: Iterable[int | str]) -> str:
    texts = list(map(str, known))
    return ", ".join(texts) if len(texts) <= 8 else f"{len(texts)}: {', '.join(texts[:3])} … {texts[-1]}"


def _kept(
    annotations: list[AnnotationRow], xywh: Floats, sizes: Floats, file: Path, problems: Problems
) -> NDArray[np.int64]:
    """Return the places of the annotations that are objects to train on; the others are skipped with a count."""
    reasons = {
        "crowds (iscrowd)": np.array([bool(row.iscrowd) for row in annotations], bool),
        IGNORED: np.array([bool(row.ignore) for row in annotations], bool),
        NO_AREA: (xywh[:, 2:] <= 0).any(1),
        OUTSIDE: (xywh[:, :2] >= sizes[:, ::-1]).any(1) | (xywh[:, :2] + xywh[:, 2:] <= 0).any(1),
        "repeated annotations (of one id, image, category and box)": _repeats(annotations),
    }
    kept = np.ones(len(annotations), bool)
    for reason, is_skipped in reasons.items():
        places = np.flatnonzero(is_skipped & kept).tolist()
        if places:
            detail = f"annotations[{places[0]}], bbox {xywh[places[0]].tolist()}"
            problems.skip(reason, file, detail=detail, count=len(places))
        kept &= ~is_skipped
    return np.flatnonzero(kept)


def _repeats(annotations: list[AnnotationRow]) -> NDArray[np.bool_]:
    """Return which annotations are wholly equal to an earlier one; an id alone may repeat, as nothing refers to it."""
    counts = Counter(row.id for row in annotations if row.id is not None)
    known: set[tuple[object, ...]] = set()
    repeats = np.zeros(len(annotations), bool)
    for index, row in enumerate(annotations):
        if row.id is not None and counts[row.id] > 1:
            content = (row.id, row.image_id, row.category_id, row.bbox)
            repeats[index] = content in known
            known.add(content)
    return repeats


def _check_convention(xywh: Floats, sizes: Floats, file: Path, problems: Problems) -> None:
    """Add a problem where the boxes are clearly fractions of the image, or two corners."""
    if not len(xywh):
        return
    message = ""
    corners = xywh[:, 2:] > xywh[:, :2]
    reaches_out = (xywh[:, :2] + xywh[:, 2:] > sizes[:, ::-1] + 1).any(1)
    if xywh.max() <= 1 and xywh.min() >= 0 and (xywh[:, 2:] < 1).any():
        message = "are all between 0 and 1, as fractions of the image are"
    elif (
        len(xywh) >= MIN_BOXES
        and np.isfinite(sizes).all()
        and corners.all()
        and (xywh[:, 2:] <= sizes[:, ::-1] + 1).all()
        and reaches_out.mean() > 1 / 3
    ):
        message = f"reach out of {reaches_out.mean():.0%} of their images, and as two corners [x0, y0, x1, y1] of none"
    if message:
        problems.append(Problem(file, 0, f"the boxes {message}; COCO's bbox is [x, y, width, height] in pixels"))


def with_classes(content: CocoJson, classes: tuple[str, ...]) -> CocoJson:
    """Return a file with the class ids of ``classes``, which has all of the file's."""
    boxes = content.boxes.copy()
    ids = np.array([classes.index(name) for name in content.classes])
    boxes[:, 0] = ids[boxes[:, 0].astype(np.int64)]
    return replace(content, classes=classes, boxes=boxes)
