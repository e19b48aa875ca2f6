"""The abstract domain: what is known of a tensor, and the facts about channels that rules record.

Each tensor carries three things: a value, whether that value is constant (it does not depend on the input), and the id
of the channel that each element belongs to. All three are held compressed: of size 1 along every dimension in which
nothing changes (`broadcast`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.utils import _pytree as pytree

PINNED = 0
"""The id of every channel that must stay: inputs, outputs, and what an operator without a rule touches."""

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor under analysis: its concrete shape, and ``value``, ``const`` and ``ids``, each compressed.

    ``value`` is zero wherever it is not constant. ``ids`` is None for tensors that carry no channels: parameters and
    what is computed from them alone, all constant. ``source`` names the parameter or buffer that the value is.
    """

    shape: tuple[int, ...]
    value: Tensor
    const: Tensor
    ids: Tensor | None = None
    source: str = ""

    @property
    def zero(self) -> Tensor:
        """Where the value is constantly zero, compressed."""
        return self.const & (self.value == 0)

    def expand(self, data: Tensor) -> Tensor:
        """Return compressed data at this value's full size (a view)."""
        return data.expand(self.shape)


@dataclass(frozen=True, eq=False)
class Read:
    """A dependency: output ``out_ids[g, o]`` needs ``in_ids[g, i]`` where ``needs[g, o, i]`` and ``required[g, i]``.

    ``required`` is False for inputs that are constant and can be folded; ``nonzero`` marks those of them that are not
    zero.
    """

    node: fx.Node
    out_ids: Ids
    in_ids: Ids
    needs: Mask
    required: Mask
    nonzero: Mask
    weight: str = ""
    """The weight that reads, where the node is a convolution or linear layer: its inputs can be pruned and folded."""

    def needed_by(self, outputs: Mask) -> Mask:
        """Return which inputs some of these outputs need."""
        if len(outputs) == 1:  # without a copy of all
            return np.asarray(self.needs[0][outputs[0]].any(0))[None]
        return np.asarray((self.needs & outputs[:, :, None]).any(1))


@dataclass(frozen=True, eq=False)
class Grouped:
    """Channels (groups, channels a group) of which every group that stays must keep the same number."""

    node: fx.Node
    in_ids: Ids
    out_ids: Ids


@dataclass(frozen=True, eq=False)
class Gather:
    """An operand that its reader gets in another layout: fewer channels, or more of them, filled with constants."""

    operand: Value
    ids: Tensor
    dim: int
    fill: Tensor
    """The value of each channel along ``dim`` where it is constant, else 0."""


def unknown(shape: Sequence[int], ids: Tensor | None) -> Value:
    """Return a value of which nothing is known but its shape and channels."""
    ndim = len(shape)
    value, const = torch.zeros((1,) * ndim, dtype=torch.float64), torch.zeros((1,) * ndim, dtype=torch.bool)
    return Value(tuple(shape), value, const, ids)


def pinned_like(tensor: Tensor) -> Value:
    """Return an unknown value of a tensor's shape and dtype whose channels are all pinned."""
    blank = torch.zeros((1,) * tensor.ndim)
    dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
    return Value(tuple(int(s) for s in tensor.shape), blank.to(dtype), blank.bool(), blank.long())


def along(data: Tensor, dim: int, ndim: int) -> Tensor:
    """Return data (n,) as a compressed tensor that varies along ``dim`` alone."""
    sizes = [1] * ndim
    sizes[dim] = -1
    return data.reshape(sizes)


def mask_unknown(value: Tensor, const: Tensor) -> tuple[Tensor, Tensor]:
    """Return (value, const), value zero and const False wherever it is not constant and finite."""
    if value.is_floating_point() or value.is_complex():
        const = const & value.isfinite()
    return torch.where(const, value, torch.zeros_like(value)), const


def rows(data: Tensor, dim: int) -> Tensor:
    """Return compressed data as a matrix, a row for each index along ``dim``."""
    return data.movedim(dim, 0).reshape(data.shape[dim], -1)


def uniform_constants(value: Value, dim: int) -> tuple[Tensor, Tensor]:
    """Return for every channel along ``dim`` whether it is one constant everywhere, and that constant (float64)."""
    flat_const, flat_value = rows(value.const, dim), rows(value.value, dim)
    constant = flat_const.all(1) & (flat_value == flat_value[:, :1]).all(1)
    amount = torch.where(constant, flat_value[:, 0].double(), torch.zeros((), dtype=torch.float64))
    return constant.expand(value.shape[dim]), amount.expand(value.shape[dim])


def to_float64(value: Tensor) -> Tensor:
    """Return floating values as float64: constants are folded without rounding."""
    return value.double() if value.is_floating_point() else value


def values_in(tree: Any) -> list[Value]:
    """Return the values in a tree of arguments or results."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Value)]


def ids_along(value: Value, dim: int) -> Ids:
    """Return the ids (n,) of a value along a dimension (those at index 0 of every other)."""
    assert value.ids is not None
    column = value.ids.movedim(dim, 0).reshape(value.ids.shape[dim], -1)[:, 0]
    ids: Ids = column.expand(value.shape[dim]).numpy()
    return ids
