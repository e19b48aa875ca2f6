"""A program in float64: every dtype that its graph names or implies is widened, in nested graphs too."""

from __future__ import annotations

import copy
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .errors import UnsupportedError
from .program import Program, op_name

WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}
"""The dtype that stands for a narrower one."""


def in_double(program: Program) -> Program:
    """Return a copy that computes in float64. Its nodes are the program's, one by one.

    Raises `UnsupportedError` where bits of a narrower dtype are read as another.
    """
    double = program.copy()
    double.state = {name: widen_tensor(tensor) for name, tensor in program.state.items()}
    double.nested = _widen_nested(program.root, program.graph)
    _widen_graph(double.graph)
    return double


def widen_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor of a narrow floating or complex dtype in the wide one; others as they are."""
    return tensor.to(WIDE[tensor.dtype]) if tensor.dtype in WIDE else tensor


def widen_arguments(node: fx.Node, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Return a node's arguments with every dtype widened, the one that a factory takes by default among them."""
    args, kwargs = pytree.tree_map_only(torch.dtype, lambda dtype: WIDE.get(dtype, dtype), (args, kwargs))
    parameters = getattr(getattr(node.target, "_schema", None), "arguments", ())
    position = next((i for i, a in enumerate(parameters) if a.name == "dtype"), None)
    result = _dtype(node)
    if position is None or result not in WIDE or str(parameters[position].type) != "Optional[int]":
        return args, kwargs
    if position >= len(args) and kwargs.get("dtype") is None:
        kwargs = {**kwargs, "dtype": WIDE[result]}
    elif position < len(args) and args[position] is None:
        args = (*args[:position], WIDE[result], *args[position + 1 :])
    return args, kwargs


def is_random(node: fx.Node) -> bool:
    """Whether an operator draws random numbers with these arguments."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    if "scaled_dot_product_attention" in op_name(node):
        dropout = node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0)
        return bool(dropout != 0.0)
    if "rrelu" in op_name(node):
        return bool(node.args[3] if len(node.args) > 3 else node.kwargs.get("training", False))
    if "dropout" in op_name(node):
        return node.args[-1] is not False
    return True


def _dtype(node: fx.Node) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None


def _widen_graph(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        result = _dtype(node)
        operands = [_dtype(n) for n in node.all_input_nodes]
        if str(node.target) == "aten.view.dtype" and {result, *operands} & WIDE.keys():
            raise UnsupportedError(f"{node.name} reads the bits of one dtype as another, which float64 does not have")
        if result in WIDE and (is_random(node) or _chooses_dtype(node, operands)):
            node.args, node.target = (str(node.target), *node.args), call_in_double
        else:
            node.args, node.kwargs = widen_arguments(node, node.args, node.kwargs)


def _chooses_dtype(node: fx.Node, operands: list[torch.dtype | None]) -> bool:
    """Whether an operator makes floating numbers of others (a quotient of integers) in the default dtype."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    named = any(a.name == "dtype" for a in node.target._schema.arguments)
    return not named and bool(operands) and not any(d in WIDE or d == torch.float64 for d in operands)


def call_in_double(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call an operator as it is, and widen its result: random numbers must be those of the narrow dtype."""
    return widen_tensor(attrgetter(name)(torch.ops)(*args, **kwargs))


def _widen_nested(root: nn.Module, graph: fx.Graph) -> nn.Module:
    """Return the modules that a graph refers to, widened: branches, loop bodies and tensors."""
    wide = nn.Module()
    for node in graph.nodes:
        if node.op != "get_attr":
            continue
        *path, name = str(node.target).split(".")
        owner, value = wide, root
        for part in path:
            value = getattr(value, part)
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        value = getattr(value, name)
        setattr(owner, name, _widen_module(value) if isinstance(value, fx.GraphModule) else _widen_leaf(value))
    return wide


def _widen_leaf(value: object) -> object:
    return widen_tensor(value.detach()) if isinstance(value, Tensor) else copy.deepcopy(value)


def _widen_module(module: fx.GraphModule) -> fx.GraphModule:
    wide = fx.Graph()
    output = wide.output(wide.graph_copy(module.graph, copies := {}))
    copies[module.graph.output_node()] = output
    for old, new in copies.items():
        new.meta = dict(old.meta)
    _widen_graph(wide)
    return fx.GraphModule(_widen_nested(module, module.graph), wide)
