"""The layers of a trained YOLO11 or YOLO26 by the names that they have in a network with its backbone and neck."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from edgemtl_models import MultiTask
from edgemtl_models.backbone import filters_for
from edgemtl_models.box_head import BoxHead
from edgemtl_models.ultralytics_checkpoint import UltralyticsCheckpoint
from edgemtl_models.yolo11 import LAYER

from .errors import ConfigError
from .named_axes import Axes, NamedState, canonical_names

State = dict[str, Tensor]


def yolo_state(checkpoint: UltralyticsCheckpoint, network: MultiTask, source: str) -> NamedState:
    """Return the tensors of a checkpoint by a network's canonical names, and the labels of those by class.

    Every stream gets those of the backbone, with the first filters for its channels, and every head of boxes those of
    the detector; of a detector with one branch both branches. Raises `ConfigError` where the layers are others.
    """
    layers = _by_layer(checkpoint.state, source)
    tensors = {f"trunk.{name}": tensor for name, tensor in _trunk(layers, network, source)}
    names = tuple(checkpoint.names[index] for index in sorted(checkpoint.names))
    axes: dict[str, Axes] = {}
    shapes = {canonical: network.state_dict()[name] for name, canonical in canonical_names(network).items()}
    detector = layers[max(layers)]
    for head, module in network.heads.items():
        if isinstance(module, BoxHead):
            for name, tensor in _branches(detector, [int(stride) for stride in checkpoint.stride]).items():
                key = f"heads.{head}.detect.{name}"
                by_class = ".2." in name and "cv3." in name and len(tensor) == len(names)
                if key in shapes:
                    tensors[key] = widened(tensor, shapes[key], by_class)
                if by_class:
                    axes[key] = {0: names}
    return NamedState(tensors, axes)


def activation_note(checkpoint: UltralyticsCheckpoint, network: MultiTask) -> str:
    """Return in words where the trained network has another activation; nothing where it has none."""
    for path, module in network.trunk.named_modules():
        number = getattr(module, LAYER, None)
        for inner, layer in module.named_modules() if number is not None else ():
            trained = checkpoint.layers.get(f"model.{number}.{inner}")
            if inner.endswith("act") and trained not in (None, type(layer).__name__):
                return f"layer {number} was trained with {trained} for an activation, {path} has {type(layer).__name__}"
    return ""


def _by_layer(state: State, source: str) -> dict[int, State]:
    """Return the tensors ``model.NUMBER.NAME`` by number and name."""
    layers: dict[int, State] = defaultdict(dict)
    for name, tensor in state.items():
        _, number, rest = (*name.split(".", 2), "", "")[:3]
        if not number.isdecimal() or not rest:
            raise ConfigError(f"init_from={source}: {name[:80]!a} in it is no tensor of a network of ultralytics")
        layers[int(number)][rest] = tensor
    if not layers:
        raise ConfigError(f"init_from={source}: no tensors in it; give the checkpoint itself")
    return layers


def _trunk(layers: dict[int, State], network: MultiTask, source: str) -> Iterator[tuple[str, Tensor]]:
    numbered = {path: getattr(m, LAYER) for path, m in network.trunk.named_modules() if hasattr(m, LAYER)}
    if not numbered:
        raise ConfigError(
            f"init_from={source}: a network of ultralytics, whose layers {network.description['name']} lacks; take "
            "network=rgbir-yolo11n or another of that kind"
        )
    for path, number in numbered.items():
        wanted, given = network.trunk.get_submodule(path).state_dict(), layers.get(number, {})
        for name, target in wanted.items():
            tensor = given.get(name)
            if tensor is not None and number == 0 and tensor.ndim == 4 and tensor.shape[1] == 3 != target.shape[1]:
                tensor = filters_for(tensor, target.shape[1])
            if tensor is None or tensor.shape != target.shape:
                raise ConfigError(
                    f"init_from={source}: its layer {number} is not that of {network.description['name']}; "
                    "the network's name says which YOLO it takes"
                )
            yield f"{path}.{name}", tensor


def _branches(detector: State, strides: list[int]) -> State:
    """Return a detection layer's tensors with strides for the indices of levels, in both branches."""
    tensors: State = {}
    for name, tensor in detector.items():
        branch, index, *rest = (*name.split("."), "") if "." not in name else name.split(".")
        if index.isdecimal() and int(index) < len(strides):
            name = ".".join([branch, f"stride{strides[int(index)]}", *rest])
        tensors[name] = tensor
    if not any(name.startswith("one2one") for name in tensors):
        tensors |= {f"one2one_{name}": tensor for name, tensor in tensors.items() if name.startswith("cv")}
    return tensors


def widened(tensor: Tensor, target: Tensor, by_class: bool) -> Tensor:
    """Return a narrower layer's tensor with the size of a wider one's, which computes the same.

    What is new of it is the target's, and nothing of that is read by what was there before. Rows by class stay as many
    as there are.
    """
    if tensor.ndim != target.ndim or tensor.shape == target.shape:
        return tensor
    rows = len(tensor) if by_class else len(target)
    sizes = (rows, *target.shape[1:])
    if any(have > want for have, want in zip(tensor.shape, sizes, strict=True)):
        return tensor
    result = torch.zeros(sizes) if by_class else target.clone()
    result[: len(tensor)] = 0
    result[tuple(slice(size) for size in tensor.shape)] = tensor
    return result
