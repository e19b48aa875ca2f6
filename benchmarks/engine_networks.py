"""The networks of `benchmarks/engine.py`, with example inputs and what of them is deployed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import networks
import torch
from torch import Tensor, nn

from edgemtl.config_file import load
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin
from edgemtl_export.cost_model.deployment import Deployment
from edgemtl_export.deployed import Deployed
from edgemtl_export.inputs import example_inputs


class Case(NamedTuple):
    """A network, its example inputs, how many images a step takes, and what runs on the device."""

    network: nn.Module
    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    batch: int
    deployment: Deployment
    tied: Sequence[Sequence[str]] = ()


def foreign(name: str, size: tuple[int, int], batch: int) -> Callable[[int], Case]:
    """Return a network of another library, which is deployed as it is."""

    def build(seed: int) -> Case:
        network, args = networks.build(name, seed)[0], (torch.rand(1, 3, *size),)
        return Case(network, args, {}, batch, Deployment(network, args))

    return build


def ours(name: str, tasks: str, modalities: str, size: tuple[int, int], batch: int) -> Callable[[int], Case]:
    """Return a network of ours, which is deployed with the normalisation of its images and the decoding of heads."""

    def build(seed: int) -> Case:
        words = [f"network={name}", f"tasks=[{tasks}]", f"modalities=[{modalities}]", f"input_size={list(size)}"]
        config = load(None, [*words, "batch_size=2", "steps=1", f"seed={seed}"])
        trainer, _ = begin(config, {"train": Streets(4, config.input_size, 0, config.tasks)})
        network, inputs = trainer.network, trainer.interface.inputs
        frames = tuple(torch.zeros(1, s.height, s.width, s.channels, dtype=torch.uint8) for s in inputs)
        deployment = Deployment(Deployed(network, inputs, trainer.interface.heads), frames)
        return Case(network, (), example_inputs(inputs), batch, deployment, network.twins())

    return build


NETWORKS: dict[str, Callable[[int], Case]] = {
    "resnet18": foreign("resnet18", (224, 224), 8),
    "resnet50": foreign("resnet50", (224, 224), 4),
    "mobilenet_v2": foreign("mobilenet_v2", (224, 224), 8),
    "yolo11n": foreign("yolo11n", (320, 320), 4),
    "four_tasks": ours("rgbir-mobilenetv2", "depth,normals,edges,semantic", "rgb", (256, 320), 8),
    "rgbir-n": ours("rgbir-n", "boxes", "rgb,ir", (256, 320), 4),
}
