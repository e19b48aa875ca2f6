"""How much of a network can be pruned at most, before anything is."""

from __future__ import annotations

import torch

from .sparsifier import Sparsifier


def reachable_share(sparsifier: Sparsifier) -> float:
    """Return the share of the cost that goes where all is pruned but what ``min_keep_ratio`` protects."""
    every = sparsifier.least_important(1.0, torch.ones_like(sparsifier.cost_reduction)).cpu().numpy()
    return 1 - sparsifier.cost(sparsifier.penalised.pruned_channels(every)) / sparsifier.dense_cost
