"""data.yaml and the files next to it: what is given in another form is read, or rejected in words."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_pairs
from PIL import Image

from edgemtl.config_file import load
from edgemtl.data.check import check
from edgemtl.data.class_names import class_names
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import index
from edgemtl.data.problems import Problems
from edgemtl.data.readers.maps import read_map
from edgemtl.data.readers.yolo_text import YoloText
from edgemtl.data.sample import Sample
from edgemtl.errors import DataError

GREY = np.full((20, 30), 90, np.uint8)


def write_yolo(root: Path, text: str = "names: [car, bus]\n", label: str = "0 0.5 0.5 0.2 0.2\n") -> Path:
    """Write two images with a label file each, in the layout of YOLO."""
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        cv2.imwrite(str(root / "images" / split / "a.png"), GREY)
        (root / "labels" / split / "a.txt").write_text(label)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{text}")
    return root


def sample(root: Path, *words: str) -> Sample:
    return open_datasets(load(None, [f"data.source={root}", *words]))["train"][0]


@pytest.mark.fault("D5")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("car", "names is the text 'car'; a list of names is wanted, as [person, car], or {0: person, 1: car}: names"),
        ("car, bus", "names: [car, bus]"),
        (80, "names is the number 80"),
        (["car", "bus", "car"], "'car' is the name of the ids 0 and 2; names are distinct"),
        (["car", " car"], "'car' is the name of the ids 0 and 1"),
        ([True, "no"], "name 0 is true (as YAML reads yes, on and true); a name is a text: write it in quotes"),
        ([0, 1], "name 0 is the number 0; a name is a text"),
        (["car", None], "name 1 is empty"),
        (["car", " "], "name 1 is empty"),
        ([["car"]], "name 0 is a list"),
        ({1: "car", 2: "bus"}, "the ids are 1 to 2; ids count from 0"),
        ({0: "car", 2: "bus"}, "no name for id 1, and one for id 2"),
        ({"car": 0, "bus": 1}, "'car' is no id; it is a mapping of names to ids: turn it round"),
        ({0.5: "car"}, "'0.5' is no id"),
        (["car\nbus"], "has signs that do not print"),
    ],
)
def test_names_are_a_list_of_distinct_words(value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        class_names("names", value)


@pytest.mark.fault("D5")
def test_names_are_read_in_the_order_of_their_ids() -> None:
    assert class_names("names", {1: "bus", 0: "car "}) == ("car", "bus")
    assert class_names("semantic", {0: "road", 255: "unknown"}) == ("road",)
    assert class_names("names", {"0": "yes", "1": "0"}) == class_names("names", ["yes", "0"]) == ("yes", "0")


@pytest.mark.fault("D4")
@pytest.mark.fault("D5")
@pytest.mark.fault("D8")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: [yes, no]\n", "name 0 is true"),
        ("names: [car, bus]\nnc: 3\n", "nc is 3, and names has 2 names"),
        ("name: [car, bus]\n", "unknown key 'name'; did you mean 'names'?"),
        ("names: [car, bus]\ntrain_it: x\n", "unknown key 'train_it'; did you mean 'train_ir'?"),
        ("names: [car, bus]\nval: images/nowhere\n", "images/nowhere: does not exist; val names it"),
        ("names: [car, bus]\ntrain: {a: b}\n", "a folder, a .txt list of images, or a list of these is wanted"),
        ("names: [car, bus]\nfolders: deep\n", "folders is 'deep'; a mapping is wanted"),
        ("names: [car, bus]\nmodality: thermal\n", "modality 'thermal' is not one of rgb, ir"),
        ("names: [car, bus]\nrig: r.yaml\nresize: true\n", "rig and resize are given"),
        ("names: [car, bus]\nir_to_rgb: [1, 2, 3]\n", "a homography is wanted: three rows of three numbers"),
        ("names: [car, bus]\nsemantic: [road]\n", "names the classes of semantic (semantic), and there are no labels"),
        ("", "is missing 'names', the classes of"),
    ],
)
def test_what_is_wrong_in_a_description_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    write_yolo(tmp_path, "")
    file = tmp_path / "data.yaml"
    kept = [line for line in file.read_text().splitlines() if f"\n{line.split()[0]}" not in f"\n{text}"]
    file.write_text("\n".join([*kept, text]))
    (problem,) = index(tmp_path).problems
    assert expected in str(problem) and "\n" not in str(problem)


@pytest.mark.fault("D8")
def test_an_empty_description_describes_what_is_there(pairs: Path, tmp_path: Path) -> None:
    file = pairs / "data.yaml"
    for folder in ("labels", "labels_rgb", "labels_ir", "semantic"):
        (pairs / folder).rename(tmp_path / folder)
    file.write_text("")
    dataset = index(pairs)
    assert not dataset.problems and dataset.classes == {"depth": (), "normals": (), "edges": ()}
    file.write_text("- a\n")
    assert "it holds a list; keys with values are wanted" in str(index(pairs).problems[0])
    file.write_bytes(b"\xef\xbb\xbfdepth: relative\r\n")
    assert index(pairs).classes["depth"] == ("relative",)


@pytest.mark.fault("D4")
def test_keys_and_folders_that_nothing_reads_are_named(pairs: Path) -> None:
    file = pairs / "data.yaml"
    file.write_text(file.read_text() + "mood: blue\nnc: 3\nroboflow: {version: 1}\n")
    (pairs / "flow" / "train").mkdir(parents=True)
    (pairs / "thermal" / "train").mkdir(parents=True)
    lines = [str(skipped).replace(str(pairs), "") for skipped in index(pairs).problems.skipped]
    assert "skipped 1 keys that nothing reads; the first: /data.yaml: mood" in lines
    assert "skipped 1 folders that nothing reads; the first: /flow" in lines
    assert any("thermal: train_ir: thermal/train reads it as that of a second camera" in line for line in lines)
    (pairs / "normals").rename(pairs / "normal")
    (problem,) = index(pairs).problems
    assert str(problem).endswith("normal: is read by nothing: name it normals, or give folders: {normals: normal}")


@pytest.mark.fault("D5")
def test_label_folders_of_nearly_the_right_name_are_named(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "label")
    (problem,) = index(tmp_path).problems
    assert "label/ is there: name it labels, or give folders: {labels: label}" in str(problem)
    file = tmp_path / "data.yaml"
    file.write_text(file.read_text() + "folders: {labels: label}\n")
    assert not index(tmp_path).problems


@pytest.mark.fault("D6")
def test_a_training_without_one_box_does_not_begin(tmp_path: Path) -> None:
    write_yolo(tmp_path, label="")
    words = [f"data.source={tmp_path}"]
    with pytest.raises(DataError, match="none of the 1 images of split 'train' has a box"):
        open_datasets(load(None, words), check_labels=True)
    assert "has a box" in str(check(tmp_path)[0].problems[0])
    assert open_datasets(load(None, [*words, "tasks=[depth]"]), check_labels=True)["train"].classes


@pytest.mark.fault("D9")
def test_labels_are_read_before_a_training_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_yolo(tmp_path, label="0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0 0.2\n")
    open_datasets(load(None, [f"data.source={tmp_path}"]), check_labels=True)
    assert "skipped 2 boxes without area inside the image; the first: " in capsys.readouterr().err
    (tmp_path / "labels" / "val" / "a.txt").write_text("9 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"unknown class 9; data\.yaml names 0 to 1"):
        open_datasets(load(None, [f"data.source={tmp_path}"]), check_labels=True)


@pytest.mark.fault("D8")
@pytest.mark.fault("D9")
@pytest.mark.parametrize(
    ("line", "edges", "counted"),
    [
        ("1 0.5 0.5 1.0000001 1", [0, 0, 30, 20], "coordinates rounded past the image as its edge"),
        ("1.0 0.95 0.5 0.2 0.5", [25.5, 5, 30, 15], ""),
        ("1 0.1 0.1 0.5 0.1 0.5 0.6", [3, 2, 15, 12], "polygons as the boxes around them"),
        ("1 0.5 0.5 0.2 0", None, "boxes without area inside the image"),
        ("1 0.1 0.1 0.1 0.6 0.1 0.3", None, "boxes without area inside the image"),
    ],
)
def test_lines_of_labels(tmp_path: Path, line: str, edges: list[float] | None, counted: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text(f"{line}\n{line}\n" if edges else f"{line}\n")
    problems = Problems()
    boxes = YoloText((file,), ("car", "bus"))((20, 30), problems)
    assert np.allclose(boxes.xyxy, [edges] if edges else np.zeros((0, 4))) and not len(problems)
    assert (counted in problems.skips or not counted) and ("boxes that repeat a line" in problems.skips) == bool(edges)


@pytest.mark.fault("D8")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1 0.5 0.5 0.2 0.2 0.9", "a sixth number, as predictions have it, is none of a label"),
        (b"1 320 240 50 40", "box outside [0, 1]: '1 320 240 50 40'; coordinates are shares of the image"),
        (b"car 0.5 0.5 0.2 0.2", "expected 'class cx cy w h', found 'car 0.5"),
        (b"1,0.5,0.5,0.2,0.2", "expected 'class cx cy w h', found '1,0.5"),
        ("1 0.5 0.5 0.2 0.2".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_lines_that_are_no_labels(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    problems = Problems()
    YoloText((tmp_path / "a.txt",), ("car", "bus"))((20, 30), problems)
    (problem,) = problems
    assert expected in str(problem)


@pytest.mark.fault("D8")
def test_masks_of_any_encoding_hold_their_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette([value for i in range(256) for value in (i * 7 % 256, i * 5 % 256, i * 3 % 256)])
    palette.save(tmp_path / "palette.png")
    cv2.imwrite(str(tmp_path / "grey.png"), ids)
    cv2.imwrite(str(tmp_path / "wide.png"), ids.astype(np.uint16))
    cv2.imwrite(str(tmp_path / "equal.png"), np.stack([ids] * 3, 2))
    cv2.imwrite(str(tmp_path / "signed.tif"), ids.astype(np.int16))
    cv2.imwrite(str(tmp_path / "colours.png"), np.stack([ids, ids, ids // 2], 2))
    classes = ("road", "sky", "car")
    for name in ("palette.png", "grey.png", "wide.png", "equal.png", "signed.tif"):
        problems = Problems()
        assert np.array_equal(read_map("semantic", tmp_path / name, classes, (2, 2), problems), ids), name
    assert read_map("semantic", tmp_path / "colours.png", classes, (2, 2), problems) is None
    assert "colours; labels have one channel, or a palette" in str(problems[0])


@pytest.mark.fault("D8")
def test_depth_in_signed_16_bits_is_depth(tmp_path: Path) -> None:
    depth = np.array([[0, 1500], [2500, 32767]], np.int16)
    cv2.imwrite(str(tmp_path / "a.tif"), depth)
    assert np.allclose(read_map("depth", tmp_path / "a.tif", (), None, Problems()), depth / 1000)
    for wrong in (-depth, depth.astype(np.float32) / 1000):
        cv2.imwrite(str(tmp_path / "b.tif"), wrong)
        problems = Problems()
        assert read_map("depth", tmp_path / "b.tif", (), None, problems) is None
        assert "one channel of 16 bits, in millimetres, not 1 channel of" in str(problems[0])


@pytest.mark.fault("D10")
def test_a_table_of_attributes_as_spreadsheets_write_it(pairs: Path) -> None:
    file = pairs / "attributes.csv"
    expected = [entry.labels["attributes"](None, Problems()) for entry in index(pairs).splits["train"]]
    head, *rows = file.read_text().splitlines()
    rows = [row.replace(",", ".png,", 1) for row in rows]
    file.write_bytes(
        ("\ufeff" + "\r\n".join([head.replace(",", ", "), *rows, "other,1" + ",0" * head.count(",")])).encode()
    )
    dataset = index(pairs)
    assert not dataset.problems
    assert np.array_equal([e.labels["attributes"](None, Problems()) for e in dataset.splits["train"]], expected)
    assert str(dataset.problems.skipped[0]).startswith("skipped 1 rows without an image; the first: ")
    file.write_text(file.read_text(encoding="utf-8-sig").replace(",", ";"))
    assert "its columns, between commas, are stem;" in str(index(pairs).problems[0])


def test_the_pairs_of_the_tests_have_no_problem(tmp_path: Path) -> None:
    dataset = index(write_pairs(tmp_path, 1, 1))
    assert not dataset.problems and not dataset.problems.skipped


@pytest.mark.fault("D8")
def test_paths_of_another_machine(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    file = tmp_path / "data.yaml"
    text = file.read_text()
    file.write_text(text.replace("images/train", "images\\train"))
    assert not index(tmp_path).problems
    file.write_text(text.replace("images/train", "/content/mine/images/train"))
    assert "does not exist; train names it; images/train is there: write train: images/train" in str(
        index(tmp_path).problems[0]
    )
    file.write_text(text.replace("images/train", "list.txt"))
    (tmp_path / "list.txt").write_text("C:\\mine\\images\\train\\a.png\n")
    assert [entry.name for entry in index(tmp_path).splits["train"]] == ["train/a"]
    (tmp_path / "list.txt").write_text("/b.png\n/c.png\n")
    (problem,) = index(tmp_path).problems
    assert str(problem) == f"{tmp_path}/list.txt:1: names /b.png, which does not exist (and 1 more like it)"


@pytest.mark.fault("D8")
def test_the_folder_of_images_is_not_the_dataset(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    assert f"it does not exist; there is one in {tmp_path}" in str(index(tmp_path / "images" / "train").problems[0])
    (tmp_path / "data.yaml").rename(tmp_path / "a.yaml")
    assert not index(tmp_path).problems
    (tmp_path / "b.yaml").touch()
    assert "give one of a.yaml, b.yaml" in str(index(tmp_path).problems[0])


@pytest.mark.fault("D5")
def test_labels_of_another_type_are_named(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for split in ("train", "val"):
        file = tmp_path / "labels" / split / "a.txt"
        file.rename(file.with_suffix(".xml"))
    (problem,) = index(tmp_path).problems
    assert "labels/train holds none for these images: it has .xml, and text files of YOLO, .txt are wanted" in str(
        problem
    )


@pytest.mark.fault("D8")
def test_data_of_one_split_are_divided(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [car, bus]\ntrain: images\n")
    words = [f"data.source={tmp_path}"]
    with pytest.raises(DataError, match=r"split 'val' has no images; data\.val_fraction=0\.2"):
        open_datasets(load(None, words))
    splits = open_datasets(load(None, [*words, "data.val_fraction=0.5"]), check_labels=True)
    assert len(splits["train"]) == len(splits["val"]) == 1
