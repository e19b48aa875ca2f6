"""The groups of weights of a group lasso, as one flat vector that is sorted by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..groups import Groups

GroupForm = Literal["coupled", "input", "output"]
"""What a group is, as `penalised_groups` describes."""
Ids = NDArray[np.int64]


class Partition:
    """Groups 0 to ``count`` - 1 of the elements of a network's parameters; sums over groups take one pass.

    ``members`` gives for each parameter the group of each of its elements, or of each of its rows (then the shape is
    such that it broadcasts), -1 for what is in none. ``flat`` vectors hold the elements group by group, (N,).
    """

    def __init__(self, network: nn.Module, members: dict[str, Tensor], count: int) -> None:
        self.members = members
        self.names = [name for name, _ in network.named_parameters() if name in members]
        parameters = self.parameters(network)
        device = parameters[0].device if parameters else torch.device("cpu")
        parts = [members[n].to(device).expand(p.shape).reshape(-1) for n, p in zip(self.names, parameters, strict=True)]
        group_ids = torch.cat([*parts, torch.empty(0, dtype=torch.long, device=device)])
        order = group_ids.argsort(stable=True)
        self.count, self.order = count, order[group_ids[order] >= 0]
        self.group_ids = group_ids[self.order]
        """The group of each element of a flat vector, (N,), ascending."""
        self.sizes = torch.bincount(self.group_ids, minlength=count)
        self.root_size = self.sizes.to(torch.get_default_dtype()).sqrt()

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network."""
        self.order, self.group_ids = self.order.to(device), self.group_ids.to(device)
        self.sizes, self.root_size = self.sizes.to(device), self.root_size.to(device)

    def parameters(self, network: nn.Module) -> list[Tensor]:
        """Return the parameters of a network that have elements in a group."""
        named = dict(network.named_parameters())
        return [named[name] for name in self.names]

    def groups_of(self, name: str) -> Tensor:
        """Return the groups that a parameter has elements in."""
        groups: Tensor = self.members[name].unique()
        return groups[groups >= 0]

    def gather(self, tensors: list[Tensor]) -> Tensor:
        """Return tensors that are shaped as `parameters` as one flat vector, differentiably."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors]).index_select(0, self.order)

    def scatter(self, flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
        """Return ``tensors`` with the elements that are in a group from ``flat``, differentiably."""
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors]).index_copy(0, self.order, flat)
        parts = whole.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    @torch.no_grad()
    def write(self, flat: Tensor, parameters: list[Tensor]) -> None:
        """Write a flat vector into `parameters`."""
        for parameter, value in zip(parameters, self.scatter(flat, parameters), strict=True):
            parameter.copy_(value)

    def sums(self, flat: Tensor) -> Tensor:
        """Return the sum over each group, (count,)."""
        return torch.segment_reduce(flat, "sum", lengths=self.sizes, unsafe=True)

    def maxima(self, flat: Tensor) -> Tensor:
        """Return the maximum over each group, (count,)."""
        return torch.segment_reduce(flat, "max", lengths=self.sizes, unsafe=True)

    def expand(self, values: Tensor) -> Tensor:
        """Return each group's value at each of its elements, (N,)."""
        return values.index_select(0, self.group_ids)

    def norms(self, network: nn.Module) -> Tensor:
        """Return the Euclidean norm of every group, (count,)."""
        w = self.gather(self.parameters(network)).detach()
        return self.sums(w.square()).sqrt()


@dataclass(frozen=True, eq=False)
class PenalisedGroups:
    """A partition, and which channels its groups prune.

    A channel (a group of ``groups``) is pruned when all groups of the partition that it depends on are zero.
    """

    partition: Partition
    groups: Groups
    layers: list[Ids]
    """The groups that a layer makes and, where they are coupled, those that it reads; a group may be in several."""
    channels: Ids
    """(K,) with ``depends_on``, (K,): pairs of a channel and a group of the partition that it depends on."""
    depends_on: Ids

    def pruned_channels(self, zero: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which channels are pruned, (groups.count,), when these groups of the partition, (count,), are zero."""
        needed = np.bincount(self.channels, minlength=self.groups.count)
        zeros = np.bincount(self.channels[zero[self.depends_on]], minlength=self.groups.count)
        pruned: NDArray[np.bool_] = (needed > 0) & (needed == zeros)
        return pruned

    def distribute(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return channels' values, (groups.count,), divided evenly among the groups each depends on, (count,)."""
        needed = np.bincount(self.channels, minlength=self.groups.count)
        shares = (values / np.maximum(needed, 1))[self.channels]
        return np.bincount(self.depends_on, shares, self.partition.count).astype(np.float64, copy=False)


class _Pairs(NamedTuple):
    channels: list[Ids]
    depends_on: list[Ids]


def penalised_groups(
    network: nn.Module, groups: Groups, form: GroupForm = "coupled", scope: str = ""
) -> PenalisedGroups:
    """Return the groups of a network, or of a part of it like "trunk", that the group lasso penalises.

    ``coupled``: what makes one removable channel anywhere, with the scale and shift after it. ``output``: a filter of
    one convolution, with the scale and shift after it. ``input``: what one convolution reads of one channel (the
    thesis' groups, R. Upadhyay 2025). Raises ValueError where there is none.
    """
    prefix = f"{scope}." if scope else ""
    names = [name for name, _ in network.named_parameters() if name.startswith(prefix)]
    penalised = _coupled(network, groups, names) if form == "coupled" else _single(network, groups, names, form)
    if not penalised.partition.count:
        raise ValueError(f"no channel of {scope or 'the network'} could be removed: nothing to make sparse")
    return penalised


def _coupled(network: nn.Module, groups: Groups, names: list[str]) -> PenalisedGroups:
    in_scope = set(names)
    outside = [rows for name, rows in groups.rows.items() if name not in in_scope]
    excluded = np.unique(np.concatenate(outside)) if outside else np.empty(0, np.int64)
    index = np.full(groups.count + 1, -1, np.int64)  # the last entry is group -1's
    inside = [rows for name, rows in groups.rows.items() if name in in_scope]
    included = np.setdiff1d(np.concatenate(inside) if inside else excluded, [*excluded, -1])
    index[included] = np.arange(len(included))
    members: dict[str, Tensor] = {}
    layers: list[Ids] = []
    for name in names:
        if name in groups.rows and (index[groups.rows[name]] >= 0).any():
            rows = index[groups.rows[name]]
            dims, axis = len(groups.shapes[name]), groups.axis(name)
            members[name] = torch.from_numpy(rows).view([-1 if d == axis else 1 for d in range(dims)])
        if name in groups.dims and len(groups.shapes[name]) > 1:
            along = [index[ids] for ids in groups.dims[name].values()]
            layers += [ids[ids >= 0] for ids in along if (ids >= 0).any()]
    partition = Partition(network, members, len(included))
    return PenalisedGroups(partition, groups, layers, included, np.arange(len(included)))


def _single(network: nn.Module, groups: Groups, names: list[str], form: GroupForm) -> PenalisedGroups:
    """Return a group for each input, or each output, of each convolution by itself."""
    in_scope, modules = set(names), dict(network.named_modules())
    members: dict[str, Tensor] = {}
    layers: list[Ids] = []
    pairs = _Pairs([], [])
    count = 0
    for path, conv in modules.items():
        name = f"{path}.weight"
        if not isinstance(conv, _ConvNd) or name not in in_scope or conv.transposed:
            continue
        ids = np.arange(count, count + (conv.in_channels if form == "input" else conv.out_channels))
        if form == "input":
            columns = torch.from_numpy(ids).view(conv.groups, 1, -1)
            columns = columns.expand(-1, conv.out_channels // conv.groups, -1).flatten(0, 1)
            members[name] = columns.reshape(*columns.shape, *[1] * len(conv.kernel_size))
        else:
            for parameter in (name, *_affine(path, modules, groups)):
                members[parameter] = torch.from_numpy(ids).view([-1] + [1] * (len(groups.shapes[parameter]) - 1))
                pairs.channels.append(groups.rows[parameter])
                pairs.depends_on.append(ids)
        count += len(ids)
        layers.append(ids)
    if form == "input":
        pairs = _readers(groups, members)
    flat = np.stack([np.concatenate(ids) for ids in pairs]) if pairs.channels else np.empty((2, 0), np.int64)
    flat = flat[:, flat[0] >= 0]
    flat = flat[:, ~np.isin(flat[0], _not_covered(groups, members, form))]
    return PenalisedGroups(Partition(network, members, count), groups, layers, flat[0], flat[1])


def _affine(path: str, modules: dict[str, nn.Module], groups: Groups) -> list[str]:
    """Return a convolution's bias, and the scale and shift of the normalisation after it that has the same rows."""
    paths = list(modules)
    rows = groups.rows.get(f"{path}.weight", np.empty(0))
    names = [f"{path}.bias"]
    for after in paths[paths.index(path) + 1 :]:
        if isinstance(modules[after], _ConvNd):
            break
        if isinstance(modules[after], _BatchNorm):
            names += [f"{after}.weight", f"{after}.bias"]
            break
    return [name for name in names if np.array_equal(groups.rows.get(name, np.empty(1)), rows)]


def _readers(groups: Groups, members: dict[str, Tensor]) -> _Pairs:
    """Return every channel that convolutions read, with the group of what is read."""
    pairs = _Pairs([], [])
    for name, along in groups.dims.items():
        if name in members and 1 in along:
            columns = members[name].flatten(2)[:, :, 0]
            for block in columns.unique(dim=0).numpy():
                pairs.channels.append(along[1])
                pairs.depends_on.append(block)
    return pairs


def _not_covered(groups: Groups, members: dict[str, Tensor], form: GroupForm) -> Ids:
    """Return the channels that other parameters make or read, so that these groups alone cannot prune them."""
    others = []
    for name in groups.dims.keys() - members.keys():
        for dim, ids in groups.dims[name].items():
            makes = dim == groups.axis(name)
            if (makes and form == "output" and name in groups.rows) or (not makes and form == "input"):
                others.append(ids)
    return np.unique(np.concatenate(others)) if others else np.empty(0, np.int64)
