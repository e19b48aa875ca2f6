"""YOLO datasets as the tools write that export them: whatever the layout, the same boxes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from edgemtl.data.annotations import Entry
from edgemtl.data.check import check
from edgemtl.data.formats import index
from edgemtl.data.problems import Problems

Boxes = list[tuple[int, float, float, float, float]]
Sets = dict[str, dict[str, Boxes]]
"""Boxes by split and image."""
NAMES = ("car", "stop sign")
PNG = cv2.imencode(".png", np.full((20, 30, 3), 90, np.uint8))[1].tobytes()
LISTED = "names: [car, stop sign]\n"


def line(box: tuple[int, float, float, float, float]) -> str:
    return " ".join(map(str, box))


def polygon(box: tuple[int, float, float, float, float]) -> str:
    class_id, cx, cy, w, h = box
    corners = [cx, cy - h / 2, cx + w / 2, cy, cx, cy + h / 2, cx - w / 2, cy]
    return " ".join(map(str, (class_id, *corners)))


def keypoints(box: tuple[int, float, float, float, float]) -> str:
    return f"{line(box)} 0.5 0.5 2 0.1 0.9 1"


class Writer:
    """Writes images and label files; ``encoding`` and ``end`` are those of every text."""

    def __init__(self, root: Path, sets: Sets, encoding: str, end: str) -> None:
        self.root, self.sets, self.encoding, self.end = root, sets, encoding, end

    def text(self, path: str, content: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.replace("\n", self.end).encode(self.encoding))

    def images(self, images: str, labels: str, as_line: Callable[..., str] = line, only: str = "") -> None:
        """Write "FOLDER/{split}" of images and of labels; other tools write no file where there is no object."""
        for split, boxes_by_name in self.sets.items():
            for name, boxes in boxes_by_name.items():
                if only in ("", split):
                    file = self.root / images.format(split=split) / f"{name}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(PNG)
                    if boxes:
                        self.text(f"{labels.format(split=split)}/{name}.txt", "".join(f"{as_line(b)}\n" for b in boxes))

    def listed(self, file: str, prefix: str) -> None:
        for split, names in self.sets.items():
            lines = "".join(f"{prefix.format(split=split)}/{name}.png\n" for name in names)
            self.text(file.format(split=split), lines)


def roboflow(w: Writer) -> Path:
    w.images("{split}/images", "{split}/labels")
    (w.root / "val").rename(w.root / "valid")
    project = "roboflow:\n  workspace: a\n  project: b\n  version: 1\n"
    splits = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    w.text("data.yaml", f"{splits}\nnc: 2\nnames: ['car', 'stop sign']\n\n{project}")
    w.text("README.dataset.txt", "exported\n")
    return w.root


def coco128(w: Writer) -> Path:
    """Of ultralytics: the description in another folder, "path" from a folder of datasets."""
    w.root = w.root / "datasets" / "coco128"
    w.images("images/{split}2017", "labels/{split}2017")
    w.text("LICENSE", "free\n")
    w.text("labels/train2017.cache", "")
    w.root = w.root.parents[1]
    splits = "train: images/train2017 # images\nval: images/val2017\ntest: # none\n"
    names = "names:\n  0: car\n  1: stop sign\n\ndownload: https://example.org/coco128.zip\n"
    w.text("coco128.yaml", f"path: coco128 # root\n{splits}\n{names}")
    return w.root / "coco128.yaml"


def visdrone(w: Writer) -> Path:
    w.root = w.root / "VisDrone"
    w.images("VisDrone2019-DET-{split}/images", "VisDrone2019-DET-{split}/labels")
    w.images("VisDrone2019-DET-{split}/images", "VisDrone2019-DET-{split}/annotations", lambda box: "1,2,3,4,1,1,0,0")
    splits = "train: VisDrone2019-DET-train/images\nval: VisDrone2019-DET-val/images\n"
    w.root = w.root.parent
    w.text(
        "VisDrone.yaml", f"path: ../{w.root.name}/VisDrone\n{splits}test: VisDrone2019-DET-test-dev/images\n{LISTED}"
    )
    return w.root / "VisDrone.yaml"


def xview(w: Writer) -> Path:
    """Lists next to the images, whose lines begin at the list."""
    w.images("images/all/{split}", "labels/all/{split}")
    w.listed("images/autosplit_{split}.txt", "./all/{split}")
    w.text("data.yaml", f"train: images/autosplit_train.txt\nval: images/autosplit_val.txt\n{LISTED}")
    return w.root


def coco(w: Writer) -> Path:
    w.images("images/{split}2017", "labels/{split}2017")
    w.listed("{split}2017.txt", "./images/{split}2017")
    w.text("data.yaml", f"train: train2017.txt\nval: val2017.txt\ntest: test-dev2017.txt\n{LISTED}")
    return w.root


def cvat(w: Writer) -> Path:
    w.images("images/{split}", "labels/{split}")
    w.listed("{split}.txt", "data/images/{split}")
    w.text("data.yaml", "names:\n  0: car\n  1: stop sign\npath: ./\ntrain: train.txt\nval: val.txt\n")
    return w.root


def darknet(w: Writer) -> Path:
    """Of CVAT, its "YOLO 1.1": labels next to the images."""
    w.images("obj_{split}_data", "obj_{split}_data")
    w.listed("{split}.txt", "data/obj_{split}_data")
    w.text("obj.names", "car\nstop sign\n")
    splits = "train = data/train.txt\nvalid = data/val.txt\n"
    w.text("obj.data", f"classes = 2\n{splits}names = data/obj.names\nbackup = backup/\n")
    return w.root


def label_studio(w: Writer) -> Path:
    """No splits at all, the names in a text: here one a split."""
    w.images("images/{split}", "labels/{split}")
    w.text("classes.txt", "car\nstop sign\n")
    w.text("labels/train/classes.txt", "car\nstop sign\n")
    w.text("notes.json", "{}")
    return w.root


def absolute(w: Writer) -> Path:
    w.images("far/{split}/images", "far/{split}/labels")
    splits = "".join(f"{split}: {w.root}/far/{split}/images/\n" for split in w.sets)
    w.text("mine/data.yaml", f"{splits}{LISTED}")
    return w.root / "mine"


def folders(w: Writer) -> Path:
    """A list of folders, sub-folders within them, and files that are none of ours."""
    w.images("a/images/{split}/day", "a/labels/{split}/day", only="train")
    w.images("b/images/{split}", "b/labels/{split}", only="val")
    (w.root / "c" / "images").mkdir(parents=True)
    for name in ("Thumbs.db", "._a.png", ".DS_Store"):
        (w.root / "a" / "images" / "train" / name).touch()
    w.text("data.yaml", f"train: [a/images/train, c/images]\nval: [b/images/val]\n{LISTED}")
    return w.root


def split_folders(w: Writer) -> Path:
    """A split's folder is named, not its folder of images."""
    w.images("{split}/images", "{split}/labels")
    w.text("dataset.yml", f"train: train\nval: val\n{LISTED}")
    return w.root


def segments(w: Writer) -> Path:
    w.images("images/{split}", "labels/{split}", polygon)
    w.text("data.yaml", f"train: images/train\nval: images/val\n{LISTED}")
    return w.root


def poses(w: Writer) -> Path:
    w.images("images/{split}", "labels/{split}", keypoints)
    w.text("data.yaml", f"train: images/train\nval: images/val\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n{LISTED}")
    return w.root


LAYOUTS = (
    roboflow,
    coco128,
    visdrone,
    xview,
    coco,
    cvat,
    darknet,
    label_studio,
    absolute,
    folders,
    split_folders,
    segments,
    poses,
)


@st.composite
def boxes(draw: st.DrawFn) -> Boxes:
    """Return distinct boxes within the image, in the digits that tools write."""
    listed = []
    for _ in range(draw(st.integers(0, 3))):
        cx, cy = (draw(st.integers(50_000, 950_000)) / 1e6 for _ in range(2))
        w, h = (draw(st.integers(20_000, round(2e6 * min(c, 1 - c)))) / 1e6 for c in (cx, cy))
        listed.append((draw(st.integers(0, 1)), cx, cy, w, h))
    return list(dict.fromkeys(listed))


def read(entry: Entry) -> tuple[list[int], np.ndarray]:
    problems = Problems()
    label = entry.labels["boxes"]((20, 30), problems)
    assert not len(problems)
    return label.classes.tolist(), label.xyxy


@pytest.mark.fault("D5")
@pytest.mark.fault("D8")
@pytest.mark.fault("D9")
@pytest.mark.parametrize("layout", LAYOUTS)
@hypothesis.settings(max_examples=4)
@hypothesis.given(
    st.lists(boxes(), min_size=3, max_size=3), st.sampled_from(["utf-8", "utf-8-sig"]), st.sampled_from(["\n", "\r\n"])
)
def test_a_layout_has_the_boxes_that_were_written(
    layout: Callable[[Writer], Path], drawn: list[Boxes], encoding: str, end: str
) -> None:
    first: Boxes = [(1, 0.5, 0.5, 0.25, 0.5)]  # else there would be no folder of labels
    sets = {"train": {"a": first, "b": drawn[0]}, "val": {"c": first, "d": drawn[1], "e": drawn[2]}}
    with tempfile.TemporaryDirectory() as folder:
        root = layout(Writer(Path(folder).resolve(), sets, encoding, end))
        dataset = index(root)
        assert not list(dataset.problems) and dataset.classes == {"boxes": NAMES}
        for split, by_name in sets.items():
            entries = {entry.name.rpartition("/")[2]: entry for entry in dataset.splits[split]}
            assert entries.keys() == by_name.keys()
            for name, expected in by_name.items():
                classes, xyxy = read(entries[name])
                assert classes == [box[0] for box in expected]
                for (_, cx, cy, w, h), corners in zip(expected, xyxy, strict=True):
                    edges = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * [30, 20, 30, 20]
                    assert np.abs(corners - edges).max() < 1e-3


@pytest.mark.fault("D9")
def test_what_other_tools_write_is_counted(tmp_path: Path) -> None:
    sets = {"train": {"a": [(0, 0.5, 0.5, 0.2, 0.2)], "b": []}, "val": {"c": [(0, 0.5, 0.5, 0.2, 0.2)]}}
    dataset, _ = check(folders(Writer(tmp_path, sets, "utf-8", "\n")))
    assert [str(skipped).split(";")[0] for skipped in dataset.problems.skipped] == [
        "skipped 3 files that are no images",
        "read 1 images without a label file as images without objects",
    ]
    (tmp_path / "data.yaml").unlink()
    dataset, _ = check(roboflow(Writer(tmp_path, sets, "utf-8", "\n")))
    assert any(
        "folders of the split 'test', which do not exist" in str(skipped) for skipped in dataset.problems.skipped
    )
