"""The choice of an importance: each prunes a part of the network at once, and what is left is evaluated.

Each is tried as it is, and with the sensitivity of the layers: what the network loses when half of one layer alone is
pruned is measured, and divided among the layer's groups by their importance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..processes import first_decides
from .importance import ImportanceName

if TYPE_CHECKING:
    from .sparsifier import Sparsifier

Loss = Callable[[], float]
TRIAL = 0.4
"""The share of the target that is pruned at once in a trial."""
LEAST = 1e-3
"""A layer counts for so much of the median layer, or more: an evaluation on few images is noisy."""
TINY = 1e-30


class Trial(NamedTuple):
    """The loss that an importance leaves, with or without the measured sensitivity of each layer."""

    importance: ImportanceName
    by_layer: bool
    loss: float


@torch.no_grad()
def choose(sparsifier: Sparsifier, loss: Loss) -> list[Trial]:
    """Let the best importance count, and return what was tried, best first; ``loss`` evaluates the present model."""
    importance = sparsifier.importance
    importance.of_layer.fill_(1.0)
    dense = loss_without(sparsifier, sparsifier.pruned, loss)  # this takes activations in, and the trials do not
    trials: list[tuple[Trial, Tensor]] = []
    with importance.paused():
        for name in importance.names:
            values = importance.of(sparsifier.parameters, name)
            if bool(((values > 0) & values.isfinite()).any()):
                sensitivities = layer_sensitivities(sparsifier, name, loss, dense)
                for by_layer, factor in ((False, torch.ones_like(sensitivities)), (True, sensitivities)):
                    pruned = sparsifier.least_important(TRIAL * sparsifier.target, values * factor[importance.layer])
                    trials.append((Trial(name, by_layer, loss_without(sparsifier, pruned, loss)), factor))
    trials.sort(key=lambda t: t[0].loss)
    if trials:
        importance.of_layer = trials[0][1]
        importance.only(trials[0][0].importance)
    return [trial for trial, _ in trials]


def layer_sensitivities(sparsifier: Sparsifier, name: ImportanceName, loss: Loss, dense: float) -> Tensor:
    """Return what the importance of each layer's groups is to be multiplied by, (layers,).

    Half of each layer is pruned by itself; its importance then sums to what the loss rises by from ``dense``.
    """
    importance, blocks = sparsifier.importance.of(sparsifier.parameters, name).cpu(), sparsifier.blocks
    present = ~sparsifier.pruned.cpu()
    factors = torch.full((len(sparsifier.importance.of_layer),), math.nan)
    rises = np.zeros(len(blocks.parts))
    for number, part in enumerate(blocks.parts):
        members = torch.from_numpy(part)
        members = members[present[members] & importance[members].isfinite()]
        if not len(members):
            continue
        order = members[importance[members].argsort(stable=True)]
        least = order[: max(1, len(order) // 2)]
        pruned = sparsifier.pruned.clone()
        pruned[least.to(pruned.device)] = True
        rises[number] = loss_without(sparsifier, pruned, loss) - dense
        factors[blocks.layer[part[0]]] = 1 / max(float(importance[least].sum()), TINY)
        sparsifier.progress(f"measuring layers ({name})", number + 1, len(blocks.parts))
    rises = rises.clip(min=LEAST * max(float(np.median(rises)), TINY))
    factors[[blocks.layer[part[0]] for part in blocks.parts]] *= torch.from_numpy(rises).float()
    return torch.nan_to_num(factors, nan=float(factors.nanmedian())).to(sparsifier.importance.of_layer)


def loss_without(sparsifier: Sparsifier, pruned: Tensor, loss: Loss) -> float:
    """Return the loss with some groups zero, infinite where it is none; the weights are as before then."""
    kept = [p.detach().clone() for p in sparsifier.parameters]
    try:
        sparsifier.by_rows.zero(sparsifier.parameters, pruned)
        value = float(loss())
    finally:
        for parameter, before in zip(sparsifier.parameters, kept, strict=True):
            parameter.detach().copy_(before)
    return first_decides(lambda: value if math.isfinite(value) else math.inf)
