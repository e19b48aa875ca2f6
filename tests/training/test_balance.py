"""How tasks share a step: each balance against what its paper says, on a real network's pyramid of features."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import edgemtl_models
from edgemtl.config_file import load
from edgemtl.methods.weighting import BALANCES, DWA, FAMO, Equal, Gradients, gramian
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin
from edgemtl.trainer import Loop

HEADS = {"semantic": 5, "depth": 1, "attributes": 4}
SIZE = (32, 64)


def made(name: str) -> Equal:
    if name == "cagrad":
        pytest.importorskip("cvxpy", reason="cagrad needs cvxpy")
    return BALANCES[name](list(HEADS), seed=3)


def gradients(balance: Equal) -> tuple[edgemtl_models.MultiTask, list[list[Tensor]]]:
    """One step of the balance on a network, and each task's gradient of the trunk, by autograd on the whole graph."""
    torch.manual_seed(0)
    network = edgemtl_models.build("rgbir-n", HEADS, SIZE).double().train()
    images = {"rgb": torch.rand(2, 3, *SIZE).double(), "ir": torch.rand(2, 1, *SIZE).double()}
    trunk = list(network.trunk.parameters())
    outputs = network(**images)
    whole = [
        torch.autograd.grad(_loss(outputs[name]), trunk, retain_graph=True, materialize_grads=True) for name in HEADS
    ]
    features = network.trunk(images)
    read = [f.detach().requires_grad_() for f in features] if balance.cuts else features
    losses = {name: _loss(network.heads[name](read)) for name in HEADS}
    network.zero_grad(set_to_none=True)
    balance.backward(losses, features, read, trunk)
    return network, [list(row) for row in whole]


def _loss(output: Tensor) -> Tensor:
    return (output - 0.5).square().mean()


@pytest.mark.parametrize("name", BALANCES)
def test_the_step_is_the_weighted_sum_of_the_tasks_own_gradients(name: str) -> None:
    balance = made(name)
    network, rows = gradients(balance)
    assert set(balance.weights) == set(HEADS)
    for index, parameter in enumerate(network.trunk.parameters()):
        expected = sum(w * row[index] for w, row in zip(balance.weights.values(), rows, strict=True))
        assert parameter.grad is not None and torch.allclose(parameter.grad, expected, atol=1e-9, rtol=1e-6)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.heads.parameters())


@pytest.mark.parametrize("name", [n for n, kind in BALANCES.items() if issubclass(kind, Gradients)])
def test_no_weight_is_lost_on_tasks_that_agree(name: str) -> None:
    """Orthogonal gradients of one length: nothing to settle, so the sum."""
    assert made(name).weighting(torch.eye(3, dtype=torch.float64)).tolist() == pytest.approx([1, 1, 1], abs=1e-3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["upgrad", "mgda"])
def test_no_task_is_made_worse_to_first_order(name: str) -> None:
    balance = made(name)
    generator = np.random.default_rng(0)
    for _ in range(20):
        rows = torch.from_numpy(generator.normal(size=(3, 4)))
        products = rows @ rows.T
        step = balance.weighting(products) @ products  # type: ignore[attr-defined]
        assert (step >= -1e-2 * products.diagonal().max()).all()


def test_pcgrad_leaves_two_tasks_orthogonal_to_what_they_conflict_with() -> None:
    balance = BALANCES["pcgrad"](["a", "b"], seed=0)
    a, b = torch.tensor([1.0, 0.0]).double(), torch.tensor([-0.5, 1.0]).double()
    rows = torch.stack([a, b])
    weights = balance.weighting(rows @ rows.T)  # type: ignore[attr-defined]
    by_hand = (a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)
    assert torch.allclose(weights @ rows, by_hand)


def test_products_of_gradients() -> None:
    rows = [[torch.randn(3, 2), torch.randn(4)] for _ in range(3)]
    flat = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).double()
    assert torch.allclose(gramian(rows), flat @ flat.T, atol=1e-5)


def test_dwa_favours_the_loss_that_falls_slowest() -> None:
    balance = DWA(["slow", "fast"])
    for slow, fast in ((1.0, 1.0), (0.9, 0.3)):
        balance.total({"slow": torch.tensor(slow), "fast": torch.tensor(fast)})
        balance.advance()
    balance.total({"slow": torch.tensor(1.0), "fast": torch.tensor(1.0)})
    ratio = balance.weights["slow"] / balance.weights["fast"]
    assert ratio == pytest.approx(np.exp((0.9 - 0.3) / 2)) and sum(balance.weights.values()) == pytest.approx(2)


def test_famo_shifts_to_the_loss_that_falls_least() -> None:
    balance = FAMO(["still", "falling"])
    for _ in range(50):
        balance.total({"still": torch.tensor(1.0), "falling": torch.tensor(1.0)})
        balance.after(lambda: {"still": torch.tensor(1.0), "falling": torch.tensor(0.5)})
    assert balance.weights["still"] > 1.5 * balance.weights["falling"]


def test_famo_follows_the_logarithms() -> None:
    """At equal shares the step is along the sum of the logarithms: scaling a loss changes nothing but the constant."""
    balance = FAMO(["a", "b"])
    balance.total({"a": torch.tensor(0.1), "b": torch.tensor(10.0)})
    assert balance.weights["a"] / balance.weights["b"] == pytest.approx(100)


def loop_of(balance: str, start: int = 0, *more: str) -> tuple[Loop, Callable[[int], dict[str, Tensor]]]:
    words = [
        "input_size=[32,64]",
        "batch_size=4",
        f"task_weighting={balance}",
        "precision=fp32",
        "steps=40",
        "warmup_steps=0",
        *more,
    ]
    config = load(None, [*words, "tasks=[boxes,semantic,depth,attributes]"])
    loop, batches = begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})
    for parameter in loop.network.parameters():
        parameter.data += start * torch.randn_like(parameter)
    return loop, batches.__getitem__


def test_famo_weighs_the_losses_alike_before_and_after_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, batch = loop_of("famo", 0, "loss_weights={boxes: 100}", "lr=1e-9")
    seen: dict[str, float] = {}
    monkeypatch.setattr(
        loop.method.balance, "after", lambda again: seen.update({n: float(v) for n, v in again().items()})
    )
    row = loop.learn(batch(0))
    assert seen == pytest.approx(loop.method.balance.before, rel=1e-3)  # type: ignore[attr-defined]
    assert seen["boxes"] == pytest.approx(100 * row["boxes"], rel=1e-3)


@pytest.mark.parametrize("name", BALANCES)
def test_a_task_without_labels_is_left_out(name: str) -> None:
    made(name)
    loop, batch = loop_of(name)
    some = {key: value for key, value in batch(0).items() if key not in ("depth",)}
    row = loop.learn(some)
    assert "depth" not in row and set(loop.method.balance.weights) == {"boxes", "semantic", "attributes"}
    loop.learn({key: value for key, value in some.items() if key in ("rgb", "ir", "semantic")})
    assert set(loop.method.balance.weights) == {"semantic"} and loop.method.balance.weights["semantic"] > 0
    loop.learn({key: value for key, value in some.items() if key in ("rgb", "ir")})


@pytest.mark.parametrize("name", ["equal", "uncertainty", "dwa", "famo", "upgrad", "pcgrad"])
def test_a_balance_goes_on_where_it_stopped(name: str) -> None:
    first, batch = loop_of(name)
    for step in range(7):
        first.learn(batch(step))
    state = copy.deepcopy(first.state())
    for step in range(7, 12):
        last = first.learn(batch(step))
    second, _ = loop_of(name, start=1)
    second.load_state(*state)
    for step in range(7, 12):
        again = second.learn(batch(step))
    assert again == last
