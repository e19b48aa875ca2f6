"""Layer and group normalisation over fewer channels with the statistics of all: what is pruned is constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .analysis.values import Mask
from .program import Program, op_name

ATEN = torch.ops.aten


def expand_norm(program: Program, node: fx.Node, copy: fx.Node, stays: Mask, amount: Tensor, ndim: int) -> None:
    """Replace a normalisation of N channels by its formula over those that stay; the others have value ``amount``.

    Within a group of n channels (times the positions in space, for group normalisation) the mean is
    (Σ active + Σ amount)/n and the variance (Σ (active - mean)² + Σ (amount - mean)²)/n: the same numbers as before.
    """
    layer = op_name(node) == "aten.layer_norm"
    groups = 1 if layer else node.args[1]
    assert isinstance(groups, int)
    x, weight, bias = copy.args[0], *_affine(copy)
    eps = node.args[4] if len(node.args) > 4 else node.kwargs.get("eps", 1e-5)
    dtype = program.float_dtype()
    pruned = torch.from_numpy(~stays).reshape(groups, -1)
    count, constants = pruned.shape[1], amount.reshape(groups, -1)
    group = torch.arange(groups).repeat_interleave(count)[torch.from_numpy(stays)]
    member = torch.nn.functional.one_hot(group, groups)

    def per_group(values: Tensor, name: str) -> fx.Node:
        return program.add_buffer(f"{copy.name}_{name}", (values / count).to(dtype))

    sums, squares = (torch.where(pruned, constants**p, torch.zeros(()).double()).sum(1) for p in (1, 2))
    pruned_sum = per_group(sums, "sum")
    pruned_squares = per_group(squares, "squares")
    pruned_share = per_group(pruned.double().sum(1), "count")
    to_groups = program.add_buffer(f"{copy.name}_members", (member.t().double() / count).to(dtype))
    to_channels = program.add_buffer(f"{copy.name}_groups", member.double().to(dtype))
    graph = program.graph

    def call(target: Any, *args: Any) -> fx.Node:
        return graph.call_function(target, args)

    def group_mean(t: fx.Node) -> fx.Node:
        """Return (..., groups): the mean over a group's channels and the positions in space."""
        flat = t if layer or ndim == 2 else call(ATEN.mean.dim, t, list(range(2, ndim)))
        return call(ATEN.linear.default, flat, to_groups)

    def over_space(vector: fx.Node) -> fx.Node:
        for _ in range(0 if layer else ndim - 2):
            vector = call(ATEN.unsqueeze.default, vector, -1)
        return vector

    def per_channel(t: fx.Node) -> fx.Node:
        return over_space(call(ATEN.linear.default, t, to_channels))

    assert isinstance(x, fx.Node)
    with graph.inserting_before(copy):
        mean = call(ATEN.add.Tensor, group_mean(x), pruned_sum)
        centred = call(ATEN.sub.Tensor, x, per_channel(mean))
        variance = group_mean(call(ATEN.mul.Tensor, centred, centred))
        cross = call(ATEN.mul.Tensor, mean, call(ATEN.mul.Tensor, pruned_sum, 2.0))
        rest = call(ATEN.mul.Tensor, call(ATEN.mul.Tensor, mean, mean), pruned_share)
        rest = call(ATEN.add.Tensor, call(ATEN.sub.Tensor, rest, cross), pruned_squares)
        variance = call(ATEN.add.Tensor, variance, rest)
        rate = call(ATEN.rsqrt.default, call(ATEN.add.Tensor, variance, eps))
        result = call(ATEN.mul.Tensor, centred, per_channel(rate))
        if weight is not None:
            result = call(ATEN.mul.Tensor, result, over_space(weight))
        if bias is not None:
            result = call(ATEN.add.Tensor, result, over_space(bias))
    copy.replace_all_uses_with(result)


def _affine(copy: fx.Node) -> tuple[Any, Any]:
    """Return the scale and shift arguments, None where there are none."""
    args = [*copy.args[2:4], None, None]
    return copy.kwargs.get("weight", args[0]), copy.kwargs.get("bias", args[1])
