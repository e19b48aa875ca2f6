"""Public datasets in their formats: written small by the tests, read as the real ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.data.check import check
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import FORMATS, index
from edgemtl.data.formats.cityscapes import IDS
from edgemtl.data.sample import IGNORE, Sample

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
    return write(file, f"<annotation>{rows}</annotation>")


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
COUNTS = {
    "llvip": (2, 1),
    "flir": (2, 1),
    "m3fd": (4, 2),
    "kaist": (2, 2),
    "nyud": (2, 1),
    "cityscapes": (1, 1),
    "celeba": (16, 2),
    "coco": (3, 1),
}
BOXES = {
    "llvip": [[4, 8, 20, 40]],
    "flir": [[4, 8, 20, 40]],
    "m3fd": [[4, 8, 20, 40], [30, 8, 40, 40]],
    "kaist": [[4, 8, 20, 40]],
    "coco": [[4, 8, 20, 40]],
}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A dataset of each format, as small as it gets."""
    root = tmp_path / request.param
    WRITERS[request.param](root)
    return request.param, root


def samples_of(root: Path, split: str = "train", **data: Any) -> list[Sample]:
    samples = open_datasets(load(None, [f"data.source={root}"]))[split]
    return [samples[i] for i in range(len(samples))]


def test_written_samples_are_read(written: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    name, root = written
    dataset_index, statistics = check(root)
    assert (
        not dataset_index.problems and (statistics["train"]["pictures"], statistics["val"]["pictures"]) == COUNTS[name]
    )
    assert main(["data", "check", str(root), "--json"]) == 0
    for sample in samples_of(root):
        assert sample.images["rgb"].shape == (*SIZE, 3) and sample.images["rgb"].std() > 20
        assert set(sample.labels) == set(dataset_index.classes)
        if name in ("llvip", "flir", "m3fd", "kaist"):
            assert sample.images["ir"].shape == SIZE
        if name in BOXES:
            assert sample.labels["boxes"].xyxy.tolist() == BOXES[name]


def test_a_missing_image_is_reported(written: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """In formats with pairs or lists a missing image is a problem; others index the files that exist."""
    name, root = written
    lost = index(root).splits["train"][0].images["rgb"]
    lost.unlink()
    code = main(["data", "check", str(root)])
    stderr = capsys.readouterr().err
    if name in ("celeba", "cityscapes"):
        assert code == 0
    else:
        assert code == 2 and lost.stem.removesuffix("_RGB") in stderr


def test_spoilt_labels_are_reported_with_their_file(
    written: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name, root = written
    endings = {"nyud": "*.npy", "cityscapes": "*_disparity.png", "celeba": "*_skin.png", "coco": "*.json"}
    file = sorted(root.rglob(endings.get(name, "set*/*/*.txt" if name == "kaist" else "*.xml")))[0]
    file.write_bytes(b"person spoilt")
    assert main(["data", "check", str(root)]) == 2
    assert str(file) in capsys.readouterr().err


def test_kaist_by_day_and_night_and_from_xml(tmp_path: Path) -> None:
    kaist(tmp_path)
    assert [sample.is_day for sample in samples_of(tmp_path)] == [True, False]
    for file in (tmp_path / "annotations").rglob("*.txt"):
        better = tmp_path / "annotations-xml-15" / file.relative_to(tmp_path / "annotations").with_suffix(".xml")
        write(
            better,
            "<annotation><object><name>person</name><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox></object>"
            "<object><name>cyclist</name><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox></object></annotation>",
        )
    assert samples_of(tmp_path)[0].labels["boxes"].xyxy.tolist() == [[1, 2, 4, 6]]


def test_kaist_without_lists_takes_every_twentieth(tmp_path: Path) -> None:
    for number in range(40):
        for name in (f"set01/V000/I{number:05d}", f"set07/V000/I{number:05d}"):
            folder = (tmp_path / "images" / name).parent
            for view, channels in (("visible", 3), ("lwir", 1)):
                write_image(folder / view / f"I{number:05d}.jpg", channels)
            write(tmp_path / "annotations" / f"{name}.txt", "% bbGt version=3\n")
    splits = index(tmp_path).splits
    assert [entry.name for entry in splits["train"]] == ["set01/V000/I00019", "set01/V000/I00039"]


def test_m3fd_holds_out_whole_scenes_or_follows_lists(tmp_path: Path) -> None:
    m3fd(tmp_path)
    assert [entry.name for entry in index(tmp_path).splits["val"]] == ["00400", "00455"]
    write(tmp_path / "meta" / "train.txt", "00000.png\n00300.png\n")
    write(tmp_path / "meta" / "val.txt", "00500\n77777\n")
    dataset_index = index(tmp_path)
    assert [entry.name for entry in dataset_index.splits["train"]] == ["00000", "00300"]
    assert "names 77777" in str(dataset_index.problems[0])


def test_nyud_labels_in_our_units(tmp_path: Path) -> None:
    nyud(tmp_path)
    labels = samples_of(tmp_path)[0].labels
    assert [labels["semantic"][row, 0] for row in (0, 10, 30)] == [0, 39, IGNORE]
    assert (labels["depth"] == 2.5).all() and labels["depth"].dtype == np.float32
    assert labels["normals"][0, 0].tolist() == [0, 0, -1] and not labels["normals"][40].any()
    assert labels["edges"].sum() == min(SIZE)


def test_cityscapes_labels_in_our_units(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    labels = samples_of(tmp_path)[0].labels
    assert [labels["semantic"][row, 0] for row in (0, 10, 30)] == [IDS.index(7), IDS.index(33), IGNORE]
    assert labels["depth"][0, 0] == pytest.approx(0.2 * 2000 / 10) and labels["depth"][40, 0] == 0


def test_celeba_masks_and_splits(tmp_path: Path) -> None:
    celeba(tmp_path)
    sample = samples_of(tmp_path)[1]
    assert [sample.labels["semantic"][row, 0] for row in (0, 11, 20, 45)] == [1, 1, 2, 0]
    assert sample.labels["attributes"].tolist() == [1, 0]
    lines = ["idx orig_idx orig_file"] + [f"{n} {n} {n:06d}.jpg" for n in range(20)]
    write(tmp_path / "CelebA-HQ-to-CelebA-mapping.txt", "\n".join(lines))
    write(tmp_path / "list_eval_partition.txt", "".join(f"{n:06d}.jpg {n % 3}\n" for n in range(20)))
    splits = index(tmp_path).splits
    assert [entry.name for entry in splits["val"]][:3] == ["1", "4", "7"] and len(splits["test"]) == 6


def test_coco_categories_stand_by_their_ids(tmp_path: Path) -> None:
    coco(tmp_path)
    dataset_index = index(tmp_path)
    assert dataset_index.classes["boxes"] == ("person", "car")
    assert samples_of(tmp_path)[0].labels["boxes"].classes.tolist() == [1]
