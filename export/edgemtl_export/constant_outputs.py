"""Outputs that do not depend on the input: a network that was pruned too far still runs, and sees nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, fx
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from .analysis.values import Value
from .plan import Plan
from .program import Program


def constant_outputs(plan: Plan, unmoved: Collection[int]) -> tuple[list[str], int]:
    """Return the names of the outputs that are constant, dotted where nested, and how many outputs there are.

    An output is constant by the analysis, or where no drawn input moved it (``unmoved`` positions) and it depends on no
    other input: integers are never drawn.
    """
    program = plan.channels.program
    outputs: Any = program.graph.output_node().args[0]
    names, undrawn = _output_names(program), _depending_on_integers(program)
    constant = [
        name
        for position, (name, node) in enumerate(zip(names, outputs, strict=True))
        if name
        and isinstance(node, fx.Node)
        and ((position in unmoved and node not in undrawn) or _is_constant(plan, node))
    ]
    return constant, sum(bool(name) and isinstance(node, fx.Node) for name, node in zip(names, outputs, strict=True))


def unread_inputs(small: Program) -> list[str]:
    """Return the names of the inputs that nothing of a shrunk program reads."""
    return [node.name for node in small.inputs if not node.users]


def _depending_on_integers(program: Program) -> set[fx.Node]:
    """Return the nodes that depend on an input of whole numbers or booleans."""
    depending = {n for n in program.inputs if isinstance(t := n.meta.get("val"), Tensor) and not t.is_floating_point()}
    for node in program.graph.nodes:
        if not depending.isdisjoint(node.all_input_nodes):
            depending.add(node)
    return depending


def _is_constant(plan: Plan, node: fx.Node) -> bool:
    value = plan.channels.values.get(node)
    return isinstance(value, Value) and bool(value.const.all())


def _output_names(program: Program) -> list[str]:
    """Return a name for every output of the graph, empty for a buffer that is written."""
    exported = program.exported
    spec = exported.call_spec.out_spec
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = iter(path for path, _ in pytree.tree_flatten_with_path(tree)[0])
    specs = exported.graph_signature.output_specs
    return [_dotted(next(paths)) if s.kind is OutputKind.USER_OUTPUT else "" for s in specs]


def _dotted(path: Any) -> str:
    keys = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", "")))) for key in path]
    return ".".join(keys) or "output"
