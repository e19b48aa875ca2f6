"""Custom datasets: the samples that are read from a folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_pairs

from edgemtl.config_file import load
from edgemtl.data.augment import to_item
from edgemtl.data.check import check
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import index
from edgemtl.data.readers.yolo_text import union
from edgemtl.data.sample import Dataset, Sample
from edgemtl.errors import DataError
from edgemtl_runtime.bundle import Input, ThermalRange


def opened(root: Path, *words: str) -> dict[str, Dataset]:
    return open_datasets(load(None, [f"data.source={root}", *words]))


def sample(root: Path, number: int) -> Sample:
    return opened(root)["train"][number]


def first(root: Path, folder: str, split: str = "train") -> Path:
    return sorted((root / folder / split).iterdir())[0]


def test_an_empty_label_file_is_an_image_without_objects(pairs: Path) -> None:
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
    assert len(item.images["ir"].unique()) > 250


@pytest.mark.fault("D5")
@pytest.mark.parametrize(
    ("lost", "renamed", "expected"),
    [
        ("semantic", None, "names the classes of semantic (semantic), and there are no labels"),
        ("semantic", "semantics", "semantics/ is there: name it semantic, or give folders: {semantic: semantics}"),
        ("labels", None, "labels_rgb is there, which data.label_policy=rgb reads"),
        ("attributes.csv", None, "names attributes, and no row of"),
    ],
)
def test_names_without_any_label_are_a_problem(pairs: Path, lost: str, renamed: str | None, expected: str) -> None:
    (pairs / lost).rename(pairs / renamed if renamed else pairs.parent / "away")
    with pytest.raises(DataError, match=re.escape(expected)):
        opened(pairs)


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
    dataset_index, statistics = check(rgbir, policy)
    assert not dataset_index.problems and tuple(statistics["train"]["boxes"].values()) == boxes
    assert (statistics["train"]["pictures"], statistics["train"]["day"], statistics["train"]["night"]) == (
        273,
        117,
        156,
    )
    assert (statistics["val"]["pictures"], statistics["val"]["day"], statistics["val"]["night"]) == (122, 66, 56)


def test_union_of_the_real_pairs_has_at_least_either_view(rgbir: Path) -> None:
    counts = [np.array(list(check(rgbir, p)[1]["val"]["boxes"].values())) for p in ("rgb", "ir", "union")]
    assert (counts[2] >= np.maximum(counts[0], counts[1])).all() and (counts[2] <= counts[0] + counts[1]).all()


def test_labels_come_back_as_they_were_written(pairs: Path) -> None:
    """Synthetic streets through the folder: what is written is read, up to its quantisation."""
    from edgemtl.synthetic.streets import street

    read = sample(pairs, 2)
    drawn = street(2, (96, 128))
    assert set(read.labels) == set(drawn.labels)
    assert np.array_equal(read.labels["semantic"], drawn.labels["semantic"])
    assert np.array_equal(read.labels["edges"], drawn.labels["edges"])
    assert np.abs(read.labels["depth"] - drawn.labels["depth"].clip(0, 65.535)).max() <= 0.001
    assert np.abs(read.labels["normals"] - drawn.labels["normals"]).max() <= 0.02
    assert np.array_equal(read.labels["attributes"], drawn.labels["attributes"][1:])


def test_an_image_without_a_map_is_not_labelled_for_its_task(pairs: Path) -> None:
    first(pairs, "depth").unlink()
    dataset_index, statistics = check(pairs)
    assert not dataset_index.problems and statistics["train"]["labelled"]["depth"] == 5
    samples = opened(pairs)["train"]
    assert "depth" not in samples[0].labels and "depth" in samples[1].labels and "depth" in samples.classes


def test_images_of_one_modality_alone(pairs: Path) -> None:
    """Without ir/ the data are colour; without rgb/ they are thermal, and a label folder stands next to either."""
    text = (pairs / "data.yaml").read_text()
    for missing, left in (("ir", "rgb"), ("rgb", "ir")):
        keys = ("train_ir: ", "val_ir: ") if missing == "ir" else ("train: ", "val: ")
        lines = [line for line in text.splitlines() if not line.startswith(keys)]
        (pairs / "data.yaml").write_text("\n".join(lines))
        (pairs / missing).rename(pairs / "away")
        samples = opened(pairs)["train"]
        assert samples.modalities == (left,) and set(samples[0].images) == {left}
        assert set(samples[0].labels) == {"boxes", "semantic", "depth", "normals", "edges", "attributes"}
        (pairs / "away").rename(pairs / missing)


def test_a_yolo_folder_is_read_as_it_is(pairs: Path, tmp_path: Path) -> None:
    """images/ and labels/ inside each split, no label file for images without objects, keys of other tools.

    As YOLO's own tools do, an image without a label file is taken for one without objects, and counted.
    """
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        shutil.copytree(pairs / "rgb" / split, root / split / "images")
        shutil.copytree(pairs / "labels" / split, root / split / "labels")
    lost = sorted((root / "train" / "labels").iterdir())[0]
    lost.unlink()
    (root / "data.yaml").write_text(
        "train: train/images\nval: val/images\nnc: 3\nnames: [person, car, bicycle]\nroboflow: {version: 1}\n"
    )
    text = (root / "data.yaml").read_text()
    for policy, first_label in (("", 0), ("empty", 0), ("unlabelled", None)):
        (root / "data.yaml").write_text(text + f"missing_labels: {policy}\n")
        dataset_index, statistics = check(root)
        assert not dataset_index.problems and statistics["train"]["labelled"]["boxes"] == (
            5 if policy == "unlabelled" else 6
        )
        counted = "" if policy == "unlabelled" else "read 1 images without a label file as images without objects"
        assert "".join(map(str, dataset_index.problems.skipped)).startswith(counted)
        boxes = sample(root, 0).labels.get("boxes")
        assert (None if boxes is None else len(boxes.classes)) == first_label
    (root / "data.yaml").write_text(text + "missing_labels: problem\n")
    assert "missing or unreadable label file" in str(check(root)[0].problems[0])


def test_a_description_elsewhere_may_rename_folders(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pairs / "depth").rename(pairs / "range")
    monkeypatch.setenv("STREETS_AT", str(pairs))
    file = tmp_path / "mine.yaml"
    file.write_text("path: $STREETS_AT\nfolders: {depth: range, labels: nothing, semantic: nothing}\n")
    assert opened(file)["train"].classes == {"depth": (), "normals": (), "edges": ()}
    file.write_text("path: $STREETS_AT\nfolders: {deep: range}\n")
    assert "folders names 'deep'" in str(index(file).problems[0])


def test_the_last_of_the_training_images_can_be_held_out(pairs: Path) -> None:
    plain, held = opened(pairs), opened(pairs, "data.val_fraction=0.34")
    names = {split: [part[i].name for i in range(len(part))] for split, part in plain.items()}
    again = {split: [part[i].name for i in range(len(part))] for split, part in held.items()}
    assert again == {"train": names["train"][:4], "val": names["train"][4:], "test": names["val"]}


def test_two_datasets_with_other_labels_are_one(pairs: Path, tmp_path: Path) -> None:
    other = write_pairs(tmp_path / "other", 3, 2)
    shutil.rmtree(other / "depth")
    listed = f"data.source=[{{source: {pairs}, tasks: [depth, semantic]}}, {{source: {other}, tasks: [boxes]}}]"
    both = open_datasets(load(None, [listed]))["train"]
    assert len(both) == 9 and set(both.classes) == {"depth", "semantic", "boxes"}
    assert set(both[5].labels) == {"depth", "semantic"} and set(both[6].labels) == {"boxes"}
    text = (other / "data.yaml").read_text()
    (other / "data.yaml").write_text(text.replace(": person", ": human"))
    with pytest.raises(DataError, match=r"boxes: .*pairs has the classes person.*leave the task out"):
        open_datasets(load(None, [f"data.source=[{{source: {pairs}}}, {{source: {other}}}]"]))
    with pytest.raises(DataError, match="has no depth labels"):
        open_datasets(load(None, [f"data.source=[{{source: {other}, tasks: [depth]}}]"]))


def test_depth_can_be_relative(pairs: Path) -> None:
    text = (pairs / "data.yaml").read_text()
    (pairs / "data.yaml").write_text(text + "depth: relative\n")
    assert opened(pairs)["train"].classes["depth"] == ("relative",)
    (pairs / "data.yaml").write_text(text + "depth: feet\n")
    assert "depth 'feet' is not one of metric, relative" in str(index(pairs).problems[0])


def test_a_test_split_that_is_missing_is_no_matter_of_shares(pairs: Path) -> None:
    with pytest.raises(DataError, match=r"split 'test' has no images$"):
        open_datasets(load(None, [f"data.source={pairs}"]), needed=("test",))
