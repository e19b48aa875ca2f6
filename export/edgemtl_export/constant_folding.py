"""Constant folding: what a pruned constant channel contributed moves into the layers that read it, exactly.

Without zero padding a reader's bias takes it. With padding the contribution differs at the border: it is carried by a
constant channel of the same tensor that stays, where there is one, or by a convolution of a map of ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from .analysis.ops.convolution import contribution, geometry, split_groups
from .analysis.ops.normalisation import BATCH_NORMS, batch_norm_affine
from .analysis.values import Ids, Value, along, rows, uniform_constants
from .plan import Plan
from .program import Program, op_name

CARRIER_MIN = 1e-3
"""The least size of a constant that may carry others: dividing by less would cost accuracy."""


@dataclass
class ConstantFolding:
    """Folds constants of pruned channels into a copy of the analysed program, in place.

    ``copies`` maps the analysed program's nodes to those of the copy.
    """

    program: Program
    plan: Plan
    copies: Mapping[fx.Node, fx.Node]
    added: dict[str, dict[int, Ids]] = field(default_factory=dict)
    """The channels along the dimensions of the buffers that folding added."""

    def run(self, zero_weights: bool = False) -> bool:
        """Fold; with ``zero_weights`` also zero the weights that read what is pruned.

        Return whether any output that stays read a pruned channel with a weight that was not zero.
        """
        any_read = False
        for read in self.plan.channels.reads:
            pruned = ~self.plan.is_active(read.in_ids)
            if not read.weight or not pruned.any():
                continue
            needed = (read.needed_by(self.plan.is_active(read.out_ids)) & pruned).reshape(-1)
            folded = torch.from_numpy(needed & read.nonzero.reshape(-1))
            if folded.any():
                self._fold(read.node, folded)
            any_read |= bool(needed.any())
            if zero_weights:
                self._zero_weights(read.node, torch.from_numpy(pruned.reshape(-1)))
        return any_read

    def _weight(self, node: fx.Node) -> Value:
        return self.plan.channels.value_of(node.args[1])

    def _dtype(self, node: fx.Node) -> torch.dtype:
        return self.program.state[self._weight(node).source].dtype

    def _output_ids(self, node: fx.Node) -> Ids:
        return self.plan.channels.output_ids(self._weight(node).source)

    def _zero_weights(self, node: fx.Node, inputs: Tensor) -> None:
        """Zero the weights of these inputs."""
        name = self._weight(node).source
        weight = self.program.state[name].clone()
        if op_name(node) == "aten.linear":
            weight[:, inputs] = 0
        else:
            conv = geometry(node)
            blocks = split_groups(weight, conv)
            mask = inputs.reshape(conv.groups, 1, -1, 1)
            cut = torch.where(mask, torch.zeros((), dtype=weight.dtype), blocks)
            weight = (cut.transpose(1, 2) if conv.transposed else cut).reshape(weight.shape)
        self.program.state[name] = weight

    def _fold(self, node: fx.Node, inputs: Tensor) -> None:
        """Move the contribution of the constant ``inputs`` to after the layer that reads them."""
        channels = self.plan.channels
        x, weight = channels.value_of(node.args[0]), self._weight(node).value
        if (node, 0) in channels.gathers:
            gather = channels.gathers[node, 0]
            x = Value(x.shape, x.value, x.const, along(gather.ids, gather.dim, len(x.shape)))
        linear = op_name(node) == "aten.linear"
        uniform, amount = uniform_constants(x, len(x.shape) - 1 if linear else 1)
        if linear:
            self._add_to_bias(node, weight[:, inputs].double() @ amount[inputs])
            return
        conv = geometry(node)
        constants = torch.where(inputs, amount, torch.zeros((), dtype=torch.float64))
        weights = split_groups(weight.double(), conv)
        taps = torch.einsum("goit,gi->got", weights, constants.reshape(conv.groups, -1))
        if not bool(uniform[inputs].all()):
            self._add_map(node, contribution(node, x, weight, inputs))
        elif not conv.padded:
            self._add_to_bias(node, taps.sum(-1).reshape(-1))
        elif not self._absorb_in_carrier(node, x, taps, uniform, amount):
            self._add_border(node, taps.reshape(-1, 1, *weight.shape[2:]))

    def _absorb_in_carrier(self, node: fx.Node, x: Value, taps: Tensor, uniform: Tensor, amount: Tensor) -> bool:
        """Let a constant channel that stays carry the others, where no other layer reads the weight."""
        assert x.ids is not None
        weight = node.args[1]
        assert isinstance(weight, fx.Node)
        active = rows(torch.from_numpy(self.plan.is_active(x.ids.numpy())), 1).all(1)
        stays = active.expand(x.shape[1])
        size = torch.where(stays & uniform, amount.abs(), torch.zeros((), dtype=torch.float64))
        if len(taps) > 1 or float(size.max()) < CARRIER_MIN or len(weight.users) > 1 or geometry(node).transposed:
            return False
        carrier, name = int(size.argmax()), self._weight(node).source
        tensor = self.program.state[name].clone()
        added = (taps[0] / amount[carrier]).reshape(tensor.shape[0], *tensor.shape[2:])
        tensor[:, carrier] = (tensor[:, carrier].double() + added).to(tensor.dtype)
        self.program.state[name] = tensor
        return True

    def _following_norm(self, node: fx.Node) -> fx.Node | None:
        """Return the batch normalisation that alone reads a node and alone reads its parameters."""
        users = list(node.users)
        if (node, -1) in self.plan.channels.gathers or len(users) != 1:
            return None
        norm = users[0]
        if op_name(norm) not in BATCH_NORMS or norm.args[0] is not node:
            return None
        parts = [a for a in norm.args[1:5] if isinstance(a, fx.Node)]
        return norm if all(len(a.users) == 1 for a in parts) else None

    def _add_to_bias(self, node: fx.Node, amount: Tensor) -> None:
        """Add a constant a channel to a layer's result: to the next norm's running mean, to its bias, or as a bias."""
        program, copy = self.program, self.copies[node]
        norm, sources = self._following_norm(node), program.sources
        bias = copy.args[2] if len(copy.args) > 2 else copy.kwargs.get("bias")
        if norm is not None:
            name = self.plan.channels.value_of(norm.args[3]).source
            mean = program.state[name]
            program.state[name] = (mean.double() - amount).to(mean.dtype)
        elif isinstance(bias, fx.Node) and len(bias.users) == 1:
            old = program.state[sources[bias]]
            program.state[sources[bias]] = (old.double() + amount).to(old.dtype)
        else:
            shift = program.state[sources[bias]].double() if isinstance(bias, fx.Node) else torch.zeros(()).double()
            name = program.free_name(f"{node.name}_constant")
            buffer = program.add_buffer(name, (shift + amount).to(self._dtype(node)))
            self.added.setdefault(name, {0: self._output_ids(node)})
            copy.args = (*copy.args[:2], buffer, *copy.args[3:])
            copy.kwargs = {k: v for k, v in copy.kwargs.items() if k != "bias"}

    def _add_border(self, node: fx.Node, kernel: Tensor) -> None:
        """Add a convolution of ones: its zero padding then cuts the constants as it did in the layer itself."""
        program, copy, conv = self.program, self.copies[node], geometry(node)
        x, source = copy.args[0], node.args[0]
        assert isinstance(x, fx.Node) and isinstance(source, fx.Node) and callable(node.target)
        if conv.transposed:
            kernel = kernel.transpose(0, 1)
        out_dim, dtype = 1 if conv.transposed else 0, self._dtype(node)
        kernel = kernel * along(self._scale_after(node), out_dim, kernel.ndim)
        name = program.free_name(f"{node.name}_border")
        weight = program.add_buffer(name, kernel.to(dtype))
        self.added.setdefault(name, {out_dim: self._output_ids(node)})
        aten = torch.ops.aten
        with program.graph.inserting_before(copy):
            size = source.meta["val"].shape[2:]
            if all(isinstance(s, int) for s in size):
                ones = program.graph.call_function(aten.full.default, ([1, 1, *size], 1.0), {"dtype": dtype})
            else:
                one = program.graph.call_function(aten.slice.Tensor, (x, 1, 0, 1))
                ones = program.graph.call_function(aten.ones_like.default, (one,))
            args: list[Any] = list(node.args)
            args[:2] = [ones, weight]
            if len(args) > 2:
                args[2] = None
            if len(args) > conv.groups_arg:
                args[conv.groups_arg] = 1
            kwargs = {k: v for k, v in node.kwargs.items() if k not in ("groups", "bias")}
            border = program.graph.call_function(node.target, tuple(args), kwargs)
        self._insert_sum(node, border)

    def _add_map(self, node: fx.Node, constants: Tensor) -> None:
        """Add a constant map, (1, C, H, W): what constants give that are not the same at every position."""
        name = self.program.free_name(f"{node.name}_map")
        scaled = constants * along(self._scale_after(node), 1, constants.ndim)
        buffer = self.program.add_buffer(name, scaled.to(self._dtype(node)))
        self.added.setdefault(name, {1: self._output_ids(node)})
        self._insert_sum(node, buffer)

    def _scale_after(self, node: fx.Node) -> Tensor:
        """Return the scale of what is added: it is added after a batch normalisation, so that this stays fused."""
        norm = self._following_norm(node)
        if norm is None:
            return torch.ones(len(self._output_ids(node)), dtype=torch.float64)
        value_of = self.plan.channels.value_of
        weight, bias = (value_of(a).value if isinstance(a, fx.Node) else None for a in norm.args[1:3])
        mean, var = (value_of(a).value for a in norm.args[3:5])
        eps = norm.args[7] if op_name(norm) == "aten.batch_norm" else norm.args[6]
        assert isinstance(eps, float)
        return batch_norm_affine(weight, bias, mean, var, eps)[0]

    def _insert_sum(self, node: fx.Node, other: fx.Node) -> None:
        """Add ``other`` to a layer's result, after the batch normalisation that follows it."""
        graph, result = self.program.graph, self.copies[node]
        norm = self._following_norm(node)
        if norm is not None:
            result = next(iter(result.users))
            if op_name(norm) != "aten.batch_norm":
                result = next(u for u in result.users if u.args[1] == 0)
        with graph.inserting_after(result):
            total = graph.call_function(torch.ops.aten.add.Tensor, (result, other))
        result.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)
