"""Graph edits that bring channels into another layout: selections, gathered operands, rewritten views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from .analysis.values import Gather, Ids, Mask, along, ids_along
from .plan import ChannelSelection, NewCall, Plan, ViewRewrite
from .program import Program

ATEN = torch.ops.aten


def replace_arg(node: fx.Node, position: int, other: Any) -> None:
    """Replace one positional argument of a node."""
    node.args = (*node.args[:position], other, *node.args[position + 1 :])


def slice_constant(program: Program, node: fx.Node, position: int, dim: int, mask: Mask) -> None:
    """Slice a constant operand to the channels that stay."""
    index = np.flatnonzero(mask)
    replace_arg(node, position, _select(program, node, node.args[position], dim, index, f"{node.name}_kept"))


def rewrite_view(program: Program, rewrite: ViewRewrite, copy: fx.Node, copies: Mapping[fx.Node, fx.Node]) -> fx.Node:
    """Write a movement node as planned; return the node that takes its place."""
    if isinstance(rewrite, NewCall):
        copy.target = rewrite.target
        copy.args = pytree.tree_map_only(fx.Node, copies.__getitem__, rewrite.args)
        if rewrite.target is ATEN.split_with_sizes.default or rewrite.target is ATEN.slice.Tensor:
            copy.kwargs = {}
        return copy
    return _insert_selection(program, rewrite, copy, copies[rewrite.source])


def _insert_selection(program: Program, selection: ChannelSelection, copy: fx.Node, source: fx.Node) -> fx.Node:
    graph = program.graph
    result = _select(program, copy, source, selection.dim, np.array(selection.index), copy.name)
    if selection.order:
        with graph.inserting_before(copy):
            shape = [n if n >= 0 else _size(program, source, -1 - n) for n in selection.shape]
            result = graph.call_function(ATEN.reshape.default, (result, shape))
            result = graph.call_function(ATEN.permute.default, (result, list(selection.order)))
    copy.replace_all_uses_with(result)
    return result


def gather_operand(program: Program, plan: Plan, node: fx.Node, position: int, gather: Gather) -> None:
    """Select the channels of an operand that its reader wants, with constants where the operand has none.

    Position -1 is the node's result.
    """
    have = plan.is_active(ids_along(gather.operand, gather.dim))
    want = plan.is_active(gather.ids.numpy())
    if np.array_equal(have, want):
        return
    graph, dim, ndim = program.graph, gather.dim, len(gather.operand.shape)
    index = np.where(have, np.cumsum(have) - 1, have.sum())[want]
    after = position == -1
    with (graph.inserting_after if after else graph.inserting_before)(node):
        marker = graph.call_function(ATEN.alias.default, (node if after else node.args[position],))
    source = marker.args[0]
    if after:
        node.replace_all_uses_with(marker, delete_user_cb=lambda user: user is not marker)
    if not have[want].all():
        with graph.inserting_before(marker):
            padding = [0, 0] * (ndim - 1 - dim) + [0, 1]
            source = graph.call_function(ATEN.constant_pad_nd.default, (source, padding))
    result = _select(program, marker, source, dim, index, f"{node.name}_{position % 9}_layout")
    fill = torch.where(torch.from_numpy(have), torch.zeros(()).double(), gather.fill)[torch.from_numpy(want)]
    if bool((fill != 0).any()):
        constants = along(fill, dim, ndim).to(program.float_dtype())
        buffer = program.add_buffer(f"{node.name}_{position % 9}_fill", constants)
        with graph.inserting_before(marker):
            result = graph.call_function(ATEN.add.Tensor, (result, buffer))
    if after:
        marker.replace_all_uses_with(result)
    else:
        replace_arg(node, position, result)
    graph.erase_node(marker)


def _select(program: Program, before: fx.Node, source: Any, dim: int, index: Ids, name: str) -> fx.Node:
    """Select channels in front of a node; a run of consecutive indices is a slice."""
    with program.graph.inserting_before(before):
        if len(index) and np.array_equal(index, np.arange(index[0], index[0] + len(index))):
            first = int(index[0])
            return program.graph.call_function(ATEN.slice.Tensor, (source, dim, first, first + len(index)))
        buffer = program.add_buffer(f"{name}_{source.name}", torch.from_numpy(np.ascontiguousarray(index)))
        return program.graph.call_function(ATEN.index_select.default, (source, dim, buffer))


def _size(program: Program, node: fx.Node, dim: int) -> Any:
    """Return the size of a node's dimension: a number, or a node where it is symbolic."""
    size = node.meta["val"].shape[dim]
    return size if isinstance(size, int) else program.graph.call_function(ATEN.sym_size.int, (node, dim))
