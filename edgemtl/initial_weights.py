"""Files that a training can start from: a run, its weights, or a file of tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgemtl_models.ultralytics_checkpoint import CheckpointError, UltralyticsCheckpoint, read_checkpoint
from edgemtl_runtime.limits import decode_json
from edgemtl_runtime.text import shortened

from .errors import ConfigError, EdgemtlError
from .named_axes import NamedState, named_state
from .run import Interface, read_network
from .run_files import WEIGHTS, check_run
from .torch_file import foreign_class

PARTS = ("state_dict", "model_state_dict", "model", "ema", "network")
"""Where trainers put the tensors in a checkpoint of torch.save."""
WRAPPERS = ("module.", "model.", "_orig_mod.")
"""Prefixes that DistributedDataParallel, Lightning and torch.compile add to every name."""
UNREADABLE = (SafetensorError, OSError, RuntimeError, UnpicklingError, EOFError, AttributeError, ValueError, TypeError)


class _Description(msgspec.Struct):
    """What is read of a network of ultralytics that was converted."""

    names: dict[str, str]
    stride: list[float]
    kind: str
    layers: dict[str, str] = {}


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Tensors by name, and what they are of, where the file describes it."""

    state: NamedState
    interface: Interface | None = None
    checkpoint: UltralyticsCheckpoint | None = None
    """Of a network of ultralytics, whose layers have other names."""


def read_initial_weights(source: Path) -> InitialWeights:
    """Read a run or a file of weights; raises `ConfigError` or `EdgemtlError` when it is neither."""
    if not source.is_file():
        check_run(source)
        return _described(source / WEIGHTS)
    try:
        if "ultralytics" in foreign_class(source):
            return InitialWeights(NamedState({}, {}), checkpoint=read_checkpoint(source))
        if source.suffix != ".safetensors":
            return InitialWeights(NamedState(_tensors(torch.load(source, "cpu", weights_only=True)), {}))
        with safe_open(source, "pt") as file:
            if "interface" in (file.metadata() or {}):
                return _described(source)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if described := (file.metadata() or {}).get("ultralytics"):
                return InitialWeights(NamedState({}, {}), checkpoint=_converted(tensors, described))
        return InitialWeights(NamedState(_tensors(tensors), {}))
    except CheckpointError as error:
        raise ConfigError(f"init_from={error}") from error
    except UNREADABLE as error:
        reason = foreign_class(source) or shortened(error, 150) or type(error).__name__
        raise ConfigError(f"init_from={source}: no tensors in it ({reason}); give a run or .safetensors") from error


def _described(file: Path) -> InitialWeights:
    try:
        interface, network = read_network(file)
    except UNREADABLE as error:
        raise EdgemtlError(f"{file}: damaged weights of a run ({shortened(error, 150)}); train again") from error
    return InitialWeights(named_state(network, interface), interface)


def _converted(tensors: dict[str, Tensor], described: str) -> UltralyticsCheckpoint:
    """Return the checkpoint that `weights convert` wrote; raises `ValueError` for another description."""
    description = msgspec.convert(decode_json(described.encode()), _Description)
    names = {int(index): name for index, name in description.names.items()}
    return UltralyticsCheckpoint(tensors, "", {}, names, description.stride, description.kind, description.layers)


def _tensors(state: Any) -> dict[str, Tensor]:
    """Return the tensors by name, from where trainers put them and without the prefixes that wrappers add."""
    for part in PARTS:
        if isinstance(state, Mapping) and isinstance(state.get(part), Mapping):
            state = state[part]
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, not tensors by name")
    tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise ValueError("nothing in it is a tensor")
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
