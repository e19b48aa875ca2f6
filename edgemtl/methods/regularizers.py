"""The regularisers of a training step, built from the configuration; `methods.REGULARIZERS` lists them."""

from __future__ import annotations

from collections.abc import Callable

from edgemtl_export.cost_model.deployment import Deployment
from edgemtl_export.deployed import Deployed
from edgemtl_export.inputs import example_inputs
from edgemtl_models import MultiTask

from ..config import Config
from ..console import progress_stages
from ..regularizer import Regularizer
from ..run import Interface
from ..tasks import TASKS
from ..tasks.base import output_kinds
from . import REGULARIZERS
from .alignment import ChannelAlignment
from .channel_sparsity import ChannelSparsity

Build = Callable[[MultiTask, Interface, Config, int], Regularizer | None]
"""(network, its inputs and heads, configuration, steps) to a regulariser, None where the configuration has none."""


def sparsity(network: MultiTask, interface: Interface, config: Config, steps: int) -> Regularizer | None:
    """Return channel sparsity (`edgemtl_export.sparsity`), or the fixed zeros of ``keep_sparsity``."""
    if not (config.sparse or config.keep_sparsity):
        return None
    deployed = Deployed(network, interface.inputs, interface.heads)
    deployment = Deployment(deployed, deployed.blank_images())
    with progress_stages() as progress:
        regularizer = ChannelSparsity(
            network,
            example_inputs(interface.inputs),
            config.sparsity,
            steps,
            network.twins(),
            deployment,
            progress,
            output_kinds({head.name: TASKS.require(head.name, "head:") for head in interface.heads}),
        )
    if config.keep_sparsity:
        regularizer.freeze()
    return regularizer


def alignment(network: MultiTask, interface: Interface, config: Config, steps: int) -> Regularizer | None:
    """Return channel alignment (`methods.alignment`)."""
    aligned = config.alignment.strength or config.alignment.target
    return ChannelAlignment(network, config.alignment, steps) if aligned else None


def build_regularizers(network: MultiTask, interface: Interface, config: Config, steps: int) -> dict[str, Regularizer]:
    """Return the regularisers that a configuration asks for, by name, on the CPU as the network is then."""
    built = {name: build(network, interface, config, steps) for name, build in REGULARIZERS.items()}
    return {name: regularizer for name, regularizer in built.items() if regularizer is not None}
