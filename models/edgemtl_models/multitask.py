"""A multi-task network: named images in, named heads out, built from a YAML file read top to bottom."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

from .backbone import BACKBONES
from .heads import DenseHead, PictureHead
from .streams import Trunk
from .yolo import BoxHead

STRIDE = 32
"""Heights and widths divide by this: the coarsest feature's stride."""


@dataclass(frozen=True)
class InputSpec:
    """One camera's input: its channels and the normalisation (x / 255 - mean) / std that the network expects."""

    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class MultiTask(nn.Module):
    """``forward(rgb=…, ir=…)`` on normalised (B, C, H, W) images gives a dict of the heads' outputs by name.

    ``trunk`` and ``heads`` are separate parameter sets, as the sharing methods need them.
    """

    def __init__(
        self, trunk: Trunk, heads: dict[str, nn.Module], inputs: dict[str, InputSpec], description: dict[str, Any]
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        self.inputs = inputs
        self.description = description

    def forward(self, **images: Tensor) -> dict[str, Any]:
        """Return the raw output of every head, by name."""
        features = self.trunk(images)
        return {name: head(features) for name, head in self.heads.items()}


def zoo() -> list[str]:
    """Return the names of the networks that come with the package."""
    folder = resources.files("edgemtl_models") / "zoo"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml"))


def build(
    network: str | dict[str, Any],
    channels: dict[str, int],
    size: tuple[int, int],
    *,
    cameras: tuple[str, ...] = (),
    pretrained: bool = True,
) -> MultiTask:
    """Build a network with the heads named in ``channels``: how many classes, maps or numbers each puts out.

    ``network`` is a name of the zoo, a YAML file, or the ``description`` of one that was built before. ``size`` is
    (height, width) in pixels. ``cameras`` names the streams to build, all where it is empty. ``pretrained=False``
    leaves out the start weights, for loading a trained state. Raises `ValueError` with the reason when the network
    cannot be built.
    """
    description = network if isinstance(network, dict) else _describe(network)
    name = str(description["name"])
    height, width = size
    if height % STRIDE or width % STRIDE:
        raise ValueError(f"size {height}x{width} does not divide by {STRIDE}; take the next multiple")
    streams = description["streams"]
    if strange := [camera for camera in cameras if camera not in streams]:
        raise ValueError(f"{name} has no stream '{strange[0]}'; it has: {', '.join(streams)}")
    description = description | {"streams": {c: stream for c, stream in streams.items() if not cameras or c in cameras}}
    inputs, backbones = {}, {}
    for camera, stream in description["streams"].items():
        inputs[camera] = InputSpec(stream["channels"], tuple(stream["mean"]), tuple(stream["std"]))
        backbones[camera] = _backbone(name, camera, stream, pretrained)
    for head in channels:
        if head not in description["heads"]:
            raise ValueError(f"{name} has no head '{head}'; it has: {', '.join(description['heads'])}")
    wanted = {head: description["heads"][head] for head in channels}
    trunk = Trunk(backbones, description["neck"], any(head["kind"] == "boxes" for head in wanted.values()))
    heads = {head: _head(trunk, channels[head], size, **options) for head, options in wanted.items()}
    return MultiTask(trunk, heads, inputs, description)


def _backbone(name: str, camera: str, stream: dict[str, Any], pretrained: bool) -> nn.Module:
    options = dict(stream["backbone"])
    kind = options.pop("kind")
    if kind not in BACKBONES:
        raise ValueError(f"{name}: stream '{camera}' asks for backbone '{kind}'; known: {', '.join(BACKBONES)}")
    if not pretrained:
        options.pop("weights", None)
    backbone: nn.Module = BACKBONES[kind](stream["channels"], **options)
    return backbone


def _head(trunk: Trunk, channels: int, size: tuple[int, int], kind: str, **options: Any) -> nn.Module:
    if kind == "boxes":
        head = BoxHead(trunk.widths[1:], list(trunk.strides[1:]), channels, **options)
        head.bias_init(*size)
        return head
    if kind == "dense":
        return DenseHead(trunk.widths, channels, **options)
    if kind == "picture":
        return PictureHead(trunk.widths[-1], channels, **options)
    raise ValueError(f"unknown kind of head '{kind}'; known: boxes, dense, picture")


def _describe(name: str) -> dict[str, Any]:
    if name in zoo():
        text = (resources.files("edgemtl_models") / "zoo" / f"{name}.yaml").read_text()
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        text = Path(name).read_text()
    else:
        raise ValueError(f"no network '{name}'; the zoo has {', '.join(zoo())}, or give a YAML file")
    description = yaml.safe_load(text)
    missing = {"name", "streams", "neck", "heads"} - set(description or {})
    if missing:
        raise ValueError(f"{name}: {', '.join(sorted(missing))} missing")
    if len(description["neck"]) != 4:
        raise ValueError(f"{name}: neck lists the channels at strides 4, 8, 16 and 32, not {description['neck']}")
    return dict(description)
