"""Weights that are computed from parameters (weight norm, a mask, a parametrisation), as parameters of their own."""

from __future__ import annotations

import re

import torch
from torch import Tensor, fx
from torch.export.graph_signature import InputKind

from .analysis.ops.convolution import CONVOLUTIONS
from .program import Program, op_name
from .widening import is_random

READERS = (*CONVOLUTIONS, "aten.linear", "aten.batch_norm", "aten._native_batch_norm_legit_no_training")


def materialise_weights(program: Program) -> None:
    """Compute, in place, the weights of layers that are functions of parameters alone, exactly as the program does.

    A layer's channels can be removed where its weight is a tensor, and not where it is a formula over several.
    """
    fixed = _functions_of_state(program)
    wanted = [
        operand
        for node in program.graph.nodes
        if op_name(node) in READERS
        for operand in node.all_input_nodes[1:]
        if operand.op == "call_function" and operand in fixed
    ]
    if not wanted:
        return
    values = _Values(program).of(list(dict.fromkeys(wanted)))
    for node, value in values.items():
        replacement = program.add_buffer(_name(program, node), value.clone(), InputKind.PARAMETER)
        node.replace_all_uses_with(replacement)
    program.drop_unused()


def _functions_of_state(program: Program) -> set[fx.Node]:
    """Return the nodes that depend on parameters and no input."""
    fixed = set(program.sources)
    for node in program.graph.nodes:
        operands = node.all_input_nodes
        if node.op == "call_function" and operands and not is_random(node) and fixed.issuperset(operands):
            fixed.add(node)
    return fixed


class _Values(fx.Interpreter):
    """Runs a program only as far as some nodes need."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.compile(), graph=program.graph)
        self.program = program

    def of(self, nodes: list[fx.Node]) -> dict[fx.Node, Tensor]:
        """Return the values of nodes that depend on no input."""
        sources = self.program.sources
        needed, stack = set[fx.Node](), list(nodes)
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack.extend(node.all_input_nodes)
        with torch.no_grad():
            for node in self.program.graph.nodes:
                if node in needed:
                    source = sources.get(node)
                    self.env[node] = self.run_node(node) if source is None else self.program.state[source]
        return {node: self.env[node] for node in nodes}


def _name(program: Program, node: fx.Node) -> str:
    """Return the name of a computed weight: that of the first parameter in its formula, as its module names it."""
    formula, parameters = [node], program.parameters()
    for member in formula:
        formula += member.all_input_nodes
    names = [program.sources[member] for member in formula if member.op == "placeholder"]
    first = next((name for name in names if name in parameters), names[0])
    name = re.sub(r"\.parametrizations\.(\w+)\.original\d*$", r".\1", first)
    return re.sub(r"(?<=weight)_(orig|g|v)$", "", name)
