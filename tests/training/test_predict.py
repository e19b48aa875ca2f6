"""What `edgemtl predict` takes: folders of images, an image, and datasets, whose labels are not read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgemtl.cli import main
from edgemtl.data.problems import Problems
from edgemtl.errors import DataError
from edgemtl.prediction_images import Unlabelled, find_images
from edgemtl.run import Run

pytestmark = pytest.mark.fault("D10")


def test_a_dataset_is_predicted_by_split(
    tiny_run: Run, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pairs / "labels" / "val").joinpath("broken.txt").write_text("no box")
    damaged = sorted((pairs / "ir" / "val").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    out = tmp_path / "seen"
    assert main(["predict", str(tiny_run.path), str(pairs), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    by_split = {split: [line["name"] for line in lines if line["split"] == split] for split in ("train", "val")}
    expected = {split: sorted(file.stem for file in (pairs / "rgb" / split).iterdir()) for split in by_split}
    expected["val"].remove(damaged.stem)
    assert by_split == {split: [f"{split}/{stem}" for stem in stems] for split, stems in expected.items()}
    assert sorted(file.stem for file in (out / "pictures" / "val").iterdir()) == expected["val"]
    boxes = json.loads((out / "boxes.json").read_text())
    assert {Path(image["file_name"]).parent.as_posix() for image in boxes["images"]} == {"rgb/train", "rgb/val"}
    assert "skipped 1 images that cannot be used" in printed.err and "is an incomplete PNG file" in printed.err
    assert f"{len(lines)} images" in printed.out


def found(source: Path, *modalities: str, split: str = "") -> tuple[list[Unlabelled], Problems]:
    return find_images(source, list(modalities), split)


def test_a_stray_file_is_skipped_and_counted(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "._a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    cv2.imwrite(str(tmp_path / "inner" / "c.png"), np.zeros((8, 8, 3), np.uint8))
    images, problems = found(tmp_path, "rgb")
    assert [(image.name, image.file, image.split) for image in images] == [("a", "a.JPG", ""), ("b", "b.png", "")]
    assert [skipped.count for skipped in problems.skipped] == [4, 1]


def test_one_image_is_enough(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    images, _ = found(tmp_path / "a.png", "ir")
    assert images[0].entry.images == {"ir": tmp_path / "a.png"}


def test_a_split_of_a_dataset_alone(pairs: Path) -> None:
    images, _ = found(pairs, "rgb", split="val")
    assert {image.split for image in images} == {"val"} and images[0].entry.images.keys() == {"rgb"}
    assert {image.split for image in found(pairs / "data.yaml", "ir")[0]} == {"train", "val"}


def test_what_is_no_source_is_named(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "nested" / "deep").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "nested" / "deep" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    for source, split, expected in (
        (pairs, "none", "has no split 'none'; it has train, val"),
        (tmp_path / "nowhere", "", "there is no such folder"),
        (tmp_path / "notes.txt", "", "is no image, folder of images, dataset or data.yaml"),
        (tmp_path / "nested", "", r"folders with images \(deep\): give one of them"),
        (tmp_path / "nested" / "deep", "val", "is no dataset with splits"),
    ):
        with pytest.raises(DataError, match=expected):
            found(source, "rgb", split=split)
    with pytest.raises(DataError, match=r"samples without depth.*the network needs depth"):
        found(pairs, "depth")
    with pytest.raises(DataError, match="is one image; the network needs rgb and ir"):
        found(tmp_path / "nested" / "deep" / "a.png", "rgb", "ir")
