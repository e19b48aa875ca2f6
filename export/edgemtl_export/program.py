"""Programs: from a module to a functional graph whose parameters are inputs, and back to an ExportedProgram."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils import _pytree as pytree

Node = fx.Node
STATE = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@dataclass
class Program:
    """An exported program taken apart: a functional graph, and what its placeholders stand for.

    ``state`` maps the fully qualified names of parameters, buffers and constants to tensors on the CPU; ``sources``
    maps placeholder nodes to those names. Everything else of the export is kept in ``exported``.
    """

    exported: ExportedProgram
    graph: fx.Graph
    state: dict[str, Tensor]
    specs: dict[str, InputSpec] = field(default_factory=dict)
    """What each placeholder is, by node name."""

    def compile(self) -> fx.GraphModule:
        """Return a module that runs the graph as it is now."""
        return fx.GraphModule(self.exported.graph_module, self.graph)

    @property
    def sources(self) -> dict[Node, str]:
        """The parameter, buffer or constant behind each placeholder that is one."""
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
        return any(isinstance(s, torch.SymInt) for n in self.inputs for s in getattr(n.meta.get("val"), "shape", ()))

    def copy(self) -> Program:
        """Return a program whose graph and state can be changed."""
        return Program(self.exported, copy_graph(self.graph), dict(self.state), dict(self.specs))

    def parameters(self) -> dict[str, Tensor]:
        """Return what is a parameter among the state."""
        names = {str(s.target) for s in self.specs.values() if s.kind is InputKind.PARAMETER}
        return {name: tensor for name, tensor in self.state.items() if name in names}

    def add_buffer(self, name: str, value: Tensor) -> Node:
        """Add a buffer and a placeholder for it; return its node. A name that is taken is changed."""
        name = self.free_name(name)
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            node = self.graph.placeholder("b_" + name.replace(".", "_"))
        with self.fake_mode():
            node.meta["val"] = torch.empty(value.shape, dtype=value.dtype)
        self.state[name] = value
        self.specs[node.name] = InputSpec(InputKind.BUFFER, TensorArgument(node.name), name, True)
        return node

    def free_name(self, name: str) -> str:
        """Return the name, or one like it that no parameter, buffer or placeholder has."""
        taken = self.state.keys() | {n.name for n in self.graph.nodes} | {str(n.target) for n in self.graph.nodes}
        free, count = name, 1
        while free in taken or "b_" + free.replace(".", "_") in taken:
            free, count = f"{name}_{count}", count + 1
        return free

    def set_state(self, changed: dict[str, Tensor]) -> None:
        """Replace parameters and buffers, and what the graph knows of their shapes."""
        self.state |= changed
        with self.fake_mode():
            for node, name in self.sources.items():
                if name in changed:
                    node.meta["val"] = torch.empty(changed[name].shape, dtype=changed[name].dtype)

    def fake_mode(self) -> Any:
        """Return the mode in which the graph's tensors without data live."""
        return next(n.meta["val"].fake_mode for n in self.graph.nodes if hasattr(n.meta.get("val"), "fake_mode"))

    def drop_dead(self) -> None:
        """Drop nodes without readers, and state that no node reads."""
        self.graph.eliminate_dead_code()
        for node, name in self.sources.items():
            if not node.users:
                self.graph.erase_node(node)
                del self.specs[node.name]
                if name not in self.sources.values():
                    self.state.pop(name, None)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the flat outputs for flat user inputs."""
        state = self.state
        flat = iter(inputs)
        sources = self.sources
        values = [state[sources[n]] if n in sources else next(flat) for n in self.graph.nodes if n.op == "placeholder"]
        with torch.no_grad():
            return list(self.compile()(*values))

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Return the user's inputs in the order of ``inputs``."""
        spec = self.exported.call_spec.in_spec
        order = pytree.tree_unflatten([0] * spec.num_leaves, spec)[1].keys()
        return pytree.tree_leaves((args, {name: kwargs[name] for name in order}))

    def refresh(self) -> None:
        """Bring the shapes that the graph records up to date after a change; nodes marked settled are."""
        mode = self.fake_mode()
        values = [n.meta["val"] for n in self.graph.nodes if n.op == "placeholder"]
        _Shapes(self.compile(), mode).propagate_dont_convert_inputs(*values)

    def to_exported(self) -> ExportedProgram:
        """Put the program together again."""
        old = self.exported
        self.graph.lint()
        module = self.compile()
        module.meta = dict(old.graph_module.meta)
        nodes = [n for n in self.graph.nodes if n.op == "placeholder"]
        outputs: Any = self.graph.output_node().args[0]
        kept_specs = [
            replace(spec, arg=replace(spec.arg, name=node.name))
            if isinstance(node, Node) and hasattr(spec.arg, "name")
            else spec
            for spec, node in zip(old.graph_signature.output_specs, outputs, strict=True)
        ]
        signature = copy.copy(old.graph_signature)
        given = [
            replace(self.specs[n.name], arg=replace(self.specs[n.name].arg, name=n.name))
            if hasattr(self.specs[n.name].arg, "name")
            else self.specs[n.name]
            for n in nodes
        ]
        signature = type(signature)(given, kept_specs)
        constants = {n: v for n, v in old.constants.items() if not isinstance(v, Tensor)}
        persistent: dict[str, Tensor] = {}
        for node in nodes:
            spec = self.specs[node.name]
            if spec.kind in STATE:
                loose = spec.kind is InputKind.CONSTANT_TENSOR or spec.persistent is False
                (constants if loose else persistent)[str(spec.target)] = self.state[str(spec.target)]
        return ExportedProgram(
            root=module,
            graph=module.graph,
            graph_signature=signature,
            state_dict={
                name: nn.Parameter(t, t.is_floating_point()) if name in self.parameters() else t
                for name, t in persistent.items()
            },
            range_constraints=old.range_constraints,
            module_call_graph=old.module_call_graph[:1],
            example_inputs=old.example_inputs,
            constants=constants,
            verifiers=[old.verifier],
        )


class _Shapes(FakeTensorProp):
    """Shapes by PyTorch's own rules, but for those that are known: some kernels fix a size that may change."""

    def run_node(self, n: Node) -> Any:
        """Return a node's result as a tensor without data."""
        return n.meta["val"] if n.meta.pop("settled", False) else super().run_node(n)


def on_cpu(tree: Any) -> Any:
    """Return a tree of example inputs with its tensors on the CPU."""
    return pytree.tree_map_only(Tensor, lambda t: t.detach().cpu(), tree)


def to_program(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Program:
    """Export a module in evaluation mode (a copy, on the CPU), or take an ExportedProgram, as a functional program."""
    if isinstance(model, ExportedProgram):
        exported = model
    else:
        exported = torch.export.export(_evaluating(model), *on_cpu((args, kwargs or {})), dynamic_shapes=dynamic_shapes)
    program = _take_apart(exported)
    if not _make_functional(program.graph):
        program = _take_apart(exported.run_decompositions({}))
    for node in list(program.graph.nodes):
        if not node.users and ("_guards_fn" in str(node.target) or "_assert" in str(node.target)):
            program.graph.erase_node(node)
    _spell_out(program)
    program.drop_dead()
    return program


def _spell_out(program: Program) -> None:
    """Write operators that take another tensor's shape with the numbers they mean, where those are fixed."""
    named = {"view_as": torch.ops.aten.view.default, "reshape_as": torch.ops.aten.reshape.default}
    named["expand_as"] = torch.ops.aten.expand.default
    for node in program.graph.nodes:
        name = str(getattr(node.target, "overloadpacket", "")).removeprefix("aten.")
        if name in named and all(isinstance(s, int) for s in node.meta["val"].shape):
            node.target, node.args = named[name], (node.args[0], list(node.meta["val"].shape))


def _evaluating(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU that shares its tensors where it can: exporting leaves traces in modules that cache."""
    shared = {id(t): t.detach() for t in (*model.parameters(), *model.buffers()) if t.device.type == "cpu"}
    for key, p in ((id(p), p) for p in model.parameters()):
        if key in shared:
            shared[key] = nn.Parameter(shared[key], p.requires_grad)
    return copy.deepcopy(model, shared).cpu().eval()


def _take_apart(exported: ExportedProgram) -> Program:
    graph = copy_graph(exported.graph)
    places = [node for node in graph.nodes if node.op == "placeholder"]  # whose names a copy may have changed
    specs = {node.name: spec for node, spec in zip(places, exported.graph_signature.input_specs, strict=True)}
    stored = dict(exported.state_dict) | dict(exported.constants)
    state = {
        str(s.target): stored[str(s.target)].detach().cpu()
        for s in specs.values()
        if s.kind in STATE and isinstance(stored.get(str(s.target)), Tensor)
    }
    return Program(exported, graph, state, specs)


def copy_graph(given: fx.Graph) -> fx.Graph:
    """Return a copy of a graph whose nodes keep their names and what is known of them."""
    graph = fx.Graph()
    twins: dict[Node, Node] = {}
    output = graph.output(graph.graph_copy(given, twins))
    twins[given.output_node()] = output
    for old, new in twins.items():
        new.meta = dict(old.meta)
    return graph


def _make_functional(graph: fx.Graph) -> bool:
    """Replace operators that write into their input by those that do not; False where that would change a view.

    Dropout goes: in evaluation it is its input.
    """
    for node in list(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if "dropout" in str(node.target) and node.args[-1] is False:  # evaluation: its input, whatever it would write
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
            continue
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        pure = _pure_twin(node)
        if pure is None or not isinstance(node.args[0], Node) or not _owns(node):
            return False
        node.target = pure
        node.args[0].replace_all_uses_with(node, delete_user_cb=node.__lt__)
    return True


def _pure_twin(node: Node) -> Callable[..., Any] | None:
    target: Any = node.target
    name = target.overloadpacket.__name__
    writes = [a for a in target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    if not name.endswith("_") or len(writes) != 1 or writes[0].name != "self":
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, target._overloadname, None)


def _owns(node: Node) -> bool:
    """Whether nobody else looks at the memory that an in-place operator writes to."""
    written = node.args[0]
    assert isinstance(written, Node)
    if written.op == "placeholder" or _is_view(written):
        return False
    earlier = (user for user in written.users if user is not node and user < node)
    return not any(_is_view(user) for user in earlier)


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # getitem of a list of views
        return node.op == "call_function"
    return any(a.alias_info is not None and not a.alias_info.is_write for a in schema.arguments)
