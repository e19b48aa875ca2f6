# SPDX-License-Identifier: AGPL-3.0-only
"""Ultralytics' own training of a detector, with hooks around its optimiser's steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .yolo import DetectionTrainer


class TrainingHooks(Protocol):
    """What happens around the steps of a training."""

    def begin(self, steps: int, device: torch.device) -> None:
        """Called once, with the number of optimiser steps and the device of the network."""

    def see(self, images: Tensor) -> None:
        """Called with the images of each batch, (B, 3, H, W) from 0 to 1."""

    def before_step(self) -> None:
        """Called before each optimiser step, with the gradients of that step."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Called after each optimiser step."""

    def mask(self, average: nn.Module) -> None:
        """Called with the averaged network after each optimiser step."""


def train_detector(
    network: nn.Module,
    data: str,
    size: int,
    folder: Path,
    arguments: Mapping[str, Any],
    seed: int = 0,
    hooks: TrainingHooks | None = None,
    progress: Callable[[int, int, float], None] = lambda *_: None,
) -> nn.Module:
    """Train a ``DetectionModel`` in place at a square ``size``, and return its average, in evaluation mode.

    ``data`` is a data.yaml of ultralytics, ``arguments`` are those of its training; what it writes goes to ``folder``.
    ``progress`` is called with batches done and in all, and the loss. Raises whatever ultralytics raises.
    """
    overrides = {
        "val": False,
        "plots": False,
        **arguments,
        **{"model": "given", "data": data, "imgsz": size, "seed": seed, "task": "detect", "mode": "train"},
        **{"project": str(folder), "name": "training", "exist_ok": True, "save": False, "patience": 0},
    }
    trainer = _Trainer(network, hooks, progress, overrides)
    trainer.train()  # type: ignore[no-untyped-call]
    average: nn.Module = copy.deepcopy(trainer.ema.ema).float().cpu().eval()
    return average


class _Trainer(DetectionTrainer):
    """Ultralytics' trainer of a network that is given, which keeps no files."""

    model: Any
    optimizer: Any
    ema: Any
    loss: Any

    def __init__(
        self,
        network: nn.Module,
        hooks: TrainingHooks | None,
        progress: Callable[[int, int, float], None],
        overrides: dict[str, Any],
    ) -> None:
        super().__init__(overrides=overrides)
        if self.ddp:
            raise ValueError("a pruning is trained by one process: name one device")
        self.given, self.hooks, self.report, self.done = network, hooks, progress, 0
        self.add_callback("on_train_start", lambda trainer: trainer.begin())
        self.add_callback("on_train_batch_end", lambda trainer: trainer.count())

    def setup_model(self) -> None:
        """Take the given network."""
        self.model = self.given.train()

    def begin(self) -> None:
        """Hook the optimiser, once it is there."""
        hooks = self.hooks
        if hooks is None:
            return
        hooks.begin(optimiser_steps(self), self.device)
        self.optimizer.register_step_pre_hook(lambda *_: hooks.before_step())
        self.optimizer.register_step_post_hook(lambda optimizer, *_: hooks.after_step(optimizer))
        hooks.mask(self.ema.ema)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Prepare a batch, and show its images to the hooks while the network trains."""
        prepared: dict[str, Any] = super().preprocess_batch(batch)
        if self.hooks is not None and self.optimizer is not None and self.model.training:
            self.hooks.see(prepared["img"])
        return prepared

    def optimizer_step(self) -> None:
        """Take a step; the average is masked too."""
        super().optimizer_step()  # type: ignore[no-untyped-call]
        if self.hooks is not None:
            self.hooks.mask(self.ema.ema)

    def count(self) -> None:
        """Report a batch."""
        self.done += 1
        self.report(self.done, self.epochs * len(self.train_loader), float(self.loss.detach()))

    def save_model(self) -> bool:
        """Save nothing: the average is returned."""
        return False

    def final_eval(self) -> None:
        """Skip ultralytics' evaluation of the best checkpoint: there is none."""


def optimiser_steps(trainer: Any) -> int:
    """Return how many steps a training's optimiser takes: a batch or several each, fewer in its warm-up."""
    batches = len(trainer.train_loader)
    warmup = _warmup_batches(trainer, batches)
    last, steps, accumulate = -1, 0, trainer.accumulate
    for index in range(trainer.epochs * batches):
        if warmup and index <= warmup:
            accumulate = max(1, int(np.interp(index, [0, warmup], [1, trainer.accumulate]).round()))
        if index - last >= accumulate:
            steps, last = steps + 1, index
    return max(1, steps)


def _warmup_batches(trainer: Any, batches: int) -> int:
    """Return how many batches the warm-up takes: older releases take 100 at least, newer ones leave an epoch over."""
    if hasattr(trainer, "_get_warmup_iterations"):
        return int(trainer._get_warmup_iterations(batches))
    warmup = trainer.args.warmup_epochs
    return max(round(warmup * batches), 100) if warmup > 0 else 0
