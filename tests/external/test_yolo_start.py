"""A training that starts from a YOLO: every camera answers as that network did, its classes found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_networks import checkpoint
from torch import Tensor

import edgemtl_models
from edgemtl.cli import main
from edgemtl.config import Config
from edgemtl.errors import ConfigError
from edgemtl.licence import AGPL, origins_of
from edgemtl.pretrained import load_pretrained
from edgemtl.run import interface_of
from edgemtl.tasks import TASKS
from edgemtl_models import MultiTask
from edgemtl_models.ultralytics_checkpoint import read_checkpoint
from edgemtl_models.yolo_detector import YoloDetector

SIZE = (96, 128)
KNOWN = ("bicycle", "person", "car", "dog")
WANTED = ("person", "tram", "car")
RGB, BOTH = ("rgb",), ("rgb", "ir")
LONG = (pytest.mark.slow, pytest.mark.long)


def network(name: str, cameras: tuple[str, ...] = RGB, **options: Any) -> MultiTask:
    torch.manual_seed(1)
    return edgemtl_models.build(name, {"boxes": len(WANTED)}, SIZE, modalities=cameras, **options)


def started(name: str, file: Path, cameras: tuple[str, ...] = RGB, **options: Any) -> MultiTask:
    """A network that starts from a checkpoint."""
    ours = network(name, cameras, **options)
    interface = interface_of(ours, Config(input_size=SIZE, modalities=cameras), (TASKS["boxes"](WANTED).head(),))
    load_pretrained(ours, interface, str(file))
    return ours.eval().double()  # so that another order of sums does not show


def detector(file: Path) -> YoloDetector:
    return YoloDetector(torch.load(file, weights_only=False)["model"].double().eval())


def converted(file: Path) -> Path:
    assert main(["weights", "convert", str(file), "--overwrite"]) == 0
    return file.with_suffix(".safetensors")


@pytest.mark.parametrize(
    ("yolo", "cameras", "suffix"),
    [
        ("yolo11n", RGB, ".pt"),
        ("yolo26n", RGB, ".safetensors"),
        pytest.param("yolo11s", RGB, ".safetensors", marks=LONG),
        pytest.param("yolo26s", RGB, ".pt", marks=LONG),
    ],
)
def test_colour_alone_answers_as_the_detector(
    yolo: str, cameras: tuple[str, ...], suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Features, boxes and the scores of the classes that both know, though the layers for scores are wider here."""
    file = checkpoint(yolo, tmp_path / "net.pt", KNOWN)
    theirs = detector(file)
    ours = started(f"rgbir-{yolo}", converted(file) if suffix != ".pt" else file)
    message = capsys.readouterr().err
    assert "new classes of boxes: tram" in message and "not used: classes of boxes: bicycle, dog" in message
    image = torch.rand(2, 3, *SIZE).double()
    with torch.no_grad():
        features, raw = ours.trunk({"rgb": image})[1:], theirs(image)
        for a, b in zip(features, theirs._features(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
        box: Any = ours.heads["boxes"]
        for branch in ("one2many", "one2one"):
            given = box.detect(branch, features)
            if branch == "one2one" or yolo.startswith("yolo11"):
                torch.testing.assert_close(box.detect.dfl(given["boxes"]), raw["boxes"], atol=1e-6, rtol=1e-6)
                rows = [[WANTED.index("person"), WANTED.index("car")], [KNOWN.index("person"), KNOWN.index("car")]]
                a, b = given["scores"][:, rows[0]], raw["scores"][:, rows[1]]
                torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def stream_features(ours: MultiTask, images: dict[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        features: list[Tensor] = ours.eval().trunk(images)
    return features


@pytest.mark.parametrize("fusion", [{"kind": "concat"}, {"kind": "early"}, {"kind": "aligned"}])
def test_a_grey_scene_is_seen_by_both_cameras_as_colour_saw_it(fusion: dict[str, Any], tmp_path: Path) -> None:
    """Where both cameras show one grey image, fused features are those of the detector for it."""
    file = checkpoint("yolo11n", tmp_path / "net.pt", KNOWN)
    ours = started("rgbir-yolo11n", file, BOTH, fusion=fusion)
    grey = torch.rand(1, 1, *SIZE).double()
    colour = grey.repeat(1, 3, 1, 1)
    features = stream_features(ours, {"rgb": colour, "ir": grey})[-3:]
    with torch.no_grad():
        wanted = detector(file)._features(colour)
    for a, b in zip(features, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_another_network_takes_nothing_and_says_which_does(tmp_path: Path) -> None:
    file = checkpoint("yolo11n", tmp_path / "net.pt")
    for name, message in (
        ("rgbir-n", "whose layers rgbir-n lacks; take network=rgbir-yolo11n"),
        ("rgbir-yolo11s", "its layer 0 is not that of rgbir-yolo11s"),
        ("rgbir-yolo26n", "its layer 13 is not that of rgbir-yolo26n"),
    ):
        with pytest.raises(ConfigError, match=message):
            started(name, file)


def test_a_network_of_another_release_is_told_by_its_activation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ultralytics 8.4.0 built YOLO11 without SPPF's first activation."""
    file = checkpoint("yolo11n", tmp_path / "net.pt")
    whole = torch.load(file, weights_only=False)
    whole["model"].model[9].cv1.act = torch.nn.Identity()
    torch.save(whole, file)
    started("rgbir-yolo11n", file)
    note = "layer 9 was trained with Identity for an activation, stage32.2 has SiLU"
    assert note in " ".join(capsys.readouterr().err.split())


def test_what_starts_from_ultralytics_is_under_its_licence(tmp_path: Path) -> None:
    file = checkpoint("yolo11n", tmp_path / "net.pt")
    for source in (file, converted(file)):
        assert origins_of(Config(init_from=str(source)), {}) == {source.name: AGPL}


@pytest.mark.parametrize("description", ["{", "[]", '{"names": 1}', '{"names": {"a": "b"}, "stride": [8], "kind": ""}'])
def test_a_damaged_description_is_one_line(description: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"model.0.conv.weight": torch.zeros(1)}, tmp_path / "w.safetensors", {"ultralytics": description})
    with pytest.raises(ConfigError, match="no tensors in it"):
        started("rgbir-yolo11n", tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["weight", "model.x.weight", "model.3"])
def test_tensors_of_no_yolo_are_one_line(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    described = {"ultralytics": '{"names": {"0": "car"}, "stride": [8.0], "kind": "DetectionModel"}'}
    save_file({name: torch.zeros(1)}, tmp_path / "w.safetensors", described)
    with pytest.raises(ConfigError, match="is no tensor of a network of ultralytics"):
        started("rgbir-yolo11n", tmp_path / "w.safetensors")
    save_file({}, tmp_path / "w.safetensors", described)
    with pytest.raises(ConfigError, match="no tensors in it"):
        started("rgbir-yolo11n", tmp_path / "w.safetensors")


@pytest.mark.slow
@pytest.mark.long
def test_a_training_starts_from_a_yolo_and_becomes_a_bundle(tmp_path: Path) -> None:
    file = checkpoint("yolo11n", tmp_path / "net.pt", KNOWN)
    assert read_checkpoint(file).names == dict(enumerate(KNOWN))
    words = ["network=rgbir-yolo11n", f"init_from={file}", "steps=4", "batch_size=2", "tasks=[boxes]"]
    words += [
        "data.synthetic.num_train=4",
        "data.synthetic.num_val=4",
        "augment.mosaic=0",
        "fusion.kind=aligned",
        "sparsity.target=0.4",
    ]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
