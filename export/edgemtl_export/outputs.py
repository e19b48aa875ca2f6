"""Selection of outputs: the others are removed, and with them everything that only they read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from .program import Program


class UnknownOutputError(ValueError):
    """An output is selected that the program does not have."""


def select_outputs(program: Program, names: Sequence[str]) -> None:
    """Keep these outputs of a program, in place: dict keys, positions in tuples and lists, dotted where nested.

    Of a named tuple, whose fields are named, a dict is left.
    """
    if isinstance(names, str) or not names:
        raise UnknownOutputError(f"outputs is {names!r}; it is a list of one name or more")
    exported = program.exported
    spec = exported.call_spec.out_spec
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    selected = _select(tree, [str(name).split(".") for name in names], "")
    all_specs = exported.graph_signature.output_specs
    written = [i for i, s in enumerate(all_specs) if s.kind is not OutputKind.USER_OUTPUT]  # they stand first
    order = [*written, *(len(written) + leaf for leaf in pytree.tree_leaves(selected) if leaf is not None)]
    node = program.graph.output_node()
    outputs: Any = node.args[0]
    node.args = (tuple(outputs[i] for i in order),)
    new_spec = pytree.tree_structure(pytree.tree_map(lambda i: i, selected))
    signature = exported.graph_signature
    specs = [all_specs[i] for i in order]
    entry = exported.module_call_graph[0]
    assert entry.signature is not None
    call = replace(entry.signature, outputs=[], out_spec=new_spec)
    program.exported = copy.copy(exported)
    program.exported._graph_signature = type(signature)(signature.input_specs, specs)
    program.exported._module_call_graph = [replace(entry, signature=call)]
    program.drop_unused()


def _select(tree: Any, paths: list[list[str]], prefix: str) -> Any:
    """Return the container with only what the paths name, in the order it had."""
    if any(not path for path in paths):
        return tree
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if isinstance(tree, dict):
        keys = {str(key): key for key in tree}
    elif type(tree) in (list, tuple):
        keys = {str(i): i for i in range(len(tree))}
    else:
        keys = {}
    unknown = [path[0] for path in paths if path[0] not in keys]
    if unknown:
        known = ", ".join(keys) or "one without a name"
        raise UnknownOutputError(f"no output {prefix}{unknown[0]}: the program has {known}")
    wanted = {name: [p[1:] for p in paths if p[0] == name] for name in keys}
    kept = {key: _select(tree[key], wanted[name], f"{prefix}{name}.") for name, key in keys.items() if wanted[name]}
    if isinstance(tree, dict):
        return type(tree)(kept)
    return type(tree)(kept.values())
