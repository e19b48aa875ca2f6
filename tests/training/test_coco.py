"""COCO's JSON as COCO and other tools write it: read as it is, or rejected in a line with the place of the mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgemtl.cli import main
from edgemtl.data.check import check
from edgemtl.data.formats import index
from edgemtl.data.problems import Problems
from edgemtl.data.readers.coco_json import read_coco_json
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


def set_field(section: str, place: int, **fields: Any) -> Callable[[Content], None]:
    def change(value: Content) -> None:
        value[section][place] |= fields

    return change


def drop_field(section: str, place: int, name: str) -> Callable[[Content], None]:
    def change(value: Content) -> None:
        del value[section][place][name]

    return change


def add(section: str, **row: Any) -> Callable[[Content], None]:
    def change(value: Content) -> None:
        value[section].append({**value[section][0], **row})

    return change


WRONG: dict[str, tuple[Callable[[Content], Any], str]] = {
    "two images of an id": (
        add("images", file_name="c.jpg"),
        "images[0] and images[2] both have the id 0; each needs its own",
    ),
    "an image twice": (add("images", id=9), "images[0] and images[2] both have the file_name 'a.jpg'"),
    "two categories of an id": (add("categories", name="bus"), "categories[0] and categories[2] both have the id 1"),
    "two categories of a name": (
        add("categories", id=9),
        "categories[0] and categories[2] both have the name 'person'",
    ),
    "a category without a name": (set_field("categories", 0, name=" "), "categories[0] has no name"),
    "a name that is a truth": (set_field("categories", 1, name=True), "categories[1].name is true; wanted: a text"),
    "a name that is a number": (set_field("categories", 0, name=7), "categories[0].name is 7; wanted: a text"),
    "an unknown category": (
        add("annotations", category_id=2),
        "annotations[2] has category_id 2, which is no id in categories (1, 3)",
    ),
    "an unknown image": (add("annotations", image_id=77), "annotations[2] has image_id 77, which is no id in images"),
    "no category": (drop_field("annotations", 1, "category_id"), "annotations[1] has no category_id; wanted: an id of"),
    "no box": (drop_field("annotations", 1, "bbox"), "annotations[1] has no bbox; wanted: [x, y, width, height]"),
    "three numbers": (
        set_field("annotations", 1, bbox=[1, 2, 3]),
        "annotations[1].bbox is [1, 2, 3]; wanted: [x, y, width, height], four numbers in pixels",
    ),
    "a box of words": (
        set_field("annotations", 0, bbox=[1, 2, 3, "x"]),
        'annotations[0].bbox[3] is "x"; wanted: [x, y',
    ),
    "a box by names": (set_field("annotations", 0, bbox={"x": 1}), 'annotations[0].bbox is {"x": 1}; wanted: [x, y'),
    "a box of NaN": (
        set_field("annotations", 0, bbox=[1, 2, 3, float("nan")]),
        "annotations[0].bbox is [1.0, 2.0, 3.0",
    ),
    "an infinite box": (set_field("annotations", 0, bbox=[1, 2, 3, float("inf")]), "four finite numbers are wanted"),
    "fractions": (
        lambda value: [row.update(bbox=[0.1, 0.2, 0.5, 0.5]) for row in value["annotations"]],
        "as fractions",
    ),
    "corners": (
        lambda value: value["annotations"].extend(
            {"image_id": 0, "category_id": 1, "bbox": [30 + n, 20 + n, 50 + n, 40]} for n in range(10)
        ),
        "as two corners [x0, y0, x1, y1] of none; COCO's bbox is [x, y, width, height]",
    ),
    "no id": (drop_field("images", 1, "id"), "images[1] has no id; wanted: a whole number or a text"),
    "an id that is half": (set_field("images", 1, id=1.5), "images[1].id is 1.5; wanted: a whole number or a text"),
    "no file name": (drop_field("images", 1, "file_name"), "images[1] has no file_name"),
    "a width in words": (set_field("images", 1, width="wide"), 'images[1].width is "wide"; wanted: a whole number of'),
    "no categories": (lambda value: value.update(categories=[]), "lists no categories"),
    "no images": (lambda value: value.update(images=[], annotations=[]), "lists no images"),
    "images by id": (lambda value: value.update(images={"1": {}}), 'images is {"1": {}}; wanted: a list'),
    "rows of numbers": (lambda value: value.update(images=[1]), "images[0] is 1; wanted:"),
    "another size": (set_field("images", 0, width=128, height=96), "is 64x48, its labels were made for 128x96"),
    "a missing image": (
        set_field("images", 0, file_name="lost.jpg"),
        "names lost.jpg, which is in none of the folders",
    ),
    "an address": (
        set_field("images", 0, file_name="http://host/lost.jpg"),
        "names http://host/lost.jpg, an address, whose image is not downloaded",
    ),
    "no annotations": (lambda value: value.pop("annotations"), "has no annotations"),
}
FORMS: dict[str, tuple[Content | list[Any] | bytes, str]] = {
    "results": ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "is a list, as detections in"),
    "captions": (
        {"images": [], "annotations": [{"image_id": 1, "id": 1, "caption": "A dog."}]},
        "holds captions, not boxes; COCO's object detection JSON holds {images: […], annotations: […], categories",
    ),
    "panoptic": (
        {"images": [], "categories": [], "annotations": [{"image_id": 1, "segments_info": []}]},
        "holds panoptic segments, not boxes",
    ),
    "labelme": ({"version": "5", "shapes": [], "imagePath": "a.jpg"}, "holds version, shapes, imagePath; COCO's"),
    "no object": (b'"text"', "is no JSON object"),
    "empty": (b"", "is empty"),
    "cut": (b'{"images": [\n {"id": 1', "is no JSON: Expecting"),
    "nested": (b"[" * 100_000, "is "),
    "latin-1": (b'{"images": [{"id": 1, "file_name": "\xe9.jpg"}]}', "is no JSON in UTF-8"),
}


def standard(root: Path) -> Content:
    """Write two images; return what describes them."""
    for name in ("a.jpg", "b.jpg"):
        image(root / "train" / name)
    return content("a.jpg", "b.jpg")


@pytest.mark.fault("D1")
@pytest.mark.fault("D5")
@pytest.mark.fault("D8")
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_with_its_place(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = WRONG[case]
    value = standard(tmp_path)
    change(value)
    write(tmp_path / "train.json", value)
    lines = problems(tmp_path)
    assert len(lines) == 1 and expected in lines[0], lines
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "Error" not in capsys.readouterr().err


@pytest.mark.fault("D8")
@pytest.mark.parametrize("case", FORMS)
def test_files_of_another_kind_are_named(tmp_path: Path, case: str) -> None:
    form, expected = FORMS[case]
    write(tmp_path / "train.json", form)
    image(tmp_path / "train" / "a.jpg")
    (line,) = problems(tmp_path)
    assert line.startswith(f"{tmp_path / 'train.json'}: ") and expected in line and len(line) < 500


SKIPPED: dict[str, tuple[dict[str, Any], str]] = {
    "no height": ({"bbox": [1, 2, 3, 0]}, "boxes without area"),
    "negative": ({"bbox": [30, 30, -4, 5]}, "boxes without area"),
    "outside": ({"bbox": [64, 2, 3, 4]}, "boxes outside their image"),
    "left of it": ({"bbox": [-9, 2, 9, 4]}, "boxes outside their image"),
    "a crowd": ({"iscrowd": 1}, "crowds (iscrowd)"),
    "ignored": ({"ignore": True}, "objects marked ignore or difficult"),
    "repeated": ({}, "repeated annotations (of one id, image, category and box)"),
}


@pytest.mark.fault("D6")
@pytest.mark.fault("D9")
@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_no_object_is_skipped_with_a_count(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields, reason = SKIPPED[case]
    value = standard(tmp_path)
    add("annotations", **fields)(value)
    write(tmp_path / "train.json", value)
    assert boxes(samples(tmp_path)["a"]) == [[0, 4, 8, 20, 40]]
    assert main(["data", "check", str(tmp_path)]) == 0
    assert f"skipped 1 {reason}; the first: {tmp_path / 'train.json'}: annotations[2], bbox" in capsys.readouterr().out


@pytest.mark.fault("D6")
def test_boxes_reach_to_the_edge_of_their_image_and_no_further(tmp_path: Path) -> None:
    """Whether the file states sizes or not."""
    value = standard(tmp_path)
    value["annotations"][0]["bbox"] = [-5, 40, 20, 20.0000001]
    add("annotations", bbox=[200, 2, 3, 4], id=9)(value)
    for row in value["images"]:
        del row["width"]
    write(tmp_path / "train.json", value)
    assert boxes(samples(tmp_path)["a"]) == [[0, 0, 40, 15, 48]]
    (skipped,) = check(tmp_path)[0].problems.skipped
    assert skipped.reason == "boxes outside their image" and skipped.count == 1


READ: dict[str, Callable[[Content], Any]] = {
    "numbers in quotes": lambda value: value["annotations"][0].update(image_id="0", bbox=["4", "8", "16", "32"]),
    "sizes as floats": lambda value: value["images"][0].update(width=64.0, height="48"),
    "NaN elsewhere": lambda value: value["annotations"][0].update(area=float("nan")),
    "no size": lambda value: value["images"][0].update(width=None, height=0),
    "equal ids of annotations": lambda value: value["annotations"][1].update(id=0),
    "no crowd": lambda value: value["annotations"][0].update(iscrowd=False),
    "null crowd": lambda value: value["annotations"][0].update(iscrowd=None, ignore=None),
    "ids of words": lambda value: (value["images"][0].update(id="x"), value["annotations"][0].update(image_id="x")),
    "a name with blanks": lambda value: value["categories"][0].update(name=" person\n"),
}


@pytest.mark.fault("D8")
@pytest.mark.fault("D9")
@pytest.mark.parametrize("case", READ)
def test_what_other_tools_write_is_read(tmp_path: Path, case: str) -> None:
    value = standard(tmp_path)
    READ[case](value)
    write(tmp_path / "train.json", value)
    read = samples(tmp_path)
    assert index(tmp_path).classes["boxes"] == ("person", "car")
    assert boxes(read["a"]) == boxes(read["b"]) == [[0, 4, 8, 20, 40]]


@pytest.mark.fault("D8")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "crlf"])
def test_marks_of_editors_are_read(tmp_path: Path, encoding: str) -> None:
    text = json.dumps(standard(tmp_path), indent=1)
    text = text.replace("\n", "\r\n") if encoding == "crlf" else text
    write(tmp_path / "train.json", text.encode("utf-8" if encoding == "crlf" else encoding))
    assert boxes(samples(tmp_path)["b"]) == [[0, 4, 8, 20, 40]]


NAMES = {
    "flat": "a.jpg",
    "sub-folder": "night/a.jpg",
    "with its split": "train/night/a.jpg",
    "dots": "./night/a.jpg",
    "up": "../train/night/a.jpg",
    "Windows": "train\\night\\a.jpg",
    "another machine": "/home/somebody/set/night/a.jpg",
    "another Windows": "C:\\Users\\somebody\\night\\a.jpg",
    "an address": "http://images.example.org/train/night/a.jpg",
}


@pytest.mark.fault("D8")
@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("place", ["annotations/train.json", "train/_annotations.coco.json", "train.json"])
def test_paths_lead_to_their_image(tmp_path: Path, case: str, place: str) -> None:
    file = image(tmp_path / "train" / ("a.jpg" if case == "flat" else "night/a.jpg"))
    write(tmp_path / place, content(NAMES[case]))
    (entry,) = index(tmp_path).splits["train"]
    assert entry.images["rgb"].samefile(file) and not problems(tmp_path)


@pytest.mark.fault("D8")
def test_an_absolute_path_and_an_address_alone(tmp_path: Path) -> None:
    file = image(tmp_path / "far" / "a.jpg")
    value = content(str(file))
    write(tmp_path / "set" / "train.json", value)
    assert list(samples(tmp_path / "set")) == ["a"]
    value["images"][0].update(file_name=None, coco_url="http://images.cocodataset.org/train2017/b.jpg")
    image(tmp_path / "set" / "train2017" / "b.jpg")
    write(tmp_path / "set" / "train.json", value)
    assert list(samples(tmp_path / "set")) == ["b"]


def test_equal_names_in_two_folders_are_two_samples(tmp_path: Path) -> None:
    for folder in ("day", "night"):
        image(tmp_path / "train" / folder / "a.jpg")
    write(tmp_path / "train.json", content("day/a.jpg", "night/a.jpg"))
    assert list(samples(tmp_path)) == ["day/a", "night/a"]
    write(tmp_path / "train.json", content("lost/a.jpg", "gone/a.jpg"))
    image(tmp_path / "train" / "a.jpg")
    (line,) = problems(tmp_path)
    assert "names lost/a.jpg and gone/a.jpg, and only" in line


@pytest.mark.fault("D5")
def test_the_heading_that_roboflow_writes_is_no_class(tmp_path: Path) -> None:
    """Category 0 heads the others and has no objects; its name may be that of the only class."""
    for split in ("train", "valid", "test"):
        image(tmp_path / split / "a_jpg.rf.0123.jpg")
        value = content("a_jpg.rf.0123.jpg")
        value["categories"] = [
            {"id": 0, "name": "person", "supercategory": "none"},
            {"id": 1, "name": "person", "supercategory": "person"},
        ]
        write(tmp_path / split / "_annotations.coco.json", value)
    (tmp_path / "README.roboflow.txt").write_text("x")
    result = index(tmp_path)
    assert result.classes["boxes"] == ("person",) and set(result.splits) == {"train", "val", "test"}
    assert boxes(samples(tmp_path, "val")["a_jpg.rf.0123"]) == [[0, 4, 8, 20, 40]]
    assert "categories that head others and have no objects" in result.problems.skips
    value["categories"] = [{"id": 1, "name": "person", "supercategory": "none"}]
    write(tmp_path / "test" / "_annotations.coco.json", value)
    assert index(tmp_path).classes["boxes"] == ("person",)


@pytest.mark.fault("D5")
def test_splits_agree_by_the_names_of_their_categories(tmp_path: Path) -> None:
    for split in ("train", "val"):
        image(tmp_path / split / "a.jpg")
    write(tmp_path / "train.json", content())
    value = content()
    value["categories"] = [{"id": 1, "name": "car"}]
    write(tmp_path / "val.json", value)
    assert boxes(samples(tmp_path, "val")["a"]) == [[1, 4, 8, 20, 40]]
    value["categories"] = [{"id": 1, "name": "bus"}]
    write(tmp_path / "val.json", value)
    assert "has the categories bus, which" in problems(tmp_path)[0]


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


@pytest.mark.fault("D9")
def test_cocos_own_folder_is_read_unedited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco2017(tmp_path)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "skipped 2 boxes without area" in capsys.readouterr().out
    result = index(tmp_path)
    assert (
        len(result.classes["boxes"]) == 80 and result.classes["boxes"][-1] == "name 90" and "test" not in result.splits
    )
    read = samples(tmp_path)
    assert boxes(read["000000000009"]) == [[0, *map(pytest.approx, (1.08, 4.8, 21.58, 35.05))]]
    assert boxes(read["000000000025"]) == [] and read["000000000025"].images["rgb"].shape == (64, 48, 3)
    assert boxes(read["000000000030"]) == [[79, 3, 4, 8, 10]]


@pytest.mark.fault("D9")
def test_cocos_val2017_alone(tmp_path: Path) -> None:
    coco2017(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").unlink()
    assert len(samples(tmp_path, "val")) == 3


@pytest.mark.fault("D8")
def test_files_that_hold_no_boxes_are_named(tmp_path: Path) -> None:
    coco2017(tmp_path)
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"instances_{split}2017.json").unlink()
    (line,) = problems(tmp_path)
    assert "annotations/captions_train2017.json" in line and "no file of boxes; boxes are read from instances_" in line


@pytest.mark.fault("D8")
def test_several_files_of_a_split(tmp_path: Path) -> None:
    """That of the images that are present counts, else the choice is the user's."""
    coco2017(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    write(file.with_name("instances_train2014.json"), file.read_bytes())
    assert len(samples(tmp_path)) == 3
    file.rename(file.with_name("instances_train.json"))
    line = problems(tmp_path)[0]
    assert (
        "has 2 files for split 'train': annotations/instances_train.json, annotations/instances_train2014.json" in line
    )


LONE = {
    "Label Studio": ("result.json", "images/a.jpg", "images/a.jpg"),
    "CVAT": ("annotations/instances_default.json", "a.jpg", "images/default/a.jpg"),
    "FiftyOne": ("labels.json", "a.jpg", "data/a.jpg"),
    "FiftyOne by split": ("train/labels.json", "a.jpg", "train/data/a.jpg"),
    "next to it": ("annotations.json", "a.jpg", "a.jpg"),
    "images by split": ("annotations/instances_train.json", "a.jpg", "images/train/a.jpg"),
    "one folder": ("annotations/train.json", "a.jpg", "images/a.jpg"),
}


@pytest.mark.fault("D8")
@pytest.mark.parametrize("tool", LONE)
def test_exports_of_other_tools(tmp_path: Path, tool: str) -> None:
    place, name, file = LONE[tool]
    image(tmp_path / file)
    write(tmp_path / place, content(name))
    (sample,) = samples(tmp_path).values()
    assert boxes(sample) == [[0, 4, 8, 20, 40]]


def test_a_file_of_any_length_is_indexed_in_bounded_memory(tmp_path: Path) -> None:
    """What is not read, as polygons are, takes no memory: a file's annotations are rows of five numbers."""
    value = content(*(f"{n}.jpg" for n in range(500)))
    value["annotations"] = [
        value["annotations"][n % 500] | {"id": n, "segmentation": [[0.5] * 40]} for n in range(5000)
    ]
    file = write(tmp_path / "train.json", value)
    read = read_coco_json(file, Problems())
    assert read is not None and read.boxes.nbytes == 5000 * 5 * 8 and len(read.boxes_of(499)) == 10
