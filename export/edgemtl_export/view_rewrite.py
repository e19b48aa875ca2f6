"""Rewriting of views once channels are pruned: new shape arguments, or one selection of channels; each is proved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .analysis.channels import Channels
from .analysis.ops.movement import is_movement
from .analysis.values import Ids, Mask, Value, along, values_in
from .broadcast import Broadcast, run_movement
from .plan import ActiveChannels, GrowingChannels, NewCall, ViewRewrite
from .program import op_name
from .ragged import kept_shape, missing_channels, take_kept
from .shape_args import adjusted_call
from .view_selection import carries_channels, renumbered_selection, select_channels

LONGEST_CHAIN = 12
"""Movements in a row that are looked back through for a selection."""

Outcome = ViewRewrite | Literal["unchanged"] | None
"""How a movement node is written; None where it cannot be."""


@dataclass
class ViewPlanner:
    """Finds for every movement node how it is written for the active channels; caches what it has proved."""

    channels: Channels
    proved: dict[fx.Node, tuple[bytes, Outcome]] = field(default_factory=dict)

    def plan(self, active: GrowingChannels) -> dict[fx.Node, ViewRewrite]:
        """Return a rewrite for every movement node that changes; keep more channels where none can be found."""
        rewrites: dict[fx.Node, ViewRewrite] = {}
        broken: set[fx.Node] = set()
        for node, value in self.channels.values.items():
            if node.op != "call_function":
                continue
            if not is_movement(node):
                self._keep_more(active, [n for n in node.all_input_nodes if n in broken], broken)
                continue
            results = values_in(value)
            if all(v.ids is None for v in results):
                continue
            outcome = self._outcome(active, node, results, broken)
            if outcome is None:
                broken.add(node)
            elif not isinstance(outcome, str):
                rewrites[node] = outcome
        output = self.channels.program.graph.output_node()
        self._keep_more(active, [n for n in output.all_input_nodes if n in broken], broken)
        return rewrites

    def _outcome(self, active: ActiveChannels, node: fx.Node, results: list[Value], broken: set[fx.Node]) -> Outcome:
        """Return how to write one node, from what was proved where nothing has changed since."""
        operands = [
            (n, v) for n in node.all_input_nodes for v in values_in(self.channels.values[n]) if v.ids is not None
        ]
        masks = [active.is_active(v.ids.numpy()) for v in (*results, *(v for _, v in operands)) if v.ids is not None]
        if all(m.all() for m in masks):
            return "unchanged"
        key = b"".join(np.packbits(m).tobytes() for m in masks) + bytes(n in broken for n, _ in operands)
        if node in self.proved and self.proved[node][0] == key:
            return self.proved[node][1]
        outcome: Outcome = None
        if not any(n in broken for n, _ in operands):
            outcome = "unchanged" if op_name(node) == "getitem" else self._adjusted(active, node, results)
            if outcome is None and op_name(node) == "aten.index_select":
                outcome = renumbered_selection(self.channels, active, node, results[0])
        if outcome is None and len(results) == 1 and len({n for n, _ in operands}) == 1:
            outcome = self._selected(active, node, results[0], broken)
        self.proved[node] = (key, outcome)
        return outcome

    def _adjusted(self, active: ActiveChannels, node: fx.Node, results: list[Value]) -> NewCall | None:
        """Adjust the operator's shape arguments, and prove on the indices of its elements that they are right.

        The operator is run on tensors of element numbers: whole, and with the pruned channels taken out. What the
        second run gives must be what is kept of the first.
        """
        call = adjusted_call(self.channels, active, node, results)
        if call is None:
            return None
        whole: dict[fx.Node, Broadcast] = {}
        kept: dict[fx.Node, Broadcast] = {}
        start = 0
        for n in node.all_input_nodes:
            v = self.channels.values[n]
            if not isinstance(v, Value):
                continue
            ids = self._parameter_ids(v) if v.ids is None else v.ids
            numbers = torch.arange(start, start + ids.numel()).reshape(ids.shape)
            start += ids.numel()
            taken = take_kept(numbers, v.shape, active.is_active(ids.numpy()))
            if taken is None:
                return None
            whole[n], kept[n] = Broadcast(v.shape, numbers), Broadcast(tuple(taken[1]), taken[0])
        kwargs = node.kwargs if call.target is node.target else {}
        try:
            before = self._run(node.target, node.args, node.kwargs, whole)
            after = self._run(call.target, call.args, kwargs, kept)
        except (RuntimeError, IndexError, ValueError, TypeError):
            return None
        if len(after) != len(results):  # unbound along channels of which some are pruned
            return None
        for result, full, small in zip(results, before, after, strict=True):
            assert result.ids is not None
            expected = take_kept(full.data, full.shape, active.is_active(result.ids.numpy()))
            if expected is None or tuple(expected[1]) != small.shape or not _same(expected[0], small):
                return None
        return call

    def _run(self, target: Any, args: Any, kwargs: Any, tensors: dict[fx.Node, Broadcast]) -> list[Broadcast]:
        """Execute a movement with these tensors in place of its operands; return its results."""

        def operand(n: fx.Node) -> object:
            return tensors[n] if n in tensors else self.channels.values[n]

        return pytree.tree_leaves(run_movement(target, *pytree.tree_map_only(fx.Node, operand, (args, kwargs))))

    def _parameter_ids(self, parameter: Value) -> Tensor:
        """Return the ids of a parameter that is followed through a view; 0, which always stays, for others."""
        for dim, ids in self.channels.dims.get(parameter.source, {}).items():
            return along(torch.from_numpy(ids), dim, len(parameter.shape))
        return torch.zeros((1,) * len(parameter.shape), dtype=torch.int64)

    def _selected(
        self, active: ActiveChannels, node: fx.Node, result: Value, broken: set[fx.Node]
    ) -> ViewRewrite | None:
        """Write a chain of movements as one selection of channels from the tensor it began with."""
        chain = [node]
        while len(chain) < LONGEST_CHAIN:
            inputs = [n for n in chain[-1].all_input_nodes if carries_channels(self.channels.values[n])]
            if len(inputs) != 1:
                return None
            source = inputs[0]
            if source not in broken and isinstance(self.channels.values[source], Value):
                selection = select_channels(self.channels, active, source, list(reversed(chain)), result)
                if selection is not None:
                    return selection
            if not is_movement(source):
                return None
            chain.append(source)
        return None

    def _keep_more(self, active: GrowingChannels, nodes: list[fx.Node], broken: set[fx.Node]) -> None:
        """Keep more of a tensor that could not be rewritten: first equal rows, then all that it moved."""
        for node in nodes:
            ids = np.unique(np.concatenate(self._moved_ids(node, broken)))
            pruned = ids[~active.is_active(ids)]
            value = self.channels.values[node]
            active.pin(pruned, f"{op_name(node)} (uneven)")
            if isinstance(value, Value) and value.ids is not None:
                mask: Mask = active.is_active(value.ids.numpy())
                if mask.any() and not mask.all() and kept_shape(value.shape, mask) is None:
                    active.keep(value.ids.numpy()[missing_channels(mask)])
                    continue
            active.keep(pruned)

    def _moved_ids(self, node: fx.Node, broken: set[fx.Node]) -> list[Ids]:
        """Return the ids of a movement's results and of what it moved, back through those that are broken as well."""
        nodes, reached = [node], [node]
        while nodes:
            inputs = [n for n in nodes.pop().all_input_nodes if n not in reached]
            reached += inputs
            nodes += [n for n in inputs if n in broken]
        values = [v for n in reached for v in values_in(self.channels.values[n])]
        return [v.ids.numpy().reshape(-1) for v in values if v.ids is not None]


def _same(expected: Tensor, result: Broadcast) -> bool:
    if expected.shape == result.data.shape:
        return torch.equal(expected, result.data)
    return bool((expected.expand(result.shape) == result.full()).all())
