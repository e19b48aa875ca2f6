"""Abstract interpretation of a program: every operator's rule is run on what is known of its operands."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from ..errors import UnsupportedError
from ..program import Program, op_name
from ..widening import is_random, widen_arguments
from .any_size import constant_at_any_size, reads_size
from .builder import POINTWISE, ChannelBuilder, Rule, gather_none
from .channels import Channels
from .values import Value, pinned_like, to_float64, values_in

FOLLOWED_THROUGH = frozenset(
    f"aten.{name}" for name in ("view", "reshape", "unsqueeze", "expand", "transpose", "permute", "t")
)
"""Operators through which a parameter is followed, although it carries no channels."""


def analyse(
    program: Program,
    inputs: Sequence[Any],
    rules: Mapping[str, Rule],
    *,
    couple_groups: bool = False,
    may_gather: Callable[[fx.Node], bool] = gather_none,
    rewrite_norms: bool = False,
) -> Channels:
    """Interpret a functional program by ``rules`` (operator name to rule), at the sizes of the flat example ``inputs``.

    The options are those of `ChannelBuilder`.
    """
    builder = ChannelBuilder(program, couple_groups, may_gather, rewrite_norms)
    sources, examples = program.sources, dict(zip(program.inputs, inputs, strict=True))
    with torch.no_grad():
        for node in program.graph.nodes:
            if node in sources:
                tensor = program.state[sources[node]]
                const = torch.ones((1,) * tensor.ndim, dtype=torch.bool)
                builder.values[node] = Value(tuple(tensor.shape), tensor, const, None, sources[node])
            elif node.op == "placeholder":
                example = examples[node]
                builder.values[node] = pinned_like(example) if isinstance(example, Tensor) else example
            elif node.op == "call_function":
                builder.values[node] = constant_at_any_size(_call(builder, rules, node), node.meta.get("val"))
            elif node.op == "output":
                for result, spec in zip(node.args[0], program.exported.graph_signature.output_specs, strict=True):
                    reason = "output" if spec.kind is OutputKind.USER_OUTPUT else f"{spec.target} (written)"
                    for value in values_in(builder.values.get(result)):
                        builder.pin(value.ids, reason)
                        builder.unsliceable.add(value.source)
    for name in builder.unsliceable & builder.dims.keys():
        for ids in builder.dims[name].values():
            builder.pin(torch.from_numpy(ids), f"{name} (also read as a whole)")
    return builder.freeze()


def _call(builder: ChannelBuilder, rules: Mapping[str, Rule], node: fx.Node) -> Any:
    """Return what is known of a node's result; where no rule applies, its operands are pinned."""
    args, kwargs = pytree.tree_map_only(fx.Node, builder.values.get, (node.args, node.kwargs))
    operands = values_in((args, kwargs))
    name = op_name(node)
    if node.target is operator.getitem:
        return args[0][args[1]]
    if callable(node.target) and not isinstance(node.target, torch._ops.OpOverload) and not operands:
        return node.target(*args, **kwargs)  # arithmetic on sizes
    if name.startswith("aten.sym_size"):
        return args[0].shape[args[1]]
    if is_random(node):
        return _without_rule(builder, node, operands, "draws")
    if all(value.ids is None for value in operands) and not (operands and name in FOLLOWED_THROUGH):
        return _constant(builder, node, args, kwargs, operands)
    rule = rules.get(name) or (rules.get(POINTWISE) if _is_pointwise(node) else None)
    if rule is not None:
        result = rule(builder, node, *args, **kwargs)
        if result is not None:
            return result
        if all(value.ids is None for value in operands):
            return _constant(builder, node, args, kwargs, operands)
    return _without_rule(builder, node, operands)


def _without_rule(builder: ChannelBuilder, node: fx.Node, operands: list[Value], how: str = "") -> Any:
    """Pin what an operator touches."""
    for value in operands:
        builder.pin(value.ids, f"{op_name(node)} ({how})" if how else op_name(node))
        builder.unsliceable.add(value.source)
    return pytree.tree_map_only(Tensor, pinned_like, _result_like(builder, node))


def _is_pointwise(node: fx.Node) -> bool:
    """Whether PyTorch tags the operator as pointwise, and it gives one tensor."""
    return (
        isinstance(node.target, torch._ops.OpOverload)
        and torch.Tag.pointwise in node.target.tags
        and isinstance(node.meta.get("val"), Tensor)
    )


def _constant(builder: ChannelBuilder, node: fx.Node, args: Any, kwargs: Any, operands: list[Value]) -> Any:
    """Compute in float64 what depends on no input; what depends on a symbolic size is not constant."""
    builder.unsliceable.update(value.source for value in operands)
    args, kwargs = pytree.tree_map_only(Value, lambda v: v.expand(to_float64(v.value)), (args, kwargs))
    args, kwargs = widen_arguments(node, args, kwargs)
    assert callable(node.target)
    try:
        result = node.target(*args, **kwargs)
    except (RuntimeError, TypeError, NotImplementedError):  # an operator that has no float64
        return _without_rule(builder, node, operands)
    varies = reads_size(node) or any(not bool(v.const.all()) for v in operands)

    def wrap(tensor: Tensor) -> Value:
        if varies:
            return replace(pinned_like(tensor), ids=None)
        return Value(tuple(tensor.shape), to_float64(tensor), torch.ones((1,) * tensor.ndim, dtype=torch.bool))

    return pytree.tree_map_only(Tensor, wrap, result)


def _result_like(builder: ChannelBuilder, node: fx.Node) -> Any:
    """Return meta tensors of the concrete shapes that a node without a rule gives."""
    args, kwargs = pytree.tree_map_only(fx.Node, builder.values.get, (node.args, node.kwargs))
    recorded = node.meta.get("val")
    sizes = [s for t in pytree.tree_leaves(recorded) if isinstance(t, Tensor) for s in t.shape]
    if all(isinstance(s, int) for s in sizes):
        return pytree.tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), recorded)
    args, kwargs = pytree.tree_map_only(
        Value, lambda v: torch.empty(v.shape, dtype=v.value.dtype, device="meta"), (args, kwargs)
    )
    assert callable(node.target)
    try:
        return node.target(*args, **kwargs)
    except (RuntimeError, NotImplementedError) as error:  # it has no shape without its values
        reason = "gives a tensor whose size depends on values, not on sizes; export the network without it"
        raise UnsupportedError(f"{node.name} ({op_name(node)}) {reason}") from error
