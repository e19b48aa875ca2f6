"""Training: one loop for every network, task and method."""

from __future__ import annotations

import copy
import math
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import edgemtl_models
from edgemtl_export.groups import channel_groups
from edgemtl_export.to_onnx import Deployed, example_inputs
from edgemtl_runtime.aside import FolderAside

from .config import Config
from .console import progress_bar, say
from .curves import Log
from .data.loader import Loader, open_data
from .data.sample import Samples
from .errors import ConfigError
from .evaluate import Predictor, evaluate
from .methods.sparse import ChannelSparsity
from .run import CONFIG, Interface, Run, interface_of, write_weights
from .tasks import TASKS, Task

__all__ = ["train"]


def train(config: Config, out: str | Path, data: dict[str, Samples] | None = None, judge: bool = True) -> Run:
    """Train a network as ``config`` says and write the run to the folder ``out``.

    ``data`` replaces the data that the configuration names. ``judge=False`` leaves out the evaluation at the end.
    """
    with FolderAside(out, CONFIG) as aside:
        started = time.monotonic()
        threads = torch.get_num_threads()
        torch.set_num_threads(config.threads or threads)
        try:
            _train_into(aside.folder, config, data or open_data(config), judge, started)
        finally:
            torch.set_num_threads(threads)
        return Run.open(aside.place())


def _train_into(folder: Path, config: Config, data: dict[str, Samples], judge: bool, started: float) -> None:
    import json

    torch.manual_seed(config.seed)
    tasks = choose_tasks(config, data["train"])
    try:
        channels = {name: task.channels for name, task in tasks.items()}
        network = edgemtl_models.build(config.network, channels, config.size)
    except (ValueError, FileNotFoundError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing or misplaced" if isinstance(error, KeyError) else error
        raise ConfigError(f"network {config.network}: {reason}") from error
    interface = interface_of(network, config, tuple(task.head() for task in tasks.values()))
    steps = config.steps or max(1, round(config.epochs * len(data["train"]) / config.batch))
    log = Log()
    average = fit(network, tasks, data["train"], config, interface, steps, log)
    metrics: dict[str, Any] = {
        "steps": steps,
        "seconds": round(time.monotonic() - started, 1),
        "peak_mb": peak_mb(),
        "loss": log.last(),
    }
    if judge:
        predictor = Predictor(
            Deployed(average, interface.inputs, interface.heads), interface.inputs, interface.heads, 0.0
        )
        with progress_bar("judging", len(data["val"])) as bar:
            metrics["val"] = evaluate(predictor, data["val"], lambda n: bar(n, {}))
    write_weights(folder, config, average, interface)
    log.write(folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def choose_tasks(config: Config, samples: Samples) -> dict[str, Task]:
    """Return the tasks that the configuration asks for and the data have labels of."""
    labelled = samples.classes
    tasks: dict[str, Task] = {}
    for name in config.tasks:
        if name not in TASKS:
            raise ConfigError(f"tasks: '{name}' is not one of {', '.join(TASKS)}")
        if name in labelled:
            tasks[name] = TASKS[name](labelled[name])
        else:
            say(f"the data have no {name} labels: that head takes no part")
    if not tasks:
        raise ConfigError(f"the data have labels for {', '.join(labelled) or 'none'} of tasks={list(config.tasks)}")
    return tasks


def fit(
    network: nn.Module,
    tasks: dict[str, Task],
    samples: Samples,
    config: Config,
    interface: Interface,
    steps: int,
    log: Log,
) -> nn.Module:
    """Train ``network`` for ``steps`` steps and return the averaged one, in evaluation mode, on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    groups = channel_groups(network, (), example_inputs(interface.inputs)) if config.sparsity.target else None
    network = network.to(device, memory_format=torch.channels_last)
    per_round = max(1, round(len(samples) / config.batch))
    for name, task in tasks.items():
        task.prepare(network.heads[name], math.ceil(steps / per_round))
    sparsity = ChannelSparsity(groups, network, config.sparsity, steps) if groups else None
    optimizer = torch.optim.AdamW(_parameter_groups(network, sparsity, config), lr=config.lr)
    average = Average(network, config.ema)
    autocast = computes_in_bf16(config.precision, device)
    inputs = {spec.name: spec for spec in interface.inputs}
    labels = {name: task.label for name, task in tasks.items()}
    network.train()
    with progress_bar("training", steps) as bar:
        for step, batch in enumerate(Loader(samples, config, inputs, labels, steps)):
            lr = learning_rate(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                outputs = network(**{name: batch[name] for name in inputs})
            losses = {name: task.loss(outputs[name], batch) for name, task in tasks.items()}
            present = {name: loss for name, loss in losses.items() if loss is not None}
            if not present:  # a batch without any label teaches nothing
                continue
            optimizer.zero_grad(set_to_none=True)
            torch.stack([config.weights.get(name, 1.0) * loss for name, loss in present.items()]).sum().backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            if sparsity:
                sparsity.step(step, lr)
            average.update(network, sparsity)
            if (step + 1) % per_round == 0:
                for task in tasks.values():
                    task.advance()
            row = {name: float(loss.detach()) for name, loss in present.items()}
            if not all(math.isfinite(value) for value in row.values()):
                raise ConfigError(f"the loss is no longer finite at step {step + 1} ({row}); lower lr={config.lr}")
            if sparsity:
                row |= {"gone": sparsity.share, "live": float(sparsity.live)}
            log.add(step, lr, row)
            bar(step + 1, row)
    if sparsity and not sparsity.frozen:
        say(
            f"only {sparsity.share:.0%} of the parameters could go: sparsity.keep={config.sparsity.keep} holds the rest"
        )
    return average.network.cpu().eval()


def _parameter_groups(network: nn.Module, sparsity: ChannelSparsity | None, config: Config) -> list[dict[str, Any]]:
    """Weight decay on weights alone, and none on groups that the proximal step shrinks already."""
    shrunk = set(sparsity.groups.rows) if sparsity else set()
    decayed = [p for n, p in network.named_parameters() if p.ndim > 1 and n not in shrunk]
    rest = [p for n, p in network.named_parameters() if p.ndim <= 1 or n in shrunk]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Return the learning rate of a step: a linear rise, then a half cosine down to a hundredth."""
    warmup = min(config.warmup, steps // 4)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def computes_in_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: asked for, or "auto" on hardware with matrix units for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


class Average:
    """An exponential moving average of weights and batch statistics that keeps exact zeros exact."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module, sparsity: ChannelSparsity | None) -> None:
        """Take in the weights after a step; early on the average is short, so that it follows."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = network.state_dict()
        for name, mine in self.network.state_dict().items():
            theirs: Tensor = state[name].detach()
            if mine.is_floating_point():
                mine.lerp_(theirs, weight)
            else:
                mine.copy_(theirs)
        if sparsity:
            sparsity.mask(self.network)


def peak_mb() -> int:
    """Return the largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if os.uname().sysname == "Darwin" else 1 << 10)
