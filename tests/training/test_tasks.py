"""Every registered task: a step, an evaluation, an export and a bundle; and metrics against what they should be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY

from edgemtl.config_file import load
from edgemtl.data.augment import to_item
from edgemtl.data.batch import Batch
from edgemtl.data.loader import collate
from edgemtl.data.sample import IGNORE, Sample
from edgemtl.data.targets import DepthTarget
from edgemtl.evaluate import evaluate, of_run, open_predictor
from edgemtl.export import export
from edgemtl.run import Run
from edgemtl.synthetic.streets import Streets
from edgemtl.tasks import TASKS
from edgemtl.tasks.base import LossSum
from edgemtl.tasks.edges import ridges
from edgemtl.train import train
from edgemtl_runtime import result

SIZE = (96, 128)
ALL = f"tasks=[{','.join(TASKS)}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short training of every task at once."""
    words = (*TINY, ALL, "steps=40", "data.synthetic.num_train=80", "data.synthetic.num_val=12", "sparsity.target=0.3")
    return train(load(None, words), tmp_path_factory.mktemp("tasks") / "run")


def test_every_task_is_trained_and_evaluated(run: Run) -> None:
    figures = run.metrics["val"]["all"]
    assert {head.name for head in run.interface.heads} == set(TASKS)
    for name, task in TASKS.items():
        assert task.primary in figures, name
        losses = [float(row.split(",")[_column(run, name)]) for row in _log(run)[1:]]
        assert np.mean(losses[-8:]) < np.mean(losses[:8]), name


def _log(run: Run) -> list[str]:
    return (run.path / "log.csv").read_text().splitlines()


def _column(run: Run, name: str) -> int:
    return _log(run)[0].split(",").index(name)


def test_every_task_is_deployed_as_it_was_trained(run: Run, tmp_path: Path) -> None:
    bundle, shrunk = export(run, tmp_path / "bundle")
    assert shrunk.report.parameters_after < shrunk.report.parameters_before
    samples = Streets(6, SIZE, 2_000_000)
    trained, deployed = (evaluate(p, samples)["all"].flat() for p in (of_run(run), open_predictor(bundle.path)))
    assert set(trained) == set(deployed)
    for name, value in trained.items():
        assert deployed[name] == pytest.approx(value, rel=0.02, abs=0.02), name
    for name, prediction in open_predictor(bundle.path)(samples[0]).items():
        assert prediction.to_dict(), name


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_without_labels_skips_the_task(run: Run, name: str) -> None:
    task = TASKS[name](Streets.classes[name])
    network = run.network.train()
    task.prepare(network.heads[name], 1)
    images = {"rgb": torch.rand(2, 3, *SIZE), "ir": torch.rand(2, 1, *SIZE)}
    output = network(**images)[name]
    assert task.loss(output, Batch({}, {})) is None
    network.eval()


@pytest.mark.parametrize("name", [n for n in TASKS if n != "boxes"])
def test_unknown_labels_do_not_count(name: str) -> None:
    """Changing the output where the label is unknown changes neither loss nor metrics."""
    task = TASKS[name](Streets.classes[name])
    sample = Streets(1, SIZE, 7)[0]
    labels = sample.labels[name].copy()
    if name == "attributes":
        labels[1:] = np.nan
    else:
        labels[:, : SIZE[1] // 2] = {"semantic": IGNORE, "edges": IGNORE}.get(name, 0)
    sample = dataclasses.replace(sample, labels={name: labels})
    batch = _batch(task, name, sample)
    shape = (1, task.channels) if name == "attributes" else (1, task.channels, *SIZE)
    output = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    other = output.clone()
    if name == "attributes":
        other[:, 1:] += 3
    else:
        other[..., : SIZE[1] // 2] += 3
    before, after = task.loss(output, batch), task.loss(other, batch)
    assert before is not None and after is not None
    assert float(before.mean()) == pytest.approx(float(after.mean()), abs=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_parts_of_a_batch_make_its_loss(run: Run, name: str) -> None:
    """Sums and counts of uneven parts add up to those of the whole, with and without objects or labels in a part."""
    task = TASKS[name](Streets.classes[name])
    network = run.network.eval()
    task.prepare(network.heads[name], 1)
    network.heads[name].train()  # what training reads, from statistics that no part changes
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    samples = [Streets(1, SIZE, seed)[0] for seed in (1, 2, 3, 4)]
    samples[2].labels.pop(name)

    inputs = {spec.name: spec for spec in run.interface.inputs}

    def part(which: list[int]) -> LossSum | None:
        items = [to_item(samples[i], inputs, {name: task.target_type}) for i in which]
        batch = collate(items, inputs, {name: task.target_type})
        return task.loss(network(**batch.images)[name], batch)

    whole, parts = part([0, 1, 2, 3]), [part([0]), part([2]), part([1, 3])]
    assert whole is not None and parts[1] is None and len(whole.total) == task.sums
    total, count = (sum(getattr(p, field) for p in parts if p) for field in ("total", "count"))
    torch.testing.assert_close(total, whole.total, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(count, whole.count, rtol=1e-4, atol=1e-5)
    network.eval()


def _batch(task: Any, name: str, sample: Sample) -> Batch:
    from edgemtl_runtime.letterbox import Letterbox

    targets = [task.target_type.from_label(sample.labels[name], Letterbox.plan(SIZE, SIZE))]
    return Batch({}, {name: task.target_type.collate(targets)})


def oracle(sample: Sample) -> dict[str, result.HeadResult]:
    """Answer with the labels themselves."""
    labels = sample.labels
    boxes = labels["boxes"]
    return {
        "boxes": result.Boxes(
            boxes.xyxy, np.ones(len(boxes.classes), np.float32), boxes.classes, Streets.classes["boxes"]
        ),
        "semantic": result.LabelMap(labels["semantic"], Streets.classes["semantic"]),
        "depth": result.DepthMap(np.where(labels["depth"] > 0, labels["depth"], 1).astype(np.float32)),
        "normals": result.NormalMap(labels["normals"]),
        "edges": result.EdgeMap(labels["edges"].astype(np.float32), 0.5),
        "attributes": result.Attributes(labels["attributes"], Streets.classes["attributes"], 0.5),
    }


BEST = {
    "ap": 1, "ap50": 1, "miou": 1, "pixel_accuracy": 1, "abs_rel": 0, "rmse_m": 0, "delta1": 1, "edge_f1": 1,
    "edge_ods": 1, "attribute_map": 1, "attribute_f1": 1, "within_11": 1, "within_22": 1, "within_30": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_the_labels_themselves_are_perfect_predictions(name: str) -> None:
    metric = TASKS[name](Streets.classes[name]).metric()
    samples = Streets(16, SIZE, 0)
    for i in range(len(samples)):
        metric.update(oracle(samples[i])[name], samples[i])
    figures = metric.compute()
    assert figures[TASKS[name].primary] == pytest.approx(BEST.get(TASKS[name].primary, 0), abs=0.05)
    for key in figures.keys() & BEST.keys():
        assert figures[key] == pytest.approx(BEST[key], abs=1e-6), key
    assert TASKS[name](Streets.classes[name]).metric().compute() == {}


def evaluate_one(
    name: str, labels: Any, prediction: result.HeadResult, classes: tuple[str, ...] = ()
) -> dict[str, float]:
    metric = TASKS[name](classes).metric()
    metric.update(prediction, Sample({"rgb": np.zeros((*SIZE, 3), np.uint8)}, {name: labels}))
    return metric.compute()


def test_depth_is_evaluated_by_ratio_and_in_metres() -> None:
    truth = np.full((2, 4), 2.0, np.float32)
    truth[0, 0] = 0  # unknown
    predicted = np.where(np.arange(8).reshape(2, 4) < 4, 3.0, 2.0).astype(np.float32)
    figures = evaluate_one("depth", truth, result.DepthMap(predicted))
    assert figures["abs_rel"] == pytest.approx(0.5 * 3 / 7) and figures["delta1"] == pytest.approx(4 / 7)
    assert figures["rmse_m"] == pytest.approx((3 / 7) ** 0.5)


def test_relative_depth_has_no_scale() -> None:
    """Another factor for every image changes neither loss nor metrics; within an image ratios count."""
    truth = torch.rand(2, *SIZE) + 1
    truth[0, :50] = 0
    task = TASKS["depth"](("relative",))
    scaled = torch.log(torch.where(truth > 0, truth, 1.0) * torch.tensor([3.0, 0.1]).view(2, 1, 1))[:, None]
    exact, wrong = (task.loss(output, Batch({}, {"depth": DepthTarget(truth)})) for output in (scaled, 2 * scaled))
    assert exact is not None and wrong is not None
    assert float(exact.mean()) == pytest.approx(0, abs=1e-5) and float(wrong.mean()) > 0.05
    metric = TASKS["depth"](()).loss(scaled, Batch({}, {"depth": DepthTarget(truth)}))
    assert metric is not None and float(metric.mean()) > 0.5
    prediction = result.DepthMap((3 * truth[1]).numpy())
    figures = evaluate_one("depth", truth[1].numpy(), prediction, ("relative",))
    assert figures == {"abs_rel": pytest.approx(0, abs=1e-6), "delta1": 1.0}
    assert task.loss(scaled, Batch({}, {"depth": DepthTarget(torch.zeros_like(truth))})) is None
    assert "scale" in task.head().units


def test_normals_are_evaluated_by_their_angle() -> None:
    angles = np.array([0.0, 5, 10, 20, 25, 40, 90])
    truth = np.tile(np.array([0, 0, -1], np.float32), (1, 7, 1))
    predicted = np.stack([np.sin(np.radians(angles)), 0 * angles, -np.cos(np.radians(angles))], -1)[None].astype(
        np.float32
    )
    figures = evaluate_one("normals", truth, result.NormalMap(predicted))
    assert figures["angle_mean_deg"] == pytest.approx(angles.mean(), abs=1e-3)
    assert figures["angle_median_deg"] == pytest.approx(20, abs=0.02)
    assert [figures[f"within_{w}"] for w in (11, 22, 30)] == pytest.approx([3 / 7, 4 / 7, 5 / 7])


def test_edges_are_evaluated_at_the_best_threshold() -> None:
    truth = np.array([[1, 1, 0, 0, IGNORE]], np.uint8)
    scores = np.array([[0.9, 0.4, 0.5, 0.1, 0.99]], np.float32)
    figures = evaluate_one("edges", truth, result.EdgeMap(scores, 0.5))
    assert figures["edge_f1"] == pytest.approx(0.8)  # both edges and one that is none, from 0.4 on
    assert figures["edge_f1_threshold"] == pytest.approx(0.4, abs=1 / 128)


def test_edges_are_evaluated_with_tolerance() -> None:
    """A thick line one pixel next to a thin edge counts whole; one far from any edge counts for nothing."""
    truth = np.zeros((96, 128), np.uint8)
    truth[:, 40] = 1
    scores = np.zeros(truth.shape, np.float32)
    scores[:, 40:43] = 0.9
    figures = evaluate_one("edges", truth, result.EdgeMap(scores, 0.5))
    assert figures["edge_ods"] > 0.99 and figures["edge_f1"] < 0.6
    scores[:, 90:93] = 0.9
    assert evaluate_one("edges", truth, result.EdgeMap(scores, 0.5))["edge_ods"] == pytest.approx(2 / 3, abs=0.01)
    assert evaluate_one("edges", truth, result.EdgeMap(np.roll(scores, 5, 1), 0.5))["edge_ods"] < 0.1


def test_ridges_are_one_pixel_wide() -> None:
    y, x = np.mgrid[:96, :128]
    for line in (x - 60, y - 40, (x - y - 10) / 2**0.5, (x + 2 * y - 130) / 5**0.5):
        scores = np.exp(-((line / 2.0) ** 2)).astype(np.float32)
        thin = ridges(scores) & (scores > 0.1) & (np.minimum(np.minimum(x, 127 - x), np.minimum(y, 95 - y)) > 4)
        assert np.abs(line[thin]).max() < 1 and thin.sum() > 0.9 * (abs(line) < 0.35)[5:-5, 5:-5].sum()
