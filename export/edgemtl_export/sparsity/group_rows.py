"""The proximal step of a training, in place: as `proximal.prox_in_metric`, by rows of the weights as they lie.

Most weights are in large tensors of which a row, or a filter, is in one group. Sums over a group are then sums over
rows, without a sorted copy of all weights; they run over chunks that stay in the cache. What is small, or grouped along
another axis, goes as one flat vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .partition import Partition
from .proximal import ITERATIONS, TINY

LARGE = 8192
"""Elements from which on a tensor is taken by its rows: below, calls cost more than a sorted copy."""
CHUNK = 262_144
"""Elements that are worked on at a time, so that what is computed of them stays in the cache."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A large tensor: its place among the parameters, and the group of each row, (n,), ``count`` for none."""

    index: int
    groups: Tensor
    metric: Tensor
    """Space for the optimiser's metric at the weights, by row, (n, N / n)."""

    def chunks(self, weight: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield the groups of some rows, and these rows of the weight, to write to, and of others as matrices.

        Elements of a row are in the order of the weight's memory, which a training may have made channels-last.
        """
        order, shape = _rows_first(weight), (len(self.groups), -1)
        rest = (t if t is self.metric else t.detach().permute(order).reshape(shape) for t in others)
        matrices = [weight.detach().permute(order).view(shape), *rest]
        height = max(1, CHUNK // matrices[0].shape[1]) if matrices[0].device.type == "cpu" else len(self.groups)
        for start in range(0, len(self.groups), height):
            rows = slice(start, start + height)
            yield self.groups[rows], *(matrix[rows] for matrix in matrices)


def _rows_first(weight: Tensor) -> tuple[int, ...]:
    """Return the dimensions as they lie in memory, the rows first."""
    strides = weight.stride()
    return 0, *sorted(range(1, weight.ndim), key=lambda dim: -strides[dim])


class GroupRows:
    """A partition's weights by rows; every result is that of the partition's own operations on the flat vector."""

    def __init__(self, network: nn.Module, partition: Partition) -> None:
        self.partition, self.count = partition, partition.count
        self.large: list[Rows] = []
        small = dict(partition.members)
        for index, (name, weight) in enumerate(zip(partition.names, partition.parameters(network), strict=True)):
            groups = partition.members[name]
            by_rows = groups.ndim == weight.ndim and groups.shape[0] == weight.shape[0] == groups.numel()
            if by_rows and weight.numel() >= LARGE and weight.permute(_rows_first(weight)).is_contiguous():
                flat = groups.reshape(-1)
                ids = torch.where(flat < 0, self.count, flat).to(weight.device)
                metric = torch.empty(len(flat), weight.numel() // len(flat), dtype=weight.dtype, device=weight.device)
                self.large.append(Rows(index, ids, metric))
                del small[name]
        self.rest = Partition(network, small, self.count)
        self.rest_indices = [i for i, name in enumerate(partition.names) if name in small]

    def to(self, device: torch.device) -> None:
        """Move its tensors to the device of the network."""
        self.large = [Rows(rows.index, rows.groups.to(device), rows.metric.to(device)) for rows in self.large]
        self.rest.to(device)

    def _rest(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensors[index].detach() for index in self.rest_indices]

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        return self.rest.gather(self._rest(tensors)) if self.rest_indices else self.rest.root_size.new_zeros(0)

    def products(self, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        """Return the sum of products over each group, (count,)."""
        sums = self._zeros()
        sums[:-1] = self.rest.sums(self._flat(left) * self._flat(right))
        for rows in self.large:
            for groups, a, b in rows.chunks(left[rows.index], right[rows.index]):
                sums.index_add_(0, groups, (a * b).sum(1))
        return sums[:-1]

    def _zeros(self) -> Tensor:
        return self.rest.root_size.new_zeros(self.count + 1)

    def zero(self, parameters: Sequence[Tensor], pruned: Tensor) -> None:
        """Make the groups of which ``pruned`` is true, (count,), exactly zero."""
        if self.rest_indices:
            rest = self._rest(parameters)
            self.rest.write(self.rest.gather(rest) * self.rest.expand((~pruned).to(rest[0])), rest)
        pruned = torch.cat([pruned, pruned.new_zeros(1)])
        for rows in self.large:
            weight = parameters[rows.index].detach()
            weight.index_fill_(0, pruned[rows.groups].nonzero().reshape(-1), 0.0)


MEAN_SQUARES = ("max_exp_avg_sq", "exp_avg_sq", "square_avg", "sum")
"""What optimisers call their running mean of squared gradients: Adam and its kin, RMSprop, Adagrad."""


def _mean_square(
    optimizer: torch.optim.Optimizer, settings: dict[int, dict[str, Any]], parameter: Tensor
) -> tuple[Tensor, float, float]:
    """Return v, s and ε of the optimiser's metric √v s + ε at a parameter.

    Those of 1 for an optimiser that has none, such as SGD, and where it took no step yet.
    """
    state = optimizer.state.get(parameter) or {}
    name = next((name for name in MEAN_SQUARES if isinstance(state.get(name), Tensor)), "")
    if not name or state[name].shape != parameter.shape:
        return torch.ones_like(parameter), 1.0, 0.0
    group = settings[id(parameter)]
    counted = "betas" in group and "step" in state
    scale = (1 - group["betas"][1] ** float(state["step"])) ** -0.5 if counted else 1.0
    return state[name].to(parameter.dtype), scale, group.get("eps", 0.0)


class ProximalStep:
    """One proximal step in the optimiser's metric: what it needs of the weights is read once, ``threshold`` first.

    ``threshold`` is the smallest τ at which each group becomes zero, (count,), as `proximal.zero_thresholds`.
    """

    def __init__(self, by_rows: GroupRows, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
        self.by_rows, self.parameters = by_rows, parameters
        rest = by_rows.rest
        self.flat_w = by_rows._flat(parameters)
        settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        small = [_mean_square(optimizer, settings, parameters[index]) for index in by_rows.rest_indices]
        if len({(scale, eps) for _, scale, eps in small}) == 1:
            self.flat_metric = rest.gather([v for v, _, _ in small]).sqrt_().mul_(small[0][1]).add_(small[0][2])
        else:
            self.flat_metric = rest.gather([v.sqrt() * s + eps for v, s, eps in small]) if small else self.flat_w
        sums = [by_rows._zeros() for _ in range(3)]
        squares = self.flat_w.square()
        for total, values in zip(
            sums, (squares * self.flat_metric.square(), squares, squares / self.flat_metric), strict=True
        ):
            total[:-1] = rest.sums(values)
        self.largest = by_rows._zeros()
        self.largest[:-1] = rest.maxima(self.flat_metric).clamp(min=0)
        for rows in by_rows.large:
            squares_mean, scale, eps = _mean_square(optimizer, settings, parameters[rows.index])
            for groups, w, d, v in rows.chunks(parameters[rows.index], rows.metric, squares_mean):
                torch.add(d.new_tensor(eps), torch.sqrt(v, out=d), alpha=scale, out=d)
                square = w * w
                sums[0].index_add_(0, groups, torch.linalg.vector_norm(w * d, dim=1).square_())
                sums[1].index_add_(0, groups, square.sum(1))
                sums[2].index_add_(0, groups, square.div_(d).sum(1))
                self.largest.scatter_reduce_(0, groups, d.amax(1), "amax")
        self._threshold = sums[0].sqrt()
        self.norms, self.weighted = sums[1].sqrt(), sums[2] / sums[1].clamp(min=TINY)

    @property
    def threshold(self) -> Tensor:
        """The smallest τ at which each group becomes zero, (count,)."""
        return self._threshold[:-1]

    def write(self, tau: Tensor, pruned: Tensor) -> None:
        """Write the proximal map for ``tau``, (count,), into the parameters, with ``pruned`` groups, (count,), zero."""
        by_rows, rest = self.by_rows, self.by_rows.rest
        tau = torch.cat([tau, tau.new_zeros(1)])
        zero = torch.cat([pruned, pruned.new_zeros(1)]) | (self._threshold <= tau)
        zero[-1] = False  # weights in no group stay
        theta = self._root(tau, zero)
        if by_rows.rest_indices:
            full = rest.expand(theta[:-1])
            x = self.flat_w * full / (full + rest.expand(tau[:-1]) / self.flat_metric).clamp(min=TINY)
            rest.write(x, by_rows._rest(self.parameters))
        for rows in by_rows.large:
            for groups, w, d in rows.chunks(self.parameters[rows.index], rows.metric):
                full, least = theta[groups, None], tau[groups, None].clamp(min=TINY)
                if bool((least > TINY).any()) or bool((full == 0).any()):
                    w.mul_((d * full).div_(torch.addcmul(least, full, d)))

    def _root(self, tau: Tensor, zero: Tensor) -> Tensor:
        """Return θ of each group, (count + 1,), 0 where it is zero: Newton's method as in `proximal`.

        It begins at the larger of two lower bounds. By Jensen's inequality ‖w‖ - Σ_i a_i w_i² / ‖w‖² is one, and near
        the root where τ is small against the group.
        """
        theta = torch.maximum(self.norms - tau * self.weighted, (self._threshold - tau) / self.largest.clamp(min=TINY))
        theta = torch.where(zero | (tau == 0), torch.ones_like(theta), theta)
        active = ~zero & (tau > 0)
        small = torch.finfo(theta.dtype).eps ** 0.5
        for _ in range(ITERATIONS):
            if not bool(active.any()):
                break
            squares, slopes = self._secular(theta, tau, active)
            squares = squares.clamp(min=TINY)
            step = ((squares.sqrt() - 1) * squares / slopes.clamp(min=TINY)).masked_fill(~active, 0.0)
            theta = theta + step
            active = active & (step.abs() > small * theta)  # quadratic: the next step is below the precision
        return theta.masked_fill(zero, 0.0)

    def _secular(self, theta: Tensor, tau: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ w²/(θ+a)² and Σ w²/(θ+a)³ of each group, (count + 1,) both, where ``active``."""
        by_rows, rest = self.by_rows, self.by_rows.rest
        squares, slopes = by_rows._zeros(), by_rows._zeros()
        inverse = 1 / (rest.expand(theta[:-1]) + rest.expand(tau[:-1]) / self.flat_metric)
        flat = (self.flat_w * inverse).square()
        squares[:-1], slopes[:-1] = rest.sums(flat), rest.sums(flat * inverse)
        for rows in by_rows.large:
            for groups, w, d in rows.chunks(self.parameters[rows.index], rows.metric):
                if not bool(active[groups].any()):
                    continue
                inverse = d / torch.addcmul(tau[groups, None], theta[groups, None], d)
                term = (w * inverse).square_()
                squares.index_add_(0, groups, term.sum(1))
                slopes.index_add_(0, groups, term.mul_(inverse).sum(1))
        return squares, slopes
