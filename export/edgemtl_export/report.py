"""The report of a removal: sizes before and after, by layer and reason, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor, fx

from .analysis.channels import Channels
from .analysis.ops.convolution import CONVOLUTIONS, TRANSPOSED
from .analysis.values import Ids
from .constant_outputs import constant_outputs, unread_inputs
from .plan import Plan
from .program import Program, op_name
from .pruned_state import kept_indices
from .verify import Proof


@dataclass(frozen=True)
class Layer:
    """One weight: its output channels before and after, and why the others were removed."""

    name: str
    before: int
    after: int
    zero: int
    constant: int
    unread: int


@dataclass(frozen=True)
class Report:
    """Parameters and FLOPs (two a multiply-add) before and after, by layer, and what could not be removed.

    ``parameters_bound`` is what would be left if every view could be rewritten and no layer had to keep a multiple: the
    least that structured removal can leave, where groups and heads keep as many channels as each other.
    ``buffers_after`` counts the tensors of the graph that are no parameters, among them what folded constants left.
    ``pinned`` counts the channels that an operator without a rule kept, or one that could not be rewritten for fewer.
    ``proof`` holds the largest error of each check of `verify`, relative to the signal. ``constant_outputs`` names the
    outputs, of ``outputs``, that do not depend on the input, and ``unread_inputs`` the inputs that nothing reads.
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
    outputs: int = 0
    constant_outputs: tuple[str, ...] = ()
    unread_inputs: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before he ships the program, one sentence each."""
        lines = []
        names = ", ".join(self.constant_outputs)
        if names and len(self.constant_outputs) == self.outputs:
            lines.append(f"the network is constant: no output ({names}) depends on its input")
        elif names:
            lines.append(f"outputs that do not depend on the input: {names}")
        if self.unread_inputs:
            lines.append(f"no output depends on the input {', '.join(self.unread_inputs)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain objects for JSON."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """Return the totals alone."""
        without = ("layers", "outputs", "constant_outputs", "unread_inputs")
        return {key: value for key, value in self.to_dict().items() if key not in without}

    def __str__(self) -> str:
        removed = 1 - self.parameters_after / self.parameters_before if self.parameters_before else 0.0
        lines = [
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,} ({removed:.1%} removed), "
            f"FLOPs {self.flops_before:,} -> {self.flops_after:,}"
        ]
        width = max((len(layer.name) for layer in self.layers), default=0)
        for layer in self.layers:
            if layer.after < layer.before:
                counts = (("zero", layer.zero), ("constant", layer.constant), ("unread", layer.unread))
                reasons = ", ".join(f"{count} {reason}" for reason, count in counts if count)
                lines.append(f"  {layer.name:{width}}  {layer.before:5d} -> {layer.after:5d}   {reasons}")
        lines += [f"  pinned by {reason}: {count} channels" for reason, count in sorted(self.pinned.items())]
        if self.proof:
            lines.append("  proved: " + ", ".join(f"{check} {error:.0e}" for check, error in self.proof.items()))
            if self.proof.get("control", 1.0) == 0:
                lines.append("  (noise in what was removed would move no output anyway: that check proves nothing)")
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])


def make_report(original: Program, first: Channels, small: Program, plan: Plan, proof: Proof) -> Report:
    """Count what is left, and by reason what was removed."""
    parameters = [sum(t.numel() for t in p.parameters().values()) for p in (original, small)]
    buffers = [sum(t.numel() for t in p.state.values()) - n for p, n in zip((original, small), parameters, strict=True)]
    flops = [count_flops(p.graph) for p in (original, small)]
    constant, count = constant_outputs(plan, proof.unmoved)
    return Report(
        parameters_before=parameters[0],
        parameters_after=parameters[1],
        parameters_bound=_count_parameters(plan.lower_bound()),
        buffers_before=buffers[0],
        buffers_after=buffers[1],
        flops_before=flops[0],
        flops_after=flops[1],
        layers=_layers(plan, first),
        pinned=_pinned(plan),
        proof=proof.errors,
        outputs=count,
        constant_outputs=tuple(constant),
        unread_inputs=tuple(unread_inputs(small)),
    )


def _layers(plan: Plan, first: Channels) -> list[Layer]:
    """Return every weight's output channels, and the reasons of those that are pruned.

    ``first`` is the analysis before zero operands were dropped: what only they read is unread.
    """
    channels = plan.channels
    reasons = _reasons(plan)
    lost = {name: len(first.output_ids(name)) for name in first.producers - channels.producers}
    layers = [Layer(name, n, 0, 0, 0, n) for name, n in sorted(lost.items()) if first.program.state.get(name) is None]
    for name in sorted(channels.producers):
        tensor = channels.program.state.get(name)
        if tensor is None or tensor.ndim < 2:
            continue
        ids = channels.output_ids(name)
        pruned = channels.roots[ids[~plan.is_active(ids)]]
        counts = np.bincount(reasons[pruned], minlength=3)
        layers.append(Layer(name, len(ids), len(ids) - len(pruned), *(int(c) for c in counts[:3])))
    return layers


def _pinned(plan: Plan) -> dict[str, int]:
    """Return the number of pinned channels by reason, but for the outputs'."""
    counts = {reason: len(np.unique(np.concatenate(ids))) for reason, ids in plan.pins.items() if reason != "output"}
    return {reason: count for reason, count in counts.items() if count}


def _count_parameters(plan: Plan) -> int:
    """Return how many parameters a plan keeps."""
    keep = kept_indices(plan)
    total = 0
    for name, tensor in plan.channels.program.parameters().items():
        sizes = list(tensor.shape)
        for dim, indices in keep.get(name, {}).items():
            sizes[dim] = indices.shape[-1]
        total += int(np.prod(sizes))
    return total


def _reasons(plan: Plan) -> Ids:
    """Return for every root why it may be pruned: 0 zero, 1 constant, 2 unread."""
    roots = plan.channels.roots
    reasons = np.zeros(len(roots), np.int64)
    for read in plan.channels.reads:
        reason = np.where(read.required, 2, np.where(read.nonzero, 1, 0))
        np.maximum.at(reasons, roots[read.in_ids.reshape(-1)], reason.reshape(-1))
    return reasons


def count_flops(graph: fx.Graph) -> int:
    """Return the floating-point operations of one pass (two a multiply-add) in convolutions and matrix products."""
    total = 0
    for node in graph.nodes:
        name = op_name(node) if node.op == "call_function" else ""
        if name in CONVOLUTIONS:
            transposed = name in TRANSPOSED or (len(node.args) > 6 and node.args[6] is True)
            applied_at = node.args[0] if transposed else node
            total += 2 * _count(applied_at.meta["val"]) * int(np.prod(_shape(node.args[1].meta["val"])[1:]))
        elif name in ("aten.linear", "aten.matmul", "aten.bmm"):
            total += 2 * _count(node.meta["val"]) * _shape(node.args[0].meta["val"])[-1]
        elif name == "aten.scaled_dot_product_attention":
            q, k, v = (_shape(a.meta["val"]) for a in node.args[:3])
            total += 2 * int(np.prod(q[:-1])) * k[-2] * (q[-1] + v[-1])
    return total


def _shape(value: Tensor) -> list[int]:
    """Return concrete sizes: of a symbolic size, the one of the example."""
    return [s if isinstance(s, int) else int(s.node.hint) for s in value.shape]


def _count(value: Tensor) -> int:
    return int(np.prod(_shape(value)))
