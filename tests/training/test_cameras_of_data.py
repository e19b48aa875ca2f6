"""Datasets of one camera or two: which modality it is, images that are turned, and views of unequal size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_description import write_yolo

from edgemtl.config_file import load
from edgemtl.data.check import check
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import index
from edgemtl.data.registration import Registered
from edgemtl.data.sample import Dataset
from edgemtl.errors import DataError
from edgemtl_runtime.rig import CameraModel, Rig

COUNTS = (29_000 + np.arange(20 * 30).reshape(20, 30)).astype(np.uint16)


def opened(root: Path, *words: str) -> Dataset:
    return open_datasets(load(None, [f"data.source={root}", *words]))["train"]


@pytest.mark.fault("D3")
@pytest.mark.parametrize("counts", [COUNTS, np.stack([COUNTS] * 3, 2)])
def test_counts_of_the_only_camera_are_thermal(tmp_path: Path, counts: np.ndarray) -> None:
    write_yolo(tmp_path)
    for split in ("train", "val"):
        cv2.imwrite(str(tmp_path / "images" / split / "a.png"), counts)
    dataset, statistics = check(tmp_path)
    assert not dataset.problems and statistics["train"]["bits"] == {"ir": [16]}
    assert str(dataset.problems.skipped[0]).startswith("read 2 images as thermal ones (ir); the first: ")
    assert np.array_equal(opened(tmp_path)[0].images["ir"], COUNTS)
    with pytest.raises(DataError, match="colour has 8 bits: name thermal images ir"):
        opened(tmp_path, "data.modality=rgb")[0]


@pytest.mark.fault("D3")
def test_the_only_camera_is_what_it_is_called(tmp_path: Path, pairs: Path) -> None:
    write_yolo(tmp_path)
    assert opened(tmp_path).modalities == ("rgb",) and opened(tmp_path, "data.modality=ir").modalities == ("ir",)
    assert opened(tmp_path, "data.modality=ir")[0].images["ir"].shape == (20, 30)
    file = tmp_path / "data.yaml"
    file.write_text(file.read_text() + "modality: ir\n")
    assert opened(tmp_path).modalities == ("ir",)
    assert open_datasets(load(None, [f"data.source=[{{source: {tmp_path}, modality: rgb}}]"]))["train"].modalities == (
        "rgb",
    )
    with pytest.raises(DataError, match="modality=ir is of one camera, the data have rgb, ir"):
        opened(pairs, "data.modality=ir")


def write_turned(file: Path, orientation: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Write an image of stored ``size`` with an EXIF orientation; return its stored pixels."""
    pixels = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, exif=exif)
    return pixels


@pytest.mark.fault("D1")
def test_turned_images_of_yolo_need_a_word(tmp_path: Path) -> None:
    write_yolo(tmp_path, label="0 0.25 0.5 0.5 1\n")
    image = tmp_path / "images" / "train" / "a.png"
    pixels = write_turned(image, 6)
    (problem,) = check(tmp_path)[0].problems
    assert str(problem).startswith(f"{image}: has the EXIF orientation 6") and "exif: upright or stored" in str(problem)
    file, text = tmp_path / "data.yaml", (tmp_path / "data.yaml").read_text()
    for word, shown, box in (("upright", np.rot90(pixels, -1), [0, 0, 10, 30]), ("stored", pixels, [0, 0, 15, 20])):
        file.write_text(f"{text}exif: {word}\n")
        sample = opened(tmp_path)[0]
        assert np.array_equal(sample.images["rgb"][:, :, 0], shown)
        assert sample.labels["boxes"].xyxy.tolist() == [box]


@pytest.mark.fault("D1")
@pytest.mark.parametrize("size", [(20, 30), (30, 20)])
def test_maps_tell_how_an_image_is_turned(tmp_path: Path, size: tuple[int, int]) -> None:
    write_yolo(tmp_path, "names: [car]\nsemantic: [road]\n")
    pixels = write_turned(tmp_path / "images" / "train" / "a.png", 8)
    for split in ("train", "val"):
        (tmp_path / "semantic" / split).mkdir(parents=True)
        shape = size if split == "train" else (20, 30)
        cv2.imwrite(str(tmp_path / "semantic" / split / "a.png"), np.zeros(shape, np.uint8))
    shown = opened(tmp_path)[0].images["rgb"][:, :, 0]
    assert np.array_equal(shown, pixels if size == (20, 30) else np.rot90(pixels))


def unequal(root: Path, scale: int = 2) -> tuple[Path, np.ndarray]:
    """Write a colour image and a thermal one of half its size, which shows the same."""
    write_yolo(root)
    ramp = (1000 + np.add.outer(5 * np.arange(10 * scale), 3 * np.arange(15 * scale))).astype(np.uint16)
    for split in ("train", "val"):
        (root / "ir" / split).mkdir(parents=True)
        cv2.imwrite(str(root / "ir" / split / "a.png"), ramp)
    file = root / "data.yaml"
    file.write_text(file.read_text() + "train_ir: ir/train\nval_ir: ir/val\n")
    return file, ramp


@pytest.mark.fault("D4")
def test_unequal_sizes_are_one_line_with_the_remedy(tmp_path: Path) -> None:
    unequal(tmp_path, 1)
    for i in range(5):
        for folder, suffix in (("images", "png"), ("ir", "png"), ("labels", "txt")):
            source = tmp_path / folder / "train" / f"a.{suffix}"
            source.with_stem(f"b{i}").write_bytes(source.read_bytes())
    (problem,) = check(tmp_path)[0].problems
    assert "ir is 15x10, its rgb image 30x20" in str(problem) and str(problem).endswith("(and 6 more like it)")
    assert all(word in str(problem) for word in ("rig: FILE", "ir_to_rgb: [[…]]", "resize: true"))


@pytest.mark.fault("D4")
def test_views_of_unequal_size_are_brought_together(tmp_path: Path) -> None:
    file, ramp = unequal(tmp_path, 1)
    text = file.read_text()
    scale = "[[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]"
    cameras = {"rgb": CameraModel("rgb", 30, 20), "ir": CameraModel("ir", 15, 10)}
    Rig(cameras, homography_rgb_to_ir=np.linalg.inv([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])).save(tmp_path / "rig.yaml")
    read = {}
    for key in ("resize: true", f"ir_to_rgb: {scale}", "rig: rig.yaml"):
        file.write_text(f"{text}{key}\n")
        image = opened(tmp_path)[0].images["ir"]
        assert image.shape == (20, 30) and image.dtype == np.uint16
        read[key] = image.astype(int)
    expected = cv2.resize(ramp, (30, 20), interpolation=cv2.INTER_LINEAR).astype(int)
    assert all(np.abs(image - expected)[1:-1, 1:-1].max() <= 1 for image in read.values())
    file.write_text(f"{text}rig: rig.yaml\n")
    (tmp_path / "labels").rename(tmp_path / "labels_ir")
    assert "label_policy=ir reads labels of images before registration" in str(index(tmp_path, "ir").problems[0])


@pytest.mark.fault("D4")
def test_what_the_second_camera_does_not_see_leaves_its_range_as_it_is() -> None:
    counts = np.arange(200, dtype=np.uint16).reshape(10, 20) + 30_000
    shifted = Registered(ir_to_rgb=np.array([[1, 0, 12], [0, 1, 0], [0, 0, 1.0]]))
    warped = shifted(counts, (10, 20))
    assert np.array_equal(warped[:, 12:], counts[:, :8]) and (warped[:, :12] == int(np.median(counts))).all()
    assert (shifted((counts - 30_000).astype(np.uint8), (10, 20))[:, :12] == 114).all()


@pytest.mark.fault("D4")
def test_the_part_that_is_whole_trains(pairs: Path) -> None:
    """An image without a partner, a split without one task and a modality that is not asked for."""
    sorted((pairs / "ir" / "train").iterdir())[0].unlink()
    (pairs / "semantic" / "val").rename(pairs / "away")
    train = opened(pairs)
    assert len(train) == 5 and train.modalities == ("rgb", "ir") and "semantic" not in train.classes
    assert "semantic" not in train[0].labels and "depth" in train[0].labels
    colour = opened(pairs, "modalities=[rgb]")
    assert len(colour) == 6 and colour.modalities == ("rgb",) and set(colour[0].images) == {"rgb"}


@pytest.mark.fault("D4")
def test_pairs_without_a_common_name_are_named(pairs: Path) -> None:
    for split in ("train", "val"):
        for file in (pairs / "ir" / split).iterdir():
            file.rename(file.with_stem(f"{file.stem}_ir"))
    problem = str(check(pairs)[0].problems[0])
    assert "no sample of split 'train' has an image of every camera: the names must be equal" in problem
    assert "rgb '0000000' and ir '0000000_ir'" in problem
