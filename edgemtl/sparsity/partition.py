"""The groups of weights that a penalty takes together, laid out one behind the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgemtl_export.groups import Groups

from ..errors import ConfigError

Kind = Literal["coupled", "input", "output"]
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
        of = torch.cat([*parts, torch.empty(0, dtype=torch.long, device=device)])
        ordered = of.argsort(stable=True)
        self.count, self.order = count, ordered[of[ordered] >= 0]
        self.of = of[self.order]
        self.sizes = torch.bincount(self.of, minlength=count)
        self.root_size = self.sizes.to(torch.get_default_dtype()).sqrt()

    def to(self, device: torch.device) -> None:
        """Follow the network to a device."""
        self.order, self.of, self.sizes, self.root_size = (
            t.to(device) for t in (self.order, self.of, self.sizes, self.root_size)
        )

    def parameters(self, network: nn.Module) -> list[Tensor]:
        """Return the parameters that have a part in a group."""
        named = dict(network.named_parameters())
        return [named[name] for name in self.names]

    def groups_of(self, name: str) -> Tensor:
        """Return the groups that a parameter has a part in."""
        found = self.members[name].unique()
        return found[found >= 0]

    def gather(self, tensors: list[Tensor]) -> Tensor:
        """Return tensors that are shaped as `parameters` as one flat vector, differentiably."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors]).index_select(0, self.order)

    def placed(self, flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
        """Return ``tensors`` with the elements that are in a group from ``flat``, differentiably."""
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors]).index_copy(0, self.order, flat)
        parts = whole.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    @torch.no_grad()
    def put(self, flat: Tensor, parameters: list[Tensor]) -> None:
        """Write a flat vector into `parameters`."""
        for parameter, value in zip(parameters, self.placed(flat, parameters), strict=True):
            parameter.copy_(value)

    def sums(self, flat: Tensor) -> Tensor:
        """Return the sum over each group, (count,)."""
        return torch.segment_reduce(flat, "sum", lengths=self.sizes, unsafe=True)

    def largest(self, flat: Tensor) -> Tensor:
        """Return the maximum over each group, (count,)."""
        return torch.segment_reduce(flat, "max", lengths=self.sizes, unsafe=True)

    def spread(self, values: Tensor) -> Tensor:
        """Return each group's value at each of its elements, (N,)."""
        return values.index_select(0, self.of)

    def norms(self, network: nn.Module) -> Tensor:
        """Return the Euclidean norm of every group, (count,)."""
        return self.sums(self.gather(self.parameters(network)).detach().square()).sqrt()

    def scale(self, network: nn.Module, factors: Tensor) -> None:
        """Multiply every group by its factor, (count,); 0 makes it exactly zero."""
        parameters = self.parameters(network)
        self.put(self.gather(parameters).detach() * self.spread(factors), parameters)


@dataclass(frozen=True, eq=False)
class Penalised:
    """A partition, and what its groups mean for the channels that shrinking removes.

    A channel (a group of ``groups``) goes when all groups of the partition that it ``needs`` are zero.
    """

    partition: Partition
    groups: Groups
    layers: list[Ids]
    """The groups that a layer makes and, where they are coupled, those that it reads; a group may be in several."""
    channel: Ids
    """Channels, (K,), and beside each a group that it ``needs``, (K,)."""
    needs: Ids

    def gone(self, dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which channels go, (groups.count,), when these groups of the partition, (count,), are zero."""
        needed = np.bincount(self.channel, minlength=self.groups.count)
        there = np.bincount(self.channel[dead[self.needs]], minlength=self.groups.count)
        out: NDArray[np.bool_] = (needed > 0) & (needed == there)
        return out

    def shared_out(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return channels' values, (groups.count,), shared out evenly among what each needs, (count,)."""
        needed = np.bincount(self.channel, minlength=self.groups.count)
        return np.bincount(self.needs, (values / np.maximum(needed, 1))[self.channel], self.partition.count)


def penalised(network: nn.Module, groups: Groups, kind: Kind = "coupled", part: str = "") -> Penalised:
    """Return the groups of a network, or of a ``part`` of it like "trunk", that a penalty makes zero.

    ``coupled``: what makes one removable channel anywhere, with the scale and shift behind it. ``output``: a filter of
    one convolution, with the scale and shift behind it. ``input``: what one convolution reads of one channel (the
    thesis' groups, R. Upadhyay 2025). Raises `ConfigError` where there is none.
    """
    inside = f"{part}." if part else ""
    names = [name for name, _ in network.named_parameters() if name.startswith(inside)]
    made = _coupled(network, groups, names) if kind == "coupled" else _single(network, groups, names, kind)
    if not made.partition.count:
        raise ConfigError(f"no channel of {part or 'the network'} could be removed: nothing to make sparse")
    return made


def _coupled(network: nn.Module, groups: Groups, names: list[str]) -> Penalised:
    chosen = set(names)
    outside = [rows for name, rows in groups.rows.items() if name not in chosen]
    barred = np.unique(np.concatenate(outside)) if outside else np.empty(0, np.int64)
    number = np.full(groups.count + 1, -1, np.int64)  # the last entry is group -1's
    inside = [rows for name, rows in groups.rows.items() if name in chosen]
    taken = np.setdiff1d(np.concatenate(inside) if inside else barred, [*barred, -1])
    number[taken] = np.arange(len(taken))
    members, layers = {}, []
    for name in names:
        if name in groups.rows and (number[groups.rows[name]] >= 0).any():
            rows = number[groups.rows[name]]
            dims, axis = len(groups.shapes[name]), groups.axis(name)
            members[name] = torch.from_numpy(rows).view([-1 if d == axis else 1 for d in range(dims)])
        if name in groups.dims and len(groups.shapes[name]) > 1:
            along = [number[ids] for ids in groups.dims[name].values()]
            layers += [ids[ids >= 0] for ids in along if (ids >= 0).any()]
    return Penalised(Partition(network, members, len(taken)), groups, layers, taken, np.arange(len(taken)))


def _single(network: nn.Module, groups: Groups, names: list[str], kind: Kind) -> Penalised:
    """Number the inputs or the outputs of each convolution by itself."""
    chosen, modules = set(names), dict(network.named_modules())
    members: dict[str, Tensor] = {}
    layers: list[Ids] = []
    channel: list[Ids] = []
    needs: list[Ids] = []
    count = 0
    for path, conv in modules.items():
        name = f"{path}.weight"
        if not isinstance(conv, _ConvNd) or name not in chosen or conv.transposed:
            continue
        numbers = np.arange(count, count + (conv.in_channels if kind == "input" else conv.out_channels))
        if kind == "input":
            across = torch.from_numpy(numbers).view(conv.groups, 1, -1)
            across = across.expand(-1, conv.out_channels // conv.groups, -1).flatten(0, 1)
            members[name] = across.reshape(*across.shape, *[1] * len(conv.kernel_size))
        else:
            for each in (name, *_behind(path, modules, groups)):
                members[each] = torch.from_numpy(numbers).view([-1] + [1] * (len(groups.shapes[each]) - 1))
                channel.append(groups.rows[each])
                needs.append(numbers)
        count += len(numbers)
        layers.append(numbers)
    if kind == "input":
        channel, needs = _readers(groups, members)
    pairs = np.stack([np.concatenate(channel), np.concatenate(needs)]) if channel else np.empty((2, 0), np.int64)
    pairs = pairs[:, pairs[0] >= 0]
    missing = _missing(groups, members, kind)
    pairs = pairs[:, ~np.isin(pairs[0], missing)]
    return Penalised(Partition(network, members, count), groups, layers, pairs[0], pairs[1])


def _behind(path: str, modules: dict[str, nn.Module], groups: Groups) -> list[str]:
    """Return a convolution's bias, and the scale and shift of the normalisation that follows it and makes its rows."""
    paths = list(modules)
    rows = groups.rows.get(f"{path}.weight", np.empty(0))
    found = [f"{path}.bias"]
    for after in paths[paths.index(path) + 1 :]:
        if isinstance(modules[after], _ConvNd):
            break
        if isinstance(modules[after], _BatchNorm):
            found += [f"{after}.weight", f"{after}.bias"]
            break
    return [name for name in found if np.array_equal(groups.rows.get(name, np.empty(1)), rows)]


def _readers(groups: Groups, members: dict[str, Tensor]) -> tuple[list[Ids], list[Ids]]:
    """Return every channel that convolutions read, and beside it the group of what is read."""
    channel, needs = [], []
    for name, along in groups.dims.items():
        if name in members and 1 in along:
            columns = members[name].flatten(2)[:, :, 0]
            for block in columns.unique(dim=0).numpy():
                channel.append(along[1])
                needs.append(block)
    return channel, needs


def _missing(groups: Groups, members: dict[str, Tensor], kind: Kind) -> Ids:
    """Return the channels that somebody else makes or reads, so that these groups alone cannot remove them."""
    others = []
    for name in groups.dims.keys() - members.keys():
        for dim, ids in groups.dims[name].items():
            makes = dim == groups.axis(name)
            if (makes and kind == "output" and name in groups.rows) or (not makes and kind == "input"):
                others.append(ids)
    return np.unique(np.concatenate(others)) if others else np.empty(0, np.int64)
