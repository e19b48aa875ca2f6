"""Drawn streets as a folder: the layout that datasets have, with a file for every kind of label."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import yaml
from numpy.typing import NDArray

from ..console import progress_bar
from ..data.readers.maps import write_map
from ..data.sample import BoxLabels, Sample
from .streets import HELD_OUT, Streets, street

README = """\
Streets drawn by edgemtl, the same for the same numbers: images of a colour and a thermal camera, and labels of every
task. The layout is that of your own data.
"""


def write_streets(folder: Path, size: tuple[int, int], num_train: int, num_val: int, seed: int = 0) -> None:
    """Write the streets of consecutive seeds to a folder, its val images from seeds that no training draws."""
    rows: list[list[object]] = []
    for split, count, first in (("train", num_train, seed), ("val", num_val, HELD_OUT + seed)):
        with progress_bar(f"drawing {split}", count) as bar:
            for index in range(count):
                sample = street(first + index, size)  # not of a dataset, which keeps what it has drawn
                _write_sample(folder, split, sample)
                rows.append([sample.name, int(bool(sample.is_day)), *map(int, _array(sample, "attributes")[1:])])
                bar(index + 1, {})
    attributes = Streets.classes["attributes"][1:]
    with (folder / "attributes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["stem", "is_day", *attributes], *rows])
    described = {
        "names": dict(enumerate(Streets.classes["boxes"])),
        "semantic": dict(enumerate(Streets.classes["semantic"])),
        "attributes": list(attributes),
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    (folder / "README.txt").write_text(README)


def _write_sample(folder: Path, split: str, sample: Sample) -> None:
    images = {"rgb": sample.images["rgb"][..., ::-1], "ir": sample.images["ir"]}
    for name, image in images.items():
        (_existing(folder / name / split) / f"{sample.name}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    for task in ("semantic", "depth", "normals", "edges"):
        write_map(task, _existing(folder / task / split) / f"{sample.name}.png", _array(sample, task))
    height, width = sample.size
    boxes = sample.label("boxes")
    assert isinstance(boxes, BoxLabels)
    lines = []
    for class_id, (x1, y1, x2, y2) in zip(boxes.classes, boxes.xyxy.tolist(), strict=True):
        numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{class_id} {' '.join(f'{number:.6f}' for number in numbers)}\n")
    (_existing(folder / "labels" / split) / f"{sample.name}.txt").write_text("".join(lines))


def _array(sample: Sample, task: str) -> NDArray[Any]:
    label = sample.label(task)
    assert not isinstance(label, BoxLabels)
    return label


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
