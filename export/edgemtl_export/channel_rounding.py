"""align="auto" and branches="auto": which shapes are fast is measured on ONNX Runtime, not believed.

Layers that share channels choose one multiple together. Each choice is first made from a table of single convolutions,
measured at the sizes in question, by descent over one group of layers at a time; then whole programs are compared in
turns, the untouched one among them, and the fastest is taken.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from .channels import Channels, analyse
from .latency import Convolutions, compare
from .live import Liveness, settle
from .ops.convolution import geometry
from .program import Program
from .rewrite import smaller

MULTIPLES = (1, 8, 16)
GAIN = 0.98
"""A choice other than the plainest must be this much faster: less is noise."""


@dataclass(frozen=True)
class Choice:
    """Multiples by layer (a weight's name), or one for all, and which sums lay out their operands anew."""

    align: dict[str, int] | int
    cut: Callable[[fx.Node], bool]


def tune(given: Program, inputs: Sequence[Any], align: int | str, branches: str, rewrite_norms: bool) -> Choice:
    """Return the fastest choice for a program on this machine."""
    table = Convolutions()

    def whole(node: fx.Node) -> bool:
        return branches == "cut"

    def cut_all(node: fx.Node) -> bool:
        return True

    cuts = [whole] if branches != "auto" else [whole, cut_all]
    candidates: list[Choice] = []
    for cut in cuts:
        channels = analyse(given, inputs, cut=cut, rewrite_norms=rewrite_norms)
        if align == "auto":
            live, _ = settle(channels)
            candidates += [Choice(m, cut) for m in MULTIPLES]
            candidates.append(Choice(by_layer(channels, live, table), cut))
        else:
            assert isinstance(align, int)
            candidates.append(Choice(align, cut))
    return _fastest(given, inputs, candidates, rewrite_norms)


def _fastest(given: Program, inputs: Sequence[Any], candidates: list[Choice], rewrite_norms: bool) -> Choice:
    """Compare whole programs in turns; the first is the plainest and must be beaten clearly."""
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        first: list[Choice] = []
        seen: dict[Any, int] = {}
        for choice in candidates:
            channels = analyse(given, inputs, cut=choice.cut, rewrite_norms=rewrite_norms)
            live, moves = settle(channels, choice.align)
            small, _ = smaller(given, channels, live, moves)
            key = (choice.cut, tuple(tuple(t.shape) for t in small.state.values()))
            if key in seen:
                continue
            seen[key] = len(first)
            first.append(choice)
            small.refresh()
            file = Path(folder) / f"{len(first)}.onnx"
            _write(small, file)
            files[str(file)] = file
        times = compare(list(files), [x.numpy() for x in inputs if isinstance(x, torch.Tensor)])
    best = int(np.argmin(times))
    return first[best] if times[best] < GAIN * times[0] else first[0]


def _write(program: Program, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(program.to_exported(), dynamo=True, opset_version=20, verbose=False)
    assert made is not None
    made.save(str(file))


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution as the table knows it: how many of its inputs and outputs each group of layers has."""

    inside: dict[int, tuple[int, int]]
    outside: dict[int, tuple[int, int]]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    size: tuple[int, ...]

    def seconds(self, table: Convolutions, choice: dict[int, int]) -> float:
        """Return the measured time with the multiples chosen."""
        counts = [
            sum(rounded(live, total, choice.get(group, 1)) for group, (live, total) in side.items())
            for side in (self.inside, self.outside)
        ]
        return table(counts[0], counts[1], self.kernel, self.strides, self.pads, self.size)


def rounded(live: int, total: int, multiple: int) -> int:
    """Return ``live`` channels rounded up to a multiple, of ``total`` at most."""
    return min(total, -(-live // multiple) * multiple)


def by_layer(channels: Channels, live: Liveness, table: Convolutions) -> dict[str, int]:
    """Return a multiple for every weight, chosen by descent on the table of single convolutions."""
    weights = [n for n in sorted(channels.writers) if channels.program.state[n].ndim > 1]
    group_of = _coupled(channels, live, weights)
    layers = _layers(channels, live, group_of)
    # A layer gains little before its neighbours are aligned too: the descent starts from every whole choice.
    choices = [_descend(layers, dict.fromkeys(group_of.values(), start), table) for start in MULTIPLES]
    best = min(choices, key=lambda choice: sum(layer.seconds(table, choice) for layer in layers))
    return {name: best[group_of[name]] for name in weights}


def _descend(layers: list[Layer], choice: dict[int, int], table: Convolutions) -> dict[int, int]:
    """Better the choice of one group of layers at a time."""
    for _ in range(2):
        for group in sorted(choice):
            mine = [layer for layer in layers if group in layer.inside or group in layer.outside]
            costs = [sum(layer.seconds(table, choice | {group: m}) for layer in mine) for m in MULTIPLES]
            best = int(np.argmin(costs))
            if costs[best] < GAIN * costs[MULTIPLES.index(choice[group])]:
                choice[group] = MULTIPLES[best]
    return choice


def _coupled(channels: Channels, live: Liveness, weights: list[str]) -> dict[str, int]:
    """Number the groups of layers that make the same channels."""
    owner: dict[int, int] = {}
    group_of: dict[str, int] = {}
    for name in weights:
        roots = set(live.roots[channels.made(name)].tolist())
        met = {owner[r] for r in roots if r in owner}
        group = min(met, default=len(group_of))
        for other in met - {group}:
            group_of = {n: group if g == other else g for n, g in group_of.items()}
            owner = {r: group if g == other else g for r, g in owner.items()}
        owner |= dict.fromkeys(roots, group)
        group_of[name] = group
    return group_of


def _layers(channels: Channels, live: Liveness, group_of: dict[str, int]) -> list[Layer]:
    """Return the plain convolutions whose channels have gone in part."""
    owner = {int(r): g for name, g in group_of.items() for r in live.roots[channels.made(name)]}

    def counted(ids: Any) -> dict[int, tuple[int, int]]:
        sides: dict[int, list[int]] = {}
        roots = live.roots[ids.reshape(-1)]
        for root, stays in zip(roots.tolist(), live.needed[roots].tolist(), strict=True):
            side = sides.setdefault(owner.get(root, -1), [0, 0])
            side[0] += stays
            side[1] += 1
        return {group: (side[0], side[1]) for group, side in sides.items()}

    layers = []
    for read in channels.reads:
        if not read.weight or channels.program.state[read.weight].ndim != 4 or len(read.in_ids) > 1:
            continue
        place = geometry(read.node)
        if place.transposed:
            continue
        strides, pads = (_pair(read.node.args[i]) if len(read.node.args) > i else None for i in (3, 4))
        size = channels.at(read.node.args[0]).shape[2:]
        kernel = tuple(channels.program.state[read.weight].shape[2:])
        inside, outside = counted(read.in_ids), counted(read.out_ids)
        if isinstance(pads, tuple) or pads is None:
            layers.append(Layer(inside, outside, kernel, strides or (1, 1), pads or (0, 0), size))
    return layers


def _pair(given: Any) -> tuple[int, ...]:
    return (given, given) if isinstance(given, int) else tuple(given)
