"""Pruning of parameters and buffers: the indices kept along each dimension, and the tensors cut to them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .analysis.values import Ids
from .plan import Plan

Keep = dict[str, dict[int, Ids]]
"""Of each parameter and buffer the kept indices by dimension; (groups, n) where groups differ."""


def kept_indices(plan: Plan, added: Mapping[str, Mapping[int, Ids]] | None = None) -> Keep:
    """Return the indices kept of each parameter and buffer that has channels, those ``added`` to the program too."""
    channels = plan.channels
    keep: Keep = {}
    for name, dims in {**channels.dims, **(added or {})}.items():
        keep[name] = {dim: np.flatnonzero(plan.is_active(ids)) for dim, ids in dims.items()}
    for name, ids in channels.block_ids.items():
        mask = plan.is_active(ids)
        rows = mask.any(1)
        keep[name][1] = np.stack([np.flatnonzero(m) for m in mask[rows]])
    return keep


def prune_state(state: Mapping[str, Tensor], keep: Keep) -> dict[str, Tensor]:
    """Return the parameters and buffers that become smaller."""
    small = {name: prune_tensor(state[name], dims) for name, dims in keep.items() if name in state}
    return {name: tensor for name, tensor in small.items() if tensor.shape != state[name].shape}


def prune_tensor(tensor: Tensor, dims: Mapping[int, Ids]) -> Tensor:
    """Return a tensor's kept entries."""
    groups = dims.get(1) if dims.get(1) is not None and dims[1].ndim == 2 else None
    for dim, indices in dims.items():
        if not (groups is not None and dim == 1) and len(indices) < tensor.shape[dim]:
            tensor = tensor.index_select(dim, torch.from_numpy(indices))
    if groups is not None and groups.shape[1] < tensor.shape[1]:
        rows = np.repeat(groups, len(tensor) // len(groups), axis=0)
        index = torch.from_numpy(rows).reshape(*rows.shape, *[1] * (tensor.ndim - 2))
        tensor = tensor.take_along_dim(index, 1)
    return tensor
