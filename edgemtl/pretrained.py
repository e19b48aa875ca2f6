"""Initial weights: those of another run or a file of weights, with parts of the network frozen."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgemtl_models import MultiTask

from .console import print_message
from .errors import ConfigError
from .run import Run


def load_pretrained(network: nn.Module, source: str) -> None:
    """Copy from the run, or the file of weights, ``source`` what matches by name and shape; report what does not.

    So new classes or heads start from their initialisation while everything else continues. Raises `ConfigError` when
    nothing matches.
    """
    pretrained = _read(Path(source)) if Path(source).is_file() else Run.open(Path(source)).network.state_dict()
    state = network.state_dict()
    matching: dict[str, Tensor] = {n: t for n, t in pretrained.items() if n in state and state[n].shape == t.shape}
    if not matching:
        raise ConfigError(f"init_from={source}: nothing in it fits this network by name and shape")
    network.load_state_dict(state | matching)
    new = sorted({".".join(name.split(".")[:2]) for name in state.keys() - matching.keys()})
    summary = f"loaded from {source}: {len(matching)} of {len(state)} tensors"
    print_message(summary + (f"; new: {', '.join(new)}" if new else ""))


def _read(file: Path) -> dict[str, Tensor]:
    """Read a file of tensors by name; raises `ConfigError` when it is none."""
    try:
        state: dict[str, Any] = (
            load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        )
        state = state.get("state_dict", state)
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    except (SafetensorError, OSError, RuntimeError, UnpicklingError, EOFError, AttributeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ConfigError(f"init_from={file}: no tensors in it ({reason}); give a run or .safetensors") from error


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
