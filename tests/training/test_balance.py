"""Task weighting: each method against its paper, on the feature pyramid of a real network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import edgemtl_models
from edgemtl.config_file import load
from edgemtl.data.batch import Batch
from edgemtl.losses import TaskLosses
from edgemtl.methods.weighting import TASK_WEIGHTINGS
from edgemtl.methods.weighting.base import TaskWeighting
from edgemtl.methods.weighting.gradient_weighting import GradientWeighting, gramian
from edgemtl.methods.weighting.loss_weighting import DWA, FAMO
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin
from edgemtl.trainer import Trainer

HEADS = {"semantic": 5, "depth": 1, "attributes": 4}
SIZE = (32, 64)


def weighting_of(name: str) -> TaskWeighting:
    if name == "cagrad":
        pytest.importorskip("cvxpy", reason="cagrad needs cvxpy")
    return TASK_WEIGHTINGS[name](list(HEADS), seed=3)


def gradients(weighting: TaskWeighting) -> tuple[edgemtl_models.MultiTask, list[list[Tensor]]]:
    """One step of the weighting on a network, and each task's gradient of the trunk, by autograd on the whole graph."""
    torch.manual_seed(0)
    network = edgemtl_models.build("rgbir-n", HEADS, SIZE).double().train()
    images = {"rgb": torch.rand(2, 3, *SIZE).double(), "ir": torch.rand(2, 1, *SIZE).double()}
    trunk = list(network.trunk.parameters())
    outputs = network(**images)
    whole = [
        torch.autograd.grad(_loss(outputs[name]), trunk, retain_graph=True, materialize_grads=True) for name in HEADS
    ]
    features = network.trunk(images)
    read = [f.detach().requires_grad_() for f in features] if weighting.detach_features else features
    losses = {name: _loss(network.heads[name](read)) for name in HEADS}
    network.zero_grad(set_to_none=True)
    weighting.backward(TaskLosses(losses, features, read), trunk)
    return network, [list(row) for row in whole]


def _loss(output: Tensor) -> Tensor:
    return (output - 0.5).square().mean()


@pytest.mark.parametrize("name", TASK_WEIGHTINGS)
def test_the_step_is_the_weighted_sum_of_the_tasks_own_gradients(name: str) -> None:
    weighting = weighting_of(name)
    network, rows = gradients(weighting)
    assert set(weighting.weights) == set(HEADS)
    for index, parameter in enumerate(network.trunk.parameters()):
        expected = sum(w * row[index] for w, row in zip(weighting.weights.values(), rows, strict=True))
        assert parameter.grad is not None and torch.allclose(parameter.grad, expected, atol=1e-9, rtol=1e-6)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.heads.parameters())


@pytest.mark.parametrize("name", [n for n, type_ in TASK_WEIGHTINGS.items() if issubclass(type_, GradientWeighting)])
def test_no_weight_is_lost_on_tasks_that_agree(name: str) -> None:
    """Orthogonal gradients of one length do not conflict: the sum."""
    assert weighting_of(name).weighting(torch.eye(3, dtype=torch.float64)).tolist() == pytest.approx(
        [1, 1, 1], abs=1e-3
    )  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["upgrad", "mgda"])
def test_no_task_is_made_worse_to_first_order(name: str) -> None:
    weighting = weighting_of(name)
    generator = np.random.default_rng(0)
    for _ in range(20):
        rows = torch.from_numpy(generator.normal(size=(3, 4)))
        products = rows @ rows.T
        step = weighting.weighting(products) @ products  # type: ignore[attr-defined]
        assert (step >= -1e-2 * products.diagonal().max()).all()


def test_pcgrad_leaves_two_tasks_orthogonal_to_what_they_conflict_with() -> None:
    weighting = TASK_WEIGHTINGS["pcgrad"](["a", "b"], seed=0)
    a, b = torch.tensor([1.0, 0.0]).double(), torch.tensor([-0.5, 1.0]).double()
    rows = torch.stack([a, b])
    weights = weighting.weighting(rows @ rows.T)  # type: ignore[attr-defined]
    by_hand = (a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)
    assert torch.allclose(weights @ rows, by_hand)


def test_products_of_gradients() -> None:
    rows = [[torch.randn(3, 2), torch.randn(4)] for _ in range(3)]
    flat = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).double()
    assert torch.allclose(gramian(rows), flat @ flat.T, atol=1e-5)


def test_dwa_favours_the_loss_that_falls_slowest() -> None:
    weighting = DWA(["slow", "fast"])
    for slow, fast in ((1.0, 1.0), (0.9, 0.3)):
        weighting.combine({"slow": torch.tensor(slow), "fast": torch.tensor(fast)})
        weighting.end_epoch()
    weighting.combine({"slow": torch.tensor(1.0), "fast": torch.tensor(1.0)})
    ratio = weighting.weights["slow"] / weighting.weights["fast"]
    assert ratio == pytest.approx(np.exp((0.9 - 0.3) / 2)) and sum(weighting.weights.values()) == pytest.approx(2)


def test_famo_shifts_to_the_loss_that_falls_least() -> None:
    weighting = FAMO(["still", "falling"])
    for _ in range(50):
        weighting.combine({"still": torch.tensor(1.0), "falling": torch.tensor(1.0)})
        weighting.after_step(lambda: {"still": torch.tensor(1.0), "falling": torch.tensor(0.5)})
    assert weighting.weights["still"] > 1.5 * weighting.weights["falling"]


def test_famo_follows_the_logarithms() -> None:
    """At equal shares the step is along the sum of the logarithms: scaling a loss changes nothing but the constant."""
    weighting = FAMO(["a", "b"])
    weighting.combine({"a": torch.tensor(0.1), "b": torch.tensor(10.0)})
    assert weighting.weights["a"] / weighting.weights["b"] == pytest.approx(100)


def trainer_of(weighting: str, start: int = 0, *more: str) -> tuple[Trainer, Callable[[int], Batch]]:
    words = [
        "input_size=[32,64]",
        "batch_size=4",
        f"task_weighting={weighting}",
        "precision=fp32",
        "steps=40",
        "warmup_steps=0",
        *more,
    ]
    config = load(None, [*words, "tasks=[boxes,semantic,depth,attributes]"])
    trainer, batches = begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})
    for parameter in trainer.network.parameters():
        parameter.data += start * torch.randn_like(parameter)
    return trainer, batches.__getitem__


def test_famo_weighs_the_losses_alike_before_and_after_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, batch = trainer_of("famo", 0, "loss_weights={boxes: 100}", "lr=1e-9")
    after: dict[str, float] = {}
    monkeypatch.setattr(
        trainer.method.weighting,
        "after_step",
        lambda reevaluate: after.update({n: float(v) for n, v in reevaluate().items()}),
    )
    row = trainer.train_step(batch(0))
    assert after == pytest.approx(trainer.method.weighting.losses, rel=1e-3)  # type: ignore[attr-defined]
    assert after["boxes"] == pytest.approx(100 * row["boxes"], rel=1e-3)


@pytest.mark.parametrize("name", TASK_WEIGHTINGS)
def test_a_task_without_labels_is_skipped(name: str) -> None:
    weighting_of(name)
    trainer, batch = trainer_of(name)
    whole = batch(0)
    some = replace(whole, targets={task: t for task, t in whole.targets.items() if task != "depth"})
    row = trainer.train_step(some)
    assert "depth" not in row and set(trainer.method.weighting.weights) == {"boxes", "semantic", "attributes"}
    trainer.train_step(replace(whole, targets={"semantic": whole.targets["semantic"]}))
    assert set(trainer.method.weighting.weights) == {"semantic"} and trainer.method.weighting.weights["semantic"] > 0
    trainer.train_step(replace(whole, targets={}))


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(n, marks=pytest.mark.slow) for n in ("equal", "dwa", "upgrad")), "uncertainty", "famo", "pcgrad"],
)
def test_a_weighting_resumes_from_its_state(name: str) -> None:
    first, batch = trainer_of(name)
    for step in range(7):
        first.train_step(batch(step))
    state = copy.deepcopy(first.state())
    for step in range(7, 12):
        last = first.train_step(batch(step))
    second, _ = trainer_of(name, start=1)
    second.load_state(state)
    for step in range(7, 12):
        again = second.train_step(batch(step))
    assert again == last
