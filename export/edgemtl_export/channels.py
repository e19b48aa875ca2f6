"""What every channel of a program is: live, constant, unread or pinned, by abstract interpretation of its graph.

Each tensor carries three things: a value, whether that value is constant (it does not depend on the input), and the id
of the channel each element belongs to. Movement operators are simply executed on all three, so a channel can be
followed through any view, split or shuffle; ids that must be kept or removed together are unified. Id 0 is pinned: the
program's inputs and outputs, and whatever an operator without a rule touches. All three are held compressed: of size 1
along every dimension in which nothing changes (`spread`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .program import Program

PINNED = 0
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor under analysis: its concrete shape, and ``value``, ``const`` and ``ids``, each compressed.

    ``value`` is zero wherever it is not constant. ``ids`` is None for tensors that carry no channels: parameters and
    what is computed from them alone, all constant. ``source`` names the parameter or buffer that the value is.
    """

    shape: tuple[int, ...]
    value: Tensor
    const: Tensor
    ids: Tensor | None = None
    source: str = ""

    @property
    def zero(self) -> Tensor:
        """Where the value is constantly zero, compressed."""
        return self.const & (self.value == 0)

    def spread(self, data: Tensor) -> Tensor:
        """Return compressed data at this value's full size (a view)."""
        return data.expand(self.shape)


@dataclass(frozen=True, eq=False)
class Read:
    """Output ``out_ids[g, o]`` needs input ``in_ids[g, i]`` where ``needs[g, o, i]`` and ``open[g, i]``.

    ``open`` is False for inputs that are constant here and can be folded; ``nonzero`` says which of those are not zero.
    """

    node: fx.Node
    out_ids: Ids
    in_ids: Ids
    needs: Mask
    open: Mask
    nonzero: Mask
    weight: str = ""
    """The weight that reads, where the node is a convolution or linear layer: what it reads can be cut and folded."""

    def heard(self, outputs: Mask) -> Mask:
        """Return which inputs some of these outputs need."""
        if len(outputs) == 1:  # without a copy of all
            return np.asarray(self.needs[0][outputs[0]].any(0))[None]
        return np.asarray((self.needs & outputs[:, :, None]).any(1))


@dataclass(frozen=True, eq=False)
class Grouped:
    """Channels (groups, channels a group) of which every group that stays must keep the same number."""

    node: fx.Node
    in_ids: Ids
    out_ids: Ids


@dataclass(frozen=True, eq=False)
class Gather:
    """An operand that is laid out anew for its reader: it may have fewer channels, or more, filled with constants."""

    given: Value
    ids: Tensor
    dim: int
    fill: Tensor
    """The value of each channel along ``dim`` where it is constant, else 0."""


@dataclass
class Channels:
    """The analysis of one program: build it with `analyse`."""

    program: Program
    uniform: bool = False
    """Every group and head must lose the same channels: what a training can act on."""
    cut: Callable[[fx.Node], bool] = lambda node: False
    """Which sums and grouped convolutions may gather their operands."""
    rewrite_norms: bool = False
    """Whether layer and group normalisation may be written out, so that what they read can go."""
    count: int = 1
    edges: list[tuple[Ids, Ids]] = field(default_factory=list)
    pins: dict[str, list[Ids]] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    grouped: list[Grouped] = field(default_factory=list)
    agree: list[tuple[Ids, Ids]] = field(default_factory=list)
    """Pairs of ids (n, a) and (n, b): row k of one stays in part exactly when row k of the other does."""
    values: dict[fx.Node, Any] = field(default_factory=dict)
    dims: dict[str, dict[int, Ids]] = field(default_factory=dict)
    """Channel ids along each dimension of a parameter or buffer."""
    columns: dict[str, set[int]] = field(default_factory=dict)
    """Of a weight: the dimension that runs along what it reads."""
    blocks: dict[str, Ids] = field(default_factory=dict)
    """Of a grouped convolution's weight: the ids (groups, n) along dimension 1, which differ from group to group."""
    gathers: dict[tuple[fx.Node, int], Gather] = field(default_factory=dict)
    slices: dict[tuple[fx.Node, int], tuple[int, Ids]] = field(default_factory=dict)
    """Constant operands of a node to be cut along a dimension where they are read."""
    loose: set[str] = field(default_factory=set)
    """Parameters that something reads which could not follow if they were sliced."""
    writers: set[str] = field(default_factory=set)
    """Parameters whose rows make a channel: zero in all of them, and the channel is zero."""
    transposed: set[str] = field(default_factory=set)
    """Writers whose rows lie along dimension 1: the weights of transposed convolutions."""

    def axis(self, name: str) -> int:
        """Return the dimension along which a parameter makes channels: 1 in transposed convolutions, else 0."""
        return 1 if name in self.transposed else 0

    def made(self, name: str) -> Ids:
        """Return the channels that a parameter makes, a row of its each."""
        if name in self.transposed:
            return self.blocks[name].reshape(-1) if name in self.blocks else self.dims[name][1]
        return self.dims[name][0]

    def at(self, argument: Any) -> Value:
        """Return what is known of a node that gives one tensor."""
        value = self.values[argument]
        assert isinstance(value, Value)
        return value

    def fresh(self, count: int) -> Tensor:
        """Return ``count`` new channel ids."""
        start, self.count = self.count, self.count + count
        return torch.arange(start, start + count)

    def unify(self, a: Tensor, b: Tensor) -> None:
        """Tie ids that meet: they are kept or removed together."""
        if a is not b:
            a, b = torch.broadcast_tensors(a, b)
            self.edges.append((a.reshape(-1).numpy(), b.reshape(-1).numpy()))

    def pin(self, ids: Tensor | None, why: str) -> None:
        """Keep these channels, and remember the operator that asked for it."""
        if ids is not None:
            self.pins.setdefault(why, []).append(ids.reshape(-1).numpy())
            self.unify(ids, torch.zeros((), dtype=torch.int64))

    def along(self, value: Value, dim: int) -> Tensor:
        """Return the ids (n,) along ``dim``; where they differ elsewhere, those of one place are tied together."""
        assert value.ids is not None
        moved = value.ids.movedim(dim, 0)
        columns = moved.reshape(moved.shape[0], -1)
        if columns.shape[1] > 1:
            self.unify(columns, columns[:, :1])
        return columns[:, 0].expand(value.shape[dim])

    def tie(self, name: str, dim: int, ids: Tensor) -> None:
        """Say that dimension ``dim`` of parameter or buffer ``name`` runs along these channels."""
        known = self.dims.setdefault(name, {})
        if dim in known:
            self.unify(torch.from_numpy(known[dim]), ids)
        else:
            known[dim] = ids.numpy().copy()

    def gather(self, node: fx.Node, position: int, value: Value, dim: int) -> Value:
        """Let ``node`` read this operand in a layout of its own, and return it in that layout."""
        old, new = self.along(value, dim), self.fresh(value.shape[dim])
        constant, amount = foldable(value, dim)
        self.gathers[node, position] = Gather(value, new, dim, amount)
        self.read(node, new[:, None], old[:, None], torch.ones(len(new), 1, 1).bool(), ~constant, amount != 0)
        return replace(value, ids=shaped(new, dim, len(value.shape)))

    def read(
        self,
        node: fx.Node,
        out: Tensor,
        into: Tensor,
        needs: Tensor,
        opened: Tensor,
        nonzero: Tensor,
        weight: str = "",
    ) -> None:
        """Note which inputs each output needs; ``opened`` and ``nonzero`` are of ``into``'s size."""
        flat = (opened.reshape(into.shape).numpy(), nonzero.reshape(into.shape).numpy())
        self.reads.append(Read(node, out.numpy(), into.numpy(), needs.numpy(), *flat, weight))

    def roots(self) -> Ids:
        """Return the representative of every id, the smallest it is tied to, as an array to index with ids."""
        parent = np.arange(self.count)
        a = np.concatenate([edge[0] for edge in self.edges] or [np.empty(0, np.int64)])
        b = np.concatenate([edge[1] for edge in self.edges] or [np.empty(0, np.int64)])
        while True:
            left, right = parent[a], parent[b]
            apart = left != right
            if not apart.any():
                return parent
            a, b = a[apart], b[apart]
            left, right = left[apart], right[apart]
            np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))
            while not np.array_equal(parent, above := parent[parent]):
                parent = above


Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register how an operator family acts on values: ``rule(channels, node, *args, **kwargs) -> Value or tuple``."""

    def register(function: Rule) -> Rule:
        for name in operators:
            RULES[name] = function
        return function

    return register


def shaped(data: Tensor, dim: int, ndim: int) -> Tensor:
    """Return data (n,) as a compressed tensor that varies along ``dim`` alone."""
    sizes = [1] * ndim
    sizes[dim] = -1
    return data.reshape(sizes)


def known(value: Tensor, const: Tensor) -> tuple[Tensor, Tensor]:
    """Return (value, const), value zero and const False wherever it is not constant and finite."""
    if value.is_floating_point() or value.is_complex():
        const = const & value.isfinite()
    return torch.where(const, value, torch.zeros_like(value)), const


def foldable(value: Value, dim: int) -> tuple[Tensor, Tensor]:
    """Return for every channel along ``dim`` whether it is one constant everywhere, and that constant (float64)."""
    flat_const = value.const.movedim(dim, 0).flatten(1) if value.const.ndim > 1 else value.const[:, None]
    flat_value = value.value.movedim(dim, 0).flatten(1) if value.value.ndim > 1 else value.value[:, None]
    constant = flat_const.all(1) & (flat_value == flat_value[:, :1]).all(1)
    amount = torch.where(constant, flat_value[:, 0].double(), torch.zeros((), dtype=torch.float64))
    return constant.expand(value.shape[dim]), amount.expand(value.shape[dim])


def name_of(node: fx.Node) -> str:
    """Return an operator's name without its overload: ``aten.conv2d``."""
    target = node.target
    return "getitem" if target is operator.getitem else str(getattr(target, "overloadpacket", target))


def analyse(program: Program, inputs: Sequence[Any], **options: Any) -> Channels:
    """Interpret a functional program, its sizes those of the flat example ``inputs``."""
    from . import ops  # the rules register themselves

    del ops
    channels = Channels(program, **options)
    sources, given = program.sources, dict(zip(program.inputs, inputs, strict=True))
    with torch.no_grad():
        for node in program.graph.nodes:
            if node in sources:
                tensor = program.state[sources[node]]
                const = torch.ones((1,) * tensor.ndim, dtype=torch.bool)
                channels.values[node] = Value(tuple(tensor.shape), tensor, const, None, sources[node])
            elif node.op == "placeholder":
                channels.values[node] = pinned(given[node]) if isinstance(given[node], Tensor) else given[node]
            elif node.op == "call_function":
                channels.values[node] = _call(channels, node)
            elif node.op == "output":
                for value in tensors(pytree.tree_map_only(fx.Node, channels.values.get, node.args)):
                    channels.pin(value.ids, "output")
                    channels.loose.add(value.source)
    for name in channels.loose & channels.dims.keys():
        for ids in channels.dims[name].values():
            channels.pin(torch.from_numpy(ids), f"{name} (also read as a whole)")
    return channels


def _call(channels: Channels, node: fx.Node) -> Any:
    args, kwargs = pytree.tree_map_only(fx.Node, channels.values.get, (node.args, node.kwargs))
    operands = tensors((args, kwargs))
    name = name_of(node)
    if name == "getitem":
        return args[0][args[1]]
    if callable(node.target) and not isinstance(node.target, torch._ops.OpOverload) and not operands:
        return node.target(*args, **kwargs)  # arithmetic on sizes
    if name.startswith("aten.sym_size"):
        return args[0].shape[args[1]]
    if all(value.ids is None for value in operands) and not (operands and name in MOVES_PARAMETERS):
        return _constant(channels, node, args, kwargs, operands)
    if name in RULES or is_pointwise(node):
        result = RULES[name if name in RULES else "pointwise"](channels, node, *args, **kwargs)
        if result is not NotImplemented:
            return result
        if all(value.ids is None for value in operands):
            return _constant(channels, node, args, kwargs, operands)
    for value in operands:
        channels.pin(value.ids, name)
        channels.loose.add(value.source)
    return pytree.tree_map_only(Tensor, pinned, _like(channels, node))


MOVES_PARAMETERS = frozenset(f"aten.{name}" for name in "view reshape unsqueeze expand transpose permute t".split())  # noqa: SIM905


def is_pointwise(node: fx.Node) -> bool:
    """Whether PyTorch says that the operator acts on each element by itself."""
    return torch.Tag.pointwise in getattr(node.target, "tags", ())


def _constant(channels: Channels, node: fx.Node, args: Any, kwargs: Any, operands: list[Value]) -> Any:
    """Compute what depends on no input; what depends on a size that may change is not constant."""
    channels.loose.update(value.source for value in operands)
    args, kwargs = pytree.tree_map_only(Value, lambda v: v.spread(double(v.value)), (args, kwargs))
    assert callable(node.target)
    result = node.target(*args, **kwargs)
    varies = any(isinstance(n.meta.get("val"), torch.SymInt) for n in node.all_input_nodes) or any(
        not bool(v.const.all()) for v in operands
    )

    def wrap(tensor: Tensor) -> Value:
        if varies:
            return replace(pinned(tensor), ids=None)
        return Value(tuple(tensor.shape), double(tensor), torch.ones((1,) * tensor.ndim, dtype=torch.bool))

    return pytree.tree_map_only(Tensor, wrap, result)


def double(value: Tensor) -> Tensor:
    """Return floating values as float64: constants are folded without rounding."""
    return value.double() if value.is_floating_point() else value


def _like(channels: Channels, node: fx.Node) -> Any:
    """Return meta tensors of the concrete shapes that a node without a rule gives."""
    args, kwargs = pytree.tree_map_only(fx.Node, channels.values.get, (node.args, node.kwargs))
    recorded = node.meta.get("val")
    sizes = [s for t in pytree.tree_leaves(recorded) if isinstance(t, Tensor) for s in t.shape]
    if all(isinstance(s, int) for s in sizes):
        return pytree.tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), recorded)
    args, kwargs = pytree.tree_map_only(
        Value, lambda v: torch.empty(v.shape, dtype=v.value.dtype, device="meta"), (args, kwargs)
    )
    assert callable(node.target)
    return node.target(*args, **kwargs)


def pinned(like: Tensor) -> Value:
    """Return an unknown, pinned value of a tensor's shape and kind."""
    blank = torch.zeros((1,) * like.ndim)
    dtype = torch.float64 if like.is_floating_point() else like.dtype
    return Value(tuple(int(s) for s in like.shape), blank.to(dtype), blank.bool(), blank.long())


def tensors(tree: Any) -> list[Value]:
    """Return the values in a tree of arguments."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Value)]
