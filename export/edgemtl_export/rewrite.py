"""The smaller program: parameters cut, and every number of channels that the graph holds brought up to date."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .channels import Channels, Gather, Ids, Value, foldable, name_of, shaped
from .fold import CONVOLUTIONS, fold
from .layout import sizes
from .live import Liveness
from .movement import Move
from .ops.attention import scale as attention_scale
from .ops.convolution import geometry
from .program import Program

Keep = dict[str, dict[int, Ids]]
ATEN = torch.ops.aten


def kept_indices(channels: Channels, live: Liveness) -> Keep:
    """Return for each parameter and buffer the kept indices a dimension; (groups, n) where groups differ."""
    keep: Keep = {}
    for name, dims in channels.dims.items():
        keep[name] = {dim: np.flatnonzero(live.of(ids)) for dim, ids in dims.items()}
    for name, ids in channels.blocks.items():
        mask = live.of(ids)
        rows = mask.any(1)
        keep[name][1] = np.stack([np.flatnonzero(m) for m in mask[rows]])
    return keep


def cut_state(state: dict[str, Tensor], keep: Keep) -> dict[str, Tensor]:
    """Return the parameters and buffers that are smaller than they were."""
    small = {name: cut_tensor(state[name], dims) for name, dims in keep.items() if name in state}
    return {name: tensor for name, tensor in small.items() if tensor.shape != state[name].shape}


def cut_tensor(tensor: Tensor, dims: dict[int, Ids]) -> Tensor:
    """Return a tensor's kept entries."""
    groups = dims.get(1) if dims.get(1) is not None and dims[1].ndim == 2 else None
    for dim, indices in dims.items():
        if not (groups is not None and dim == 1) and len(indices) < tensor.shape[dim]:
            tensor = tensor.index_select(dim, torch.from_numpy(indices))
    if groups is not None and groups.shape[1] < tensor.shape[1]:
        rows = np.repeat(groups, len(tensor) // len(groups), axis=0)
        index = torch.from_numpy(rows).reshape(*rows.shape, *[1] * (tensor.ndim - 2))
        tensor = tensor.take_along_dim(index, 1)
    return tensor


def smaller(program: Program, channels: Channels, live: Liveness, moves: dict[fx.Node, Move]) -> tuple[Program, Keep]:
    """Return the program without the channels that are not live, and what was kept of each parameter and buffer."""
    small = program.copy()
    twins = dict(zip(channels.program.graph.nodes, small.graph.nodes, strict=True))
    for node, move in moves.items():
        twins[node] = _move(small, move, twins[node], twins)
    behind = {key: gather for key, gather in channels.gathers.items() if key[1] == -1}
    for (node, position), gather in behind.items():  # before what is folded, which belongs to the node itself
        _lay_out(small, channels, live, twins[node], position, gather)
    fold(small, channels, live, twins)
    keep = {name: dims for name, dims in kept_indices(channels, live).items() if name in small.state}
    for (node, position), gather in channels.gathers.items():
        if position >= 0:
            _lay_out(small, channels, live, twins[node], position, gather)
    for (node, position), (dim, ids) in channels.slices.items():
        mask = live.of(ids)
        if not mask.all():
            _replace_arg(twins[node], position, _select(small, twins[node], twins[node].args[position], dim, mask))
    for node, twin in twins.items():
        if node.op == "call_function" and node not in moves:
            _renumber(small, channels, live, node, twin)
    small.set_state(cut_state(small.state, keep))
    small.drop_dead()
    _settle_shapes(small, channels, live, twins)
    return small, keep


def _settle_shapes(program: Program, channels: Channels, live: Liveness, twins: dict[fx.Node, fx.Node]) -> None:
    """Note the new shape of every node that keeps its meaning: only channels have left it."""
    there = set(program.graph.nodes)
    mode = program.fake_mode()
    for node, twin in twins.items():
        parts = [v for v in pytree.tree_leaves(channels.values.get(node)) if isinstance(v, Value)]
        given, spec = pytree.tree_flatten(node.meta.get("val"))
        if twin not in there or node.op != "call_function" or len(parts) != len(given):
            continue
        if (node, -1) in channels.gathers:  # what is known is of the layout behind it
            continue
        made = [_shrunk_meta(mode, live, value, meta) for value, meta in zip(parts, given, strict=True)]
        if all(m is not None for m in made):
            twin.meta["val"], twin.meta["settled"] = pytree.tree_unflatten(made, spec), True


def _shrunk_meta(mode: Any, live: Liveness, value: Value, meta: Any) -> Tensor | None:
    """Return a tensor without data of a value's new shape, None where a symbol would have to change."""
    left = None if value.ids is None else sizes(value.shape, live.of(value.ids.numpy()))
    if left is None or not isinstance(meta, Tensor) or len(left) != meta.ndim:
        return None
    shape = [old if n == was else n for n, was, old in zip(left, value.shape, meta.shape, strict=True)]
    if any(n != was and not isinstance(old, int) for n, was, old in zip(left, value.shape, meta.shape, strict=True)):
        return None
    if shape == list(meta.shape):
        return meta
    with mode:
        return torch.empty(shape, dtype=meta.dtype)


def silenced(program: Program, channels: Channels, live: Liveness) -> tuple[Program, bool]:
    """Return the program at its full size with every reader of a removed channel cut, and whether that cut anything.

    Its outputs are the given program's and do not depend on what removed parameters hold: the ground of the proof.
    """
    full = program.copy()
    twins = dict(zip(channels.program.graph.nodes, full.graph.nodes, strict=True))
    cut = fold(full, channels, live, twins, cut=True)
    operands = {(node, 0) for node in twins if name_of(node) in ("aten.layer_norm", "aten.group_norm")}
    for node in twins:
        if name_of(node) in ("aten.matmul", "aten.bmm", "aten.scaled_dot_product_attention"):
            operands |= {(node, i) for i in range(len(node.args[:3]))}
    operands |= {key for key in channels.gathers if key[1] >= 0}
    for node, position in operands:
        value = channels.values.get(node.args[position])
        if not isinstance(value, Value) or value.ids is None:
            continue
        mask = torch.from_numpy(live.of(value.ids.numpy()))
        if not mask.all():
            cut = True
            _silence(full, twins[node], position, value, mask)
    return full, cut


def _silence(program: Program, node: fx.Node, position: int, value: Value, mask: Tensor) -> None:
    kind = next(t.dtype for t in program.state.values() if t.is_floating_point())
    fill = torch.where(mask, torch.zeros((), dtype=torch.float64), value.value.double()).to(kind)
    shown = program.add_buffer(f"{node.name}_{position}_mask", mask.to(kind))
    rest = program.add_buffer(f"{node.name}_{position}_fill", fill)
    with program.graph.inserting_before(node):
        product = program.graph.call_function(ATEN.mul.Tensor, (node.args[position], shown))
        _replace_arg(node, position, program.graph.call_function(ATEN.add.Tensor, (product, rest)))


def _replace_arg(node: fx.Node, position: int, other: Any) -> None:
    node.args = (*node.args[:position], other, *node.args[position + 1 :])


def _select(program: Program, before: fx.Node, source: Any, dim: int, mask: Any) -> fx.Node:
    return _pick(program, before, source, dim, np.flatnonzero(mask), f"{before.name}_kept")


def _pick(program: Program, before: fx.Node, source: Any, dim: int, index: Ids, name: str) -> fx.Node:
    """Select channels in front of a node; a run of neighbours is a slice."""
    with program.graph.inserting_before(before):
        if len(index) and np.array_equal(index, np.arange(index[0], index[0] + len(index))):
            first = int(index[0])
            return program.graph.call_function(ATEN.slice.Tensor, (source, dim, first, first + len(index)))
        buffer = program.add_buffer(f"{name}_{source.name}", torch.from_numpy(np.ascontiguousarray(index)))
        return program.graph.call_function(ATEN.index_select.default, (source, dim, buffer))


def _move(program: Program, move: Move, twin: fx.Node, twins: dict[fx.Node, fx.Node]) -> fx.Node:
    if move.source is None:
        twin.target = move.target
        twin.args = pytree.tree_map_only(fx.Node, twins.__getitem__, move.args)
        if move.target is ATEN.split_with_sizes.default or move.target is ATEN.slice.Tensor:
            twin.kwargs = {}
        return twin
    source = twins[move.source]
    made = _pick(program, twin, source, move.dim, np.array(move.index), twin.name)
    if move.order:
        with program.graph.inserting_before(twin):
            shape = [n if n >= 0 else _size(program, source, -1 - n) for n in move.shape]
            made = program.graph.call_function(ATEN.reshape.default, (made, shape))
            made = program.graph.call_function(ATEN.permute.default, (made, list(move.order)))
    twin.replace_all_uses_with(made)
    return made


def _size(program: Program, node: fx.Node, dim: int) -> Any:
    """Return the size of a node's dimension: a number, or a node where it may change."""
    size = node.meta["val"].shape[dim]
    return size if isinstance(size, int) else program.graph.call_function(ATEN.sym_size.int, (node, dim))


def _lay_out(
    program: Program, channels: Channels, live: Liveness, node: fx.Node, position: int, gather: Gather
) -> None:
    """Bring an operand from the channels it has to those its reader wants, constants where it has none."""
    given = channels_along(gather.given, gather.dim)
    have, want = live.of(given), live.of(gather.ids.numpy())
    if np.array_equal(have, want):
        return
    place = np.cumsum(have) - 1
    index = np.where(have, place, have.sum())[want]
    lacks = not have[want].all()
    after = position == -1
    with (program.graph.inserting_after if after else program.graph.inserting_before)(node):
        marker = program.graph.call_function(ATEN.alias.default, (node if after else node.args[position],))
    source, dim, ndim = marker.args[0], gather.dim, len(gather.given.shape)
    if after:
        node.replace_all_uses_with(marker, delete_user_cb=lambda user: user is not marker)
    if lacks:
        with program.graph.inserting_before(marker):
            source = program.graph.call_function(
                ATEN.constant_pad_nd.default, (source, [0, 0] * (ndim - 1 - dim) + [0, 1])
            )
    made = _pick(program, marker, source, dim, index, f"{node.name}_{position % 9}_layout")
    fill = torch.where(torch.from_numpy(have), torch.zeros(()).double(), gather.fill)[torch.from_numpy(want)]
    if bool((fill != 0).any()):
        kind = next(t.dtype for t in program.state.values() if t.is_floating_point())
        buffer = program.add_buffer(f"{node.name}_{position % 9}_fill", shaped(fill, dim, ndim).to(kind))
        with program.graph.inserting_before(marker):
            made = program.graph.call_function(ATEN.add.Tensor, (made, buffer))
    if after:
        marker.replace_all_uses_with(made)
    else:
        _replace_arg(node, position, made)
    program.graph.erase_node(marker)


def channels_along(value: Value, dim: int) -> Ids:
    """Return the ids (n,) of a value along a dimension (those of its first place elsewhere)."""
    assert value.ids is not None
    column = value.ids.movedim(dim, 0).reshape(value.ids.shape[dim], -1)[:, 0]
    ids: Ids = column.expand(value.shape[dim]).numpy()
    return ids


def _renumber(program: Program, channels: Channels, live: Liveness, node: fx.Node, twin: fx.Node) -> None:
    """Bring the channel numbers of operators that compute up to date: groups, scales, normalised shapes."""
    name = name_of(node)
    if name in CONVOLUTIONS:
        place = geometry(node)
        ids = channels.blocks.get(channels.at(node.args[1]).source)
        if place.groups > 1 and ids is not None:
            groups = int(live.of(ids).any(1).sum())
            if len(twin.args) > place.at:
                _replace_arg(twin, place.at, groups)
            else:
                twin.kwargs = {**twin.kwargs, "groups": groups}
    elif name == "aten.scaled_dot_product_attention":
        width = channels.at(node.args[0]).shape[-1]
        twin.args, twin.kwargs = twin.args[:6], {**twin.kwargs, "scale": attention_scale(node, width)}
    elif name in ("aten.constant_pad_nd", "aten.pad"):
        _renumber_pad(channels, live, node, twin)
    elif name in ("aten.layer_norm", "aten.group_norm") and channels.rewrite_norms:
        _write_out_norm(program, channels, live, node, twin)


def _renumber_pad(channels: Channels, live: Liveness, node: fx.Node, twin: fx.Node) -> None:
    """Pad with as many channels as are left of the padded ones."""
    value, amounts = channels.at(node), list(node.args[1])  # type: ignore[arg-type]
    for back in range(len(amounts) // 2):
        dim = len(value.shape) - 1 - back
        if value.ids is not None and value.ids.shape[dim] > 1:
            before, after = amounts[2 * back : 2 * back + 2]
            stays = live.of(channels_along(value, dim))
            amounts[2 * back : 2 * back + 2] = [int(stays[:before].sum()), int(stays[len(stays) - after :].sum())]
    _replace_arg(twin, 1, amounts)


def _write_out_norm(program: Program, channels: Channels, live: Liveness, node: fx.Node, twin: fx.Node) -> None:
    """Write layer or group normalisation out over the channels that are left, with the statistics of all."""
    from .norms import write_out

    value = channels.at(node.args[0])
    if value.ids is None:
        return
    dim = len(value.shape) - 1 if name_of(node) == "aten.layer_norm" else 1
    stays = live.of(channels_along(value, dim))
    if not stays.all():
        _, amount = foldable(value, dim)
        write_out(program, node, twin, stays, amount, len(value.shape))
