"""KAIST multispectral pedestrians (Hwang et al. 2015): aligned pairs of 640×512 from a car, by day and by night.

images/setNN/VNNN/visible/INNNNN.jpg   images/setNN/VNNN/lwir/INNNNN.jpg
annotations-xml-new-sanitized/, annotations-xml-new/, annotations-xml-15/, annotations-xml/ or annotations/, each as
setNN/VNNN/INNNNN.xml or .txt: the first that exists      imageSets/train-*.txt, test-*.txt: setNN/VNNN/INNNNN a line

Sets 00 to 05 are for training, 06 to 11 for evaluation; 00 to 02 and 06 to 08 were taken by day. Without lists every
twentieth image is taken. Only "person" is an object; groups ("people"), cyclists and doubtful ones are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotations import Entry, Index, LabelReader, read_list
from ..label_size import Size
from ..problems import Problem, Problems
from ..readers.voc_xml import VocXml
from ..sample import BoxLabels

CLASSES = ("person",)
ALIASES = {"people": None, "cyclist": None, "person?": None, "person?a": None}
ANNOTATIONS = (
    "annotations-xml-new-sanitized",
    "annotations-xml-new",
    "annotations-xml-15",
    "annotations-xml",
    "annotations",
)
DAY = ("set00", "set01", "set02", "set06", "set07", "set08")
SPLITS = {"train": range(6), "val": range(6, 12)}
EVERY = 20


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return bool(list((root / "images").glob("set[01][0-9]"))) and _annotations(root) is not None


def _annotations(root: Path) -> Path | None:
    return next((root / name for name in ANNOTATIONS if (root / name).is_dir()), None)


def index(root: Path, label_policy: str) -> Index:
    """Index the pairs of the sets for training and for evaluation."""
    result = Index(root, {"boxes": CLASSES})
    annotations = _annotations(root)
    assert annotations is not None
    for split, sets in SPLITS.items():
        result.splits[split] = []
        for name in _names(root, split, sets, result):
            inner = Path(name)
            views = {"rgb": "visible", "ir": "lwir"}
            files = {m: root / "images" / inner.parent / view / f"{inner.name}.jpg" for m, view in views.items()}
            if result.require(files.values()):
                entry = Entry(name, files, {"boxes": _boxes(annotations, name)}, inner.parts[0] in DAY)
                result.splits[split].append(entry)
    return result


def _names(root: Path, split: str, sets: range, result: Index) -> list[str]:
    lists = sorted((root / "imageSets").glob("train-*.txt" if split == "train" else "test-*.txt"))
    if lists:
        return read_list(lists[0], result)
    names = []
    for number in sets:
        for view in sorted((root / "images" / f"set{number:02d}").glob("V*/visible")):
            stems = sorted(file.stem for file in view.glob("*.jpg"))
            names += [f"set{number:02d}/{view.parent.name}/{stem}" for stem in stems[EVERY - 1 :: EVERY]]
    return names


def _boxes(annotations: Path, name: str) -> LabelReader:
    text = annotations / f"{name}.txt"
    return BbGt(text) if text.is_file() else VocXml(annotations / f"{name}.xml", CLASSES, ALIASES)


@dataclass(frozen=True)
class BbGt:
    """Reads "% bbGt version=3": a first line, then "name x y w h …" a box, in pixels."""

    file: Path

    def __call__(self, size: Size | None, problems: Problems) -> BoxLabels | None:
        """Return the persons."""
        rows = []
        for number, line in enumerate(self.file.read_text().splitlines(), 1):
            fields = line.split()
            if not fields or fields[0].startswith("%") or fields[0] in ALIASES:
                continue
            try:
                if fields[0] not in CLASSES:
                    raise ValueError
                x, y, w, h = (float(field) for field in fields[1:5])
            except ValueError:
                problems.append(Problem(self.file, number, f"expected 'person x y w h …', found '{line[:60]}'"))
                continue
            rows.append((x, y, x + w, y + h))
        xyxy = np.array(rows, np.float32).reshape(-1, 4)
        return BoxLabels(xyxy, np.zeros(len(rows), np.int64))
