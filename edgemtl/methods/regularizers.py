"""The regularisers of a training step, built from the configuration; `methods.REGULARIZERS` lists them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from edgemtl_models import MultiTask

from ..config import Config
from ..regularizer import Regularizer
from . import REGULARIZERS
from .alignment import ChannelAlignment
from .channel_sparsity import ChannelSparsity

Build = Callable[[MultiTask, dict[str, Tensor], Config, int], Regularizer | None]
"""(network, example images by input, configuration, steps) to a regulariser, None where the configuration has none."""


def sparsity(network: MultiTask, images: dict[str, Tensor], config: Config, steps: int) -> Regularizer | None:
    """Return channel sparsity (`edgemtl_export.sparsity`), or the fixed zeros of ``keep_sparsity``."""
    if not (config.sparse or config.keep_sparsity):
        return None
    regularizer = ChannelSparsity(network, images, config.sparsity, steps, network.twins())
    if config.keep_sparsity:
        regularizer.freeze()
    return regularizer


def alignment(network: MultiTask, images: dict[str, Tensor], config: Config, steps: int) -> Regularizer | None:
    """Return channel alignment (`methods.alignment`)."""
    aligned = config.alignment.strength or config.alignment.target
    return ChannelAlignment(network, config.alignment, steps) if aligned else None


def build_regularizers(
    network: MultiTask, images: dict[str, Tensor], config: Config, steps: int
) -> dict[str, Regularizer]:
    """Return the regularisers that a configuration asks for, by name, on the CPU as the network is then."""
    built = {name: build(network, images, config, steps) for name, build in REGULARIZERS.items()}
    return {name: regularizer for name, regularizer in built.items() if regularizer is not None}
