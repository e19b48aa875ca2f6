"""Several cameras and label maps with COCO's JSON: a file a camera, folders next to each other, parts missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coco_sets import HEIGHT, WIDTH, boxes, content, image, problems, samples, write

RGB_BOX, IR_BOX = (4.0, 8.0, 16.0, 32.0), (30.0, 8.0, 16.0, 32.0)
RGB_ROW, IR_ROW = [0, 4, 8, 20, 40], [0, 30, 8, 46, 40]
PAIRED = {
    "a file a camera": ("annotations/instances_{0}_rgb.json", "annotations/instances_{0}_ir.json", "rgb/{0}", "ir/{0}"),
    "by its usual word": ("annotations/{0}_visible.json", "annotations/{0}_thermal.json", "visible/{0}", "thermal/{0}"),
    "in their folders": ("rgb/{0}/coco.json", "ir/{0}/coco.json", "rgb/{0}", "ir/{0}"),
    "as FLIR has them": (
        "images_rgb_{0}/coco.json",
        "images_thermal_{0}/coco.json",
        "images_rgb_{0}/data",
        "images_thermal_{0}/data",
    ),
    "under images": ("annotations/rgb_{0}.json", "annotations/ir_{0}.json", "images/rgb/{0}", "images/ir/{0}"),
    "split before camera": ("{0}/rgb.coco.json", "{0}/ir.coco.json", "{0}/rgb", "{0}/ir"),
}


def write_pair(root: Path, layout: str, rgb: str = "a.jpg", ir: str = "a.png") -> None:
    rgb_file, ir_file, rgb_folder, ir_folder = PAIRED[layout]
    for split in ("train", "val"):
        image(root / rgb_folder.format(split) / rgb)
        image(root / ir_folder.format(split) / ir, HEIGHT, WIDTH, dtype=np.uint16)
        inner = "data/" if layout == "as FLIR has them" else ""
        write(root / rgb_file.format(split), content(inner + rgb, box=RGB_BOX))
        write(root / ir_file.format(split), content(inner + ir, box=IR_BOX))


@pytest.mark.fault("D4")
@pytest.mark.parametrize("layout", PAIRED)
def test_two_cameras_with_a_file_each(tmp_path: Path, layout: str) -> None:
    write_pair(tmp_path, layout)
    for split in ("train", "val"):
        (sample,) = samples(tmp_path, split).values()
        assert sample.images["rgb"].shape == (HEIGHT, WIDTH, 3) and sample.images["ir"].dtype == np.uint16
        assert boxes(sample) == [RGB_ROW, IR_ROW], "objects of both views, each once"
    assert not problems(tmp_path)


@pytest.mark.fault("D4")
def test_the_label_policy_selects_whose_boxes_count(tmp_path: Path) -> None:
    write_pair(tmp_path, "a file a camera")
    expected = {"rgb": [RGB_ROW], "ir": [IR_ROW], "union": [RGB_ROW, IR_ROW]}
    for policy, rows in expected.items():
        assert boxes(samples(tmp_path, label_policy=policy)["a"]) == rows
    fused = content("a.jpg", box=(0, 0, 9, 9))
    write(tmp_path / "annotations" / "instances_train.json", fused)
    assert boxes(samples(tmp_path)["a"]) == [[0, 0, 0, 9, 9]]
    assert boxes(samples(tmp_path, label_policy="ir")["a"]) == [IR_ROW]


@pytest.mark.fault("D4")
@pytest.mark.parametrize("names", [("0001_rgb.jpg", "0001_thermal.jpg"), ("x/0001.jpg", "x/0001.png")])
def test_partners_are_found_by_the_rest_of_their_name(tmp_path: Path, names: tuple[str, str]) -> None:
    write_pair(tmp_path, "a file a camera", *names)
    (name,) = samples(tmp_path)
    assert name in ("0001", "x/0001")


@pytest.mark.fault("D4")
def test_one_file_of_both_cameras(tmp_path: Path) -> None:
    """Its images are named with their folders; each has its own objects."""
    image(tmp_path / "rgb" / "train" / "a.jpg")
    image(tmp_path / "ir" / "train" / "a.png", HEIGHT, WIDTH)
    value = content("rgb/train/a.jpg", "ir/train/a.png")
    value["annotations"][1]["bbox"] = list(IR_BOX)
    write(tmp_path / "train.json", value)
    (sample,) = samples(tmp_path).values()
    assert set(sample.images) == {"rgb", "ir"} and boxes(sample) == [RGB_ROW, IR_ROW]


PARTNERS = {
    "folders by camera": ("rgb/train", "ir/train"),
    "another word": ("visible/train", "infrared/train"),
    "camera in the split": ("train/rgb", "train/thermal"),
    "COCO's own": ("train2017", "thermal/train2017"),
    "under images": ("images/train", "ir/train"),
    "images by camera": ("images/rgb/train", "images/lwir/train"),
}


@pytest.mark.fault("D4")
@pytest.mark.parametrize("layout", PARTNERS)
def test_one_file_and_images_of_another_camera_next_to_its_own(tmp_path: Path, layout: str) -> None:
    rgb, ir = PARTNERS[layout]
    for name in ("a", "b"):
        image(tmp_path / rgb / f"{name}.jpg")
        image(tmp_path / ir / f"{name}.png", HEIGHT, WIDTH, dtype=np.uint16)
    write(tmp_path / "annotations" / "train.json", content("a.jpg", "b.jpg"))
    read = samples(tmp_path)
    assert list(read) == ["a", "b"] and all(set(sample.images) == {"rgb", "ir"} for sample in read.values())
    assert boxes(read["b"]) == [RGB_ROW]


@pytest.mark.fault("D4")
def test_cameras_that_share_no_name_are_no_pairs(tmp_path: Path) -> None:
    """FLIR's own free dataset is such: its cameras are of other sizes and times."""
    write_pair(tmp_path, "as FLIR has them", "video-A-frame-1-x.jpg", "video-B-frame-1-y.jpg")
    lines = problems(tmp_path)
    assert len(lines) == 2 and "the images of rgb and ir share no name, so none are pairs" in lines[0]


@pytest.mark.fault("D3")
@pytest.mark.parametrize("layout", ["images_thermal_train", "thermal/train", "train_ir"])
def test_the_only_camera_is_thermal_by_its_name(tmp_path: Path, layout: str) -> None:
    image(tmp_path / layout / "a.jpg", HEIGHT, WIDTH)
    write(tmp_path / layout / "coco.json", content("a.jpg"))
    (sample,) = samples(tmp_path).values()
    assert set(sample.images) == {"ir"} and sample.images["ir"].shape == (HEIGHT, WIDTH)


@pytest.mark.fault("D3")
def test_the_dataset_s_own_folder_names_the_camera(tmp_path: Path) -> None:
    root = tmp_path / "thermal-people"
    image(root / "train" / "a.jpg", HEIGHT, WIDTH)
    write(root / "train" / "_annotations.coco.json", content("a.jpg"))
    (sample,) = samples(root).values()
    assert set(sample.images) == {"ir"}
