"""COCO's JSON as COCO and other tools write it: read as it is, or rejected in a line with the place of the mistake."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from coco_sets import Content, boxes, content, image, problems, samples, write

from edgemtl.cli import main
from edgemtl.data.check import check
from edgemtl.data.formats import index
from edgemtl.data.problems import Problems
from edgemtl.data.readers.coco_json import read_coco_json


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
    "a name of two lines": (set_field("categories", 1, name="a\nb"), "categories[1].name 'a\\nb' is longer than 200"),
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


def test_a_file_of_any_length_is_indexed_in_bounded_memory(tmp_path: Path) -> None:
    """What is not read, as polygons are, takes no memory: a file's annotations are rows of five numbers."""
    value = content(*(f"{n}.jpg" for n in range(500)))
    value["annotations"] = [
        value["annotations"][n % 500] | {"id": n, "segmentation": [[0.5] * 40]} for n in range(5000)
    ]
    file = write(tmp_path / "train.json", value)
    read = read_coco_json(file, Problems())
    assert read is not None and read.boxes.nbytes == 5000 * 5 * 8 and len(read.boxes_of(499)) == 10


def test_the_work_of_an_index_grows_with_its_images(tmp_path: Path) -> None:
    """COCO has 118,000: what is done once an image may not look at all of them."""
    calls = []
    for count in (50, 400):
        root = tmp_path / str(count)
        names = [f"{n}.jpg" for n in range(count)]
        for name in names:
            image(root / "train" / name, 4, 4)
        write(root / "train.json", content(*names))
        lines = 0

        def count_line(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal lines
            lines += event == "line" and "edgemtl" in frame.f_code.co_filename
            return count_line

        before = sys.gettrace()
        sys.settrace(count_line)
        try:
            index(root)
        finally:
            sys.settrace(before)
        calls.append(lines)
    assert calls[1] < 10 * calls[0]
