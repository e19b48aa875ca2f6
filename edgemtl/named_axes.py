"""What the entries of a parameter stand for along each dimension: classes and modalities by name, levels by stride.

Two networks of one description may list their classes or cameras in another order, or not have the same ones. Where
the entries are named, a tensor is copied entry by entry (`copy_by_labels`); a copy by shape would give one class the
filters of another.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgemtl_models import MultiTask
from edgemtl_models.box_head import BoxHead

from . import networks
from .run import Interface
from .tasks import TASKS

Axes = Mapping[int, tuple[Hashable, ...]]
"""The labels of the entries along each dimension that has some."""
PROBES = (2, 3)
"""Numbers of classes; a dimension that grows with them carries classes."""


class NamedState(NamedTuple):
    """A network's tensors by their names in `canonical_names`, and the labels of those that have some."""

    tensors: dict[str, Tensor]
    axes: dict[str, Axes]


def named_state(network: MultiTask, interface: Interface | None) -> NamedState:
    """Return a network's tensors, a tied one for each of its modalities, and the labels where it is described."""
    names, state = canonical_names(network), network.state_dict()
    tied = {f"trunk.{name}": state[f"trunk.{stored}"] for name, stored in network.trunk.tied_parameters().items()}
    axes = _named_axes(network, interface) if interface else {}
    return NamedState({names[name]: tensor for name, tensor in state.items()} | tied, axes)


def _named_axes(network: MultiTask, interface: Interface) -> dict[str, Axes]:
    axes: dict[str, dict[int, tuple[Hashable, ...]]] = {
        name: {dim: tuple((m, i) for m, count in counts.items() for i in range(count)) for dim, counts in dims.items()}
        for name, dims in network.modality_slices().items()
    }
    state, canonical = network.state_dict(), canonical_names(network)
    classes = {head.name: head.classes for head in interface.heads}
    for name, dims in class_dimensions(interface).items():
        names = classes[name.split(".")[1]]
        for dim, is_one_each in dims.items():
            size = state[name].shape[dim]
            # Entries that are not one for each class match as a whole: only where all classes are the same
            labels = names if is_one_each else tuple((names, index) for index in range(size))
            axes.setdefault(canonical[name], {})[dim] = labels
    return dict(axes)


def class_dimensions(interface: Interface) -> dict[str, dict[int, bool]]:
    """Return the dimensions of a network's parameters that carry classes, and whether an entry is of one class each.

    They are those that grow with the number of classes, in networks built for a few: so no head has to state them, and
    a hidden layer that happens to be as wide as there are classes is none of them.
    """
    labelled = [head for head in interface.heads if head.classes]
    if not labelled:
        return {}
    size = interface.inputs[0].height, interface.inputs[0].width
    shapes: list[dict[str, torch.Size]] = []
    for count in PROBES:
        names = tuple(f"class {index}" for index in range(count))
        channels = interface.channels() | {head.name: TASKS[head.task](names).channels for head in labelled}
        with torch.random.fork_rng(devices=[]):
            probe = networks.build(interface.network, channels, size, pretrained=False)
        shapes.append({name: tensor.shape for name, tensor in probe.heads.state_dict().items()})
    few, more = shapes
    dimensions: dict[str, dict[int, bool]] = {}
    for name in few.keys() & more.keys():
        for dim, sizes in enumerate(zip(few[name], more[name], strict=True)):
            if sizes[0] != sizes[1]:
                dimensions.setdefault(f"heads.{name}", {})[dim] = sizes == PROBES
    return dimensions


def canonical_names(network: MultiTask) -> dict[str, str]:
    """Return every tensor's name with the strides of a head's branches in place of their indices."""
    names = {name: name for name in network.state_dict()}
    for head, module in network.heads.items():
        if isinstance(module, BoxHead):
            for name in names:
                names[name] = _by_stride(name, f"heads.{head}.detect.", module)
    return names


def _by_stride(name: str, prefix: str, head: BoxHead) -> str:
    if not name.startswith(prefix):
        return name
    branch, index, *rest = name.removeprefix(prefix).split(".")
    if not index.isdecimal() or not isinstance(getattr(head.detect, branch), nn.ModuleList):
        return name
    return prefix + ".".join([branch, f"stride{head.strides[int(index)]}", *rest])


class Copy(NamedTuple):
    """A tensor with the entries of another that mean the same."""

    tensor: Tensor
    is_whole: bool
    """Whether every entry was copied."""


def copy_by_labels(target: Tensor, source: Tensor, target_axes: Axes, source_axes: Axes) -> Copy | None:
    """Copy the entries of ``source`` to those of ``target`` with the same labels, elsewhere by position.

    None where the shapes do not allow it, or no label is the same.
    """
    if target.ndim != source.ndim:
        return None
    rows: list[tuple[list[int], list[int]]] = []
    for dim, (wanted, given) in enumerate(zip(target.shape, source.shape, strict=True)):
        labels, known = target_axes.get(dim), source_axes.get(dim)
        if labels is None or known is None:
            if wanted != given:
                return None
            rows.append((list(range(wanted)), list(range(given))))
            continue
        at = {label: index for index, label in enumerate(known)}
        shared = [(index, at[label]) for index, label in enumerate(labels) if label in at]
        if not shared:
            return None
        rows.append(([i for i, _ in shared], [j for _, j in shared]))
    if not rows:
        return Copy(source.to(target.dtype).clone(), True)
    result = target.clone()
    into, taken = (torch.meshgrid(*map(torch.tensor, side), indexing="ij") for side in zip(*rows, strict=True))
    result[into] = source[taken].to(target.dtype)
    return Copy(result, into[0].numel() == target.numel())
