"""The latency of a network at any widths, from what was measured of its blocks and of some whole narrow networks.

    t = a Σ_blocks t_b(reads, makes) + Σ_kinds c_kind bytes_kind + t_0

t_b is interpolated in both widths between those that were measured. A back end computes channels by so many at a time,
its ``step``, which is the one that explains the whole networks best: widths count as rounded up to a multiple of it
(those below it have kernels of their own), and what moves channels in no multiple of it is a kind of its own. The
coefficients are the non-negative least squares of the relative error.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..groups import Widths
from .blocks import NetworkBlocks
from .probe import BlockAt, Mask, Probe, block_name, network_name

Values = NDArray[np.float64]
STEPS = (1, 4, 8, 16, 32, 64)
"""How many channels a back end may compute at a time."""
CPU_STEP = 16
"""The most that a processor does: the numbers in a vector register of AVX-512."""
KINDS = ("moved", "other", "products")
PRIOR = 0.1
"""The weight of an equation that says that blocks take the time that they take by themselves."""
LEAST_MS = 1e-4


class Latency:
    """Milliseconds of a network as a function of which groups are pruned; a `sparsity.costs.CostMetric` of them."""

    def __init__(self, probe: Probe, times_ms: Mapping[str, float], most_step: int = STEPS[-1]) -> None:
        """``times_ms`` holds the time of every model of the probe, by name.

        A step over ``most_step`` is not looked for: some narrow networks alone may seem to have one by chance.
        """
        self.blocks = _Blocks(probe, times_ms)
        self.traffic = _Traffic(probe.coupled.count, probe.parts)
        measured = np.array([times_ms[network_name(n)] for n in range(len(probe.pruned))])
        fits = [(step, self._fit(probe.pruned, measured, step)) for step in STEPS if step <= most_step]
        self.step, (self.coefficients, self.residual) = min(fits, key=lambda fit: fit[1][1])
        self.known = [(1.0, 1.0)]
        """(share of the dense time by the model, measured time by the model's), pairs that `correct` added."""
        self.dense = self._model(None)
        self.known = [(1.0, float(measured[0] / self.dense))]

    def __call__(self, pruned: Mask | None = None) -> float:
        """Return the milliseconds without the ``pruned`` groups, (groups,)."""
        time = self._model(pruned)
        shares, factors = zip(*sorted(self.known), strict=True)
        return float(time * np.interp(time / self.dense, shares, factors))

    def reductions(self, pruned: Mask | None = None) -> Values:
        """Return the milliseconds that each group takes away with the others as they are, (groups,); never negative."""
        slopes: Values = self.coefficients[0] * self.blocks.slopes(pruned)
        slopes = slopes + self.traffic.slopes(pruned, self.step, self.coefficients[1:-1])
        return slopes.clip(min=0.0)

    def correct(self, pruned: Mask, measured_ms: float) -> None:
        """Take in a measurement of the whole network with some groups pruned."""
        time = self._model(pruned)
        self.known.append((time / self.dense, measured_ms / time))

    def _model(self, pruned: Mask | None) -> float:
        return float(self._features(pruned, self.step) @ self.coefficients)

    def _features(self, pruned: Mask | None, step: int) -> Values:
        return np.array([self.blocks.total_ms(pruned, step), *self.traffic.totals(pruned, step), 1.0])

    def _fit(self, pruned: list[Mask], measured: Values, step: int) -> tuple[Values, float]:
        """Return the coefficients, and the root mean square of the relative error."""
        rows = np.stack([self._features(mask, step) for mask in pruned]) / measured[:, None]
        prior = np.zeros((1, rows.shape[1]))
        prior[0, 0] = PRIOR
        coefficients, residual = nnls(np.vstack([rows, prior]), np.append(np.ones(len(rows)), PRIOR))
        return coefficients, float(residual / len(rows) ** 0.5)


def nnls(rows: Values, wanted: Values) -> tuple[Values, float]:
    """Return the non-negative x that brings ``rows`` x nearest to what is ``wanted``, and the distance.

    It is the best of the least squares of all subsets of the few columns.
    """
    best = np.zeros(rows.shape[1]), float(np.linalg.norm(wanted))
    for used in itertools.product((False, True), repeat=rows.shape[1]):
        columns = np.flatnonzero(used)
        x = np.zeros(rows.shape[1])
        x[columns] = np.linalg.lstsq(rows[:, columns], wanted, rcond=None)[0]
        distance = float(np.linalg.norm(rows @ x - wanted))
        if (x >= 0).all() and distance < best[1]:
            best = x, distance
    return best


class _Blocks:
    """The time of all blocks by their widths; tables are padded to one size, so that all are looked up at once."""

    def __init__(self, probe: Probe, times_ms: Mapping[str, float]) -> None:
        marks = 1 + max([len(m) for b in probe.blocks for m in (b.read_marks, b.make_marks)], default=1)
        count = len(probe.blocks)
        self.marks = np.full((2, count, marks), np.inf)
        self.times = np.zeros((count, marks, marks))
        for number, block in enumerate(probe.blocks):
            self._fill(number, block, times_ms)
        self.index = probe.block_of
        parts = probe.parts.blocks
        self.widths = Widths(probe.coupled.count, [ids for b in parts for ids in (b.reads, b.makes)])

    def _fill(self, number: int, block: BlockAt, times_ms: Mapping[str, float]) -> None:
        """Enter a block's times; nothing of width 0 takes none."""
        for axis, marks in enumerate((block.read_marks, block.make_marks)):
            self.marks[axis, number, : len(marks) + 1] = (0, *marks)
        for i, reads in enumerate(block.read_marks):
            for o, makes in enumerate(block.make_marks):
                once, thrice = (times_ms[block_name(number, reads, makes, copies)] for copies in (1, 3))
                self.times[number, i + 1, o + 1] = max((thrice - once) / 2, LEAST_MS)

    def total_ms(self, pruned: Mask | None, step: int) -> float:
        """Return the sum of the blocks' times."""
        full, now = self.widths.whole.reshape(-1, 2), self.widths(pruned).reshape(-1, 2)
        cells, weights = self._cells(np.where(now < step, now, np.minimum(-(-now // step) * step, full)))
        corners = self._corners(cells)
        (a, b), (c, d) = corners
        x, y = weights
        return float(((1 - x) * ((1 - y) * a + y * b) + x * ((1 - y) * c + y * d)).sum())

    def slopes(self, pruned: Mask | None) -> Values:
        """Return the time that a channel less takes away, by group."""
        cells, (x, y) = self._cells(self.widths(pruned).reshape(-1, 2))
        (a, b), (c, d) = self._corners(cells)
        spans = [
            self.marks[axis, self.index, cells[axis] + 1] - self.marks[axis, self.index, cells[axis]] for axis in (0, 1)
        ]
        by_reads = ((1 - y) * (c - a) + y * (d - b)) / spans[0]
        by_makes = ((1 - x) * (b - a) + x * (d - c)) / spans[1]
        return self.widths.over_groups(np.stack([by_reads, by_makes], 1).reshape(-1))

    def _cells(self, widths: NDArray[np.int64]) -> tuple[list[NDArray[np.int64]], list[Values]]:
        """Return between which marks each block's widths lie, and where between them, along both axes."""
        cells, weights = [], []
        for axis in (0, 1):
            marks, width = self.marks[axis, self.index], widths[:, axis]
            cell = np.maximum((marks < width[:, None]).sum(1) - 1, 0)
            below, above = (np.take_along_axis(marks, (cell + k)[:, None], 1)[:, 0] for k in (0, 1))
            cells.append(cell)
            weights.append((width - below) / (above - below))
        return cells, weights

    def _corners(self, cells: list[NDArray[np.int64]]) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
        i, o = cells
        at = self.times[self.index]
        row = np.arange(len(at))
        return (at[row, i, o], at[row, i, o + 1]), (at[row, i + 1, o], at[row, i + 1, o + 1])


class _Traffic:
    """Megabytes that operators move, by kind: those of `Traffic`, then what is moved in no multiple of the step."""

    def __init__(self, count: int, parts: NetworkBlocks) -> None:
        traffic = parts.traffic
        self.widths = Widths(count, [t.channels for t in traffic])
        self.per_channel = 1e-6 * np.array([t.per_channel for t in traffic])
        self.kind = np.array([KINDS.index(t.kind) for t in traffic], np.int64)
        self.operator = np.unique([t.operator for t in traffic], return_inverse=True)[1].astype(np.int64)

    def _kinds(self, widths: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Return the kind of each, with those of an operator that moves anything in no multiple of the step."""
        odd = (widths % step != 0) & (self.widths.whole > 1)
        ragged = np.bincount(self.operator, odd)[self.operator] > 0
        return np.where((self.kind == 0) & ragged, len(KINDS), self.kind)

    def totals(self, pruned: Mask | None, step: int) -> Values:
        """Return the sums by kind."""
        widths = self.widths(pruned)
        return np.bincount(self._kinds(widths, step), widths * self.per_channel, len(KINDS) + 1).astype(np.float64)

    def slopes(self, pruned: Mask | None, step: int, coefficients: Values) -> Values:
        """Return the time that a channel less takes away, by group."""
        kinds = self._kinds(self.widths(pruned), step)
        return self.widths.over_groups(self.per_channel * coefficients[kinds])
