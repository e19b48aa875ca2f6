"""The smaller program: parameters pruned, and every number of channels in the graph updated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from .analysis.ops.attention import attention_scale
from .analysis.ops.convolution import CONVOLUTIONS, geometry
from .analysis.values import Value, ids_along, uniform_constants, values_in
from .constant_folding import ConstantFolding
from .norm_rewrite import expand_norm
from .plan import Plan
from .program import Program, op_name
from .pruned_state import Keep, kept_indices, prune_state
from .ragged import kept_shape
from .relayout import gather_operand, replace_arg, rewrite_view, slice_constant


def rewrite(program: Program, plan: Plan) -> tuple[Program, Keep]:
    """Return the program without its pruned channels, and what was kept of each parameter and buffer.

    ``program`` is the analysed one, or a copy of it with another state.
    """
    small, channels = program.copy(), plan.channels
    copies = dict(zip(channels.program.graph.nodes, small.graph.nodes, strict=True))
    for node, view in plan.views.items():
        copies[node] = rewrite_view(small, view, copies[node], copies)
    for (
        node,
        position,
    ), gather in channels.gathers.items():  # before folding, whose constants belong to the node itself
        if position == -1:
            gather_operand(small, plan, copies[node], position, gather)
    folding = ConstantFolding(small, plan, copies)
    folding.run()
    keep = {name: dims for name, dims in kept_indices(plan, folding.added).items() if name in small.state}
    for (node, position), gather in channels.gathers.items():
        if position >= 0:
            gather_operand(small, plan, copies[node], position, gather)
    for (node, position), (dim, ids) in channels.slices.items():
        mask = plan.is_active(ids)
        if not mask.all():
            slice_constant(small, copies[node], position, dim, mask)
    for node, copy in copies.items():
        if node.op == "call_function" and node not in plan.views:
            _update_numbers(small, plan, node, copy)
    small.set_state(prune_state(small.state, keep))
    small.drop_unused()
    _settle_shapes(small, plan, copies)
    return small, keep


def _settle_shapes(program: Program, plan: Plan, copies: Mapping[fx.Node, fx.Node]) -> None:
    """Record the new shape of every node that keeps its meaning: only channels have left it."""
    remaining = set(program.graph.nodes)
    mode = program.fake_mode()
    for node, copy in copies.items():
        if copy not in remaining or node.op != "call_function":
            continue
        values = values_in(plan.channels.values.get(node))
        recorded, spec = pytree.tree_flatten(node.meta.get("val"))
        if len(values) != len(recorded):
            continue
        if (node, -1) in plan.channels.gathers:  # what is known is of the layout after it
            continue
        metas = [_shrunk_meta(mode, plan, value, meta) for value, meta in zip(values, recorded, strict=True)]
        if all(m is not None for m in metas):
            copy.meta["val"], copy.meta["settled"] = pytree.tree_unflatten(metas, spec), True


def _shrunk_meta(mode: FakeTensorMode, plan: Plan, value: Value, meta: object) -> Tensor | None:
    """Return a fake tensor of a value's new shape, None where a symbol would have to change."""
    sizes = None if value.ids is None else kept_shape(value.shape, plan.is_active(value.ids.numpy()))
    if sizes is None or not isinstance(meta, Tensor) or len(sizes) != meta.ndim:
        return None
    changes = list(zip(sizes, value.shape, meta.shape, strict=True))
    if any(new != old and not isinstance(recorded, int) for new, old, recorded in changes):
        return None
    if all(new == old for new, old, _ in changes):
        return meta
    shape = [recorded if new == old else new for new, old, recorded in changes]
    with mode:
        return torch.empty(shape, dtype=meta.dtype)


def _update_numbers(program: Program, plan: Plan, node: fx.Node, copy: fx.Node) -> None:
    """Update the channel numbers among an operator's arguments: groups, scales, padded channels, norms."""
    name = op_name(node)
    if name in CONVOLUTIONS:
        _update_groups(plan, node, copy)
    elif name == "aten.scaled_dot_product_attention":
        width = plan.channels.value_of(node.args[0]).shape[-1]
        copy.args, copy.kwargs = copy.args[:6], {**copy.kwargs, "scale": attention_scale(node, width)}
    elif name in ("aten.constant_pad_nd", "aten.pad"):
        _update_padding(plan, node, copy)
    elif name in ("aten.layer_norm", "aten.group_norm") and plan.channels.rewrite_norms:
        _expand_norm(program, plan, node, copy)


def _update_groups(plan: Plan, node: fx.Node, copy: fx.Node) -> None:
    """Count the groups of a grouped convolution that stay."""
    conv = geometry(node)
    ids = plan.channels.block_ids.get(plan.channels.value_of(node.args[1]).source)
    if conv.groups > 1 and ids is not None:
        groups = int(plan.is_active(ids).any(1).sum())
        if len(copy.args) > conv.groups_arg:
            replace_arg(copy, conv.groups_arg, groups)
        else:
            copy.kwargs = {**copy.kwargs, "groups": groups}


def _update_padding(plan: Plan, node: fx.Node, copy: fx.Node) -> None:
    """Pad with as many channels as are left of the padded ones."""
    padding: Any = copy.args[1]
    value, amounts = plan.channels.value_of(node), list(padding)
    for pair in range(len(amounts) // 2):
        dim = len(value.shape) - 1 - pair
        if value.ids is not None and value.ids.shape[dim] > 1:
            before, after = amounts[2 * pair : 2 * pair + 2]
            stays = plan.is_active(ids_along(value, dim))
            amounts[2 * pair : 2 * pair + 2] = [int(stays[:before].sum()), int(stays[len(stays) - after :].sum())]
    replace_arg(copy, 1, amounts)


def _expand_norm(program: Program, plan: Plan, node: fx.Node, copy: fx.Node) -> None:
    """Write layer or group normalisation out over the channels that are left, with the statistics of all."""
    value = plan.channels.value_of(node.args[0])
    if value.ids is None:
        return
    dim = len(value.shape) - 1 if op_name(node) == "aten.layer_norm" else 1
    stays = plan.is_active(ids_along(value, dim))
    if not stays.all():
        _, amount = uniform_constants(value, dim)
        expand_norm(program, node, copy, stays, amount, len(value.shape))
