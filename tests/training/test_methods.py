"""Every method on every task, and the steps of the methods against their equations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from teachers import TASKS, Study, samples, targets_of
from torch import Tensor

from edgemtl.config import Episodes, Sparsity
from edgemtl.config_file import load
from edgemtl.data.batch import Batch
from edgemtl.errors import ConfigError
from edgemtl.methods import METHODS
from edgemtl.methods.channel_sparsity import ChannelSparsity
from edgemtl.methods.mtml import MTML, sample_subsets
from edgemtl.synthetic.streets import Streets
from edgemtl.tasks import TASKS as EVERY
from edgemtl.train import begin
from edgemtl.trainer import Trainer

TRAINED = sorted(METHODS.keys() - {"single"})


def trainer_of(*words: str) -> tuple[Trainer, Callable[[int], Any]]:
    usual = (
        "input_size=[32,64]",
        "batch_size=4",
        "precision=fp32",
        "steps=30",
        "warmup_steps=0",
        "sparsity.begin=0.1",
        "num_threads=1",
    )
    config = load(None, [*usual, *words])
    streets = Streets(8, config.input_size, 0, config.tasks)
    trainer, batches = begin(config, {"train": streets})
    return trainer, batches.__getitem__


def sparsity_of(trainer: Trainer) -> ChannelSparsity:
    sparsity = trainer.regularizers["sparsity"]
    assert isinstance(sparsity, ChannelSparsity)
    return sparsity


CHEAP = ("joint", "sparse")
"""Methods whose step is one of each task; the others are slow, but for one task."""


@pytest.mark.parametrize(
    ("method", "task"),
    [
        pytest.param(method, task, marks=() if method in CHEAP or task == "semantic" else pytest.mark.slow)
        for method, task in product(TRAINED, EVERY)
    ],
)
def test_every_method_trains_every_task(method: str, task: str) -> None:
    trainer, batch = trainer_of(
        f"method={method}", f"tasks=[{task}]", "sparsity.strength=0.01", "sparsity.granularity=stage"
    )
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    for step in range(4):
        row = trainer.train_step(batch(step))
    assert row[task] > 0
    moved = {name for name, p in trainer.network.named_parameters() if not torch.equal(p, before[name])}
    assert any(n.startswith("trunk.") for n in moved) and any(n.startswith(f"heads.{task}.") for n in moved)


PAIRED = {
    ("sparse", "rgb", "rgbir-mobilenetv4"),
    ("sparse", "rgb,ir", "rgbir-resnet18"),
    ("meta_sparsity", "ir", "rgbir-resnet18"),
    ("meta_sparsity", "rgb,ir", "rgbir-mobilenetv4"),
}
"""Every method with every network, and each of them on every modality; the others are slow."""


@pytest.mark.parametrize(
    ("method", "modalities", "network"),
    [
        pytest.param(*case, marks=() if case in PAIRED else pytest.mark.slow)
        for case in product(
            ("sparse", "meta_sparsity"), ("rgb", "ir", "rgb,ir"), ("rgbir-mobilenetv4", "rgbir-resnet18")
        )
    ],
)
def test_every_network_becomes_sparse_on_any_modality(method: str, modalities: str, network: str) -> None:
    words = (f"network={network}", f"modalities=[{modalities}]", "tasks=[semantic,depth]", "sparsity.target=0.5")
    trainer, batch = trainer_of(f"method={method}", *words, "sparsity.scope=trunk", "steps=4", "sparsity.end=0.6")
    for step in range(4):
        row = trainer.train_step(batch(step))
    assert sparsity_of(trainer).sparsifier.frozen and 0.5 <= row["pruned"] < 0.6


@pytest.mark.parametrize(
    "words",
    [
        ("method=sparse", "sparsity.target=0.5"),
        pytest.param(("method=sparse", "sparsity.strength=0.01", "sparsity.groups=input"), marks=pytest.mark.slow),
        ("method=mtml", "task_weighting=uncertainty", "episodes.subsets=2"),
        ("method=meta_sparsity", "sparsity.granularity=stage", "sparsity.target=0.5"),
        ("method=meta_sparsity", "sparsity.granularity=layer", "episodes.query_fraction=0.5"),
    ],
)
def test_a_method_resumes_from_its_state(words: tuple[str, ...]) -> None:
    words = ("tasks=[semantic,depth,edges]", *words)
    first, batch = trainer_of(*words)
    for step in range(6):
        first.train_step(batch(step))
    state = copy.deepcopy(first.state())
    for step in range(6, 10):
        last = first.train_step(batch(step))
    second, _ = trainer_of(*words)
    for parameter in second.network.parameters():
        parameter.data += torch.randn_like(parameter)
    second.load_state(state)
    for step in range(6, 10):
        again = second.train_step(batch(step))
    assert again == last


def test_without_inner_steps_and_with_all_tasks_mtml_is_the_joint_step() -> None:
    words = ("tasks=[boxes,semantic,depth]", "episodes.inner_steps=0", "episodes.subsets=3")
    joint, batch = trainer_of("method=joint", *words)
    mtml, _ = trainer_of("method=mtml", *words)
    mtml.method._episode(list(mtml.tasks), batch(0), batch(0))  # type: ignore[attr-defined]
    joint.method.backward(batch(0), 0)
    for (name, one), other in zip(joint.network.named_parameters(), mtml.network.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=lambda m, n=name: f"{n}: {m}")
    for one, other in zip(joint.network.buffers(), mtml.network.buffers(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("second_order", [False, True])
def test_an_episode_leaves_the_weights_and_keeps_the_statistics_of_the_support_alone(second_order: bool) -> None:
    trainer, batch = trainer_of("tasks=[semantic,depth]", "method=mtml")
    method = trainer.method
    assert isinstance(method, MTML)
    method.episodes = Episodes(inner_optimizer="sgd", inner_steps=2, inner_lr=0.1, second_order=second_order)
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    whole = batch(0)
    method._episode(["semantic"], whole.slice(0, 2), whole.slice(2, 4))
    assert all(torch.equal(p, before[name]) for name, p in trainer.network.named_parameters())
    assert all(p.grad is None for name, p in trainer.network.named_parameters() if name.startswith("heads.depth"))
    statistics = {name: buffer.clone() for name, buffer in trainer.network.named_buffers()}
    fresh, _ = trainer_of("tasks=[semantic,depth]", "method=mtml")
    fresh.method.loss(whole.slice(0, 2), ["semantic"])
    for name, buffer in fresh.network.named_buffers():
        assert torch.equal(statistics[name], buffer), name


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_second_order_gradient_of_a_quadratic_is_one_less_curvature_times_the_gradient(weight: float) -> None:
    """L = ½ mean over images and tasks: H is known, and dL_Q(θ - α g_S)/dθ = (I - α H_S) g_Q(φ)."""
    rate = 0.3
    episodes = Episodes(inner_optimizer="sgd", inner_lr=rate, second_order=True, support_grad_weight=weight)
    study = Study("mtml", 40, 1, Sparsity(), episodes, lr=0.1)
    support, query = samples(20, 1, 0.5), samples(20, 2, 0.5)
    parameter = study.network.trunk.conv.weight
    study.method._episode(list(TASKS), support, query)  # type: ignore[attr-defined]

    def slope(w: Tensor, batch: Batch) -> Tensor:
        x, targets = batch.images["rgb"].flatten(1), torch.cat([targets_of(batch, name) for name in TASKS], 1)
        return (x @ w.T - targets).T @ x / len(x)

    w = parameter.detach()[:, :, 0, 0]
    x = support.images["rgb"].flatten(1)
    curvature = x.T @ x / len(x)
    reached = slope(w - rate * slope(w, support), query)
    expected = (1 - weight) * (reached - rate * reached @ curvature) + weight * slope(w, support)
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.grad[:, :, 0, 0], expected, rtol=1e-4, atol=1e-6)
    study.optimizer.zero_grad()
    study.method.episodes = Episodes(inner_optimizer="sgd", inner_lr=rate, support_grad_weight=weight)  # type: ignore[attr-defined]
    study.method._episode(list(TASKS), support, query)  # type: ignore[attr-defined]
    expected = (1 - weight) * reached + weight * slope(w, support)
    torch.testing.assert_close(parameter.grad[:, :, 0, 0], expected, rtol=1e-4, atol=1e-6)


def test_no_weight_moves_further_in_an_inner_step_of_adamw_than_the_rate_and_usual_ones_by_it() -> None:
    trainer, batch = trainer_of("tasks=[semantic,depth]", "method=mtml", "episodes.inner_lr=0.01")
    for step in range(3):
        trainer.train_step(batch(step))
    method: Any = trainer.method
    at = method.adapt(["semantic", "depth"], batch(3).slice(0, 2))
    far = [(at[name] - p).detach().abs() / 0.01 for name, p in method.trainable.items()]
    assert max(float(distance.max()) for distance in far) <= 1 + 1e-4
    assert 0.3 < torch.cat([distance.flatten() for distance in far]).mean() < 0.9


@pytest.mark.parametrize("method", ["mtml", "meta_sparsity"])
def test_a_frozen_pattern_holds_in_episodes_too(method: str) -> None:
    words = ("tasks=[semantic]", f"method={method}", "steps=4", "sparsity.target=0.5", "sparsity.end=0.6")
    trainer, batch = trainer_of(*words)
    for step in range(4):
        trainer.train_step(batch(step))
    sparsity = sparsity_of(trainer)
    assert sparsity.sparsifier.frozen
    method_: Any = trainer.method
    at = method_.adapt(["semantic"], batch(3).slice(0, 2))
    flat = sparsity.partition.gather([at[name] for name in sparsity.partition.names])
    assert not flat[sparsity.partition.expand(sparsity.sparsifier.pruned)].any()


def test_strengths_that_only_compare_follow_the_loss_across_the_cost() -> None:
    """Where every level pays as much loss for its cost reduction, the gradient is zero."""
    words = ("tasks=[semantic,depth]", "method=meta_sparsity", "sparsity.granularity=stage", "sparsity.target=0.5")
    trainer, batch = trainer_of(*words)
    for step in range(8):
        trainer.train_step(batch(step))
    (strengths,) = trainer.method.strengths  # type: ignore[attr-defined]
    strengths.adam.zero_()
    before = strengths.rho.detach().clone()
    strengths.cost_gradient = torch.rand(len(before))
    strengths.rho.grad = -3 * strengths.cost_gradient
    strengths.step()
    torch.testing.assert_close(strengths.adam[0], torch.zeros(len(before)), atol=1e-6, rtol=0)
    strengths.adam.zero_()
    strengths.cost_gradient = torch.ones(len(before))
    strengths.rho.grad = torch.arange(len(before)).float()  # of the same cost, the first level's loss rises least
    strengths.step()
    moved = strengths.rho.detach() - before
    torch.testing.assert_close(moved[0], moved.max())  # steps of Adam's length, by the sign
    assert moved[0] > 0 > moved[-1]


@pytest.mark.parametrize("inner", ["adamw", "sgd"])
@pytest.mark.parametrize("second_order", [False, True])
def test_the_hypergradient_is_that_of_finite_differences(second_order: bool, inner: Any) -> None:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        sparsity = Sparsity(groups="input", scope="trunk", begin=0.0, min_keep_ratio=0.0, strength=0.3)
        episodes = Episodes(inner_optimizer=inner, inner_lr=0.3, second_order=second_order)
        study = Study("meta_sparsity", 40, 1, sparsity, episodes, lr=0.1)
        support, query = samples(20, 1, 0.5), samples(20, 2, 0.5)
        method: Any = study.method
        (strengths,) = method.strengths
        strengths.active = True

        def query_loss(shift: float) -> float:
            with torch.no_grad():
                strengths.rho += shift
            at = method.adapt(list(TASKS), support)
            with torch.no_grad():
                strengths.rho -= shift
            assert any(bool((column == 0).all()) for column in at["trunk.conv.weight"].flatten(1).T)
            with torch.no_grad():
                return float(sum(study.loss_fn(query, None, at).losses.values()))

        method._episode(list(TASKS), support, query)
        step = 1e-6
        numeric = (query_loss(step) - query_loss(-step)) / (2 * step)
        assert strengths.rho.grad.item() == pytest.approx(numeric, rel=1e-5) and abs(numeric) > 1e-3
    finally:
        torch.set_default_dtype(usual)


def test_one_subset_may_be_any_and_several_partition_the_tasks() -> None:
    tasks = ["a", "b", "c"]
    assert len({tuple(subset) for step in range(80) for subset in sample_subsets(tasks, 1, 0, step)}) == 7
    pairs = [sample_subsets(tasks, 2, 0, step) for step in range(40)]
    assert all(sorted(one + other) == tasks and one and other for one, other in pairs)
    assert len({tuple(map(tuple, pair)) for pair in pairs}) == 6
    assert sorted(sample_subsets(tasks, 9, 0, 0)) == [["a"], ["b"], ["c"]] and sample_subsets(["a"], 2, 0, 0) == [["a"]]
    assert sample_subsets(tasks, 2, 0, 5) == sample_subsets(tasks, 2, 0, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("method=mtml", "task_weighting=upgrad"), "needs the joint step"),
        (("method=mtml", "batch_size=1"), "cannot be halved"),
        (("method=meta_sparsity", "episodes.inner_steps=0"), "must not be 0"),
        (("method=meta_sparsity", "sparsity.strength=0"), "no strength to train"),
        (("method=sparse", "sparsity.scope=trnk"), "no channel of trnk"),
        (("method=sparse", "sparsity.max_cost=1e12"), "there are but"),
    ],
)
def test_an_impossible_configuration_is_rejected_with_the_reason(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer_of("tasks=[semantic]", *words)


def test_held_out_queries_are_never_trained_on() -> None:
    config = load(
        None, ["input_size=[32,64]", "batch_size=5", "steps=20", "method=meta_sparsity", "episodes.query_fraction=0.3"]
    )
    samples = Streets(10, config.input_size, 0, config.tasks)
    _, batches = begin(config, {"train": samples})
    positions = range(20 * 5)
    taken = {"support": set(), "query": set()}
    for position in positions:
        rank, members = batches._pool(position)
        taken["support" if position % 5 < 2 else "query"].add(members[rank % len(members)])
    assert taken == {"support": set(range(7)), "query": {7, 8, 9}}


def test_an_importance_by_outputs_needs_gradients_through_the_whole_network() -> None:
    words = ("tasks=[semantic,depth]", "sparsity.target=0.5", "sparsity.begin=0.3", "sparsity.importance=fisher")
    trainer, batch = trainer_of("task_weighting=pcgrad", *words, "steps=4")
    with pytest.raises(
        ConfigError, match=r"sparsity\.importance=fisher: this method or task weighting takes gradients"
    ):
        for step in range(4):
            trainer.train_step(batch(step))
    trainer, batch = trainer_of("task_weighting=uncertainty", *words, "sparsity.refit=true", "steps=4")
    for step in range(4):
        trainer.train_step(batch(step))
    assert sparsity_of(trainer).sparsifier.frozen


def test_a_choice_waits_for_a_batch_with_labels() -> None:
    words = ("tasks=[semantic]", "sparsity.target=0.5", "sparsity.begin=0.1", "sparsity.importance=auto", "steps=20")
    trainer, batch = trainer_of(*words)
    for step in range(3):
        trainer.train_step(replace(batch(step), targets={}))
    assert not sparsity_of(trainer).sparsifier.trials
    trainer.train_step(batch(3))
    assert sparsity_of(trainer).sparsifier.trials
