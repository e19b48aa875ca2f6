"""What `edgemtl-runtime record` writes, training reads: any cameras, depths, sizes and splits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_frames

from edgemtl.data.formats import index
from edgemtl.data.problems import Problems
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.cli import main
from edgemtl_runtime.rig import CameraModel, Rig

pytestmark = pytest.mark.fault("D10")


def record(cameras: dict[str, Path], out: Path, *options: str) -> int:
    words = [word for name, folder in cameras.items() for word in ("--camera", f"{name}={folder}")]
    return main(["record", *words, "--out", str(out), *options])


FORMS = {"colour": (3, 8), "grey": (1, 8), "counts": (1, 16)}


@pytest.mark.parametrize(
    ("cameras", "read"),
    [
        ({"ir": "counts"}, {"ir": "ir"}),
        ({"ir": "grey"}, {"ir": "ir"}),
        ({"rgb": "colour"}, {"rgb": "rgb"}),
        ({"rgb": "colour", "ir": "counts"}, {"rgb": "rgb", "ir": "ir"}),
        ({"thermal": "counts"}, {"ir": "thermal"}),
        ({"thermal": "counts", "eye.left": "colour"}, {"rgb": "eye.left", "ir": "thermal"}),
        ({"left": "colour", "right": "colour"}, {"rgb": "left"}),
    ],
)
def test_training_reads_what_was_recorded(cameras: dict[str, str], read: dict[str, str], tmp_path: Path) -> None:
    given = {
        name: write_frames(tmp_path / name, 2, channels=FORMS[form][0], depth=FORMS[form][1])
        for name, form in cameras.items()
    }
    for split in ("train", "val"):
        assert record(given, tmp_path / "set", "--split", split) == 0
    dataset = index(tmp_path / "set")
    assert not list(dataset.problems) and {split: len(e) for split, e in dataset.splits.items()} == {
        "train": 2,
        "val": 2,
    }
    live = {name: [f.image for f in open_cameras({name: str(path)})[name].frames()] for name, path in given.items()}
    for entries in dataset.splits.values():
        samples = [entry.read(Problems()) for entry in entries]
        for number, sample in enumerate(samples):
            assert sample is not None and sample.images.keys() == read.keys()
            for modality, name in read.items():
                assert np.array_equal(sample.images[modality], live[name][number])


def test_what_training_would_reject_is_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = write_frames(tmp_path / "counts", 2, channels=1, depth=16)
    colour = write_frames(tmp_path / "colour", 2)
    assert record({"rgb": counts}, tmp_path / "a") == 2
    assert "--rgb: frame 0 is 1 channel of 16 bits" in (error := capsys.readouterr().err)
    assert "an MCAP file keeps what cameras give: --out FILE.mcap" in error
    assert record({"rgb": counts}, tmp_path / "a.mcap") == 0
    assert record({"rgb": colour}, tmp_path / "b") == 0
    assert record({"ir": counts}, tmp_path / "b") == 2
    assert "its split train holds rgb, this recording is ir: give another --out or --split" in capsys.readouterr().err
    assert record({"ir": counts}, tmp_path / "b", "--split", "night") == 0


def test_an_edited_description_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    colour = write_frames(tmp_path / "left", 2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.yaml").write_text("names: [car]  # mine\n")
    assert record({"left": colour}, tmp_path / "set") == 0
    assert (tmp_path / "set" / "data.yaml").read_text() == "names: [car]  # mine\n"
    assert "was edited; add to it train: left/train" in caplog.text


@pytest.mark.parametrize("with_rig", [True, False])
def test_views_of_unequal_sizes_are_recorded_in_the_first_camera_s(with_rig: bool, tmp_path: Path) -> None:
    """Counts keep their bits; a rig brings each point of the scene onto one pixel."""
    scene = np.kron(np.arange(6, dtype=np.uint16) * 1000 + 7000, np.ones((64, 16), np.uint16))
    for name, image in (("rgb", np.repeat((scene // 64).astype(np.uint8)[:, :, None], 3, 2)), ("ir", scene[::2, ::2])):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "0.png"), image)
    cameras = {
        "rgb": CameraModel("rgb", 96, 64, np.zeros((3, 3)), np.zeros(5)),
        "ir": CameraModel("ir", 48, 32, np.zeros((3, 3)), np.zeros(5)),
    }
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    Rig(cameras, homography_rgb_to_ir=half).save(tmp_path / "rig.yaml")
    options = ["--rig", str(tmp_path / "rig.yaml")] if with_rig else []
    assert record({"rgb": tmp_path / "rgb", "ir": tmp_path / "ir"}, tmp_path / "set", *options) == 0
    (entry,) = index(tmp_path / "set").splits["train"]
    sample = entry.read(Problems())
    assert sample is not None and sample.size == (64, 96) and sample.images["ir"].dtype == np.uint16
    middles = np.s_[4:60, 8:96:16]  # the middle of each bar, and off the borders
    assert np.array_equal(sample.images["ir"][middles], scene[middles])
