"""From a module or an ExportedProgram to a functional program in evaluation mode, without in-place operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from .errors import UnsupportedError
from .fixed_indices import select_by_index
from .nested import inline_nested
from .program import STATE, Program, copy_graph, op_name
from .shape_readers import read_metadata
from .tracing import export_module

Node = fx.Node
ALIASES = {
    "concat": "cat",
    "concatenate": "cat",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "subtract": "sub",
    "absolute": "abs",
    "negative": "neg",
    "fix": "trunc",
    "special_expit": "sigmoid",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "view": "reshape",
}
"""Second names of operators, by which torch.export keeps them apart from the first.

A view is a reshape that must not copy: what is selected for it in fewer channels may lie otherwise in memory.
"""


def to_program(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Program:
    """Export a module in evaluation mode (a copy, on the CPU), or take an ExportedProgram, as a functional program.

    Raises `UnsupportedError` where torch.export cannot trace the module.
    """
    if not isinstance(model, nn.Module | ExportedProgram):
        kind = type(model).__name__
        raise UnsupportedError(f"the network is of the type {kind}; give an nn.Module or an ExportedProgram")
    exported = model if isinstance(model, ExportedProgram) else export_module(model, args, kwargs, dynamic_shapes)
    program = _from_exported(exported)
    if not inline_nested(exported.graph_module, program.graph) or not _functionalise(program.graph):
        program = _from_exported(exported.run_decompositions({}))
        inline_nested(program.exported.graph_module, program.graph)
    for node in list(program.graph.nodes):
        if not node.users and ("_guards_fn" in str(node.target) or "_assert" in str(node.target)):
            program.graph.erase_node(node)
    _use_first_names(program.graph)
    read_metadata(program.graph)
    select_by_index(program)
    program.drop_unused()
    return program


def _from_exported(exported: ExportedProgram) -> Program:
    graph = copy_graph(exported.graph)
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]  # whose names a copy may have changed
    specs = {n.name: spec for n, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True)}
    stored = dict(exported.state_dict) | dict(exported.constants)
    state = {
        str(s.target): stored[str(s.target)].detach().cpu()
        for s in specs.values()
        if s.kind in STATE and isinstance(stored.get(str(s.target)), Tensor)
    }
    for spec in exported.graph_signature.output_specs:
        if spec.target in state:  # a buffer that is written: not the given network's own
            state[spec.target] = state[spec.target].clone()
    return Program(exported, graph, state, specs)


def _functionalise(graph: fx.Graph) -> bool:
    """Replace in-place operators by their out-of-place variants; return False where that would change a view.

    Dropout is removed: in evaluation it is the identity.
    """
    for node in list(graph.nodes):
        if "dropout" in str(node.target) and node.args[-1] is False:  # the identity, whatever it would write
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
            continue
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
            continue
        functional = _out_of_place(target)
        if functional is None or not isinstance(node.args[0], Node) or not _may_replace(node):
            return False
        node.target = functional
        node.args[0].replace_all_uses_with(node, delete_user_cb=node.__lt__)
    return True


def _use_first_names(graph: fx.Graph) -> None:
    """Call every operator by its first name, in place: that is the one which rules know."""
    for node in graph.nodes:
        name = op_name(node).removeprefix("aten.") if node.op == "call_function" else ""
        if name in ALIASES:
            node.target = getattr(getattr(torch.ops.aten, ALIASES[name]), node.target._overloadname, node.target)


def _out_of_place(target: torch._ops.OpOverload[..., Any]) -> Callable[..., Any] | None:
    """Return the out-of-place variant of an operator that writes into its first argument alone."""
    name = target.overloadpacket.__name__
    writes = [a for a in target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    if not name.endswith("_") or len(writes) != 1 or writes[0].name != "self":
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, target._overloadname, None)


def _may_replace(node: Node) -> bool:
    """Whether no view shares the memory that an in-place operator writes to."""
    written = node.args[0]
    assert isinstance(written, Node)
    if written.op == "placeholder" or _is_view(written):
        return False
    earlier = (user for user in written.users if user is not node and user < node)
    return not any(_is_view(user) for user in earlier)


def _is_view(node: Node) -> bool:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):  # getitem of a list of views
        return node.op == "call_function"
    return any(a.alias_info is not None and not a.alias_info.is_write for a in target._schema.arguments)
