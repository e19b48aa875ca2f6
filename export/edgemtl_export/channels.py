"""What every channel of a program is: live, zero, unread or pinned, by abstract interpretation of its graph.

Each tensor carries three things of its own shape: a value, whether that value is constant (it does not depend on the
input), and the id of the channel each element belongs to. Movement operators are simply executed on all three, so a
channel can be followed through any view, split or shuffle; ids that must be kept or removed together are unified. Id 0
is pinned: the program's inputs and outputs, and whatever an operator without a rule touches.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.utils import _pytree as pytree

PINNED = 0


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor under analysis: float64 ``value``, ``const`` and channel ``ids`` of the same shape.

    ``ids`` is None for tensors that carry no channels: parameters and what is computed from them alone, whose values
    are all constant. ``source`` names the parameter or buffer when the value is one as it stands.
    """

    value: Tensor
    const: Tensor
    ids: Tensor | None = None
    source: str = ""

    @property
    def is_zero(self) -> Tensor:
        """Where the value is constantly zero."""
        return self.const & (self.value == 0)


@dataclass(frozen=True, eq=False)
class Read:
    """A conv or linear: output channel o needs input channel i where ``needs[o, i]``."""

    operator: str
    out_ids: NDArray[np.int64]
    in_ids: NDArray[np.int64]
    needs: NDArray[np.bool_]
    constant: NDArray[np.bool_]
    """Input channels that are constant but not zero here."""


@dataclass
class Channels:
    """The analysis of one program: build it with `analyse`."""

    graph: fx.Graph
    state: dict[str, Tensor]
    parent: list[int] = field(default_factory=lambda: [PINNED])
    pins: dict[str, set[int]] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    dims: dict[str, dict[int, NDArray[np.int64]]] = field(default_factory=dict)
    """Channel ids along each dimension of a parameter or buffer."""
    loose: set[str] = field(default_factory=set)
    """Parameters that something reads which could not follow if they were sliced."""
    writers: set[str] = field(default_factory=set)
    """Parameters whose rows make a channel: zero in all of them, and the channel is zero."""

    def fresh(self, count: int) -> Tensor:
        """Return ``count`` new channel ids."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def find(self, i: int) -> int:
        """Return the representative of an id."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def unify(self, a: Tensor, b: Tensor) -> None:
        """Tie ids that meet: they are kept or removed together."""
        for i, j in np.unique(np.stack([a.numpy().ravel(), b.numpy().ravel()]), axis=1).T.tolist():
            i, j = self.find(i), self.find(j)
            if i != j:
                self.parent[max(i, j)] = min(i, j)

    def pin(self, ids: Tensor | None, why: str) -> None:
        """Keep these channels, and remember the operator that asked for it."""
        if ids is None:
            return
        touched = distinct(ids)
        self.pins.setdefault(why, set()).update(touched - {PINNED})
        together = torch.tensor(sorted(touched))
        self.unify(together, torch.zeros_like(together))

    def along(self, value: Value, dim: int) -> Tensor | None:
        """Return the ids along ``dim`` if every other dimension agrees on them, else None."""
        assert value.ids is not None
        moved = value.ids.movedim(dim, 0).reshape(value.ids.shape[dim], -1)
        return moved[:, 0].contiguous() if bool((moved == moved[:, :1]).all()) else None

    def tie(self, name: str, dim: int, ids: Tensor) -> None:
        """Say that dimension ``dim`` of parameter or buffer ``name`` runs along these channels."""
        known = self.dims.setdefault(name, {})
        if dim in known:
            self.unify(torch.from_numpy(known[dim]), ids)
        else:
            known[dim] = ids.numpy().copy()

    def roots(self) -> NDArray[np.int64]:
        """Return the representative of every id, as an array to index with ids."""
        return np.array([self.find(i) for i in range(len(self.parent))])

    def needed(self, roots: NDArray[np.int64], extra: Iterable[int] = ()) -> NDArray[np.bool_]:
        """Return for every id whether its channel is needed: pinned, or read by a needed channel where it is not zero.

        ``extra`` ids are kept as well. This is the fixed point of both ways to be dead, zero and unread.
        """
        needed = np.zeros(len(roots), bool)
        needed[PINNED] = True
        needed[roots[list(extra)]] = True
        changed = True
        while changed:
            changed = False
            for read in self.reads:
                wanted = roots[read.in_ids[read.needs[needed[roots[read.out_ids]]].any(0)]]
                if not needed[wanted].all():
                    needed[wanted] = True
                    changed = True
        return needed[roots]


Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register how an operator family acts on values: ``rule(channels, node, *args, **kwargs) -> Value or tuple``."""

    def register(function: Rule) -> Rule:
        for name in operators:
            RULES[name] = function
        return function

    return register


def known(value: Tensor, const: Tensor) -> Tensor:
    """Return the value where it is constant and zero elsewhere, floating values as float64."""
    value = value.double() if value.is_floating_point() else value
    return torch.where(const, value, torch.zeros_like(value))


def distinct(ids: Tensor) -> set[int]:
    """Return the ids that occur."""
    return set(np.unique(ids.numpy()).tolist())


def name_of(node: fx.Node) -> str:
    """Return an operator's name without its overload: ``aten.conv2d``."""
    target = node.target
    if target is operator.getitem:
        return "getitem"
    return str(getattr(target, "overloadpacket", target))


def analyse(graph_module: fx.GraphModule) -> Channels:
    """Interpret the graph of an unlifted, functional export."""
    from . import ops  # the rules register themselves

    del ops
    state = dict(graph_module.named_parameters()) | dict(graph_module.named_buffers())
    channels = Channels(graph_module.graph, {n: t.detach() for n, t in state.items()})
    with torch.no_grad():
        for node in graph_module.graph.nodes:
            if node.op == "placeholder":
                channels.values[node] = _pinned(node.meta.get("val"))
            elif node.op == "get_attr":
                tensor = _attribute(graph_module, str(node.target)).detach().cpu()
                tensor = tensor.double() if tensor.is_floating_point() else tensor
                source = str(node.target) if str(node.target) in state else ""
                channels.values[node] = Value(tensor, torch.ones(tensor.shape).bool(), None, source)
            elif node.op == "call_function":
                channels.values[node] = _call(channels, node)
            elif node.op == "output":
                for value in _tensors(pytree.tree_map_only(fx.Node, channels.values.get, node.args)):
                    channels.pin(value.ids, "output")
                    channels.loose.add(value.source)
    for name in channels.loose & channels.dims.keys():
        for ids in channels.dims[name].values():
            channels.pin(torch.from_numpy(ids), f"{name} (also read as a whole)")
    return channels


def _call(channels: Channels, node: fx.Node) -> Any:
    args, kwargs = pytree.tree_map_only(fx.Node, channels.values.get, (node.args, node.kwargs))
    tensors = _tensors((args, kwargs))
    name = name_of(node)
    if name == "getitem":
        return args[0][args[1]]
    if all(value.ids is None for value in tensors):  # computed from constants alone: do it
        channels.loose.update(value.source for value in tensors)
        return _wrap(_execute(node, args, kwargs))
    if name in RULES:
        result = RULES[name](channels, node, *args, **kwargs)
        if result is not NotImplemented:
            return result
    for value in tensors:
        channels.pin(value.ids, name)
        channels.loose.add(value.source)
    return _pinned(node.meta.get("val"))


def _pinned(given: Any) -> Any:
    """Return unknown, pinned values of the given shapes and kinds."""

    def blank(like: Tensor) -> Value:
        zeros = torch.zeros([int(size) for size in like.shape])
        value = zeros.double() if like.is_floating_point() else zeros.to(like.dtype)
        return Value(value, zeros.bool(), zeros.long())

    return pytree.tree_map_only(Tensor, blank, given)


def _execute(node: fx.Node, args: Any, kwargs: Any) -> Any:
    args, kwargs = pytree.tree_map_only(Value, lambda v: v.value, (args, kwargs))
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _wrap(result: Any) -> Any:
    return pytree.tree_map_only(
        Tensor, lambda t: Value(t.double() if t.is_floating_point() else t, torch.ones(t.shape).bool()), result
    )


def _tensors(tree: Any) -> list[Value]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Value)]


def _attribute(module: Any, path: str) -> Tensor:
    for part in path.split("."):
        module = getattr(module, part)
    assert isinstance(module, Tensor)
    return module
