"""KAIST multispectral pedestrians (Hwang et al. 2015): aligned pairs of 640×512 from a car, by day and by night.

images/setNN/VNNN/visible/INNNNN.jpg   images/setNN/VNNN/lwir/INNNNN.jpg
annotations-xml-new-sanitized/, annotations-xml-new/, annotations-xml-15/, annotations-xml/ or annotations/, each as
setNN/VNNN/INNNNN.xml or .txt: the first that exists      imageSets/train-*.txt, test-*.txt: setNN/VNNN/INNNNN a line

Sets 00 to 05 are for training, 06 to 11 for evaluation; 00 to 02 and 06 to 08 were taken by day. Without lists every
twentieth image is taken. Only "person" is an object; groups ("people"), cyclists and doubtful ones are skipped.
"""

from __future__ import annotations

from pathlib import Path

from ..annotations import Entry, Index, read_list
from ..readers.bbgt_text import BbGtText
from ..readers.voc_xml import VocXml

CLASSES = ("person",)
ALIASES = {"people": None, "cyclist": None, "person?": None, "person?a": None}
ANNOTATIONS = (
    "annotations-xml-new-sanitized",
    "annotations-xml-new",
    "annotations-xml-15",
    "annotations-xml",
    "annotations",
)
TEXTS = ANNOTATIONS[-1]
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
                is_day = inner.parts[0] in DAY
                text = annotations / f"{name}.txt"
                if text.is_file() or annotations.name == TEXTS:
                    entry = Entry(name, files, {"boxes": BbGtText(text, CLASSES, ALIASES)}, is_day)
                else:
                    boxes = VocXml(annotations / f"{name}.xml", CLASSES, ALIASES)
                    entry = Entry(name, files, {"boxes": boxes}, is_day, boxes.stated_size)
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
