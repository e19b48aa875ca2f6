"""A run: the folder of one finished training, with its configuration, weights and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from edgemtl_export.deployed import Deployed
from edgemtl_models import MultiTask
from edgemtl_runtime.bundle import Head, Input
from edgemtl_runtime.limits import decode_json, reason
from edgemtl_runtime.manifest_schema import with_new_keys

from . import config_file, networks, run_plugins
from .config import Config
from .errors import EdgemtlError
from .licence import licence, origins_of
from .metric_report import Reports, from_json
from .rng import isolated_rng
from .run_files import CONFIG, WEIGHTS, check_run, read_metrics
from .tasks import TASKS

OLDER_SCHEMA = 2
"""The schema of manifests whose keys the interfaces of older runs have."""


class Interface(msgspec.Struct, frozen=True):
    """The description of a trained network, with the inputs and heads of its bundle."""

    network: dict[str, Any]
    inputs: tuple[Input, ...]
    heads: tuple[Head, ...]
    origins: dict[str, str] | None = None
    """Whose weights are in it (`licence.Origins`); None in runs from before this was written."""

    def channels(self) -> dict[str, int]:
        """Return the number of output channels of each head."""
        return {
            head.name: TASKS.require(head.task, f"head {head.name}: task")(head.classes).channels for head in self.heads
        }


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
        """Read a run, whose plugins are loaded; raises `EdgemtlError` with what is missing."""
        folder = Path(path)
        check_run(folder)
        run_plugins.check(folder, run_plugins.read(folder))
        config = config_file.load(folder / CONFIG)
        try:
            interface, network = read_network(folder / WEIGHTS)
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

    @property
    def reports(self) -> Reports:
        """The metrics of the evaluation after training; nothing where there was none."""
        return from_json(self.metrics)

    @property
    def licence(self) -> str:
        """Which licence applies to it, and why."""
        return licence(self.interface.origins)

    def deployed(self) -> Deployed:
        """Return the network with the inputs and outputs of a bundle, not shrunk."""
        return Deployed(self.network, self.interface.inputs, self.interface.heads)


def read_network(file: Path) -> tuple[Interface, MultiTask]:
    """Read a run's weights, and build the network that they describe; raises an error of any library's for others."""
    with safe_open(file, "pt") as opened:
        interface = read_interface(opened.metadata()["interface"])
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    size = interface.inputs[0].height, interface.inputs[0].width
    with isolated_rng(0):
        network = networks.build(interface.network, interface.channels(), size, pretrained=False)
    network.load_state_dict(state)
    return interface, network


def read_interface(text: str) -> Interface:
    """Read an interface from JSON of any version; raises `ValueError` for another one."""
    raw = decode_json(text.encode())
    if not isinstance(raw, dict):
        raise ValueError("the interface holds no names")
    return msgspec.convert(with_new_keys(raw, OLDER_SCHEMA), Interface)


def interface_of(network: MultiTask, config: Config, heads: tuple[Head, ...]) -> Interface:
    """Return the interface of a network that was built for ``config``."""
    height, width = config.input_size
    # The gates of aligned streams give a blank frame no weight; elsewhere it is an image to be trained on.
    gated = config.unimodal_aux_loss and network.supports("alignment")
    optional = (config.augment.modality_dropout > 0 or gated) and len(network.inputs) > 1
    inputs = tuple(
        Input(
            network.input_name(modality),
            height,
            width,
            spec.channels,
            spec.mean,
            spec.std,
            modality,
            thermal_range=config.thermal_range,
            may_be_missing=optional,
        )
        for modality, spec in network.inputs.items()
    )
    return Interface(network.description, inputs, heads, origins_of(config, network.description))


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
