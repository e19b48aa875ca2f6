"""The accuracy gate: heads without a metric, too few labels, and outputs that are not the float network's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgemtl_export.accuracy_gate import AccuracyGate, Score, too_few_labels
from edgemtl_export.precisions import Precisions
from edgemtl_export.to_bundle import export_bundle
from edgemtl_runtime.bundle import Bundle, Head, Input

INPUTS = (Input("rgb", 16, 24, 3, (0.5,) * 3, (0.25,) * 3),)
HEADS = (Head("semantic", "semantic", "label_map", ("a", "b")), Head("depth", "depth", "depth_map", ()))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.semantic, self.depth = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 1, 1)

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        x = self.b(self.a(rgb).relu()).relu()
        return {"semantic": 9 * self.semantic(x), "depth": self.depth(x)}


def frames(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [{"rgb": rng.integers(0, 256, (1, 16, 24, 3), np.uint8)} for _ in range(count)]


def exported(tmp_path: Path, *scores: dict[str, Score], keep_undecided: bool = False) -> Bundle:
    """Write a bundle with int8, whose networks are scored in turns: fp32 first."""
    turns = iter(scores)
    gate = AccuracyGate(lambda network: next(turns, scores[-1]), 0.01)
    precisions = Precisions(("int8",), gate, frames(4), keep_undecided=keep_undecided)
    return export_bundle(Net(), INPUTS, HEADS, frames(2), tmp_path / "b", "n", "CC0-1.0", precisions=precisions)[0]


SCORE = Score("miou", 0.5, images=64)


@pytest.mark.fault("L10")
@pytest.mark.parametrize("scores", [{}, {"semantic": SCORE}, {"depth": Score("abs_rel", 0.1, False)}])
def test_heads_without_a_metric_are_held_to_the_float_network(tmp_path: Path, scores: dict[str, Score]) -> None:
    manifest = exported(tmp_path, scores).manifest
    assert manifest.precisions["fp32"]["scores"].keys() == scores.keys()
    assert manifest.precisions["int8"]["agreement"].keys() == {"semantic", "depth"} and not manifest.rejected


@pytest.mark.fault("L10")
def test_a_metric_that_only_the_float_network_has_is_a_loss(tmp_path: Path) -> None:
    reason = exported(tmp_path, {"semantic": SCORE}, {}).manifest.rejected["int8"]
    assert "semantic: miou cannot be computed where the run has 0.5000" in reason


@pytest.mark.fault("L10")
@pytest.mark.parametrize(
    ("score", "few"),
    [
        (Score("ap50", 0.5, True, 64, 200), ""),
        (Score("ap50", 0.5, True, 4, 500), "boxes has 4 of 64 labelled images"),
        (Score("ap50", 0.5, True, 100, 199), "boxes has 199 of 200 objects"),
        (Score("ap50", 0.5, True, 0, 0), "boxes has 0 of 64 labelled images and 0 of 200 objects"),
        (Score("miou", 0.5, True, 63), "boxes has 63 of 64 labelled images"),
        (Score("miou", 0.5), ""),
    ],
)
def test_int8_wants_images_and_objects(score: Score, few: str) -> None:
    assert too_few_labels({"boxes": score}) == few


@pytest.mark.fault("L10")
@pytest.mark.parametrize("keep", [False, True])
def test_too_few_labels_are_undecided(tmp_path: Path, keep: bool) -> None:
    few = "semantic has 4 of 64 labelled images"
    bundle = exported(tmp_path, {"semantic": SCORE._replace(images=4)}, keep_undecided=keep)
    card = (bundle.path / "card.md").read_text()
    assert bundle.precisions == (("fp32", "int8") if keep else ("fp32",)) and few in card
    if keep:
        assert bundle.manifest.precisions["int8"]["undecided"] == few
    else:
        assert bundle.manifest.rejected == {"int8": f"undecided: {few}"}


@pytest.mark.fault("L10")
@pytest.mark.parametrize(
    ("spoilt", "scores", "failures"),
    [
        (0.2, {"semantic": SCORE}, []),
        (0.75, {"semantic": SCORE}, ["semantic: 25.0% of the outputs agree with fp32's (50% required)"]),
        (0.2, {}, ["semantic: 80.0% of the outputs agree with fp32's (90% required, as it has no metric here)"]),
    ],
)
def test_a_metric_alone_is_not_enough(spoilt: float, scores: dict[str, Score], failures: list[str]) -> None:
    """As where a quarter of the outputs are the float network's, and the metric of four images does not see it."""
    exact = np.zeros((1, 10, 10), np.uint8)
    other = exact.copy()
    other.reshape(-1)[: int(spoilt * 100)] = 1
    gate = AccuracyGate(lambda network: scores, 0.01)
    run = lambda labels: lambda frame: {"semantic": labels}  # noqa: E731
    evaluation = gate.evaluate(run(other), scores, run(exact), HEADS[:1], [{}])
    assert evaluation.failures == failures and evaluation.agreement == {"semantic": pytest.approx(1 - spoilt)}
