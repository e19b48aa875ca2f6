"""Initial weights: those of another run or a file of weights, with parts of the network frozen.

Tensors are matched by name, and where a dimension carries classes or modalities, entry by entry (`named_axes`): with
the classes or cameras in another order, fewer or more of them, what is known of each is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from edgemtl_models import MultiTask
from edgemtl_models.ultralytics_checkpoint import UltralyticsCheckpoint

from .console import print_message
from .errors import ConfigError
from .initial_weights import read_initial_weights
from .named_axes import canonical_names, copy_by_labels, named_state
from .run import Interface
from .yolo_weights import activation_note, yolo_state

MAX_LISTED = 6
"""How many parts of a network a message lists."""


def load_pretrained(network: MultiTask, interface: Interface, source: str) -> None:
    """Copy from the run, or the file of weights, ``source`` what has the same meaning; report what has none there.

    So new classes, heads or cameras start from their initialisation while everything else continues. Raises
    `ConfigError` when nothing matches.
    """
    weights = read_initial_weights(Path(source))
    checkpoint = weights.checkpoint
    state = yolo_state(checkpoint, network, source) if checkpoint else weights.state
    is_named = bool(weights.interface or checkpoint)
    names, target = canonical_names(network), named_state(network, interface if is_named else None)
    given = {names.get(name, name): tensor for name, tensor in state.tensors.items()}
    rejected = tuple(f"heads.{head}." for head in _other_tasks(interface, weights.interface))
    matching = {}
    for name, canonical in names.items():
        if canonical in given and not name.startswith(rejected):
            axes, source_axes = (s.axes.get(canonical, {}) for s in (target, state))
            if copy := copy_by_labels(target.tensors[canonical], given[canonical], axes, source_axes):
                matching[name] = copy
    if not matching:
        raise ConfigError(f"init_from={source}: nothing in it fits this network by name and shape")
    network.load_state_dict(network.state_dict() | {name: copy.tensor for name, copy in matching.items()})
    whole = sum(copy.is_whole for copy in matching.values())
    parts = [f"loaded from {source}: {whole} of {len(names)} tensors"]
    new_parts: tuple[str, ...] = ()
    if checkpoint:
        parts += _of_checkpoint(interface, network, checkpoint)
    elif weights.interface is None:
        parts += _unchecked(interface)
    else:
        parts += _differences(interface, weights.interface)
        heads = {head.name for head in interface.heads} - {head.name for head in weights.interface.heads}
        cameras = _cameras(interface) - _cameras(weights.interface)
        new_parts = (*(f"heads.{head}." for head in heads), *(f".{camera}." for camera in cameras), *rejected)
    others = {name for name in names.keys() - matching.keys() if not any(part in name for part in new_parts)}
    if new := sorted({".".join(name.split(".")[:3]) for name in others}):
        parts.append(f"new: {_listed(new)}")
    print_message("; ".join(parts))


def _other_tasks(interface: Interface, source: Interface | None) -> set[str]:
    """Return the heads whose name stands for another task in the source."""
    tasks = {head.name: head.task for head in source.heads} if source else {}
    return {head.name for head in interface.heads if tasks.get(head.name, head.task) != head.task}


def _cameras(interface: Interface) -> set[str]:
    return {spec.modality for spec in interface.inputs}


def _differences(interface: Interface, source: Interface) -> list[str]:
    """Return in words what starts from its initialisation, and what of the source is not used."""
    wanted, given = ({head.name: head for head in part.heads} for part in (interface, source))
    other = _other_tasks(interface, source)
    new = [f"new head: {name}" for name in wanted if name not in given or name in other]
    new += [f"new camera: {name}" for name in sorted(_cameras(interface) - _cameras(source))]
    unused = [f"head {name}" for name in given if name not in wanted]
    unused += [f"camera {name}" for name in sorted(_cameras(source) - _cameras(interface))]
    for name in wanted.keys() & given.keys() - other:
        added, dropped = _classes(name, wanted[name].classes, given[name].classes)
        new += added
        unused += dropped
    return new + [f"not used: {part}" for part in unused]


def _classes(head: str, wanted: Sequence[str], given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return in words which of a head's classes are new, and which of the source are not used."""
    new, unused = ([name for name in a if name not in b] for a, b in ((wanted, given), (given, wanted)))
    return (
        [f"new classes of {head}: {_listed(new)}"] if new else [],
        [f"classes of {head}: {_listed(unused)}"] if unused else [],
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{', '.join(names[:MAX_LISTED])}{more}"


def _of_checkpoint(interface: Interface, network: MultiTask, checkpoint: UltralyticsCheckpoint) -> list[str]:
    """Return in words which classes a detector of ultralytics lacks or has besides, and how else it differs."""
    parts: list[str] = []
    for head in interface.heads:
        if head.task == "boxes":
            new, unused = _classes(head.name, head.classes, [*checkpoint.names.values()])
            parts += new + [f"not used: {part}" for part in unused]
    return parts + ([note] if (note := activation_note(checkpoint, network)) else [])


def _unchecked(interface: Interface) -> list[str]:
    """Return in words what a file without a description leaves open: which class, or camera, an entry is of."""
    heads = [head.name for head in interface.heads if len(head.classes) > 1]
    parts = [
        *(["the classes of " + ", ".join(heads)] if heads else []),
        *(["the cameras"] if len(interface.inputs) > 1 else []),
    ]
    return [f"it names no classes: {' and '.join(parts)} are taken to be in today's order"] if parts else []


def freeze(network: MultiTask, parts: tuple[str, ...]) -> None:
    """Exclude parts, like "trunk" or "heads.depth", from training; raises `ConfigError` for one that does not exist."""
    modules = dict(network.named_modules())
    for part in parts:
        if part not in modules or not part:
            known = ", ".join(["trunk", *(f"heads.{name}" for name in network.heads)])
            raise ConfigError(
                f"freeze names '{part}', which is no part of the network; there are {known} and their parts"
            )
        modules[part].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"freeze={list(parts)} leaves nothing to train")


def freeze_statistics(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Freeze the batch statistics of frozen parts too, in a network that is in training mode."""
    modules = dict(network.named_modules())
    for part in parts:
        modules[part].eval()
