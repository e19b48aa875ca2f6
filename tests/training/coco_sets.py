"""Small datasets in COCO's format, written and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgemtl.data.check import check
from edgemtl.data.formats import index
from edgemtl.data.sample import BoxLabels, Sample

HEIGHT, WIDTH = 48, 64
Content = dict[str, Any]


def image(file: Path, *shape: int, dtype: type = np.uint8) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, file.stem))
    high = 65535 if dtype is np.uint16 else 255
    pixels = np.random.default_rng(seed).integers(0, high, shape or (HEIGHT, WIDTH, 3), dtype)
    assert cv2.imwrite(str(file), pixels)
    return file


def content(*names: str, box: tuple[float, ...] = (4, 8, 16, 32)) -> Content:
    """Return images of these file names, and an object on each."""
    return {
        "images": [
            {"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in enumerate(names or ("a.jpg",))
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": list(box), "iscrowd": 0, "area": 1, "segmentation": [[]]}
            for n in range(len(names or "a"))
        ],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 3, "name": "car"}],
    }


def write(file: Path, value: Content | list[Any] | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return file


def samples(root: Path, split: str = "train", label_policy: str = "fused") -> dict[str, Sample]:
    """Return the samples by name; there are no problems."""
    result = index(root, label_policy)
    read = {entry.name: entry.read(result.problems) for entry in result.splits[split]}
    assert not list(map(str, result.problems))
    return {name: sample for name, sample in read.items() if sample is not None}


def boxes(sample: Sample) -> list[list[float]]:
    label = sample.label("boxes")
    assert isinstance(label, BoxLabels)
    return [[class_id, *row] for class_id, row in zip(label.classes.tolist(), label.xyxy.tolist(), strict=True)]


def problems(root: Path) -> list[str]:
    return [str(problem) for problem in check(root)[0].problems]


def coco2017(root: Path) -> None:
    """Write COCO's own folder, small: what of it made tools stop is in it."""
    shapes: dict[str, tuple[int, ...]] = {
        "000000000009": (48, 64, 3),
        "000000000025": (64, 48),
        "000000000030": (40, 64, 3),
    }
    for split in ("train", "val"):
        images: list[Content] = []
        annotations: list[Content] = []
        for stem, shape in shapes.items():
            image(root / f"{split}2017" / f"{stem}.jpg", *shape)
            images.append(
                {
                    "license": 4,
                    "file_name": f"{stem}.jpg",
                    "coco_url": f"http://images.cocodataset.org/{split}2017/{stem}.jpg",
                    "height": shape[0],
                    "width": shape[1],
                    "date_captured": "2013-11-14 11:18:45",
                    "id": int(stem),
                }
            )
        rle = {"counts": [272, 2, 4, 4], "size": [48, 64]}
        for image_id, category, box, crowd, mask in (
            (9, 1, [1.08, 4.8, 20.5, 30.25], 0, [[1.08, 4.8, 21.5, 35.0, 1.08, 35.0]]),
            (9, 90, [10.0, 10.0, 20.0, 0.0], 0, [[10.0, 10.0, 30.0, 10.0, 20.0, 10.0]]),
            (9, 1, [0, 0, 64, 30], 1, rle),
            (30, 90, [3, 4, 5, 6], 0, [[3, 4, 8, 4, 8, 10]]),
        ):
            annotations.append(
                {"segmentation": mask, "area": 9.5, "iscrowd": crowd, "image_id": image_id, "bbox": box}
                | {"category_id": category, "id": 900100000000 + len(annotations)}
            )
        ids = [n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
        categories = [{"supercategory": "thing", "id": n, "name": f"name {n}"} for n in ids]
        everything = {"info": {"year": 2017}, "licenses": [{"id": 4}], "images": images, "annotations": annotations}
        write(root / "annotations" / f"instances_{split}2017.json", everything | {"categories": categories})
        for other in ("captions", "person_keypoints"):
            write(root / "annotations" / f"{other}_{split}2017.json", {"annotations": [{"caption": "A dog."}]})
    write(root / "annotations" / "image_info_test2017.json", {"images": images, "categories": categories})
