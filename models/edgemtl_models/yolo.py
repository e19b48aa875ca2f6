# SPDX-License-Identifier: AGPL-3.0-only
"""The only import of ultralytics (AGPL-3.0), an extra: its networks and its trainer, kept offline and quiet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .private import settings_folder
from .ultralytics_checkpoint import CheckpointError, UltralyticsCheckpoint

# ultralytics sets OMP_NUM_THREADS=1, writes settings and probes the network when it is imported, unless told otherwise.
os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
os.environ.setdefault("YOLO_OFFLINE", "1")
os.environ.setdefault("YOLO_AUTOINSTALL", "0")
os.environ.setdefault("YOLO_VERBOSE", "false")
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = str(settings_folder())
_torch_save = torch.save

from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.nn import modules, tasks  # noqa: E402
from ultralytics.utils import SETTINGS  # noqa: E402

torch.save = _torch_save  # ultralytics swaps in a retrying version for the whole process
SETTINGS["sync"] = False

__all__ = ["DetectionTrainer", "build_network"]


KINDS = ("DetectionModel", "SegmentationModel", "PoseModel", "OBBModel")
"""The networks that a checkpoint may be of."""
ACTIVATIONS = ("SiLU()", "ReLU()", "ReLU6()", "LeakyReLU(0.1)", "Hardswish()", "GELU()", "Mish()", "Identity()")
PLAIN_LAYERS = ("nn.Upsample", "nn.Conv2d", "nn.ConvTranspose2d", "nn.MaxPool2d", "nn.BatchNorm2d", "nn.Identity")
MOST_LAYERS, MOST_REPEATS, MOST_NUMBER = 500, 64, 1 << 14


def build_network(checkpoint: UltralyticsCheckpoint) -> nn.Module:
    """Return the network of a checkpoint, built of known layers alone, with its weights, in evaluation mode.

    Raises `CheckpointError` for a description of anything else, or weights that are not its own.
    """
    if checkpoint.kind not in KINDS:
        raise CheckpointError(f"is a {checkpoint.kind[:40]!a}; read are {', '.join(KINDS)}")
    description = {name: value for name, value in checkpoint.yaml.items() if name != "yaml_file"}
    _check_description(description)
    try:
        channels = int(description.get("channels", 3))
        network: nn.Module = getattr(tasks, checkpoint.kind)(description, ch=channels, verbose=False)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(
            f"the ultralytics that is installed cannot build its network ({reason}); it may need a newer one"
        ) from None
    try:
        network.load_state_dict(checkpoint.state)
    except RuntimeError:
        raise CheckpointError(
            "its weights are not those of its description: the network was fused or pruned, or is of another release"
        ) from None
    _take_activations(network, checkpoint.layers)
    network.names = dict(checkpoint.names)  # type: ignore[assignment]
    return network.eval()


def _take_activations(network: nn.Module, layers: Mapping[str, str]) -> None:
    """Give a network the activations that it was trained with; raises `CheckpointError` where other layers differ.

    What is built of a description depends on the release: SPPF's first convolution has an activation in some.
    """
    for path, layer in list(network.named_modules(remove_duplicate=False)):
        built, trained = type(layer).__name__, layers.get(path)
        if trained is None or trained == built or not path:
            continue
        if f"{trained}()" not in ACTIVATIONS or f"{built}()" not in ACTIVATIONS:
            raise CheckpointError(f"its layer {path} is a {trained[:40]}, which the ultralytics here builds as {built}")
        network.set_submodule(path, getattr(nn, trained)())


def _check_description(description: dict[str, Any]) -> None:
    """Raise `CheckpointError` where building a description would run anything but known layers."""
    activation = description.get("activation")
    if activation is not None and str(activation).removeprefix("torch.").removeprefix("nn.") not in ACTIVATIONS:
        raise CheckpointError(f"activation {str(activation)[:60]!a} is none of {', '.join(ACTIVATIONS)}")
    layers = [row for part in ("backbone", "head") for row in description.get(part) or []]
    if not layers or len(layers) > MOST_LAYERS:
        raise CheckpointError(f"its description has {len(layers)} layers")
    for row in layers:
        if not isinstance(row, list) or len(row) != 4 or not isinstance(row[3], list):
            raise CheckpointError("a layer of its description is no [from, number, module, arguments]")
        name = row[2]
        module = getattr(modules, name, None) if isinstance(name, str) and name in modules.__all__ else None
        known = isinstance(module, type) and issubclass(module, nn.Module)
        if not known and name not in PLAIN_LAYERS:
            raise CheckpointError(f"layer {str(name)[:60]!a} is none that is known")
        if not isinstance(row[1], int) or not 0 < row[1] <= MOST_REPEATS:
            raise CheckpointError(f"a {name} is repeated {str(row[1])[:20]} times")
    for number in _numbers(description):
        if not abs(number) <= MOST_NUMBER:
            raise CheckpointError(f"its description holds the number {number:g}")


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict | list):
        return [n for item in (value.values() if isinstance(value, dict) else value) for n in _numbers(item)]
    return [value] if isinstance(value, int | float) else []
