"""Alignment: the proximal step, tied and untied channels, the schedule to a target, and weights stored once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgemtl_models
from edgemtl.config import Alignment
from edgemtl.config_file import load
from edgemtl.errors import ConfigError
from edgemtl.methods.alignment import ChannelAlignment, stack_weights, write_weights
from edgemtl.methods.meta_sparsity import MetaSparsity
from edgemtl.methods.mtml import halves
from edgemtl.run import Run
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin, train
from edgemtl.trainer import Trainer
from edgemtl_export import shrink
from edgemtl_export.groups import channel_groups
from edgemtl_export.inputs import example_inputs

USUAL = (
    "input_size=[32,64]",
    "batch_size=4",
    "precision=fp32",
    "steps=12",
    "warmup_steps=0",
    "num_threads=1",
    "fusion.kind=aligned",
)

OPTIMIZER = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])


def trainer_of(*words: str) -> tuple[Trainer, Callable[[int], Any]]:
    config = load(None, [*USUAL, *words])
    trainer, batches = begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})
    return trainer, batches.__getitem__


def stepped(penalty: str, streams: int, strength: float) -> tuple[Tensor, Tensor]:
    """Return the rows of a convolution before and after one proximal step of rate 0.1."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 6, 3, bias=True) for _ in range(streams)]
    with torch.no_grad():
        write_weights(convs, stack_weights(convs) * torch.logspace(-2, 0, 6)[:, None])
    step = ChannelAlignment.__new__(ChannelAlignment)
    step.settings, step.steps = Alignment(strength, kind=penalty), 10  # type: ignore[arg-type]
    step.convs, step.log_strength = {"conv": convs}, torch.tensor([strength]).log()
    before = stack_weights(convs).clone()
    step.after_step(5, 0.1, OPTIMIZER)
    return before, stack_weights(convs)


@pytest.mark.parametrize("streams", [2, 3])
@pytest.mark.parametrize("penalty", ["difference", "squared"])
def test_the_step_is_the_proximal_map_of_its_penalty(penalty: str, streams: int) -> None:
    strength, rate = 0.3, 0.1
    before, after = stepped(penalty, streams, strength)
    count = before.shape[2]

    def objective(x: Tensor) -> Tensor:
        difference = x - x.mean(0)
        squares = difference.square().sum((0, 2))
        value = (2 * count * squares).sqrt() if penalty == "difference" else squares
        return 0.5 * (x - before).square().sum((0, 2)) + rate * strength * value

    torch.testing.assert_close(after.mean(0), before.mean(0))
    best = objective(after)
    equal = (after == after[:1]).all(0).all(1)
    assert bool(equal.any()) == (penalty == "difference") and not equal.all()
    for seed in range(40):
        near = after + 0.01 * torch.randn(after.shape, generator=torch.Generator().manual_seed(seed)) * before.std()
        assert bool((objective(near) >= best - 1e-6).all())
    if penalty == "difference" and streams == 2:  # max(0, 1 - 2κ/‖d‖) d
        d, kappa = before[0] - before[1], rate * strength * count**0.5
        factor = (1 - 2 * kappa / d.norm(dim=1, keepdim=True)).clamp(min=0)
        torch.testing.assert_close(after[0] - after[1], factor * d)


@pytest.mark.parametrize("network", ["rgbir-n", pytest.param("rgbir-resnet18", marks=pytest.mark.slow)])
def test_strength_1_unties_nothing_and_0_everything(network: str) -> None:
    shares = []
    for strength in (1.0, 0.3, 1e-6):
        trainer, batch = trainer_of("tasks=[boxes,depth]", f"network={network}", f"alignment.strength={strength}")
        for step in range(4):
            row = trainer.train_step(batch(step))
        shares.append(row["tied"])
    assert shares[0] == 1 and shares[0] > shares[1] > shares[2] and shares[2] < 0.05


def test_on_the_way_to_a_target_those_that_disagree_most_are_untied_first() -> None:
    trainer, _ = trainer_of("tasks=[depth]", "alignment.target=0.7", "steps=100")
    alignment = trainer.regularizers["alignment"]
    assert isinstance(alignment, ChannelAlignment)
    paths = sorted(alignment.convs, key=lambda path: alignment.sizes[path])
    distances = dict(zip(paths, torch.linspace(0.01, 0.0, len(paths)).tolist(), strict=True))
    shares = []
    for step in range(100):
        for path, convs in alignment.convs.items():
            for stream, conv in enumerate(convs):
                conv.weight.data += distances[path] * (2 * stream - 1)
        alignment.after_step(step, 0.01, trainer.optimizer)
        held = [convs for path, convs in alignment.convs.items() if path not in alignment.untied]
        assert all(torch.equal(a.weight, b.weight) for a, b in held)
        shares.append(alignment.metrics()["shared"])
    assert alignment.untied == sorted(alignment.untied, key=lambda path: -distances[path])
    assert shares[9] == 1 and shares == sorted(shares, reverse=True) and shares[60] == shares[-1]
    largest = max(alignment.sizes.values()) / sum(alignment.sizes.values())
    assert 0.7 <= shares[-1] <= 0.7 + largest


@pytest.mark.long
@pytest.mark.slow
def test_a_target_stores_whole_convolutions_once(tmp_path: Path) -> None:
    words = ["tasks=[boxes,semantic]", "alignment.target=0.6", "sparsity.target=0.3", "sparsity.scope=trunk"]
    config = load(None, [*USUAL, *words])
    data = {split: Streets(8, config.input_size, seed, config.tasks) for seed, split in enumerate(("train", "val"))}
    run = train(config, tmp_path / "aligned", data, evaluate=False)
    shared = run.interface.network["fusion"]["shared"]
    untied = train(load(None, [*USUAL, *words, "alignment.target=0"]), tmp_path / "free", data, evaluate=False)
    size = {name: sum(p.numel() for p in r.network.parameters()) for name, r in (("one", run), ("two", untied))}
    assert shared and size["one"] < 0.85 * size["two"]
    assert float((run.path / "log.csv").read_text().split()[-1].split(",")[-1]) >= 0.6
    again = Run.open(run.path)
    images = example_inputs(run.interface.inputs)
    with torch.no_grad():
        for head, out in run.network(**images).items():
            assert torch.equal(again.network(**images)[head], out)
    report = shrink(again.network, (), images).report
    assert report.parameters_after < 0.9 * size["one"]


def test_channels_of_both_streams_are_pruned_together_and_those_of_lower_layers_apart() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion={"kind": "aligned"})
    images = {name: torch.rand(1, spec.channels, 64, 96) for name, spec in network.inputs.items()}
    twins = network.twins()
    separate, coupled = channel_groups(network, (), images), channel_groups(network, (), images, twins)
    assert coupled.count < separate.count
    for rgb, ir in (names for names in twins if names[0] in coupled.rows):  # what no head reads makes no channels
        assert np.array_equal(coupled.rows[rgb], coupled.rows[ir])
        assert (
            not np.array_equal(separate.rows[rgb], separate.rows[ir]) or "top" in rgb or "out" in rgb
        )  # the gates add these


TRAINABLE = ("method=meta_sparsity", "alignment.trainable=true", "alignment.strength=0.2", "sparsity.strength=0")


def test_the_gradient_of_a_trained_strength_is_that_of_finite_differences() -> None:
    trainer, batch = trainer_of("tasks=[depth,semantic]", "lr=0.01", *TRAINABLE, "episodes.inner_lr=0.01")
    for step in range(3):  # some channels are untied by now
        trainer.train_step(batch(step))
    trainer.network.double()
    method, whole = trainer.method, batch(3).map(lambda t: t.double() if t.is_floating_point() else t)
    assert isinstance(method, MetaSparsity)
    (strengths,) = method.strengths
    strengths.active, strengths.rho.data = True, strengths.rho.data.double()
    support, query = halves(whole, 4)

    def query_loss(shift: Tensor) -> float:
        with torch.no_grad():
            strengths.rho += shift
        at = method.adapt(["depth", "semantic"], support)
        with torch.no_grad():
            strengths.rho -= shift
        with torch.no_grad():
            return float(sum(method.loss(query, None, at).losses.values()))

    trainer.optimizer.zero_grad()
    method._episode(["depth", "semantic"], support, query)
    gradient = strengths.rho.grad
    assert gradient is not None and len(gradient) == len(strengths.operator.levels) > 1
    numeric = []
    for level in range(len(gradient)):
        shift = torch.zeros_like(gradient)
        shift[level] = 1e-4
        numeric.append((query_loss(shift) - query_loss(-shift)) / 2e-4)
    torch.testing.assert_close(gradient, torch.tensor(numeric, dtype=gradient.dtype), rtol=1e-3, atol=1e-9)
    assert float(gradient.abs().max()) > 1e-7


def test_trained_strengths_move_by_stage() -> None:
    trainer, batch = trainer_of("tasks=[depth]", *TRAINABLE, "episodes.query_fraction=0.5")
    for step in range(4):
        row = trainer.train_step(batch(step))
    strengths = [value for name, value in row.items() if name.startswith("alignment_strength/")]
    assert len(strengths) > 1 and len(set(strengths)) > 1 and all(value != 0.2 for value in strengths)


@pytest.mark.parametrize(
    "words",
    [
        ("tasks=[semantic]", "alignment.target=0.5", "alignment.strength=0.2"),
        ("tasks=[depth]", *TRAINABLE, "episodes.query_fraction=0.5"),
    ],
)
def test_alignment_resumes_from_its_state(words: tuple[str, ...]) -> None:
    first, batch = trainer_of(*words)
    for step in range(4):
        first.train_step(batch(step))
    state = copy.deepcopy(first.state())
    for step in range(4, 8):
        last = first.train_step(batch(step))
    second, _ = trainer_of(*words)
    second.load_state(state)
    for step in range(4, 8):
        again = second.train_step(batch(step))
    assert again == last


def test_a_trainable_strength_needs_the_method_that_trains_it() -> None:
    with pytest.raises(ConfigError, match=r"alignment.trainable is for method=meta_sparsity"):
        load(None, ["alignment.trainable=true", "alignment.strength=0.2"])


@pytest.mark.parametrize("words", [("fusion.kind=concat",), ("modalities=[rgb]",)])
def test_alignment_without_two_full_streams_is_rejected(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="two full streams"):
        trainer_of("tasks=[depth]", "alignment.strength=0.1", *words)
