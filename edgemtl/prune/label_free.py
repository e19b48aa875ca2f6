"""Pruning without labels: the dense network teaches its smaller self on any images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgemtl_export.cost_model.deployment import Deployment, Progress
from edgemtl_export.sparsity import Sparsifier
from edgemtl_export.sparsity.reachable import reachable_share
from edgemtl_export.teacher import Teacher

from .. import distributed
from ..config import Augment, Config
from ..console import progress_bar
from ..data.loader import Batches, Loader
from ..data.sample import Dataset
from ..ema import EMA
from ..errors import EdgemtlError
from ..external.network import Adapter, ExternalNetwork
from .options import PruneOptions
from .relative_adam import RelativeAdam, units_of

CLIP_NORM = 10.0
WARM_UP = 20
FINAL_LR = 0.02
EMA_DECAY = 0.995
FEATURE_WEIGHT = 20.0
"""Of the teacher's inner features, next to its outputs."""
HELD_OUT = 1_000_003
"""Added to the seed: crops that the training does not see, on which importances are tried."""


class RawOutputs(nn.Module):
    """An adapter's outputs as a teacher compares them."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, **images: Tensor) -> dict[str, Tensor]:
        """Return the raw outputs for normalised images by name."""
        return self.adapter.raw(images)


@dataclass(frozen=True, eq=False)
class Pruned:
    """A network with channels that are zero, and how it came to them."""

    adapter: Adapter
    sparsifier: Sparsifier
    steps: int
    history: list[tuple[int, float, float]]
    """Step, loss, and the share of the metric that was pruned then."""


def prune_without_labels(
    network: ExternalNetwork,
    images: Dataset,
    options: PruneOptions,
    progress: Progress = lambda *_: None,
) -> Pruned:
    """Prune a copy of a network while the network teaches it; returns the average of its last weights.

    Raises ValueError for settings out of their range, `EdgemtlError` for costs of another network, `UnsupportedError`
    where it cannot be traced.
    """
    device = distributed.device()
    student = copy.deepcopy(network.adapter).requires_grad_(True)
    deployed = network.deployed(student)
    sparsifier = Sparsifier(
        student.core,
        network.args,
        steps=options.steps,
        deployment=Deployment(deployed, deployed.blank_images()),
        progress=progress,
        settings=options.settings("fisher"),
    )
    check_target(sparsifier)
    raw = RawOutputs(student).to(device).train()
    sparsifier.to(device)
    features = pruned_convolutions(sparsifier, "adapter.core.")
    teacher = Teacher(RawOutputs(network.adapter), raw, network.adapter.format.kinds, features, FEATURE_WEIGHT)
    teacher.to(device)
    average = EMA(student, EMA_DECAY)
    optimizer = RelativeAdam(student.parameters(), options.rate)
    run = _Steps(network, raw, teacher, sparsifier, optimizer, options)
    optimizer.units = units_of(student, run.held_out_loss(images))
    history: list[tuple[int, float, float]] = []
    with progress_bar("pruning", options.steps) as bar:
        for step, batch in enumerate(Loader(batches_of(network, images, options))):
            if step == round(options.begin * options.steps) and options.importance == "auto":
                sparsifier.choose_importance(run.held_out_loss(images))
            loss = run.take({name: image.to(device) for name, image in batch.images.items()})
            average.update([_MaskOfCore(sparsifier)])
            history.append((step + 1, loss, sparsifier.pruned_share))
            bar(step + 1, {"loss": loss, "pruned": sparsifier.pruned_share})
    adapter = average.network.cpu().eval()
    return Pruned(adapter, sparsifier, options.steps, history)


def pruned_convolutions(sparsifier: Sparsifier, prefix: str) -> list[str]:
    """Return the names of the convolutions whose channels can be pruned: a teacher's inner features are theirs."""
    return [
        f"{prefix}{name}"
        for name, module in sparsifier.model.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and f"{name}.weight" in sparsifier.partition.members
    ]


def check_target(sparsifier: Sparsifier) -> None:
    """Raise `EdgemtlError` where a target is beyond what can be pruned."""
    reachable = reachable_share(sparsifier)
    if sparsifier.target > reachable:
        raise EdgemtlError(
            f"--target {sparsifier.target:g}: at most {reachable:.2f} of the {sparsifier.settings.metric} can be "
            f"pruned, with min_keep_ratio={sparsifier.settings.min_keep_ratio:g} of every layer; ask for less"
        )


class _MaskOfCore:
    """Keeps a core's zeros in its adapter's average."""

    def __init__(self, sparsifier: Sparsifier) -> None:
        self.sparsifier = sparsifier

    def mask(self, network: nn.Module) -> None:
        self.sparsifier.mask(network.get_submodule("core"))


def batches_of(
    network: ExternalNetwork, images: Dataset, options: PruneOptions, seed: int = 0, steps: int = 0
) -> Batches:
    """Return the batches of a pruning: augmented images, without labels."""
    config = Config(
        input_size=network.size,
        batch_size=options.batch_size,
        seed=options.seed + seed,
        augment=Augment(mosaic=0.25, scale=0.5),
    )
    inputs = {spec.name: spec for spec in network.inputs}
    return Batches(images, config, inputs, {}, steps or options.steps)


@dataclass(eq=False)
class _Steps:
    """The steps of one pruning."""

    network: ExternalNetwork
    raw: RawOutputs
    teacher: Teacher
    sparsifier: Sparsifier
    optimizer: torch.optim.Optimizer
    options: PruneOptions

    def take(self, images: dict[str, Tensor]) -> float:
        """Take one step on a batch, and return its loss."""
        sparsifier, options = self.sparsifier, self.options
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(sparsifier.step, options)
        self.optimizer.zero_grad()
        total = 0.0
        parts = list(self._parts(images))
        for part in parts:
            outputs = self.raw(**part)
            sparsifier.see(*self.raw.adapter.core_inputs(part))
            if "fisher" in sparsifier.importance.means and not sparsifier.frozen:
                sparsifier.observe(self.teacher.likelihood(outputs))
            loss = self.teacher.loss(outputs, **part) / len(parts)
            loss.backward()
            total += float(loss.detach())
        sparsifier.before_step()
        nn.utils.clip_grad_norm_(self.raw.parameters(), CLIP_NORM)
        self.optimizer.step()
        sparsifier.after_step(self.optimizer)
        return total

    def _parts(self, images: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Yield a batch in parts of as many images as the network takes."""
        size = self.network.batch or len(next(iter(images.values())))
        for start in range(0, len(next(iter(images.values()))), size):
            part = {name: image[start : start + size] for name, image in images.items()}
            if len(next(iter(part.values()))) == size:
                yield part

    def held_out_loss(self, images: Dataset) -> Callable[[], float]:
        """Return what evaluates the present student on images of other crops than the training's."""
        batch = batches_of(self.network, images, self.options, HELD_OUT, 1)[0].images
        device = next(self.raw.parameters()).device
        held_out = {name: image.to(device) for name, image in batch.items()}

        @torch.no_grad()
        def loss() -> float:
            self.raw.eval()
            losses = [float(self.teacher.loss(self.raw(**part), **part)) for part in self._parts(held_out)]
            self.raw.train()
            return sum(losses) / max(len(losses), 1)

        return loss


def learning_rate(step: int, options: PruneOptions) -> float:
    """Return the rate of a step: a warm-up, then half a cosine."""
    if step < WARM_UP:
        return options.rate * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, options.steps - WARM_UP)
    return options.rate * (FINAL_LR + (1 - FINAL_LR) * (1 + math.cos(math.pi * progress)) / 2)
