"""Weights of a checkpoint as safetensors: tensors by name, and of a network of ultralytics its description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from edgemtl_models.ultralytics_checkpoint import CheckpointError, read_checkpoint

from ..errors import ConfigError, EdgemtlError, brief
from ..initial_weights import read_initial_weights
from ..torch_file import foreign_class

ULTRALYTICS = "ultralytics"
"""The key of a network's description in the metadata."""


def converted(file: Path) -> tuple[bytes, int]:
    """Return a checkpoint as a safetensors file, and the number of its tensors; raises `EdgemtlError`.

    Nothing in the checkpoint is run.
    """
    metadata: dict[str, str] = {}
    if foreign_class(file):
        try:
            checkpoint = read_checkpoint(file)
        except CheckpointError as error:
            raise EdgemtlError(str(error)) from error
        state = checkpoint.state
        description = {
            "task": checkpoint.task,
            "kind": checkpoint.kind,
            "yaml": checkpoint.yaml,
            "names": {str(index): name for index, name in checkpoint.names.items()},
            "stride": checkpoint.stride,
            "input_size": checkpoint.input_size,
            "layers": checkpoint.layers,
        }
        metadata[ULTRALYTICS] = json.dumps(description)
    else:
        try:
            state = read_initial_weights(file).state.tensors
        except ConfigError as error:
            raise EdgemtlError(f"{file}: no tensors by name in it, or no file of torch.save") from error
    return as_safetensors(file, state, metadata), len(state)


def as_safetensors(file: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return tensors by name as a safetensors file; raises `EdgemtlError` that names ``file``."""
    try:
        return save({name: tensor.contiguous().clone() for name, tensor in state.items()}, {"format": "pt", **metadata})
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise EdgemtlError(f"{file}: holds a tensor that safetensors does not ({brief(error)})") from error
