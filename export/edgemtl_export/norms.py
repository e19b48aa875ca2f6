"""Layer and group normalisation over fewer channels with the statistics of all: what is removed is constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .channels import Mask, name_of
from .program import Program

ATEN = torch.ops.aten


def write_out(program: Program, node: fx.Node, twin: fx.Node, stays: Mask, amount: Tensor, ndim: int) -> None:
    """Replace a normalisation of N channels by its formula over those that stay; the others have value ``amount``.

    Within a group of n channels (times the places in space, for group normalisation) the mean is (Σ live + Σ amount)/n
    and the variance (Σ (live - mean)² + Σ (amount - mean)²)/n: the same numbers as before.
    """
    layer = name_of(node) == "aten.layer_norm"
    groups = 1 if layer else node.args[1]
    assert isinstance(groups, int)
    x, weight, bias = twin.args[0], *_affine(twin, 2)
    eps = (node.args[4] if len(node.args) > 4 else node.kwargs.get("eps", 1e-5)) or 1e-5
    kind = next(t.dtype for t in program.state.values() if t.is_floating_point())
    gone = torch.from_numpy(~stays).reshape(groups, -1)
    own = amount.reshape(groups, -1)
    member = torch.nn.functional.one_hot(
        torch.arange(groups).repeat_interleave(gone.shape[1])[torch.from_numpy(stays)], groups
    )

    def per_group(values: Tensor, name: str) -> fx.Node:
        return program.add_buffer(f"{twin.name}_{name}", (values / gone.shape[1]).to(kind))

    first, second = (torch.where(gone, own**p, torch.zeros(()).double()).sum(1) for p in (1, 2))
    constants = [per_group(v, n) for v, n in ((first, "sum"), (second, "squares"), (gone.double().sum(1), "count"))]
    matrix = program.add_buffer(f"{twin.name}_members", (member.t().double() / gone.shape[1]).to(kind))
    spread_back = program.add_buffer(f"{twin.name}_groups", member.double().to(kind))
    graph = program.graph

    def call(target: Any, *args: Any) -> fx.Node:
        return graph.call_function(target, args)

    def averaged(t: Any) -> fx.Node:
        """Return (..., groups): the mean over a group's channels and the places in space."""
        flat = t if layer or ndim == 2 else call(ATEN.mean.dim, t, list(range(2, ndim)))
        return call(ATEN.linear.default, flat, matrix)

    def per_channel(t: Any) -> Any:
        wide = call(ATEN.linear.default, t, spread_back)
        for _ in range(0 if layer else ndim - 2):
            wide = call(ATEN.unsqueeze.default, wide, -1)
        return wide

    def lifted(vector: Any) -> Any:
        for _ in range(0 if layer else ndim - 2):
            vector = call(ATEN.unsqueeze.default, vector, -1)
        return vector

    with graph.inserting_before(twin):
        mean = call(ATEN.add.Tensor, averaged(x), constants[0])
        centred = call(ATEN.sub.Tensor, x, per_channel(mean))
        variance = averaged(call(ATEN.mul.Tensor, centred, centred))
        cross = call(ATEN.mul.Tensor, mean, call(ATEN.mul.Tensor, constants[0], 2.0))
        rest = call(ATEN.mul.Tensor, call(ATEN.mul.Tensor, mean, mean), constants[2])
        rest = call(ATEN.add.Tensor, call(ATEN.sub.Tensor, rest, cross), constants[1])
        variance = call(ATEN.add.Tensor, variance, rest)
        rate = call(ATEN.rsqrt.default, call(ATEN.add.Tensor, variance, eps))
        result = call(ATEN.mul.Tensor, centred, per_channel(rate))
        if weight is not None:
            result = call(ATEN.mul.Tensor, result, lifted(weight))
        if bias is not None:
            result = call(ATEN.add.Tensor, result, lifted(bias))
    twin.replace_all_uses_with(result)


def _affine(twin: fx.Node, at: int) -> tuple[Any, Any]:
    given = [*twin.args[at : at + 2], None, None]
    return twin.kwargs.get("weight", given[0]), twin.kwargs.get("bias", given[1])
