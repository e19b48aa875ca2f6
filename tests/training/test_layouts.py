"""Public datasets in their formats: written small by the tests, read as the real ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import SIZE, WRITERS, celeba, cityscapes, coco, kaist, m3fd, nyud, write, write_image

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.data.check import check
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import index
from edgemtl.data.formats.cityscapes import IDS
from edgemtl.data.sample import IGNORE, Sample

COUNTS = {
    "llvip": (2, 1),
    "flir": (2, 1),
    "m3fd": (4, 2),
    "kaist": (2, 2),
    "nyud": (2, 1),
    "cityscapes": (1, 1),
    "celeba": (16, 2),
    "coco": (3, 1),
}
BOXES = {
    "llvip": [[4, 8, 20, 40]],
    "flir": [[4, 8, 20, 40]],
    "m3fd": [[4, 8, 20, 40], [30, 8, 40, 40]],
    "kaist": [[4, 8, 20, 40]],
    "coco": [[4, 8, 20, 40]],
}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A dataset of each format, as small as it gets."""
    root = tmp_path / request.param
    WRITERS[request.param](root)
    return request.param, root


def samples_of(root: Path, split: str = "train", **data: Any) -> list[Sample]:
    samples = open_datasets(load(None, [f"data.source={root}"]))[split]
    return [samples[i] for i in range(len(samples))]


def test_written_samples_are_read(written: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    name, root = written
    dataset_index, statistics = check(root)
    assert (
        not dataset_index.problems and (statistics["train"]["pictures"], statistics["val"]["pictures"]) == COUNTS[name]
    )
    assert main(["data", "check", str(root), "--json"]) == 0
    for sample in samples_of(root):
        assert sample.images["rgb"].shape == (*SIZE, 3) and sample.images["rgb"].std() > 20
        assert set(sample.labels) == set(dataset_index.classes)
        if name in ("llvip", "flir", "m3fd", "kaist"):
            assert sample.images["ir"].shape == SIZE
        if name in BOXES:
            assert sample.labels["boxes"].xyxy.tolist() == BOXES[name]


def test_a_missing_image_is_reported(written: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """In formats with pairs or lists a missing image is a problem; others index the files that exist."""
    name, root = written
    lost = index(root).splits["train"][0].images["rgb"]
    lost.unlink()
    code = main(["data", "check", str(root)])
    stderr = capsys.readouterr().err
    if name in ("celeba", "cityscapes"):
        assert code == 0
    else:
        assert code == 2 and lost.stem.removesuffix("_RGB") in stderr


def test_spoilt_labels_are_reported_with_their_file(
    written: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name, root = written
    endings = {"nyud": "*.npy", "cityscapes": "*_disparity.png", "celeba": "*_skin.png", "coco": "*.json"}
    file = sorted(root.rglob(endings.get(name, "set*/*/*.txt" if name == "kaist" else "*.xml")))[0]
    file.write_bytes(b"person spoilt")
    assert main(["data", "check", str(root)]) == 2
    assert str(file) in capsys.readouterr().err


def test_kaist_by_day_and_night_and_from_xml(tmp_path: Path) -> None:
    kaist(tmp_path)
    assert [sample.is_day for sample in samples_of(tmp_path)] == [True, False]
    for file in (tmp_path / "annotations").rglob("*.txt"):
        better = tmp_path / "annotations-xml-15" / file.relative_to(tmp_path / "annotations").with_suffix(".xml")
        write(
            better,
            "<annotation><object><name>person</name><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox></object>"
            "<object><name>cyclist</name><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox></object></annotation>",
        )
    assert samples_of(tmp_path)[0].labels["boxes"].xyxy.tolist() == [[1, 2, 4, 6]]


def test_kaist_without_lists_takes_every_twentieth(tmp_path: Path) -> None:
    for number in range(40):
        for name in (f"set01/V000/I{number:05d}", f"set07/V000/I{number:05d}"):
            folder = (tmp_path / "images" / name).parent
            for view, channels in (("visible", 3), ("lwir", 1)):
                write_image(folder / view / f"I{number:05d}.jpg", channels)
            write(tmp_path / "annotations" / f"{name}.txt", "% bbGt version=3\n")
    splits = index(tmp_path).splits
    assert [entry.name for entry in splits["train"]] == ["set01/V000/I00019", "set01/V000/I00039"]


def test_m3fd_holds_out_whole_scenes_or_follows_lists(tmp_path: Path) -> None:
    m3fd(tmp_path)
    assert [entry.name for entry in index(tmp_path).splits["val"]] == ["00400", "00455"]
    write(tmp_path / "meta" / "train.txt", "00000.png\n00300.png\n")
    write(tmp_path / "meta" / "val.txt", "00500\n77777\n")
    dataset_index = index(tmp_path)
    assert [entry.name for entry in dataset_index.splits["train"]] == ["00000", "00300"]
    assert "names 77777" in str(dataset_index.problems[0])


def test_nyud_labels_in_our_units(tmp_path: Path) -> None:
    nyud(tmp_path)
    labels = samples_of(tmp_path)[0].labels
    assert [labels["semantic"][row, 0] for row in (0, 10, 30)] == [0, 39, IGNORE]
    assert (labels["depth"] == 2.5).all() and labels["depth"].dtype == np.float32
    assert labels["normals"][0, 0].tolist() == [0, 0, -1] and not labels["normals"][40].any()
    assert labels["edges"].sum() == min(SIZE)


def test_cityscapes_labels_in_our_units(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    labels = samples_of(tmp_path)[0].labels
    assert [labels["semantic"][row, 0] for row in (0, 10, 30)] == [IDS.index(7), IDS.index(33), IGNORE]
    assert labels["depth"][0, 0] == pytest.approx(0.2 * 2000 / 10) and labels["depth"][40, 0] == 0


def test_celeba_masks_and_splits(tmp_path: Path) -> None:
    celeba(tmp_path)
    sample = samples_of(tmp_path)[1]
    assert [sample.labels["semantic"][row, 0] for row in (0, 11, 20, 45)] == [1, 1, 2, 0]
    assert sample.labels["attributes"].tolist() == [1, 0]
    lines = ["idx orig_idx orig_file"] + [f"{n} {n} {n:06d}.jpg" for n in range(20)]
    write(tmp_path / "CelebA-HQ-to-CelebA-mapping.txt", "\n".join(lines))
    write(tmp_path / "list_eval_partition.txt", "".join(f"{n:06d}.jpg {n % 3}\n" for n in range(20)))
    splits = index(tmp_path).splits
    assert [entry.name for entry in splits["val"]][:3] == ["1", "4", "7"] and len(splits["test"]) == 6


def test_coco_categories_stand_by_their_ids(tmp_path: Path) -> None:
    coco(tmp_path)
    dataset_index = index(tmp_path)
    assert dataset_index.classes["boxes"] == ("person", "car")
    assert samples_of(tmp_path)[0].labels["boxes"].classes.tolist() == [1]
