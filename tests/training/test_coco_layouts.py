"""Where COCO's files lie: COCO's own folder, the exports of other tools, and paths of any machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coco_sets import boxes, coco2017, content, image, problems, samples, write
from PIL import Image

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import index
from edgemtl.errors import DataError

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
    """It is divided, as a training split would be."""
    coco2017(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").unlink()
    source = f"data.source={tmp_path}"
    with pytest.raises(DataError, match=r"split 'train' has no images; data.val_fraction=0.2 divides the images of"):
        open_datasets(load(None, [source]))
    splits = open_datasets(load(None, [source, "data.val_fraction=0.3", "modalities=[rgb]"]), check_labels=True)
    assert {split: len(part) for split, part in splits.items() if len(part)} == {"train": 2, "val": 1}


@pytest.mark.fault("D9")
@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "LA"])
def test_images_of_any_number_of_channels(tmp_path: Path, mode: str) -> None:
    """COCO's own are of one channel or three, those of others of four as well."""
    file = tmp_path / "train" / ("a.jpg" if mode == "CMYK" else "a.png")
    file.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).convert("L" if mode == "LA" else "RGB").convert(mode).save(file)
    write(tmp_path / "train.json", content(file.name))
    assert samples(tmp_path)["a"].images["rgb"].shape == (48, 64, 3)


@pytest.mark.fault("D8")
@pytest.mark.parametrize("name", ["annotations/instances_train2017.json", "train.json"])
def test_a_file_itself_is_a_source(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "train" / "a.jpg")
    write(tmp_path / name, content("a.jpg"))
    write(tmp_path / "annotations" / "instances_train2014.json", content("lost.jpg"))
    assert list(samples(tmp_path / name)) == ["a"]
    monkeypatch.chdir((tmp_path / name).parent)
    assert list(samples(Path(Path(name).name))) == ["a"]


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
        "has 2 files of split 'train': annotations/instances_train.json, annotations/instances_train2014.json" in line
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
