"""`edgemtl data draw`: streets in a folder are what a training on drawn streets sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgemtl.cli import main
from edgemtl.data.datasets import FileDataset
from edgemtl.data.formats import index
from edgemtl.data.sample import BoxLabels
from edgemtl.synthetic.streets import HELD_OUT, Streets

SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "streets"
    words = ["data", "draw", "--out", str(out), "--train", "5", "--val", "2", "--size", *map(str, SIZE), "--seed", "3"]
    assert main(words) == 0
    return out


@pytest.mark.parametrize(("split", "count", "first"), [("train", 5, 3), ("val", 2, HELD_OUT + 3)])
def test_a_folder_holds_the_streets(folder: Path, split: str, count: int, first: int) -> None:
    dataset = index(folder, "fused", "")
    dataset.raise_problems()
    read, drawn = FileDataset(dataset, dataset.splits[split]), Streets(count, SIZE, first)
    assert len(read) == count and set(read.classes) == set(drawn.classes)
    assert read.classes["boxes"] == drawn.classes["boxes"] and read.classes["semantic"] == drawn.classes["semantic"]
    for i in range(count):
        a, b = read[i], drawn[i]
        assert a.is_day == b.is_day
        assert all(np.array_equal(a.images[camera], b.images[camera]) for camera in ("rgb", "ir"))
        boxes, wanted = a.label("boxes"), b.label("boxes")
        assert isinstance(boxes, BoxLabels) and isinstance(wanted, BoxLabels)
        np.testing.assert_allclose(boxes.xyxy, wanted.xyxy, atol=1e-3)
        assert np.array_equal(boxes.classes, wanted.classes)
        for task in ("semantic", "edges"):
            assert np.array_equal(a.label(task), b.label(task))
        far = np.asarray(b.label("depth")) > 65.535  # what 16 bits of millimetres cannot hold
        np.testing.assert_allclose(np.where(far, 0, a.label("depth")), np.where(far, 0, b.label("depth")), atol=5.1e-4)
        np.testing.assert_allclose(a.label("normals"), b.label("normals"), atol=0.02)
        names = read.classes["attributes"]
        at = [drawn.classes["attributes"].index(name) for name in names]
        assert np.array_equal(np.asarray(a.label("attributes")), np.asarray(b.label("attributes"))[at])


def test_what_stands_there_is_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "draw", "--out", str(folder), "--train", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert len(list((folder / "rgb" / "train").iterdir())) == 5


@pytest.mark.parametrize("words", [["--train", "0"], ["--val", "-1"], ["--seed", "-1"], ["--size", "8", "96"]])
def test_numbers_out_of_range_are_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "draw", "--out", str(tmp_path / "out"), *words]) == 2
    assert words[0] in capsys.readouterr().err and not (tmp_path / "out").exists()
