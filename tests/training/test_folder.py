"""Folders of one's own: what is read, and every way that one can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_pairs

from edgemtl.cli import main
from edgemtl.config import load
from edgemtl.data.augment import to_item
from edgemtl.data.check import check
from edgemtl.data.layouts import index
from edgemtl.data.open import open_data
from edgemtl.data.sample import Sample, Samples
from edgemtl.data.yolo_text import union
from edgemtl.errors import DataError
from edgemtl_runtime.bundle import Input, ThermalRange


def opened(root: Path, *words: str) -> dict[str, Samples]:
    return open_data(load(None, [f"data.source={root}", *words]))


def sample(root: Path, place: int) -> Sample:
    return opened(root)["train"][place]


def first(root: Path, folder: str, split: str = "train") -> Path:
    return sorted((root / folder / split).iterdir())[0]


def write_label(text: str) -> Callable[[Path], Path]:
    def apply(root: Path) -> Path:
        file = first(root, "labels")
        file.write_text(text)
        return file

    return apply


def lose_ir(root: Path) -> Path:
    first(root, "ir").unlink()
    return first(root, "rgb")


def lose_rgb(root: Path) -> Path:
    first(root, "rgb").unlink()
    return first(root, "ir")


def resize_ir(root: Path) -> Path:
    file = first(root, "ir")
    cv2.imwrite(str(file), np.zeros((10, 10), np.uint8))
    return file


def spoil(root: Path) -> Path:
    file = first(root, "rgb")
    file.write_bytes(file.read_bytes()[:50])
    return file


def empty(root: Path) -> Path:
    for folder in ("rgb", "ir"):
        shutil.rmtree(root / folder / "val")
        (root / folder / "val").mkdir()
    return root / "rgb" / "val"


def lose_folder(root: Path) -> Path:
    shutil.rmtree(root / "ir" / "val")
    return root / "ir" / "val"


def wrong_semantic(root: Path) -> Path:
    file = first(root, "semantic")
    cv2.imwrite(str(file), np.full((96, 128), 77, np.uint8))
    return file


def lose_label(root: Path) -> Path:
    file = first(root, "labels")
    file.unlink()
    return file


def lose_description(root: Path) -> Path:
    (root / "data.yaml").unlink()
    return root / "data.yaml"


def no_names(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("names:", "titles:"))
    return file


def typo(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text() + "atributes: [has_car]\n")
    return file


def lost_path(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("path: .", "path: $NOWHERE_AT_ALL/x"))
    return file


def lost_pictures(root: Path) -> Path:
    (root / "data.yaml").write_text("path: labels\n")
    return root / "data.yaml"


def uneven(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("val_ir: ir/val\n", ""))
    shutil.rmtree(root / "ir" / "val")
    return root / "rgb" / "val"


def twin(root: Path) -> Path:
    file = first(root, "rgb").with_suffix(".bmp")
    cv2.imwrite(str(file), np.zeros((96, 128, 3), np.uint8))
    return sorted([file, file.with_suffix(".png")])[1]


def stray(root: Path) -> Path:
    file = first(root, "rgb").with_name("notes.txt")
    file.write_text("x")
    return file


def orphan(root: Path) -> Path:
    file = first(root, "labels").with_name("nobody.txt")
    file.write_text("")
    return file


def float_ir(root: Path) -> Path:
    old = first(root, "ir")
    old.unlink()
    file = old.with_suffix(".tiff")
    cv2.imwrite(str(file), np.zeros((96, 128), np.float32))
    return file


def half_semantic(root: Path) -> Path:
    shutil.rmtree(root / "semantic" / "val")
    return root / "semantic" / "val"


def overwrite(root: Path, task: str, picture: np.ndarray) -> Path:
    file = first(root, task)
    cv2.imwrite(str(file), picture)
    return file


def shallow(root: Path) -> Path:
    return overwrite(root, "depth", np.ones((96, 128), np.uint8))


def small_edges(root: Path) -> Path:
    return overwrite(root, "edges", np.zeros((10, 10), np.uint8))


def grey_normals(root: Path) -> Path:
    return overwrite(root, "normals", np.full((96, 128, 3), 140, np.uint8))


def grey_edges(root: Path) -> Path:
    return overwrite(root, "edges", np.full((96, 128), 7, np.uint8))


def orphan_map(root: Path) -> Path:
    file = first(root, "depth").with_name("nobody.png")
    cv2.imwrite(str(file), np.ones((96, 128), np.uint16))
    return file


def odd_attribute(root: Path) -> Path:
    file = root / "attributes.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].rpartition(",")[0] + ",maybe", *lines[2:]]))
    return file


def lost_attribute(root: Path) -> Path:
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(text.replace("attributes: [", "attributes: [has_wings, "))
    return root / "attributes.csv"


def latin_days(root: Path) -> Path:
    description = root / "data.yaml"
    description.write_text(description.read_text().replace("attributes: [", "unread: ["))
    (root / "attributes.csv").write_bytes(b"stem,is_day\n\xe9,1\n")
    return root / "attributes.csv"


PROBLEMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "colour without thermal": (lose_ir, "has no ir partner"),
    "thermal without colour": (lose_rgb, "has no rgb partner"),
    "unequal sizes": (resize_ir, "ir is 10x10, its rgb picture 128x96"),
    "unreadable": (spoil, "cannot be read as an image"),
    "outside": (write_label("0 0.5 0.5 0.1 0.1\n1 1.2 0.5 0.1 0.1\n"), ":2: box outside [0, 1]"),
    "negative": (write_label("0 0.5 0.5 -0.1 0.1\n"), ":1: box outside [0, 1]"),
    "no area": (write_label("0 0.5 0.5 0 0.1\n"), ":1: box outside [0, 1] or without area"),
    "unknown class": (write_label("\n7 0.5 0.5 0.1 0.1\n"), ":2: unknown class 7; data.yaml names 0 to 2"),
    "half a class": (write_label("0.5 0.5 0.5 0.1 0.1\n"), ":1: unknown class 0.5"),
    "words": (write_label("person 0.5 0.5 0.1 0.1\n"), ":1: expected 'class cx cy w h'"),
    "too few": (write_label("0 0.5 0.5\n"), ":1: expected 'class cx cy w h'"),
    "not a number": (write_label("0 nan 0.5 0.1 0.1\n"), ":1: expected 'class cx cy w h'"),
    "no label file": (lose_label, "missing or unreadable label file"),
    "empty split": (empty, "split 'val' is empty"),
    "missing folder": (lose_folder, "does not exist"),
    "unknown label pixel": (wrong_semantic, "unknown class ids [77]"),
    "two of a stem": (twin, "has the same stem as"),
    "no picture": (stray, "is no picture of a known kind"),
    "orphan label": (orphan, "labels a picture that is not there"),
    "float thermal": (float_ir, "has 32 bits a value; thermal has 8 or 16"),
    "half a segmentation": (half_semantic, "has no semantic labels, the other one has"),
    "depth in 8 bits": (shallow, "one channel of 16 bits, in millimetres, not 1 channels of 8 bits"),
    "map of another size": (small_edges, "edges is 10x10, its picture 128x96"),
    "normals that are none": (grey_normals, "holds no unit vectors"),
    "grey edges": (grey_edges, "an edge picture holds 0 (none), 255 (edge) and 128 (unknown)"),
    "orphan map": (orphan_map, "labels a picture that is not there"),
    "an attribute that is neither": (odd_attribute, ":2: has_car is 0, 1 or empty, not 'maybe'"),
    "an attribute without a column": (lost_attribute, "has no column has_wings"),
    "attributes in latin-1": (latin_days, "is not UTF-8 text"),
    "no description": (lose_description, "cannot be read as a data description"),
    "no names": (no_names, "is missing 'names'"),
    "a misspelt key": (typo, "unknown key 'atributes'; did you mean 'attributes'?"),
    "an unset variable": (lost_path, "the variable is not set"),
    "no pictures at all": (lost_pictures, "names no folder of pictures"),
    "a split without thermal": (uneven, "split 'val' is rgb, split 'train' is rgb+ir"),
}


def _problems(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return lines[next(i for i, line in enumerate(lines) if "problem" in line) :]


@pytest.mark.parametrize("case", PROBLEMS)
def test_every_problem_is_found_and_placed(pairs: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage, expected = PROBLEMS[case]
    file = damage(pairs)
    assert main(["data", "check", str(pairs)]) == 2
    lines = _problems(capsys)
    assert "1 problem;" in lines[0] and "edgemtl data check" in lines[0]
    assert str(file) in lines[1] and expected in lines[1]


def test_all_problems_in_one_pass_the_first_twenty_printed(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first(pairs, "labels").write_text("9 9 9 9 9\n" * 30)
    spoil(pairs)
    lose_label(pairs)
    assert main(["data", "check", str(pairs)]) == 2
    lines = _problems(capsys)
    assert len(lines) == 1 + len(check(pairs)[0].problems) == 3
    first(pairs, "labels").write_text("9 9 9 9 9\n" * 30)
    assert main(["data", "check", str(pairs)]) == 2
    lines = _problems(capsys)
    assert "32 problems" in lines[0] and len(lines) == 22 and lines[-1] == "and 12 more"


def test_training_refuses_bad_data_before_it_starts(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_ir(pairs)
    assert main(["train", f"data.source={pairs}", "--out", str(tmp_path / "run")]) == 2
    assert "has no ir partner" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_counts(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(pairs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    train = told["splits"]["train"]
    assert train["pictures"] == 6 == train["day"] + train["night"] and train["labelled"] == {
        t: 6 for t in ("boxes", "semantic", "depth", "normals", "edges", "attributes")
    }
    assert told["problems"] == [] and train["sizes"] == ["128x96"] and train["bits"] == {"rgb": [8], "ir": [8]}
    assert sum(train["semantic"].values()) == pytest.approx(1, abs=0.001)


def test_an_empty_label_file_is_a_picture_without_objects(pairs: Path) -> None:
    first(pairs, "labels").write_text("")
    assert len(sample(pairs, 0).labels["boxes"].classes) == 0


def test_sixteen_bits_reach_the_thermal_range(pairs: Path) -> None:
    file = first(pairs, "ir")
    counts = (30_000 + np.arange(96 * 128, dtype=np.uint16).reshape(96, 128) // 20).astype(np.uint16)
    cv2.imwrite(str(file), counts)
    read = sample(pairs, 0)
    assert read.images["ir"].dtype == np.uint16 and np.array_equal(read.images["ir"], counts)
    thermal = ThermalRange("radiometric", 30_000, 30_614)
    item = to_item(read, {"ir": Input("ir", 96, 128, 1, (0.0,), (1.0,), "ir", thermal_range=thermal)}, {})
    assert len(item["ir"].unique()) > 250


def test_segmentation_that_is_only_named_is_none(pairs: Path) -> None:
    shutil.rmtree(pairs / "semantic")
    assert "semantic" not in opened(pairs)["train"].classes


def test_union_keeps_one_of_two_that_are_the_same() -> None:
    a = [(0.0, 0.5, 0.5, 0.2, 0.2)]
    same, other_class, elsewhere = (0.0, 0.51, 0.5, 0.2, 0.2), (1.0, 0.5, 0.5, 0.2, 0.2), (0.0, 0.9, 0.9, 0.1, 0.1)
    assert union(a, [same, other_class, elsewhere]) == [a[0], other_class, elsewhere]


@pytest.mark.parametrize(
    ("policy", "boxes"),
    [
        ("fused", (777, 105, 307)),
        ("rgb", (395, 110, 264)),
        ("ir", (1029, 183, 258)),
    ],
)
def test_the_real_pairs_have_the_counts_of_their_readme(rgbir: Path, policy: str, boxes: tuple[int, int, int]) -> None:
    found, told = check(rgbir, policy)
    assert not found.problems and tuple(told["train"]["boxes"].values()) == boxes
    assert (told["train"]["pictures"], told["train"]["day"], told["train"]["night"]) == (273, 117, 156)
    assert (told["val"]["pictures"], told["val"]["day"], told["val"]["night"]) == (122, 66, 56)


def test_union_of_the_real_pairs_has_at_least_either_view(rgbir: Path) -> None:
    counts = [np.array(list(check(rgbir, p)[1]["val"]["boxes"].values())) for p in ("rgb", "ir", "union")]
    assert (counts[2] >= np.maximum(counts[0], counts[1])).all() and (counts[2] <= counts[0] + counts[1]).all()


def test_labels_come_back_as_they_were_written(pairs: Path) -> None:
    """Drawn streets through the folder: what is written is what is read, but for the steps of its bits."""
    from edgemtl.data.streets import street

    read = sample(pairs, 2)
    drawn = street(2, (96, 128))
    assert set(read.labels) == set(drawn.labels)
    assert np.array_equal(read.labels["semantic"], drawn.labels["semantic"])
    assert np.array_equal(read.labels["edges"], drawn.labels["edges"])
    assert np.abs(read.labels["depth"] - drawn.labels["depth"].clip(0, 65.535)).max() <= 0.001
    assert np.abs(read.labels["normals"] - drawn.labels["normals"]).max() <= 0.02
    assert np.array_equal(read.labels["attributes"], drawn.labels["attributes"][1:])


def test_a_picture_without_a_map_is_unlabelled_there(pairs: Path) -> None:
    first(pairs, "depth").unlink()
    found, told = check(pairs)
    assert not found.problems and told["train"]["labelled"]["depth"] == 5
    samples = opened(pairs)["train"]
    assert "depth" not in samples[0].labels and "depth" in samples[1].labels and "depth" in samples.classes


def test_pictures_of_one_camera_alone(pairs: Path) -> None:
    """Without ir/ the data are colour; without rgb/ they are thermal, and a label folder stands beside either."""
    text = (pairs / "data.yaml").read_text()
    for gone, left in (("ir", "rgb"), ("rgb", "ir")):
        keys = ("train_ir: ", "val_ir: ") if gone == "ir" else ("train: ", "val: ")
        lines = [line for line in text.splitlines() if not line.startswith(keys)]
        (pairs / "data.yaml").write_text("\n".join(lines))
        (pairs / gone).rename(pairs / "away")
        samples = opened(pairs)["train"]
        assert samples.modalities == (left,) and set(samples[0].images) == {left}
        assert set(samples[0].labels) == {"boxes", "semantic", "depth", "normals", "edges", "attributes"}
        (pairs / "away").rename(pairs / gone)


def test_a_yolo_folder_is_read_as_it_is(pairs: Path, tmp_path: Path) -> None:
    """images/ and labels/ inside each split, no label file for pictures without objects, keys of other tools."""
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        shutil.copytree(pairs / "rgb" / split, root / split / "images")
        shutil.copytree(pairs / "labels" / split, root / split / "labels")
    lost = sorted((root / "train" / "labels").iterdir())[0]
    lost.unlink()
    (root / "data.yaml").write_text(
        "train: train/images\nval: val/images\nnc: 3\nnames: [person, car, bicycle]\nroboflow: {version: 1}\n"
    )
    assert "missing or unreadable label file" in str(check(root)[0].problems[0])
    for policy, first_label in (("empty", 0), ("unlabelled", None)):
        (root / "data.yaml").write_text((root / "data.yaml").read_text() + f"missing_labels: {policy}\n")
        found, told = check(root)
        assert not found.problems and told["train"]["labelled"]["boxes"] == (6 if policy == "empty" else 5)
        boxes = sample(root, 0).labels.get("boxes")
        assert (None if boxes is None else len(boxes.classes)) == first_label


def test_a_description_elsewhere_names_folders_its_own_way(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pairs / "depth").rename(pairs / "range")
    monkeypatch.setenv("STREETS_AT", str(pairs))
    file = tmp_path / "mine.yaml"
    file.write_text("path: $STREETS_AT\nfolders: {depth: range, labels: nothing, semantic: nothing}\n")
    assert opened(file)["train"].classes == {"depth": (), "normals": (), "edges": ()}
    file.write_text("path: $STREETS_AT\nfolders: {deep: range}\n")
    assert "folders names 'deep'" in str(index(file).problems[0])


def test_the_last_of_the_training_pictures_can_be_held_out(pairs: Path) -> None:
    plain, held = opened(pairs), opened(pairs, "data.hold_out=0.34")
    names = {split: [part[i].name for i in range(len(part))] for split, part in plain.items()}
    again = {split: [part[i].name for i in range(len(part))] for split, part in held.items()}
    assert again == {"train": names["train"][:4], "val": names["train"][4:], "test": names["val"]}


def test_two_sets_with_other_labels_are_one(pairs: Path, tmp_path: Path) -> None:
    other = write_pairs(tmp_path / "other", 3, 2)
    shutil.rmtree(other / "depth")
    listed = f"data.source=[{{source: {pairs}, tasks: [depth, semantic]}}, {{source: {other}, tasks: [boxes]}}]"
    both = open_data(load(None, [listed]))["train"]
    assert len(both) == 9 and set(both.classes) == {"depth", "semantic", "boxes"}
    assert set(both[5].labels) == {"depth", "semantic"} and set(both[6].labels) == {"boxes"}
    text = (other / "data.yaml").read_text()
    (other / "data.yaml").write_text(text.replace(": person", ": human"))
    with pytest.raises(DataError, match=r"boxes: .*pairs has the classes person.*leave the task out"):
        open_data(load(None, [f"data.source=[{{source: {pairs}}}, {{source: {other}}}]"]))
    with pytest.raises(DataError, match="has no depth labels"):
        open_data(load(None, [f"data.source=[{{source: {other}, tasks: [depth]}}]"]))


def test_depth_can_be_relative(pairs: Path) -> None:
    text = (pairs / "data.yaml").read_text()
    (pairs / "data.yaml").write_text(text + "depth: relative\n")
    assert opened(pairs)["train"].classes["depth"] == ("relative",)
    (pairs / "data.yaml").write_text(text + "depth: feet\n")
    assert "depth 'feet' is not one of metric, relative" in str(index(pairs).problems[0])
