"""What each importance does: half of a network's milliseconds pruned by each, taught by the dense network alone.

Two networks: `yolox_nano` (`yolox.py`), real and taught without labels, and `streets`, the network of the demo,
trained here on drawn streets first. Every variant sees the same images in the same order and is pruned by the same
schedule; its metrics are taken when the schedule ends and after the recovery.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
import yolox
from common import trained
from torch import Tensor, nn

from edgemtl.data.datasets import open_datasets
from edgemtl.demo import demo_config
from edgemtl.evaluate import evaluate, of_network
from edgemtl.tasks import TASKS
from edgemtl.tasks.base import output_kinds
from edgemtl.train import begin
from edgemtl_export.cost_model.deployment import Deployment
from edgemtl_export.deployed import Deployed
from edgemtl_export.inputs import example_inputs
from edgemtl_export.sparsity import Sparsifier
from edgemtl_export.sparsity.choice import layer_sensitivities
from edgemtl_export.sparsity.importance import IMPORTANCES, ImportanceName
from edgemtl_export.teacher import Kind, Teacher
from edgemtl_runtime.engine.cpu import cpu_name

OUT = Path("out/engine")
BEGIN, END = 0.05, 0.6
WARM_UP = 10
CLIP_NORM = 10.0
FINAL_LR = 0.02


class Variant(NamedTuple):
    """An importance, whether layers count by their measured sensitivity, and whether the network is refitted."""

    importance: ImportanceName
    by_layer: bool = False
    refit: bool = False

    @property
    def name(self) -> str:
        """The variant in words."""
        return f"{self.importance}{' by layer' if self.by_layer else ''}{' refitted' if self.refit else ''}"


PLAIN = [Variant(name) for name in IMPORTANCES] + [Variant("fisher", by_layer=True)]
VARIANTS = {v.name: v for plain in PLAIN for v in (plain, plain._replace(refit=True))}


class Pruned(NamedTuple):
    """A network to be pruned, its example inputs, and what is deployed of it."""

    network: nn.Module
    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    deployment: Deployment


class Subject(NamedTuple):
    """A trained network, what teaches it, and what it is evaluated by."""

    dense: nn.Module
    kinds: dict[str, Kind]
    steps: int
    lr: float
    batches: Callable[[int, int], Iterator[tuple[tuple[Tensor, ...], dict[str, Tensor]]]]
    """(seed, steps) to inputs."""
    metrics: Callable[[nn.Module], dict[str, float]]
    pruned: Callable[[nn.Module], Pruned]
    """What is pruned of a copy."""


def yolox_nano(seed: int) -> Subject:
    """Return YOLOX-nano."""
    images = yolox.training_images()

    def batches(seed: int, steps: int) -> Iterator[tuple[tuple[Tensor, ...], dict[str, Tensor]]]:
        for batch in yolox.without_labels(seed, 8, steps, images):
            yield (batch,), {}

    def pruned(network: nn.Module) -> Pruned:
        assert isinstance(network, yolox.Yolox)
        return Pruned(network.network, network.network.example_inputs, {}, network.deployment)

    return Subject(
        yolox.Yolox().eval(),
        yolox.KINDS,
        240,
        1e-4,
        batches,
        yolox.ap50,
        pruned,
    )


def streets(seed: int) -> Subject:
    """Return the demo's network, trained here without sparsity; kept in out/ for the variants that follow."""
    config = msgspec.structs.replace(demo_config(400, torch.get_num_threads(), 0.0), batch_size=16, seed=seed)
    run = trained(config, OUT / f"streets-{seed}")
    data = open_datasets(config)
    tasks = {head.name: TASKS.require(head.name, "head:") for head in run.interface.heads}

    def batches(seed: int, steps: int) -> Iterator[tuple[tuple[Tensor, ...], dict[str, Tensor]]]:
        _, shuffled = begin(msgspec.structs.replace(config, seed=seed, steps=steps), data)
        for step in range(steps):
            yield (), dict(shuffled[step].images)

    def metrics(network: nn.Module) -> dict[str, float]:
        reports = evaluate(of_network(copy.deepcopy(network).eval(), run.interface), data["val"])
        return {"ap50": reports["all"]["boxes"]["ap50"], "miou": reports["all"]["semantic"]["miou"]}

    def pruned(network: nn.Module) -> Pruned:
        deployed = Deployed(network, run.interface.inputs, run.interface.heads)
        return Pruned(network, (), example_inputs(run.interface.inputs), Deployment(deployed, deployed.blank_images()))

    return Subject(run.network, output_kinds(tasks), 200, 1e-3, batches, metrics, pruned)


def prune(subject: Subject, variant: Variant, seed: int) -> dict[str, Any]:
    """Return the metrics before, at the end of the schedule, and after recovery."""
    torch.manual_seed(seed)
    model = copy.deepcopy(subject.dense).train().requires_grad_(True)
    pruned = subject.pruned(model)
    teacher = Teacher(subject.dense, model, subject.kinds)
    settings = {"target": 0.5, "metric": "latency", "begin": BEGIN, "end": END}
    sparsifier = Sparsifier(
        pruned.network,
        pruned.args,
        pruned.kwargs,
        steps=subject.steps,
        deployment=pruned.deployment,
        importance=variant.importance,
        refit=variant.refit,
        **settings,  # type: ignore[arg-type]
    )
    held_args, held_kwargs = next(subject.batches(1000 + seed, 1))  # other crops than those of the training

    @torch.no_grad()
    def loss() -> float:
        return float(teacher.loss(model(*held_args, **held_kwargs), *held_args, **held_kwargs))

    optimizer = torch.optim.AdamW(model.parameters(), subject.lr, weight_decay=0.0)
    row: dict[str, Any] = {}
    for step, (args, kwargs) in enumerate(subject.batches(seed, subject.steps)):
        for group in optimizer.param_groups:
            group["lr"] = subject.lr * min(1.0, (step + 1) / WARM_UP) * max(FINAL_LR, 1 - step / subject.steps)
        if variant.by_layer and step == round(BEGIN * subject.steps) - 1:
            with sparsifier.importance.paused():
                sparsifier.importance.of_layer = layer_sensitivities(sparsifier, variant.importance, loss, loss())
        outputs = model(*args, **kwargs)
        sparsifier.see(*args, **kwargs)
        if variant.importance == "fisher" and not sparsifier.frozen:
            sparsifier.observe(teacher.likelihood(outputs))
        optimizer.zero_grad()
        teacher.loss(outputs, *args, **kwargs).backward()
        sparsifier.before_step()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        frozen = sparsifier.frozen
        sparsifier.after_step(optimizer)
        if sparsifier.frozen and not frozen:
            row |= {f"{name}_pruned": round(value, 4) for name, value in subject.metrics(model).items()}
            row |= {"loss_pruned": round(loss(), 3), "pruned_at_step": step + 1}
    row |= {f"{name}_recovered": round(value, 4) for name, value in subject.metrics(model).items()}
    groups = sparsifier.penalised.groups
    return row | {
        "loss_recovered": round(loss(), 3),
        "latency_to_dense": round(sparsifier.aim.measured[-1][1], 4) if sparsifier.aim.measured else None,
        "params_to_dense": round(groups.parameters(sparsifier.pruned_channels()) / groups.parameters(), 4),
        "steps": subject.steps,
    }


SUBJECTS = {"yolox_nano": yolox_nano, "streets": streets}


def importance(name: str, seed: int, variant: str) -> dict[str, Any]:
    """Return the figures of one network and variant."""
    subject = SUBJECTS[name](seed)
    begun = time.perf_counter()
    dense = {f"{metric}_dense": round(value, 4) for metric, value in subject.metrics(subject.dense).items()}
    row = dense | prune(subject, VARIANTS[variant], seed)
    return row | {"seconds": round(time.perf_counter() - begun), "machine": cpu_name()}
