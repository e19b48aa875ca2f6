"""Several cameras and label maps with COCO's JSON: a file a camera, folders next to each other, parts missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_sets import HEIGHT, WIDTH, boxes, content, image, problems, samples, write

from edgemtl.config_file import load
from edgemtl.data.check import check
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import index

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
    (tmp_path / "annotations" / "instances_train_rgb.json").rename(tmp_path / "annotations" / "instances_train.json")
    for policy, rows in expected.items():
        assert boxes(samples(tmp_path, label_policy=policy)["a"]) == rows, "a file of no camera stands for rgb's"


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
    """FLIR's own free dataset is such: its cameras are of other sizes and times. One of them trains."""
    write_pair(tmp_path, "as FLIR has them", "video-A-frame-1-x.jpg", "video-B-frame-1-y.png")
    line = problems(tmp_path)[0]
    assert "no sample of split 'train' has an image of every camera: the names must be equal, rgb 'video-A" in line
    assert "modalities=[rgb] trains on one of them" in line
    splits = open_datasets(load(None, [f"data.source={tmp_path}", "modalities=[ir]"]))
    assert len(splits["train"]) == 1 and boxes(splits["train"][0]) == [IR_ROW]


@pytest.mark.fault("D4")
def test_an_image_without_its_partner_is_skipped_with_a_count(tmp_path: Path) -> None:
    for folder, names in (("rgb", "abc"), ("ir", "ab")):
        for name in names:
            image(tmp_path / folder / "train" / f"{name}.png", HEIGHT, WIDTH)
    write(tmp_path / "train.json", content("a.png", "b.png", "c.png"))
    result, statistics = check(tmp_path)
    assert statistics["train"]["pictures"] == 2 and not result.problems
    assert "skipped 1 rgb images without an ir image" in " ".join(map(str, result.problems.skipped))


@pytest.mark.fault("D1")
def test_each_camera_s_boxes_are_held_against_the_image(tmp_path: Path) -> None:
    write_pair(tmp_path, "a file a camera")
    value = content("a.png", box=IR_BOX)
    value["images"][0].update(width=2 * WIDTH, height=2 * HEIGHT)
    write(tmp_path / "annotations" / "instances_train_ir.json", value)
    (line,) = problems(tmp_path)
    assert "has boxes for an image of 128x96, the sample's image is 64x48" in line


def describe(root: Path, text: str) -> None:
    (root / "data.yaml").write_text(text)


@pytest.mark.fault("D4")
def test_a_data_yaml_names_the_files(tmp_path: Path) -> None:
    """And may say where the images are; without that they are found as ever."""
    for folder, suffix in (("day/one", "jpg"), ("warm/one", "png"), ("day/two", "jpg"), ("warm/two", "png")):
        image(tmp_path / folder / f"a.{suffix}", HEIGHT, WIDTH)
    for name, file in (("a", "a.jpg"), ("b", "a.jpg"), ("c", "a.png")):
        write(tmp_path / "boxes" / f"{name}.json", content(file, box=IR_BOX if name == "c" else RGB_BOX))
    files = "annotations: {train: boxes/a.json, val: boxes/b.json, val_ir: boxes/c.json}"
    describe(tmp_path, f"{files}\ntrain: day/one\ntrain_ir: warm/one\nval: day/two\nval_ir: warm/two\n")
    (sample,) = samples(tmp_path).values()
    assert set(sample.images) == {"rgb", "ir"} and boxes(sample) == [RGB_ROW]
    (sample,) = samples(tmp_path, "val").values()
    assert boxes(sample) == [RGB_ROW, IR_ROW]
    assert index(tmp_path / "data.yaml").splits["train"][0].images["ir"].parent.parts[-2:] == ("warm", "one")


@pytest.mark.fault("D4")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("annotations: {train: lost.json}", "lost.json: does not exist; annotations.train names it"),
        (
            "annotations: [a.json]",
            "annotations is '['a.json']'; COCO's JSON files by split are wanted, as {train: a.json",
        ),
        ("annotations: {training: train.json}", "annotations is '{'training': 'train.json'}'; COCO's JSON files by"),
        ("annotations: train.json\nnames: [car]", "has the categories person, which"),
        ("annotations: train.json\nnames: [person, person]", "'person' is the name of the ids 0 and 1"),
        ("annotation: train.json\nname: [car]", "unknown key 'annotation'; did you mean 'annotations'?"),
        ("annotations: train.json\nsemantic: [road]", "names the classes of semantic (semantic), and"),
        ("annotations: train.json\ntrain_ir: warm", "images of which none has the name of one of rgb's: 'z', and 'a'"),
    ],
)
def test_what_a_data_yaml_names_wrongly(tmp_path: Path, text: str, expected: str) -> None:
    image(tmp_path / "train" / "a.jpg")
    image(tmp_path / "warm" / "z.png", HEIGHT, WIDTH)
    write(tmp_path / "train.json", content("a.jpg"))
    describe(tmp_path, text)
    lines = problems(tmp_path)
    assert len(lines) == 1 and expected in lines[0], lines


@pytest.mark.fault("D5")
def test_names_give_the_classes_their_order(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.jpg")
    write(tmp_path / "train.json", content("a.jpg"))
    describe(tmp_path, "annotations: train.json\nnames: [bus, car, person]\n")
    assert boxes(samples(tmp_path)["a"]) == [[2, 4, 8, 20, 40]]
    assert index(tmp_path).classes["boxes"] == ("bus", "car", "person")


@pytest.mark.fault("D3")
@pytest.mark.parametrize("how", ["counts", "word", "key"])
def test_the_only_camera_is_thermal_by_its_pixels_or_a_key(tmp_path: Path, how: str) -> None:
    """Eight bits of one channel may be grey: then a name or a key tells."""
    image(tmp_path / "train" / "a.png", HEIGHT, WIDTH, dtype=np.uint16 if how == "counts" else np.uint8)
    write(tmp_path / ("thermal_train.json" if how == "word" else "train.json"), content("a.png"))
    if how == "key":
        describe(tmp_path, "modality: ir\n")
    (sample,) = samples(tmp_path).values()
    assert set(sample.images) == {"ir"} and sample.images["ir"].dtype == (np.uint16 if how == "counts" else np.uint8)
    assert boxes(sample) == [RGB_ROW]


@pytest.mark.fault("D4")
def test_cameras_of_unequal_size_are_brought_together(tmp_path: Path) -> None:
    """Boxes of the first camera's image stay; those of the other are of pixels that are moved."""
    image(tmp_path / "rgb" / "train" / "a.jpg")
    image(tmp_path / "ir" / "train" / "a.png", HEIGHT // 2, WIDTH // 2, dtype=np.uint16)
    write(tmp_path / "train.json", content("a.jpg"))
    assert "data.yaml brings cameras together" in problems(tmp_path)[0]
    describe(tmp_path, "resize: true\n")
    (sample,) = samples(tmp_path).values()
    assert sample.images["ir"].shape == (HEIGHT, WIDTH) and boxes(sample) == [RGB_ROW]
    write(tmp_path / "train_ir.json", content("a.png", box=(1, 1, 4, 4)))
    assert boxes(samples(tmp_path, label_policy="rgb")["a"]) == [RGB_ROW]
    (problem,) = index(tmp_path, "ir").problems
    assert "boxes of ir are of its image before it is registered; label_policy=rgb takes" in str(problem)


MAPS = {
    "rgb/train": "depth/train",
    "train2017": "depth/train2017",
    "images/train": "depth/train",
    "train": "depth/train",
}


@pytest.mark.fault("D4")
@pytest.mark.parametrize("images", MAPS)
def test_label_maps_with_boxes_of_coco(tmp_path: Path, images: str) -> None:
    """A map that is missing is no label; a split without any leaves the task out, with a count."""
    for name in "ab":
        image(tmp_path / images / f"{name}.jpg")
    for task, dtype, value in (("depth", np.uint16, 2500), ("semantic", np.uint8, 1)):
        folder = tmp_path / MAPS[images].replace("depth", task)
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), np.full((HEIGHT, WIDTH), value, dtype))
    write(tmp_path / "annotations" / "train.json", content("a.jpg", "b.jpg"))
    assert "holds maps, whose classes a data.yaml names: semantic: [road, sky]" in problems(tmp_path)[0]
    describe(tmp_path, "semantic: [road, sky]\nattributes: [wet]\n")
    (tmp_path / "attributes.csv").write_text("stem,is_day,wet\na,1,0\nb,0,1\n")
    read = samples(tmp_path)
    assert set(read["a"].labels) == {"boxes", "semantic", "depth", "attributes"}
    assert set(read["b"].labels) == {"boxes", "attributes"} and read["b"].is_day is False
    assert np.all(read["a"].labels["depth"] == 2.5) and np.all(read["a"].labels["semantic"] == 1)
    image(tmp_path / "val" / "a.jpg")
    write(tmp_path / "annotations" / "val.json", content("a.jpg"))
    result = index(tmp_path)
    assert set(result.classes) == {"boxes", "attributes"}
    assert "labels of depth, as split 'val' has none" in result.problems.skips


@pytest.mark.fault("D1")
def test_a_map_of_another_size(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.jpg")
    (tmp_path / "depth" / "train").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "depth" / "train" / "a.png"), np.ones((10, 10), np.uint16))
    write(tmp_path / "train.json", content("a.jpg"))
    (line,) = problems(tmp_path)
    assert "is 10x10, its image 64x48" in line


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
