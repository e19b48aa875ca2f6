"""Public datasets in their formats, written as small as they get."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edgemtl.data.formats import FORMATS

SIZE = (48, 64)


def write_image(file: Path, channels: int = 3, size: tuple[int, int] = SIZE) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, file.stem))
    image = np.random.default_rng(seed).integers(0, 255, (*size, channels)[: 2 + (channels > 1)], np.uint8)
    assert cv2.imwrite(str(file), image)
    return file


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def voc(file: Path, *objects: tuple[str, int, int, int, int]) -> Path:
    rows = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    return write(file, f"<annotation>{size}{rows}</annotation>")


def llvip(root: Path) -> None:
    for split, stems in (("train", ("010001", "010002")), ("test", ("190001",))):
        for stem in stems:
            write_image(root / "visible" / split / f"{stem}.jpg")
            write_image(root / "infrared" / split / f"{stem}.jpg", 1)
            voc(root / "Annotations" / f"{stem}.xml", ("person", 4, 8, 20, 40))


def flir(root: Path) -> None:
    for number in (2, 5, 9):
        write_image(root / "JPEGImages" / f"FLIR_{number:05d}_RGB.jpg")
        write_image(root / "JPEGImages" / f"FLIR_{number:05d}_PreviewData.jpeg", 1)
        voc(
            root / "Annotations" / f"FLIR_{number:05d}_PreviewData.xml",
            ("car", 4, 8, 20, 40),
            ("dog", 1, 1, 9, 9),
        )
    write(root / "align_train.txt", "FLIR_00002_PreviewData\nFLIR_00005_PreviewData\n")
    write(root / "align_validation.txt", "FLIR_00009_PreviewData\n")


def m3fd(root: Path) -> None:
    for number in (0, 99, 300, 400, 455, 500):
        write_image(root / "Vis" / f"{number:05d}.png")
        write_image(root / "Ir" / f"{number:05d}.png", 1)
        voc(root / "Annotation" / f"{number:05d}.xml", ("Lamp", 4, 8, 20, 40), ("People", 30, 8, 40, 40))


def kaist(root: Path) -> None:
    for name in ("set00/V000/I00001", "set03/V001/I00002", "set06/V000/I00019", "set09/V000/I00019"):
        folder, stem = (root / "images" / name).parent, Path(name).name
        write_image(folder / "visible" / f"{stem}.jpg")
        write_image(folder / "lwir" / f"{stem}.jpg", 1)
        write(
            root / "annotations" / f"{name}.txt",
            "% bbGt version=3\nperson 4 8 16 32 0 0 0 0 0 0 0\npeople 1 1 5 5 0 0 0 0 0 0 0\n",
        )
    write(root / "imageSets" / "train-all-02.txt", "set00/V000/I00001\nset03/V001/I00002\n")
    write(root / "imageSets" / "test-all-20.txt", "set06/V000/I00019\nset09/V000/I00019\n")


def nyud(root: Path) -> None:
    for split, stems in (("train", ("0001", "0002")), ("val", ("0003",))):
        write(root / "gt_sets" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            write_image(root / "images" / f"{stem}.jpg")
            ids = np.zeros(SIZE, np.uint8)
            ids[:10], ids[10:20] = 1, 40
            for folder in ("segmentation", "depth", "normals", "edge"):
                (root / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(root / "segmentation" / f"{stem}.png"), ids)
            np.save(root / "depth" / f"{stem}.npy", np.full(SIZE, 2.5, np.float32))
            normals = np.zeros((*SIZE, 3), np.float32)
            normals[:30] = (0, 0, -2)
            np.save(root / "normals" / f"{stem}.npy", normals)
            np.save(root / "edge" / f"{stem}.npy", np.eye(*SIZE, dtype=np.float32))


def cityscapes(root: Path) -> None:
    for split, city in (("train", "aachen"), ("val", "lindau")):
        stem = f"{city}_000000_000019"
        write_image(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
        ids = np.full(SIZE, 4, np.uint8)
        ids[:10], ids[10:20] = 7, 33
        disparity = np.zeros(SIZE, np.uint16)
        disparity[:24] = 256 * 10 + 1
        for folder, name, image in (("gtFine", "gtFine_labelIds", ids), ("disparity", "disparity", disparity)):
            (root / folder / split / city).mkdir(parents=True)
            cv2.imwrite(str(root / folder / split / city / f"{stem}_{name}.png"), image)
        calibration = {"extrinsic": {"baseline": 0.2}, "intrinsic": {"fx": 2000.0}}
        write(root / "camera" / split / city / f"{stem}_camera.json", json.dumps(calibration))


def celeba(root: Path) -> None:
    lines = ["20", "Male Smiling"]
    for number in range(20):
        write_image(root / "CelebA-HQ-img" / f"{number}.jpg")
        for part, (top, bottom) in {"skin": (10, 40), "hair": (0, 12)}.items():
            mask = np.zeros((24, 32), np.uint8)
            mask[top // 2 : bottom // 2] = 255
            file = root / "CelebAMask-HQ-mask-anno" / "0" / f"{number:05d}_{part}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), mask)
        lines.append(f"{number}.jpg  {1 if number % 2 else -1} -1")
    write(root / "CelebAMask-HQ-attribute-anno.txt", "\n".join(lines) + "\n")


def coco(root: Path) -> None:
    for split, count in (("train", 3), ("val", 1)):
        images, items = [], []
        for number in range(count):
            write_image(root / f"{split}2017" / f"{split}{number}.jpg")
            images.append({"id": 10 + number, "file_name": f"{split}{number}.jpg", "height": 48, "width": 64})
            items.append(
                {"id": number, "image_id": 10 + number, "category_id": 7, "bbox": [4, 8, 16, 32], "iscrowd": 0}
            )
            items.append({"id": 90, "image_id": 10 + number, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1})
        content = {
            "images": images,
            "annotations": items,
            "categories": [{"id": 7, "name": "car"}, {"id": 3, "name": "person"}],
        }
        write(root / "annotations" / f"instances_{split}2017.json", json.dumps(content))


WRITERS: dict[str, Callable[[Path], None]] = {name: globals()[name] for name in FORMATS if name != "folder"}
