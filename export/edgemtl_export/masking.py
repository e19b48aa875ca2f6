"""The program at its full size with every reader of a pruned channel masked: the subject of the noise check."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .analysis.values import Value
from .constant_folding import ConstantFolding
from .plan import Plan
from .program import Program, op_name
from .relayout import ATEN, replace_arg

NORMS = ("aten.layer_norm", "aten.group_norm")
PRODUCTS = ("aten.matmul", "aten.bmm", "aten.scaled_dot_product_attention")


def mask_pruned(program: Program, plan: Plan) -> tuple[Program, bool]:
    """Return the program at its full size with every reader of a pruned channel cut, and whether that cut anything.

    Its outputs are the program's and do not depend on what pruned parameters hold.
    """
    full = program.copy()
    copies = dict(zip(plan.channels.program.graph.nodes, full.graph.nodes, strict=True))
    cut = ConstantFolding(full, plan, copies).run(zero_weights=True)
    operands = {(node, 0) for node in copies if op_name(node) in NORMS}
    for node in copies:
        if op_name(node) in PRODUCTS:
            operands |= {(node, i) for i in range(len(node.args[:3]))}
    operands |= {key for key in plan.channels.gathers if key[1] >= 0}
    for node, position in operands:
        argument = node.args[position]
        value = plan.channels.values.get(argument) if isinstance(argument, fx.Node) else None
        if not isinstance(value, Value) or value.ids is None:
            continue
        mask = torch.from_numpy(plan.is_active(value.ids.numpy()))
        if not mask.all():
            cut = True
            _mask_operand(full, copies[node], position, value, mask)
    return full, cut


def _mask_operand(program: Program, node: fx.Node, position: int, value: Value, mask: Tensor) -> None:
    """Replace the pruned channels of an operand by the constants that they are."""
    dtype = program.float_dtype()
    fill = torch.where(mask, torch.zeros((), dtype=torch.float64), value.value.double()).to(dtype)
    mask_buffer = program.add_buffer(f"{node.name}_{position}_mask", mask.to(dtype))
    fill_buffer = program.add_buffer(f"{node.name}_{position}_fill", fill)
    with program.graph.inserting_before(node):
        product = program.graph.call_function(ATEN.mul.Tensor, (node.args[position], mask_buffer))
        replace_arg(node, position, program.graph.call_function(ATEN.add.Tensor, (product, fill_buffer)))
