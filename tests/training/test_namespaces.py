"""Names: an input beside a label of the same name, and classes that are called like metrics."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
import torch
from conftest import write_pairs

from edgemtl.cli import main
from edgemtl.config import Augment
from edgemtl.config_file import load
from edgemtl.data.augment import Augmenter, nearer, to_item
from edgemtl.data.datasets import open_datasets
from edgemtl.data.sample import BoxLabels, Sample
from edgemtl.data.targets import DepthTarget
from edgemtl.evaluate import evaluate, of_network
from edgemtl.metric_report import MetricReport, from_json, to_json
from edgemtl.run import Run
from edgemtl.synthetic.streets import Streets
from edgemtl.tasks.attributes import AttributeMetric
from edgemtl.tasks.boxes import BoxMetric
from edgemtl.train import begin
from edgemtl_export.deployed import Deployed
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime import result
from edgemtl_runtime.bundle import Bundle, Head, Input, Manifest, ThermalRange
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.letterbox import Letterbox

pytestmark = [pytest.mark.usefixtures("undrawn"), pytest.mark.fault("L6")]

RANGE = "{kind: radiometric, low: 0, high: 60000}"
WORDS = (
    "input_size=[64,96]",
    "modalities=[rgb,depth]",
    "tasks=[boxes,depth]",
    f"thermal_range={RANGE}",
    "steps=2",
    "batch_size=2",
    "precision=fp32",
    "data.cache_mb=1",
)


@pytest.fixture
def rgbd(tmp_path: Path) -> Path:
    """Colour images with measured distances in millimetres as an input, and distances as labels in depth/."""
    root = write_pairs(tmp_path / "rgbd", 4, 2, (48, 80))
    for split in ("train", "val"):
        (root / "range" / split).mkdir(parents=True)
        for file in sorted((root / "depth" / split).glob("*.png")):
            measured = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            measured[::2] = 0  # a sensor with holes
            cv2.imwrite(str(root / "range" / split / file.name), measured)
    text = (root / "data.yaml").read_text()
    text = text.replace("train_ir: ir/train", "train_depth: range/train")
    (root / "data.yaml").write_text(text.replace("val_ir: ir/val", "val_depth: range/val"))
    for file in (root / "ir").rglob("*.png"):
        file.unlink()
    for split in ("train", "val"):
        (root / "ir" / split).rmdir()
    return root


def test_a_batch_holds_the_input_and_the_label(rgbd: Path) -> None:
    config = load(None, [*WORDS, f"data.source={rgbd}", "augment.mosaic=0"])
    trainer, batches = begin(config, open_datasets(config))
    assert [(s.name, s.modality) for s in trainer.interface.inputs] == [("rgb", "rgb"), ("depth_image", "depth")]
    batch = batches[0]
    target = batch.target("depth", DepthTarget)
    assert batch.images.keys() == {"rgb", "depth_image"} and target is not None
    assert batch.images["depth_image"].shape == (2, 1, 64, 96) and target.values.max() > 2
    row = trainer.train_step(batch)
    assert row["depth"] > 0 and row["boxes"] > 0
    report = evaluate(of_network(trainer.ema.network, trainer.interface), open_datasets(config)["val"])["all"]
    assert report["depth"]["abs_rel"] > 0


def test_one_name_for_an_input_and_an_output_is_rejected(tmp_path: Path) -> None:
    """No graph of ONNX can have it; networks of others meet it, too."""
    inputs = (Input("depth", 32, 64, 1, (0.0,), (1.0,), "depth"),)
    heads = (Head("depth", "depth", "depth_map", ()),)
    with pytest.raises(ValueError, match="an input and an output are both named 'depth'; name the input depth_image"):
        write_onnx(Deployed(torch.nn.Identity(), inputs, heads), tmp_path / "wrong.onnx")
    with pytest.raises(ValueError, match="an input and a head are both named 'depth'"):
        Manifest("x", inputs, heads, {}, "MIT")
    Manifest("x", (renamed(inputs[0], "depth_image"),), heads, {}, "MIT")


def renamed(spec: Input, name: str) -> Input:
    return msgspec.structs.replace(spec, name=name)


class WithDepth(Streets):
    """Streets whose distances are measured, too."""

    modalities = ("rgb", "ir", "depth")

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        distances = (sample.labels["depth"] * 1000).clip(0, 65535).astype(np.uint16)
        return dataclasses.replace(sample, images=sample.images | {"depth": distances})


def test_what_is_enlarged_is_nearer_in_the_input_as_in_the_label() -> None:
    spec = Input("depth_image", 64, 96, 1, (0.0,), (1.0,), "depth", thermal_range=ThermalRange("radiometric", 0, 60000))
    image = torch.tensor([[0, 50, 100, 200]], dtype=torch.uint8)[None]
    assert nearer(image, spec, 2.0).flatten().tolist() == [0, 25, 50, 100]
    assert nearer(image, spec, 0.5).flatten().tolist() == [0, 100, 200, 255]
    for other in (renamed(spec, "x"), Input("ir", 64, 96, 1, (0.0,), (1.0,), "ir")):
        changed = nearer(image, other, 2.0)
        assert torch.equal(changed, image) == (other.modality == "ir")
    inputs = {"depth_image": spec}
    item = to_item(WithDepth(1, (64, 96), 0)[0], inputs, {"depth": DepthTarget})
    augment = Augmenter(Augment(mosaic=0, translate=0, scale=0.5, flip=False), inputs)
    moved = augment(item, [], torch.Generator().manual_seed(4))
    target = moved.targets["depth"]
    assert isinstance(target, DepthTarget)
    known = (target.values > 1) & (target.values < 40) & (moved.images["depth_image"][0] != spec.blank)
    measured_m = moved.images["depth_image"][0][known].double() / 255 * 60
    assert (measured_m / target.values[known] - 1).abs().median() < 0.05


def test_a_class_called_like_an_interval_and_an_attribute_like_a_size() -> None:
    boxes = BoxMetric(("low", "high", "class_low"))
    for number in range(3):
        xyxy = np.array([[10, 10, 30, 30]], np.float32)
        score, class_id = np.ones(1, np.float32), np.array([number])
        labels = BoxLabels(xyxy, class_id)
        found = result.Boxes(xyxy + (number == 0) * 40, score, class_id, boxes.classes)
        boxes.update(found, Sample({"rgb": np.zeros((64, 64, 3), np.uint8)}, {"boxes": labels}))
    metrics = boxes.compute()
    assert metrics["ap50_class_low"] == 0 and metrics["ap50_class_high"] == pytest.approx(1)
    assert metrics["ap50_class_class_low"] == pytest.approx(1)
    assert metrics["ap50_low"] < metrics["ap50"] < metrics["ap50_high"]
    assert {"miss_rate_low", "miss_rate_high", "miss_rate_class_low"} <= metrics.keys()
    attributes = AttributeMetric(("small",))
    for truth in (0.0, 1.0):
        labelled = Sample({"rgb": np.zeros((8, 8, 3), np.uint8)}, {"attributes": np.array([truth], np.float32)})
        attributes.update(result.Attributes(np.array([1 - truth], np.float32), ("small",), 0.5), labelled)
    whole = MetricReport({"attributes": attributes.compute(), "boxes": metrics})
    flat = whole.flat()
    assert flat["ap_small"] == metrics["ap_small"] and flat["attributes/ap_small"] == whole["attributes"]["ap_small"]
    night = MetricReport({"attributes": attributes.compute(), "boxes": {}})
    assert "ap_small" not in night.flat()  # whichever of the two a subset has
    assert from_json(to_json({"all": whole}))["all"].by_task == whole.by_task


@pytest.mark.slow
def test_rgb_and_depth_from_files_to_a_running_bundle(rgbd: Path, tmp_path: Path) -> None:
    words = [*WORDS, f"data.source={rgbd}"]
    assert main(["data", "check", str(rgbd)]) == 0
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    assert main(["eval", str(tmp_path / "run"), "--missing-modality"]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
    assert main(["eval", str(tmp_path / "bundle"), "--data", str(rgbd)]) == 0
    graph = onnx.load(tmp_path / "bundle" / "model.onnx").graph
    assert [value.name for value in graph.input] == ["rgb", "depth_image"]
    assert {value.name for value in graph.output} == {"boxes", "depth"}
    bundle, run = Bundle.open(tmp_path / "bundle"), Run.open(tmp_path / "run")
    assert [spec.name for spec in bundle.manifest.inputs] == ["rgb", "depth_image"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["evaluation"]["all"]["depth"]["abs_rel"] > 0
    images = {s.name: np.full((1, s.height, s.width, s.channels), 90, np.uint8) for s in bundle.manifest.inputs}
    outputs = open_ort_engine(bundle).run(images)
    expected = run.deployed().run(images)
    np.testing.assert_allclose(outputs["depth"], expected["depth"], rtol=1e-3)
    heads: tuple[Head, ...] = bundle.manifest.heads
    decoded = decode({n: o[0] for n, o in outputs.items()}, heads, Letterbox.plan((48, 80), (64, 96)))
    assert isinstance(decoded["depth"], result.DepthMap) and decoded["depth"].depth_m.shape == (48, 80)
