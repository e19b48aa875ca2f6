"""Programs: a functional graph whose parameters are inputs, with its state, and back to an ExportedProgram."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils import _pytree as pytree

Node = fx.Node
STATE = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@dataclass
class Program:
    """An exported program in parts: a functional graph, and what its placeholders stand for.

    ``state`` maps the fully qualified names of parameters, buffers and constants to tensors on the CPU; ``sources``
    maps placeholder nodes to those names. Everything else of the export is kept in ``exported``.
    """

    exported: ExportedProgram
    graph: fx.Graph
    state: dict[str, Tensor]
    specs: dict[str, InputSpec] = field(default_factory=dict)
    """What each placeholder is, by node name."""
    nested: nn.Module | None = None
    """The nested graphs and tensors that the graph names, where they are not those of the export."""

    @property
    def root(self) -> nn.Module:
        """The module whose attributes the graph names."""
        return self.exported.graph_module if self.nested is None else self.nested

    def compile(self) -> fx.GraphModule:
        """Return a module that runs the graph as it is now."""
        return fx.GraphModule(self.root, self.graph)

    @property
    def sources(self) -> dict[Node, str]:
        """The parameter, buffer or constant that each placeholder stands for, where it stands for one."""
        return {
            node: str(self.specs[node.name].target)
            for node in self.graph.nodes
            if node.op == "placeholder" and self.specs[node.name].kind in STATE
        }

    @property
    def inputs(self) -> list[Node]:
        """The placeholders of the user's inputs, in order."""
        return [n for n in self.graph.nodes if n.op == "placeholder" and self.specs[n.name].kind not in STATE]

    @property
    def dynamic(self) -> bool:
        """Whether any input has a size that is not fixed."""
        inputs = [n.meta.get("val") for n in self.inputs]
        return any(isinstance(s, torch.SymInt) for val in inputs if isinstance(val, Tensor) for s in val.shape)

    def copy(self) -> Program:
        """Return a program whose graph and state can be changed."""
        return Program(self.exported, copy_graph(self.graph), dict(self.state), dict(self.specs), self.nested)

    def parameters(self) -> dict[str, Tensor]:
        """Return what is a parameter among the state."""
        names = {str(s.target) for s in self.specs.values() if s.kind is InputKind.PARAMETER}
        return {name: tensor for name, tensor in self.state.items() if name in names}

    def add_buffer(self, name: str, value: Tensor, kind: InputKind = InputKind.BUFFER) -> Node:
        """Add a buffer (or parameter) and a placeholder for it; return its node. A name that is taken is changed."""
        name = self.free_name(name)
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            node = self.graph.placeholder("b_" + name.replace(".", "_"))
        with self.fake_mode():
            node.meta["val"] = torch.empty(value.shape, dtype=value.dtype)
        self.state[name] = value
        self.specs[node.name] = InputSpec(
            kind, TensorArgument(node.name), name, True if kind is InputKind.BUFFER else None
        )
        return node

    def free_name(self, name: str) -> str:
        """Return the name, or one like it that no parameter, buffer or placeholder has."""
        taken = self.state.keys() | {n.name for n in self.graph.nodes} | {str(n.target) for n in self.graph.nodes}
        free, count = name, 1
        while free in taken or "b_" + free.replace(".", "_") in taken:
            free, count = f"{name}_{count}", count + 1
        return free

    def set_state(self, changed: dict[str, Tensor]) -> None:
        """Replace parameters and buffers, and the shapes that the graph records of them."""
        self.state |= changed
        with self.fake_mode():
            for node, name in self.sources.items():
                if name in changed:
                    node.meta["val"] = torch.empty(changed[name].shape, dtype=changed[name].dtype)

    def fake_mode(self) -> FakeTensorMode:
        """Return the mode of the graph's fake tensors (shapes without data)."""
        values = (n.meta.get("val") for n in self.graph.nodes)
        return next(val.fake_mode for val in values if isinstance(val, FakeTensor))

    def float_dtype(self) -> torch.dtype:
        """Return the floating type that the program's state has."""
        return next(t.dtype for t in self.state.values() if t.is_floating_point())

    def drop_unused(self) -> None:
        """Drop nodes without readers, and state that no node reads."""
        self.graph.eliminate_dead_code()
        written = {spec.target for spec in self.exported.graph_signature.output_specs}
        for node, name in self.sources.items():
            if not node.users and name not in written:
                self.graph.erase_node(node)
                del self.specs[node.name]
                if name not in self.sources.values():
                    self.state.pop(name, None)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the flat outputs for flat user inputs; what the program draws is the same at every run."""
        state = self.state
        flat = iter(inputs)
        sources = self.sources
        values = [state[sources[n]] if n in sources else next(flat) for n in self.graph.nodes if n.op == "placeholder"]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return list(self.compile()(*values))

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Return the user's inputs in the order of ``inputs``."""
        spec = self.exported.call_spec.in_spec
        order = pytree.tree_unflatten([0] * spec.num_leaves, spec)[1].keys()
        return pytree.tree_leaves((args, {name: kwargs[name] for name in order}))

    def refresh(self) -> None:
        """Bring the shapes that the graph records up to date after a change, but of nodes marked ``settled``."""
        mode = self.fake_mode()
        values = [n.meta["val"] for n in self.graph.nodes if n.op == "placeholder"]
        _ShapePropagation(self.compile(), mode).propagate_dont_convert_inputs(*values)

    def to_exported(self) -> ExportedProgram:
        """Return the program as an ExportedProgram."""
        exported = self.exported
        self.graph.lint()
        module = self.compile()
        module.meta = dict(exported.graph_module.meta)
        nodes = [n for n in self.graph.nodes if n.op == "placeholder"]
        outputs: Any = self.graph.output_node().args[0]
        output_specs = [
            replace(spec, arg=replace(spec.arg, name=node.name)) if isinstance(node, Node) else spec
            for spec, node in zip(exported.graph_signature.output_specs, outputs, strict=True)
        ]
        specs = [self.specs[node.name] for node in nodes]
        input_specs = [replace(s, arg=replace(s.arg, name=n.name)) for s, n in zip(specs, nodes, strict=True)]
        signature = type(exported.graph_signature)(input_specs, output_specs)
        constants = {n: v for n, v in exported.constants.items() if not isinstance(v, Tensor)}
        persistent: dict[str, Tensor] = {}
        for node in nodes:
            spec = self.specs[node.name]
            if spec.kind in STATE:
                unsaved = spec.kind is InputKind.CONSTANT_TENSOR or spec.persistent is False
                (constants if unsaved else persistent)[str(spec.target)] = self.state[str(spec.target)]
        return ExportedProgram(
            root=module,
            graph=module.graph,
            graph_signature=signature,
            state_dict={
                name: nn.Parameter(t, t.is_floating_point()) if name in self.parameters() else t
                for name, t in persistent.items()
            },
            range_constraints=exported.range_constraints,
            module_call_graph=exported.module_call_graph[:1],
            example_inputs=exported.example_inputs,
            constants=constants,
            verifiers=[exported.verifier],
        )


class _ShapePropagation(FakeTensorProp):
    """Shapes by PyTorch's rules, but for those that are known: some kernels specialise a symbolic size."""

    def run_node(self, n: Node) -> Any:
        """Return a node's result as a fake tensor."""
        return n.meta["val"] if n.meta.pop("settled", False) else super().run_node(n)


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """Return a copy of a graph whose nodes keep their names and metadata."""
    copied = fx.Graph()
    copies: dict[Node, Node] = {}
    output = copied.output(copied.graph_copy(graph, copies))
    copies[graph.output_node()] = output
    for old, new in copies.items():
        new.meta = dict(old.meta)
    return copied


def op_name(node: Node) -> str:
    """Return an operator's name without its overload: ``aten.conv2d``; ``getitem`` for an item of a container."""
    target = node.target
    if target is operator.getitem:
        return "getitem"
    return str(target.overloadpacket if isinstance(target, torch._ops.OpOverload) else target)
