"""Where a training starts: from another run's weights, with parts of the network held as they are."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .console import print_message
from .errors import ConfigError
from .run import Run


def take_over(network: nn.Module, source: str) -> None:
    """Copy what fits by name and shape from the run, or the file of weights, ``source``; say what stays as drawn.

    New classes or new heads so start anew while everything else goes on. Raises `ConfigError` when nothing fits.
    """
    given = _weights(Path(source)) if Path(source).is_file() else Run.open(Path(source)).network.state_dict()
    own = network.state_dict()
    taken: dict[str, Tensor] = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    if not taken:
        raise ConfigError(f"init_from={source}: nothing in it fits this network by name and shape")
    network.load_state_dict(own | taken)
    new = sorted({".".join(name.split(".")[:2]) for name in own.keys() - taken.keys()})
    print_message(
        f"taken over from {source}: {len(taken)} of {len(own)} tensors" + (f"; new: {', '.join(new)}" if new else "")
    )


def _weights(file: Path) -> dict[str, Tensor]:
    """Read a file of tensors by name; raises `ConfigError` when it is none."""
    try:
        given = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        given = given.get("state_dict", given)
        return {name: tensor for name, tensor in given.items() if isinstance(tensor, Tensor)}
    except (SafetensorError, OSError, RuntimeError, UnpicklingError, EOFError, AttributeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ConfigError(f"init_from={file}: no tensors in it ({reason}); give a run or .safetensors") from error


def freeze(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Hold these parts, like "trunk" or "heads.depth", as they are; raises `ConfigError` for one that is not there."""
    modules = dict(network.named_modules())
    for part in parts:
        if part not in modules or not part:
            known = ", ".join(["trunk", *(f"heads.{name}" for name in network.heads)])  # type: ignore[union-attr, arg-type]
            raise ConfigError(
                f"freeze names '{part}', which is no part of the network; there are {known} and their parts"
            )
        modules[part].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"freeze={list(parts)} leaves nothing to learn")


def hold_statistics(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Keep the batch statistics of frozen parts too, in a network that is in training mode."""
    modules = dict(network.named_modules())
    for part in parts:
        modules[part].eval()
