"""Latency-aware channel rounding: align="auto" and branches="auto", measured on ONNX Runtime.

Coupled layers are rounded to the same multiple. Multiples are first selected by coordinate descent over the groups of
coupled layers, on a latency lookup table of single convolutions; then whole programs are compared by interleaved
timing, the one without rounding among them, and the fastest is taken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from .analysis import Channels, Rule, analyse
from .analysis.ops.convolution import geometry
from .analysis.values import Ids
from .latency import Convolutions, compare
from .liveness import make_plan
from .plan import Plan
from .program import Program
from .rewrite import rewrite

MULTIPLES = (1, 8, 16)
GAIN = 0.98
"""Latency relative to the first candidate below which another one is taken: a smaller gain is noise."""


@dataclass(frozen=True)
class ChannelRounding:
    """Channel multiples by layer (a weight's name) or one for all, and which sums may gather their operands."""

    multiples: dict[str, int] | int
    may_gather: Callable[[fx.Node], bool]


def fastest_rounding(
    given: Program,
    inputs: Sequence[Any],
    align: int | str,
    branches: str,
    rewrite_norms: bool,
    rules: Mapping[str, Rule],
) -> ChannelRounding:
    """Return the fastest rounding of a program on this machine."""
    table = Convolutions()

    def as_asked(node: fx.Node) -> bool:
        return branches == "cut"

    def always(node: fx.Node) -> bool:
        return True

    policies = [as_asked] if branches != "auto" else [as_asked, always]
    candidates: list[ChannelRounding] = []
    for may_gather in policies:
        channels = analyse(given, inputs, rules, may_gather=may_gather, rewrite_norms=rewrite_norms)
        if align == "auto":
            candidates += [ChannelRounding(m, may_gather) for m in MULTIPLES]
            candidates.append(ChannelRounding(multiples_by_layer(make_plan(channels), table), may_gather))
        else:
            assert isinstance(align, int)
            candidates.append(ChannelRounding(align, may_gather))
    return _fastest(given, inputs, candidates, rewrite_norms, rules)


def _fastest(
    given: Program,
    inputs: Sequence[Any],
    candidates: list[ChannelRounding],
    rewrite_norms: bool,
    rules: Mapping[str, Rule],
) -> ChannelRounding:
    """Return the fastest candidate by the latency of whole programs; the first one unless another is clearly faster."""
    with tempfile.TemporaryDirectory() as folder:
        files: list[Path] = []
        distinct: list[ChannelRounding] = []
        programs: set[tuple[Callable[[fx.Node], bool], tuple[tuple[int, ...], ...]]] = set()
        for candidate in candidates:
            channels = analyse(given, inputs, rules, may_gather=candidate.may_gather, rewrite_norms=rewrite_norms)
            small, _ = rewrite(given, make_plan(channels, candidate.multiples))
            key = (candidate.may_gather, tuple(tuple(t.shape) for t in small.state.values()))
            if key in programs:
                continue
            programs.add(key)
            distinct.append(candidate)
            small.refresh()
            files.append(Path(folder) / f"{len(distinct)}.onnx")
            _write(small, files[-1])
        times = compare(files, [x.numpy() for x in inputs if isinstance(x, torch.Tensor)])
    best = int(np.argmin(times))
    return distinct[best] if times[best] < GAIN * times[0] else distinct[0]


def _write(program: Program, file: Path) -> None:
    from .to_onnx import onnx_of  # loads onnx, which not every removal needs

    file.write_bytes(onnx_of(program.to_exported()).SerializeToString())


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution of the lookup table: active and all channels of its input and output, by group of layers."""

    inputs: dict[int, tuple[int, int]]
    outputs: dict[int, tuple[int, int]]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    size: tuple[int, ...]

    def seconds(self, table: Convolutions, multiples: dict[int, int]) -> float:
        """Return the measured latency with a multiple for each group of layers."""
        counts = [
            sum(rounded(active, total, multiples.get(group, 1)) for group, (active, total) in side.items())
            for side in (self.inputs, self.outputs)
        ]
        return table(counts[0], counts[1], self.kernel, self.strides, self.pads, self.size)


def rounded(active: int, total: int, multiple: int) -> int:
    """Return the number of active channels rounded up to a multiple, ``total`` at most."""
    return min(total, -(-active // multiple) * multiple)


def multiples_by_layer(plan: Plan, table: Convolutions) -> dict[str, int]:
    """Return a multiple for every weight, by coordinate descent on the latency lookup table."""
    channels = plan.channels
    weights = [n for n in sorted(channels.producers) if channels.program.state[n].ndim > 1]
    group_of = _coupled(channels, weights)
    layers = _layers(plan, group_of)
    # A layer gains little before its neighbours are rounded too: the descent starts from every multiple for all.
    minima = [_descend(layers, dict.fromkeys(group_of.values(), start), table) for start in MULTIPLES]
    best = min(minima, key=lambda multiples: sum(layer.seconds(table, multiples) for layer in layers))
    return {name: best[group_of[name]] for name in weights}


def _descend(layers: list[Layer], multiples: dict[int, int], table: Convolutions) -> dict[int, int]:
    """Improve the multiple of one group of layers at a time, in place."""
    for _ in range(2):
        for group in sorted(multiples):
            affected = [layer for layer in layers if group in layer.inputs or group in layer.outputs]
            costs = [sum(layer.seconds(table, multiples | {group: m}) for layer in affected) for m in MULTIPLES]
            best = int(np.argmin(costs))
            if costs[best] < GAIN * costs[MULTIPLES.index(multiples[group])]:
                multiples[group] = MULTIPLES[best]
    return multiples


def _coupled(channels: Channels, weights: list[str]) -> dict[str, int]:
    """Number the groups of coupled layers: those that have output channels in common."""
    owner: dict[int, int] = {}
    group_of: dict[str, int] = {}
    for name in weights:
        roots = set(channels.roots[channels.output_ids(name)].tolist())
        known = {owner[r] for r in roots if r in owner}
        group = min(known, default=len(group_of))
        for other in known - {group}:
            group_of = {n: group if g == other else g for n, g in group_of.items()}
            owner = {r: group if g == other else g for r, g in owner.items()}
        owner |= dict.fromkeys(roots, group)
        group_of[name] = group
    return group_of


def _layers(plan: Plan, group_of: dict[str, int]) -> list[Layer]:
    """Return the convolutions that are neither grouped nor transposed, with the active channels of each."""
    channels = plan.channels
    owner = {int(r): g for name, g in group_of.items() for r in channels.roots[channels.output_ids(name)]}

    def counted(ids: Ids) -> dict[int, tuple[int, int]]:
        """Return how many channels are active, and how many there are, by group of layers."""
        sides: dict[int, list[int]] = {}
        roots = channels.roots[ids.reshape(-1)]
        for root, is_active in zip(roots.tolist(), plan.active[roots].tolist(), strict=True):
            side = sides.setdefault(owner.get(root, -1), [0, 0])
            side[0] += is_active
            side[1] += 1
        return {group: (side[0], side[1]) for group, side in sides.items()}

    layers = []
    for read in channels.reads:
        if not read.weight or channels.program.state[read.weight].ndim != 4 or len(read.in_ids) > 1:
            continue
        if geometry(read.node).transposed:
            continue
        strides, pads = (_pair(read.node.args[i]) if len(read.node.args) > i else None for i in (3, 4))
        size = channels.value_of(read.node.args[0]).shape[2:]
        kernel = tuple(channels.program.state[read.weight].shape[2:])
        inputs, outputs = counted(read.in_ids), counted(read.out_ids)
        if isinstance(pads, tuple) or pads is None:
            layers.append(Layer(inputs, outputs, kernel, strides or (1, 1), pads or (0, 0), size))
    return layers


def _pair(extents: Any) -> tuple[int, ...]:
    return (extents, extents) if isinstance(extents, int) else tuple(extents)
