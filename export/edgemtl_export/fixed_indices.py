"""Indexing of one dimension by fixed numbers (``x[:, [0, 2]]``, ``x[:, permutation]``), written as a selection."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch.export.graph_signature import InputKind

from .program import Program, op_name

ATEN = torch.ops.aten
COPIES = ("aten.lift_fresh_copy", "aten.detach", "aten.alias", "aten.clone")


def select_by_index(program: Program) -> None:
    """Replace, in place, each such indexing by ``index_select``: a movement, across which channels can be pruned."""
    written = {spec.target for spec in program.exported.graph_signature.output_specs}
    for node in list(program.graph.nodes):
        if op_name(node) != "aten.index" or len(node.args) != 2:
            continue
        source, given = node.args
        used = [(dim, index) for dim, index in enumerate(given) if index is not None]
        if len(used) != 1:
            continue
        (dim, index), extent = used[0], source.meta["val"].shape[used[0][0]]
        name = _state_of(program, index)
        numbers = program.state.get(name)
        if name in written or not isinstance(extent, int) or numbers is None or not _are_numbers(numbers):
            continue
        with program.graph.inserting_before(node):
            fixed = program.add_buffer(f"{node.name}_indices", numbers.long() % extent, InputKind.CONSTANT_TENSOR)
            selected = program.graph.call_function(ATEN.index_select.default, (source, dim, fixed))
        selected.meta = dict(node.meta)
        node.replace_all_uses_with(selected)
        program.graph.erase_node(node)


def _state_of(program: Program, node: fx.Node) -> str:
    """Return the name of the constant or buffer that a node is a copy of, "" for another node."""
    while op_name(node) in COPIES:
        (node,) = node.all_input_nodes
    return program.sources.get(node, "")


def _are_numbers(value: Tensor) -> bool:
    return value.ndim == 1 and value.numel() > 0 and value.dtype in (torch.int64, torch.int32)
