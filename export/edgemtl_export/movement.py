"""How movement operators are written down again once channels are gone: new sizes, or one selection of channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from . import literals
from .channels import Channels, Mask, Value, name_of, shaped
from .layout import missing, sizes, take
from .ops.movement import NAMES
from .spread import Spread, move


@dataclass(frozen=True, eq=False)
class Move:
    """A movement node's new operator and arguments; or, where ``source`` is set, a selection from an earlier tensor.

    The selection takes channels ``index`` of ``source`` along ``dim``, views them as ``shape`` and permutes them to
    ``order``, where those are given: what a chain of movements comes to. In ``shape``, -1 - d is the size of the
    source's dimension d, which may be a symbol.
    """

    target: Any = None
    args: tuple[Any, ...] = ()
    source: fx.Node | None = None
    dim: int = 0
    index: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()


def is_movement(node: fx.Node) -> bool:
    """Whether a node only moves elements, or takes one of several moved parts."""
    name = name_of(node)
    if name == "getitem":
        return isinstance(node.args[0], fx.Node) and is_movement(node.args[0])
    return name in NAMES or name == "aten.pixel_shuffle"


@dataclass
class Planner:
    """Finds for every movement node how it is written for the channels that stay; keeps what it has proved."""

    channels: Channels
    proved: dict[fx.Node, tuple[bytes, Move | None]] = field(default_factory=dict)

    def plan(self, live: Any) -> dict[fx.Node, Move]:
        """Return a `Move` for every movement node that changes; keep more channels where none can be found."""
        moves: dict[fx.Node, Move] = {}
        broken: set[fx.Node] = set()
        for node, value in self.channels.values.items():
            if node.op != "call_function":
                continue
            if not is_movement(node):
                self._mend(live, [n for n in node.all_input_nodes if n in broken])
                continue
            parts = [v for v in pytree.tree_leaves(value) if isinstance(v, Value)]
            if all(v.ids is None for v in parts):
                continue
            found = self._move(live, node, parts, broken)
            if found is None:
                broken.add(node)
            elif found.target is not None or found.source is not None:
                moves[node] = found
        output = self.channels.program.graph.output_node()
        self._mend(live, [n for n in output.all_input_nodes if n in broken])
        return moves

    def _move(self, live: Any, node: fx.Node, parts: list[Value], broken: set[fx.Node]) -> Move | None:
        """Return how to write one node, an empty `Move` where nothing changes, None where there is no way."""
        operands = [
            (n, v)
            for n in node.all_input_nodes
            for v in pytree.tree_leaves(self.channels.values[n])
            if isinstance(v, Value) and v.ids is not None
        ]
        seen = [live.of(v.ids.numpy()) for v in (*parts, *(v for _, v in operands)) if v.ids is not None]
        if all(m.all() for m in seen):
            return Move()
        key = b"".join(np.packbits(m).tobytes() for m in seen) + bytes(n in broken for n, _ in operands)
        if node in self.proved and self.proved[node][0] == key:
            return self.proved[node][1]
        found = None
        if not any(n in broken for n, _ in operands):
            found = Move() if name_of(node) == "getitem" else self._rewritten(live, node, parts)
        if found is None and len(parts) == 1 and len({n for n, _ in operands}) == 1:
            found = self._selected(live, node, parts[0], broken)
        self.proved[node] = (key, found)
        return found

    def _rewritten(self, live: Any, node: fx.Node, parts: list[Value]) -> Move | None:
        """Write the same operator with new numbers, and prove on the places of its elements that it is right."""
        written = literals.rewritten(self.channels, live, node, parts)
        if written is None:
            return None
        target, args = written
        tagged: dict[fx.Node, tuple[Tensor, tuple[Tensor, list[int]] | None]] = {}
        start = 0
        for n in node.all_input_nodes:
            v = self.channels.values[n]
            if not isinstance(v, Value):
                continue
            ids = self._own_ids(v) if v.ids is None else v.ids
            tag = torch.arange(start, start + ids.numel()).reshape(ids.shape)
            start += ids.numel()
            mask = live.of(ids.numpy())
            tagged[n] = (tag, take(tag, v.shape, mask))
            if tagged[n][1] is None:
                return None

        def before(n: fx.Node) -> Any:
            return Spread(self.channels.values[n].shape, tagged[n][0]) if n in tagged else self.channels.values[n]

        def after(n: fx.Node) -> Any:
            if n not in tagged:
                return self.channels.values[n]
            laid = tagged[n][1]
            assert laid is not None
            return Spread(tuple(laid[1]), laid[0])

        try:
            whole = move(node.target, *pytree.tree_map_only(fx.Node, before, (node.args, node.kwargs)))  # type: ignore[arg-type]
            left = move(
                target, *pytree.tree_map_only(fx.Node, after, (args, {} if target is not node.target else node.kwargs))
            )
        except (RuntimeError, IndexError, ValueError, TypeError):
            return None
        if len(pytree.tree_leaves(left)) != len(parts):  # unbound along channels of which some are gone
            return None
        for part, given, made in zip(parts, pytree.tree_leaves(whole), pytree.tree_leaves(left), strict=True):
            assert part.ids is not None
            expected = take(given.data, given.shape, live.of(part.ids.numpy()))
            if expected is None or tuple(expected[1]) != made.shape or not _same(expected, made):
                return None
        return Move(target, args)

    def _own_ids(self, parameter: Value) -> Tensor:
        """Return the ids of a parameter that is followed through a view; 0, which always stays, for others."""
        for dim, ids in self.channels.dims.get(parameter.source, {}).items():
            return shaped(torch.from_numpy(ids), dim, len(parameter.shape))
        return torch.zeros((1,) * len(parameter.shape), dtype=torch.int64)

    def _selected(self, live: Any, node: fx.Node, part: Value, broken: set[fx.Node]) -> Move | None:
        """Write a chain of movements as one selection of channels from the tensor it began with."""
        chain = [node]
        while len(chain) < 12:
            inputs = [n for n in chain[-1].all_input_nodes if _carries(self.channels.values[n])]
            if len(inputs) != 1:
                return None
            source = inputs[0]
            if source not in broken and isinstance(self.channels.values[source], Value):
                found = self._selection(live, source, list(reversed(chain)), part)
                if found is not None:
                    return found
            if not is_movement(source):
                return None
            chain.append(source)
        return None

    def _selection(self, live: Any, source: fx.Node, chain: list[fx.Node], part: Value) -> Move | None:
        """Find the channels of ``source``, and the view of them, that a chain of movements comes to."""
        start = self.channels.at(source)
        assert start.ids is not None and part.ids is not None
        along = [d for d in range(len(start.shape)) if start.ids.shape[d] > 1]
        if len(along) != 1:
            return None
        (dim,) = along
        mask = live.of(start.ids.numpy())
        kept = np.flatnonzero(mask.reshape(-1))
        # Follow the place of every element, then see by which dimension of the source each of the result's runs.
        count = int(np.prod(start.shape))
        moved: Any = Spread(start.shape, torch.arange(count).reshape(start.shape))
        for step in chain:
            moved = self._step(step, moved)
        places = moved.full()
        channel = (places // int(np.prod(start.shape[dim + 1 :]))) % start.shape[dim]
        stays = live.of(part.ids.numpy())
        laid = take(channel, part.shape, np.broadcast_to(stays, part.ids.shape))
        if laid is None:
            return None
        runs = [
            d for d in range(channel.ndim) if channel.shape[d] > 1 and bool((channel != channel.narrow(d, 0, 1)).any())
        ]
        wanted = laid[0][tuple(slice(None) if d in runs else 0 for d in range(channel.ndim))]
        place = {int(k): i for i, k in enumerate(kept)}
        flat = [int(c) for c in wanted.reshape(-1)]
        if any(c not in place for c in flat):
            return None
        index = tuple(place[c] for c in flat)
        return self._viewed(source, dim, index, runs, tuple(laid[1]), places, start.shape)

    def _viewed(
        self,
        source: fx.Node,
        dim: int,
        index: tuple[int, ...],
        runs: list[int],
        left: tuple[int, ...],
        places: Tensor,
        shape: tuple[int, ...],
    ) -> Move | None:
        """Prove that the chain is a view and a permutation of the selected channels, and write it so."""
        if len(shape) == places.ndim and runs == [dim] and _others(shape, dim) == _others(tuple(places.shape), dim):
            chosen = (
                torch.arange(int(np.prod(shape)))
                .reshape(shape)
                .index_select(dim, self._whole(places, shape, dim, runs))
            )
            if torch.equal(chosen, places):
                return Move(source=source, dim=dim, index=index)
        # The source's other dimensions, each whole and in its order, and the channel's factors where the channel was.
        strides = [int(np.prod(shape[d + 1 :])) for d in range(len(shape))]
        steps = []
        for d in range(places.ndim):
            ahead = places.narrow(d, 1, places.shape[d] - 1) - places.narrow(d, 0, places.shape[d] - 1)
            steps.append(0 if d in runs or places.shape[d] == 1 else int(ahead.reshape(-1)[0]))
        owner = [
            strides.index(s) if s in strides and d not in runs and places.shape[d] > 1 else -1
            for d, s in enumerate(steps)
        ]
        viewed: list[int] = []
        origin: list[int] = []
        for d in range(len(shape)):
            mine = runs if d == dim else [r for r, o in enumerate(owner) if o == d]
            if d != dim and shape[d] > 1 and (len(mine) != 1 or places.shape[mine[0]] != shape[d]):
                return None
            viewed += [left[r] if d == dim else -1 - d for r in mine]
            origin += mine
        ones = [r for r in range(places.ndim) if r not in origin]
        if any(places.shape[r] != 1 for r in ones):
            return None
        viewed, origin = [1] * len(ones) + viewed, ones + origin
        order = tuple(origin.index(r) for r in range(places.ndim))
        # The same construction at full size must give the chain's own result.
        every = (
            torch.arange(int(np.prod(shape))).reshape(shape).index_select(dim, self._whole(places, shape, dim, runs))
        )
        if not torch.equal(every.reshape([places.shape[r] for r in origin]).permute(order), places):
            return None
        return Move(source=source, dim=dim, index=index, shape=tuple(viewed), order=order)

    def _whole(self, places: Tensor, shape: tuple[int, ...], dim: int, runs: list[int]) -> Tensor:
        """Return the source's channel of every channel of the result, nothing removed."""
        channel = (places // int(np.prod(shape[dim + 1 :]))) % shape[dim]
        return channel[tuple(slice(None) if d in runs else 0 for d in range(places.ndim))].reshape(-1)

    def _step(self, step: fx.Node, operand: Any) -> Any:
        """Execute one movement of a chain on other data."""

        def pick(n: fx.Node) -> Any:
            value = self.channels.values[n]
            return operand if _carries(value) else value

        assert callable(step.target)
        args, kwargs = pytree.tree_map_only(fx.Node, pick, (step.args, step.kwargs))
        return args[0][args[1]] if name_of(step) == "getitem" else move(step.target, args, kwargs)

    def _mend(self, live: Any, nodes: list[fx.Node]) -> None:
        """Keep more of a tensor that could not be written down: first equal rows, then all that it moved."""
        for node in nodes:
            ids = np.unique(np.concatenate(list(self._chain_ids(node))))
            dead = ids[~live.of(ids)]
            value = self.channels.values[node]
            mask: Mask | None = None
            if isinstance(value, Value) and value.ids is not None:
                mask = live.of(value.ids.numpy())
            self.channels.pins.setdefault(f"{name_of(node)} (uneven)", []).append(dead)
            if mask is not None and mask.any() and not mask.all() and sizes(value.shape, mask) is None:
                live.keep(value.ids.numpy()[missing(mask)])
            else:
                live.keep(dead)

    def _chain_ids(self, node: fx.Node) -> Any:
        """Yield the ids of a movement's results and of what it moved."""
        for n in (node, *node.all_input_nodes):
            for v in pytree.tree_leaves(self.channels.values[n]):
                if isinstance(v, Value) and v.ids is not None:
                    yield v.ids.numpy().reshape(-1)


def _carries(value: Any) -> bool:
    return any(isinstance(v, Value) and v.ids is not None for v in pytree.tree_leaves(value))


def _others(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return shape[:dim] + shape[dim + 1 :]


def _same(expected: tuple[Tensor, list[int]], made: Spread) -> bool:
    data, shape = expected
    return (
        bool((data.expand(shape) == made.full()).all())
        if data.shape != made.data.shape
        else torch.equal(data, made.data)
    )
