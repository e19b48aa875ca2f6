"""Alignment: the proximal step, what ties and what goes apart, the line to a target, and networks stored once."""

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
from edgemtl.methods.alignment import ChannelAlignment, put, rows
from edgemtl.methods.meta_sparsity import MetaSparsity
from edgemtl.methods.mtml import halves
from edgemtl.run import Run
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin, train
from edgemtl.trainer import Loop
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


def loop_of(*words: str) -> tuple[Loop, Callable[[int], Any]]:
    config = load(None, [*USUAL, *words])
    loop, batches = begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})
    return loop, batches.__getitem__


def stepped(kind: str, cameras: int, strength: float) -> tuple[Tensor, Tensor]:
    """Return the rows of a convolution before and after one proximal step of rate 0.1."""
    torch.manual_seed(0)
    own = [nn.Conv2d(3, 6, 3, bias=True) for _ in range(cameras)]
    with torch.no_grad():
        put(own, rows(own) * torch.logspace(-2, 0, 6)[:, None])
    step = ChannelAlignment.__new__(ChannelAlignment)
    step.settings, step.steps = Alignment(strength, kind=kind), 10  # type: ignore[arg-type]
    step.convs, step.whole, step.log_strength = {"conv": own}, [], torch.tensor([strength]).log()
    before = rows(own).clone()
    step.step(5, 0.1)
    return before, rows(own)


@pytest.mark.parametrize("cameras", [2, 3])
@pytest.mark.parametrize("kind", ["difference", "squared"])
def test_the_step_is_the_proximal_map_of_its_penalty(kind: str, cameras: int) -> None:
    strength, rate = 0.3, 0.1
    before, after = stepped(kind, cameras, strength)
    count = before.shape[2]

    def objective(x: Tensor) -> Tensor:
        apart = x - x.mean(0)
        squares = apart.square().sum((0, 2))
        penalty = (2 * count * squares).sqrt() if kind == "difference" else squares
        return 0.5 * (x - before).square().sum((0, 2)) + rate * strength * penalty

    torch.testing.assert_close(after.mean(0), before.mean(0))
    best = objective(after)
    equal = (after == after[:1]).all(0).all(1)
    assert bool(equal.any()) == (kind == "difference") and not equal.all()
    for seed in range(40):
        near = after + 0.01 * torch.randn(after.shape, generator=torch.Generator().manual_seed(seed)) * before.std()
        assert bool((objective(near) >= best - 1e-6).all())
    if kind == "difference" and cameras == 2:  # max(0, 1 - 2κ/‖d‖) d
        d, kappa = before[0] - before[1], rate * strength * count**0.5
        factor = (1 - 2 * kappa / d.norm(dim=1, keepdim=True)).clamp(min=0)
        torch.testing.assert_close(after[0] - after[1], factor * d)


@pytest.mark.parametrize("network", ["rgbir-n", pytest.param("rgbir-resnet18", marks=pytest.mark.slow)])
def test_strength_1_lets_nothing_leave_and_0_everything(network: str) -> None:
    shares = []
    for strength in (1.0, 0.3, 1e-6):
        loop, batch = loop_of("tasks=[boxes,depth]", f"network={network}", f"alignment.strength={strength}")
        for step in range(4):
            row = loop.learn(batch(step))
        shares.append(row["tied"])
    assert shares[0] == 1 and shares[0] > shares[1] > shares[2] and shares[2] < 0.05


def test_on_the_way_to_a_target_those_that_disagree_most_are_let_go_first() -> None:
    loop, _ = loop_of("tasks=[depth]", "alignment.target=0.7", "steps=100")
    alignment = loop.alignment
    assert alignment is not None
    paths = sorted(alignment.convs, key=lambda path: alignment.sizes[path])
    apart = dict(zip(paths, torch.linspace(0.01, 0.0, len(paths)).tolist(), strict=True))
    shares = []
    for step in range(100):
        for path, convs in alignment.convs.items():
            for camera, conv in enumerate(convs):
                conv.weight.data += apart[path] * (2 * camera - 1)
        alignment.step(step, 0.01)
        held = [convs for path, convs in alignment.convs.items() if path not in alignment.free]
        assert all(torch.equal(a.weight, b.weight) for a, b in held)
        shares.append(alignment.figures()["shared"])
    assert alignment.free == sorted(alignment.free, key=lambda path: -apart[path])
    assert shares[9] == 1 and shares == sorted(shares, reverse=True) and shares[60] == shares[-1]
    largest = max(alignment.sizes.values()) / sum(alignment.sizes.values())
    assert 0.7 <= shares[-1] <= 0.7 + largest


@pytest.mark.slow
def test_a_target_stores_whole_convolutions_once(tmp_path: Path) -> None:
    words = ["tasks=[boxes,semantic]", "alignment.target=0.6", "sparsity.target=0.3", "sparsity.scope=trunk"]
    config = load(None, [*USUAL, *words])
    data = {split: Streets(8, config.input_size, seed, config.tasks) for seed, split in enumerate(("train", "val"))}
    run = train(config, tmp_path / "aligned", data, judge=False)
    shared = run.interface.network["fusion"]["shared"]
    free = train(load(None, [*USUAL, *words, "alignment.target=0"]), tmp_path / "free", data, judge=False)
    size = {name: sum(p.numel() for p in r.network.parameters()) for name, r in (("one", run), ("two", free))}
    assert shared and size["one"] < 0.85 * size["two"]
    assert float((run.path / "log.csv").read_text().split()[-1].split(",")[-1]) >= 0.6
    again = Run.open(run.path)
    images = example_inputs(run.interface.inputs)
    with torch.no_grad():
        for head, out in run.network(**images).items():
            assert torch.equal(again.network(**images)[head], out)
    report = shrink(again.network, (), images).report
    assert report.parameters_after < 0.9 * size["one"]


def test_channels_of_both_cameras_go_as_one_and_the_lower_layers_own() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion={"kind": "aligned"})
    images = {name: torch.rand(1, spec.channels, 64, 96) for name, spec in network.inputs.items()}
    twins = [[f"trunk.{name}" for name in each] for each in network.trunk.twins()]
    free, coupled = channel_groups(network, (), images), channel_groups(network, (), images, twins)
    assert coupled.count < free.count
    for rgb, ir in (each for each in twins if each[0] in coupled.rows):  # what no head reads makes no channels
        assert np.array_equal(coupled.rows[rgb], coupled.rows[ir])
        assert not np.array_equal(free.rows[rgb], free.rows[ir]) or "top" in rgb or "out" in rgb  # the gates add these


LEARNED = ("method=meta_sparsity", "alignment.trainable=true", "alignment.strength=0.2", "sparsity.strength=0")


def test_the_gradient_of_a_learned_strength_is_that_of_finite_differences() -> None:
    loop, batch = loop_of("tasks=[depth,semantic]", "lr=0.01", *LEARNED, "episodes.inner_lr=0.01")
    for step in range(3):  # some channels are apart by now
        loop.learn(batch(step))
    loop.network.double()
    method, whole = loop.method, {k: v.double() if v.is_floating_point() else v for k, v in batch(3).items()}
    assert isinstance(method, MetaSparsity)
    (strengths,) = method.strengths
    strengths.active, strengths.rho.data = True, strengths.rho.data.double()
    support, query = halves(whole, 4)

    def query_loss(shift: Tensor) -> float:
        with torch.no_grad():
            strengths.rho += shift
        at = method.adapted(["depth", "semantic"], support)
        with torch.no_grad():
            strengths.rho -= shift
        with torch.no_grad():
            return float(sum(method.lesson.losses(query, None, at)[0].values()))

    loop.optimizer.zero_grad()
    method._episode(["depth", "semantic"], support, query)
    asked = strengths.rho.grad
    assert asked is not None and len(asked) == len(strengths.of.levels) > 1
    numeric = []
    for level in range(len(asked)):
        shift = torch.zeros_like(asked)
        shift[level] = 1e-4
        numeric.append((query_loss(shift) - query_loss(-shift)) / 2e-4)
    torch.testing.assert_close(asked, torch.tensor(numeric, dtype=asked.dtype), rtol=1e-3, atol=1e-9)
    assert float(asked.abs().max()) > 1e-7


def test_learned_strengths_move_by_stage() -> None:
    loop, batch = loop_of("tasks=[depth]", *LEARNED, "episodes.query_fraction=0.5")
    for step in range(4):
        row = loop.learn(batch(step))
    told = [value for name, value in row.items() if name.startswith("alignment ")]
    assert len(told) > 1 and len(set(told)) > 1 and all(value != 0.2 for value in told)


@pytest.mark.parametrize(
    "words",
    [
        ("tasks=[semantic]", "alignment.target=0.5", "alignment.strength=0.2"),
        ("tasks=[depth]", *LEARNED, "episodes.query_fraction=0.5"),
    ],
)
def test_alignment_goes_on_where_it_stopped(words: tuple[str, ...]) -> None:
    first, batch = loop_of(*words)
    for step in range(4):
        first.learn(batch(step))
    state = copy.deepcopy(first.state())
    for step in range(4, 8):
        last = first.learn(batch(step))
    second, _ = loop_of(*words)
    second.load_state(*state)
    for step in range(4, 8):
        again = second.learn(batch(step))
    assert again == last


def test_a_learned_strength_needs_the_method_that_learns_it() -> None:
    with pytest.raises(ConfigError, match=r"alignment.trainable is for method=meta_sparsity"):
        load(None, ["alignment.trainable=true", "alignment.strength=0.2"])


@pytest.mark.parametrize("words", [("fusion.kind=concat",), ("modalities=[rgb]",)])
def test_alignment_without_two_full_streams_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="two full streams"):
        loop_of("tasks=[depth]", "alignment.strength=0.1", *words)
