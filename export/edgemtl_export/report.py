"""What shrinking took away, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor, fx

from .channels import PINNED, Channels, Ids, name_of
from .live import Liveness
from .ops.convolution import CONV, TRANSPOSED
from .program import Program
from .rewrite import kept_indices


@dataclass(frozen=True)
class Layer:
    """One weight: its output channels before and after, and why the others went."""

    name: str
    before: int
    after: int
    zero: int
    constant: int
    unread: int


@dataclass(frozen=True)
class Report:
    """Parameters and FLOPs (two a multiply-add) before and after, by layer, and what could not be removed.

    ``parameters_bound`` is what would be left if every movement could be written down and no layer had to keep a
    multiple: the least that removal by position can leave, where groups and heads keep as many channels as each other.
    ``buffers_after`` counts what stands in the graph beside the parameters, among it what removed constants left.
    ``pinned`` counts the channels that an operator without a rule kept, or one that could not be written for fewer.
    ``proof`` holds the largest errors that the proof found, relative to the signal.
    """

    parameters_before: int
    parameters_after: int
    parameters_bound: int
    buffers_before: int
    buffers_after: int
    flops_before: int
    flops_after: int
    layers: list[Layer]
    pinned: dict[str, int]
    proof: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain objects for JSON."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """Return the totals alone."""
        return {key: value for key, value in self.to_dict().items() if key != "layers"}

    def __str__(self) -> str:
        gone = 1 - self.parameters_after / max(self.parameters_before, 1)
        lines = [
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,} ({gone:.1%} gone), "
            f"FLOPs {self.flops_before:,} -> {self.flops_after:,}"
        ]
        width = max((len(layer.name) for layer in self.layers), default=0)
        for layer in self.layers:
            if layer.after < layer.before:
                why = ", ".join(
                    f"{count} {kind}"
                    for kind, count in (("zero", layer.zero), ("constant", layer.constant), ("unread", layer.unread))
                    if count
                )
                lines.append(f"  {layer.name:{width}}  {layer.before:5d} -> {layer.after:5d}   {why}")
        lines += [f"  pinned by {why}: {count} channels" for why, count in sorted(self.pinned.items())]
        if self.proof:
            lines.append("  proved: " + ", ".join(f"{how} {error:.0e}" for how, error in self.proof.items()))
            if self.proof.get("control", 1.0) == 0:
                lines.append("  (noise in what went would move no output anyway: that part of the proof says nothing)")
        return "\n".join(lines)


def make_report(given: Program, small: Program, channels: Channels, live: Liveness, errors: dict[str, float]) -> Report:
    """Count what is left and say why the rest went."""
    reasons = _reasons(channels, live)
    layers = []
    for name in sorted(channels.writers):
        tensor = channels.program.state.get(name)
        if tensor is None or tensor.ndim < 2:
            continue
        roots = live.roots[channels.made(name)]
        dead = roots[~live.needed[roots]]
        counts = np.bincount(reasons[dead], minlength=3)
        layers.append(Layer(name, len(roots), len(roots) - len(dead), *(int(c) for c in counts[:3])))
    parameters = [sum(t.numel() for t in p.parameters().values()) for p in (given, small)]
    buffers = [sum(t.numel() for t in p.state.values()) - n for p, n in zip((given, small), parameters, strict=True)]
    flops = [count_flops(p.graph) for p in (given, small)]
    pinned = {}
    for why, ids in channels.pins.items():
        touched = np.unique(live.roots[np.concatenate(ids)])
        if why != "output" and (touched != PINNED).sum() + (0 in touched):
            pinned[why] = len(np.unique(np.concatenate(ids)))
    least = bound(channels, live)
    return Report(
        parameters[0], parameters[1], least, buffers[0], buffers[1], flops[0], flops[1], layers, pinned, errors
    )


def bound(channels: Channels, live: Liveness) -> int:
    """Return how many parameters position and shape ask for."""
    whole, live.needed = live.needed, live.bound
    keep = kept_indices(channels, live)
    live.needed = whole
    total = 0
    for name, tensor in channels.program.parameters().items():
        sizes = list(tensor.shape)
        for dim, indices in keep.get(name, {}).items():
            sizes[dim] = indices.shape[-1]
        total += int(np.prod(sizes))
    return total


def _reasons(channels: Channels, live: Liveness) -> Ids:
    """Return for every root why it may go: 0 zero, 1 constant, 2 unread."""
    reason = np.zeros(len(live.roots), np.int64)
    for read in channels.reads:
        kind = np.where(read.open, 2, np.where(read.nonzero, 1, 0))
        np.maximum.at(reason, live.roots[read.in_ids.reshape(-1)], kind.reshape(-1))
    return reason


def count_flops(graph: fx.Graph) -> int:
    """Return the floating-point operations of one pass (two a multiply-add) in convolutions and matrix products."""
    total = 0
    for node in graph.nodes:
        name = name_of(node) if node.op == "call_function" else ""
        if name in CONV or name in TRANSPOSED or name == "aten.convolution":
            over = node.args[0] if name in TRANSPOSED or (len(node.args) > 6 and node.args[6] is True) else node
            total += 2 * _count(over.meta["val"]) * int(np.prod(_shape(node.args[1].meta["val"])[1:]))
        elif name in ("aten.linear", "aten.matmul", "aten.bmm"):
            total += 2 * _count(node.meta["val"]) * _shape(node.args[0].meta["val"])[-1]
        elif name == "aten.scaled_dot_product_attention":
            q, k, v = (_shape(a.meta["val"]) for a in node.args[:3])
            total += 2 * int(np.prod(q[:-1])) * k[-2] * (q[-1] + v[-1])
    return total


def _shape(value: Tensor) -> list[int]:
    """Return concrete sizes: of a size that may change, the one of the example."""
    return [s if isinstance(s, int) else int(s.node.hint) for s in value.shape]


def _count(value: Tensor) -> int:
    return int(np.prod(_shape(value)))
