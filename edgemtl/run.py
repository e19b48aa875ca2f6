"""A run: the folder of one finished training, with its configuration, weights and metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import edgemtl_models
from edgemtl_export.deployed import Deployed
from edgemtl_models import MultiTask
from edgemtl_runtime.bundle import Head, Input
from edgemtl_runtime.limits import decode_json, read_bounded, reason

from . import config_file
from .config import Config
from .errors import EdgemtlError
from .tasks import TASKS
from .training_log import renamed

RUN = "run"
"""The name of such a folder in its listing (`edgemtl_runtime.atomic`)."""
CONFIG, WEIGHTS, METRICS = "config.yaml", "weights.safetensors", "metrics.json"
MOST_METRICS = 64 << 20
RENAMED_METRICS = {"judged": "evals"}
"""Keys of version 0.1, and today's; those of "loss" are columns of the log."""


class Interface(msgspec.Struct, frozen=True):
    """The description of a trained network, with the inputs and heads of its bundle."""

    network: dict[str, Any]
    inputs: tuple[Input, ...]
    heads: tuple[Head, ...]

    def channels(self) -> dict[str, int]:
        """Return the number of output channels of each head."""
        return {head.name: TASKS[head.task](head.classes).channels for head in self.heads}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training, with its network in evaluation mode."""

    path: Path
    config: Config
    interface: Interface
    network: MultiTask
    metrics: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a run; raises `EdgemtlError` with what is missing."""
        folder = Path(path)
        for name in (CONFIG, WEIGHTS, METRICS):
            if not (folder / name).is_file():
                raise EdgemtlError(f"{folder}: no run here ({name} is missing); make one with `edgemtl train`")
        config = config_file.load(folder / CONFIG)
        try:
            with safe_open(folder / WEIGHTS, "pt") as file:
                interface = decode_json(file.metadata()["interface"].encode(), Interface)
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            network = edgemtl_models.build(interface.network, interface.channels(), config.input_size, pretrained=False)
            network.load_state_dict(state)
            metrics = read_metrics(folder)
        except (
            SafetensorError,
            msgspec.MsgspecError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            IndexError,
        ) as error:
            raise EdgemtlError(f"{folder}: damaged run ({reason(error)}); train again") from error
        return cls(folder, config, interface, network.eval(), metrics)

    def deployed(self) -> Deployed:
        """Return the network with the inputs and outputs of a bundle, not shrunk."""
        return Deployed(self.network, self.interface.inputs, self.interface.heads)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return a run's metrics, those of version 0.1 by today's keys; raises `EdgemtlError` where they cannot be read."""
    try:  # not msgspec: a metric may be NaN, which JSON has not but Python writes
        metrics = json.loads(read_bounded(folder / METRICS, MOST_METRICS))
        if not isinstance(metrics, dict):
            raise ValueError("holds no names")
    except (ValueError, RecursionError) as error:
        raise EdgemtlError(
            f"{folder / METRICS}: cannot be read ({reason(error)}); run `edgemtl eval {folder}`"
        ) from error
    metrics = {RENAMED_METRICS.get(key, key): value for key, value in metrics.items()}
    if isinstance(metrics.get("loss"), dict):
        metrics["loss"] = renamed(metrics["loss"])
    return metrics


def interface_of(network: MultiTask, config: Config, heads: tuple[Head, ...]) -> Interface:
    """Return the interface of a network that was built for ``config``."""
    height, width = config.input_size
    optional = (config.augment.modality_dropout > 0 or config.unimodal_aux_loss) and len(network.inputs) > 1
    inputs = tuple(
        Input(
            name,
            height,
            width,
            spec.channels,
            spec.mean,
            spec.std,
            name,
            thermal_range=config.thermal_range,
            may_be_missing=optional,
        )
        for name, spec in network.inputs.items()
    )
    return Interface(network.description, inputs, heads)


def write_weights(folder: Path, config: Config, network: MultiTask, interface: Interface) -> None:
    """Write the configuration and the weights into a folder; raises `EdgemtlError` where there is no room for them."""
    config_file.save(config, folder / CONFIG)
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    metadata = {"interface": msgspec.json.encode(interface).decode(), "format": "pt"}
    try:
        save_file(state, folder / WEIGHTS, metadata)
    except SafetensorError as error:
        raise EdgemtlError(
            f"the weights cannot be written ({' '.join(str(error).split())[:200]}); make room"
        ) from error
