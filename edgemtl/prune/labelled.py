"""Pruning with labels: an ultralytics checkpoint in ultralytics' own training, with its own loss and augmentation."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from edgemtl_export.cost_model.deployment import Deployment, Progress
from edgemtl_export.sparsity import Sparsifier
from edgemtl_models.yolo_detector import YoloDetector

from ..console import print_message, progress_bar
from ..errors import EdgemtlError, brief
from ..external.images import NetworkImages
from ..external.network import Adapter, ExternalNetwork
from ..rng import isolated_rng
from .label_free import Pruned, check_target
from .options import PruneOptions

EPOCHS = 20
FEW_STEPS = 50


class SparsifierHooks:
    """A sparsifier in ultralytics' training."""

    def __init__(self, network: ExternalNetwork, student: Adapter, options: PruneOptions, progress: Progress) -> None:
        self.network, self.student, self.options, self.progress = network, student, options, progress
        self.sparsifier: Sparsifier | None = None

    def begin(self, steps: int, device: torch.device) -> None:
        """Analyse the network, which is on its device by now, and measure what it costs."""
        deployed = self.network.deployed(self.student)
        self.sparsifier = Sparsifier(
            self.student.core,
            self.network.args,
            steps=steps,
            deployment=Deployment(deployed, deployed.blank_images()),
            progress=self.progress,
            settings=self.options.settings("taylor"),
        )
        check_target(self.sparsifier)
        if steps < FEW_STEPS:
            print_message(
                f"warning: but {steps} optimiser steps, too few to prune gradually and to recover; more --train "
                "epochs=N, or a smaller nbs=N (ultralytics steps once every nbs images)"
            )
        self.sparsifier.to(device)

    def see(self, images: Tensor) -> None:
        """Keep the images on which the network is refitted."""
        if self.sparsifier is not None:
            self.sparsifier.see(images)

    def before_step(self) -> None:
        """Take the gradients in; those of pruned channels do not steer the others (Muon orthogonalises all)."""
        assert self.sparsifier is not None
        self.sparsifier.before_step()
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.sparsifier.parameters]
        with torch.no_grad():
            self.sparsifier.by_rows.zero(gradients, self.sparsifier.pruned)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Prune what the schedule asks for, and keep it zero."""
        assert self.sparsifier is not None
        self.sparsifier.after_step(optimizer)

    def mask(self, average: nn.Module) -> None:
        """Make what is pruned zero in the average too."""
        if self.sparsifier is not None:
            self.sparsifier.mask(YoloDetector(average))


def prune_with_labels(source: str) -> Callable[[ExternalNetwork, NetworkImages, PruneOptions, Progress], Pruned]:
    """Return what prunes on the labels of a data.yaml, or of the folder that holds one."""
    path = Path(source)
    file = path / "data.yaml" if path.is_dir() else path
    if not file.is_file():
        raise EdgemtlError(f"--data {source}: ultralytics trains on a data.yaml; {file} is not there")

    def train(network: ExternalNetwork, data: NetworkImages, options: PruneOptions, progress: Progress) -> Pruned:
        return _train(network, str(file.resolve()), options, progress)

    return train


def _train(network: ExternalNetwork, data: str, options: PruneOptions, progress: Progress) -> Pruned:
    from edgemtl_models.yolo_training import train_detector

    student = copy.deepcopy(network.adapter).requires_grad_(True)
    detector = student.core
    assert isinstance(detector, YoloDetector)
    hooks = SparsifierHooks(network, student, options, progress)
    arguments = {"epochs": EPOCHS, **options.train}
    history: list[tuple[int, float, float]] = []

    with tempfile.TemporaryDirectory() as folder, progress_bar("training", 1000) as bar, isolated_rng(options.seed):

        def report(done: int, total: int, loss: float) -> None:
            share = hooks.sparsifier.pruned_share if hooks.sparsifier else 0.0
            history.append((done, loss, share))
            bar(1000 * done // total, {"loss": loss, "pruned": share})

        try:
            average = train_detector(
                detector.network, data, max(network.size), Path(folder), arguments, options.seed, hooks, report
            )
        except EdgemtlError:
            raise
        except Exception as error:  # ultralytics may fail in any way
            raise EdgemtlError(f"{data}: ultralytics cannot train on it ({brief(error)})") from error
    sparsifier = hooks.sparsifier
    assert sparsifier is not None
    adapter = network.adapter.around(YoloDetector(average))
    return Pruned(adapter, sparsifier, sparsifier.step, history)
