"""Constant channels that leave: what they contributed moves into those who read them, exactly.

Without zero padding a reader's bias takes it. With padding the contribution differs at the border: it is carried by a
constant channel of the same tensor that stays, where there is one, or by a channel of ones that the reader is given.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .channels import Channels, Value, foldable, name_of, shaped
from .live import Liveness
from .ops.convolution import CONV, TRANSPOSED, by_group, contribution, geometry
from .ops.normalisation import BATCH, batch_affine
from .program import Program

CONVOLUTIONS = (*CONV, *TRANSPOSED, "aten.convolution")


def fold(
    program: Program, channels: Channels, live: Liveness, twins: dict[fx.Node, fx.Node], cut: bool = False
) -> bool:
    """Move removed constants on; where asked, zero the weights that read what is removed.

    Return whether any output that stays read a removed channel with a weight that was not zero.
    """
    read_any = False
    for read in channels.reads:
        node = read.node
        removed = ~live.of(read.in_ids)
        if not read.weight or not removed.any():
            continue
        stays = live.of(read.out_ids)
        heard = (read.heard(stays) & removed).reshape(-1)
        which = torch.from_numpy(heard & read.nonzero.reshape(-1))
        if which.any():
            _move_on(program, channels, live, node, twins[node], which)
        read_any |= bool(heard.any())
        if cut:
            _cut(program, channels, node, torch.from_numpy(removed.reshape(-1)))
    return read_any


def _cut(program: Program, channels: Channels, node: fx.Node, removed: Tensor) -> None:
    """Zero the weights of removed inputs."""
    name = channels.at(node.args[1]).source
    weight = program.state[name].clone()
    if name_of(node) == "aten.linear":
        weight[:, removed] = 0
    else:
        place = geometry(node)
        blocks = by_group(weight, place)
        mask = removed.reshape(place.groups, 1, -1, 1)
        cut = torch.where(mask, torch.zeros((), dtype=weight.dtype), blocks)
        weight = (cut.transpose(1, 2) if place.transposed else cut).reshape(weight.shape)
    program.state[name] = weight


def _move_on(program: Program, channels: Channels, live: Liveness, node: fx.Node, twin: fx.Node, which: Tensor) -> None:
    """Move the contribution of the constant inputs ``which`` behind the reader."""
    x, weight = channels.at(node.args[0]), channels.at(node.args[1])
    if (node, 0) in channels.gathers:
        given = channels.gathers[node, 0]
        x = Value(x.shape, x.value, x.const, shaped(given.ids, given.dim, len(x.shape)))
    linear = name_of(node) == "aten.linear"
    uniform, amount = foldable(x, len(x.shape) - 1 if linear else 1)
    if linear:
        _shift(program, channels, node, twin, weight.value[:, which].double() @ amount[which])
        return
    place = geometry(node)
    silent = torch.where(which, amount, torch.zeros((), dtype=torch.float64))
    taps = torch.einsum("goit,gi->got", by_group(weight.value.double(), place), silent.reshape(place.groups, -1))
    if bool(uniform[which].all()):
        if not place.padded:
            _shift(program, channels, node, twin, taps.sum(-1).reshape(-1))
        elif not _carried(program, channels, live, node, x, taps, uniform, amount):
            _with_ones(program, channels, node, twin, taps.reshape(-1, 1, *weight.shape[2:]))
    else:
        _add(program, channels, node, twin, contribution(node, x, weight.value, which))


def _carried(
    program: Program,
    channels: Channels,
    live: Liveness,
    node: fx.Node,
    x: Value,
    taps: Tensor,
    uniform: Tensor,
    amount: Tensor,
) -> bool:
    """Let a constant channel that stays carry the others, where the reader's weight is its own."""
    assert x.ids is not None
    weight = node.args[1]
    lives = torch.from_numpy(live.of(x.ids.numpy())).movedim(1, 0).flatten(1).all(1)  # at every place
    stays = lives.expand(x.shape[1])
    able = torch.where(stays & uniform, amount.abs(), torch.zeros((), dtype=torch.float64))
    if len(taps) > 1 or float(able.max()) < 1e-3 or len(weight.users) > 1 or geometry(node).transposed:  # type: ignore[union-attr]
        return False
    carrier, name = int(able.argmax()), channels.at(weight).source
    given = program.state[name].clone()
    added = (taps[0] / amount[carrier]).reshape(given.shape[0], *given.shape[2:])
    given[:, carrier] = (given[:, carrier].double() + added).to(given.dtype)
    program.state[name] = given
    return True


def _norm_behind(channels: Channels, node: fx.Node) -> fx.Node | None:
    """Return the batch normalisation that alone reads a node and whose parameters nobody else reads."""
    users = list(node.users)
    if (
        (node, -1) in channels.gathers
        or len(users) != 1
        or name_of(users[0]) not in BATCH
        or users[0].args[0] is not node
    ):
        return None
    parts = [a for a in users[0].args[1:5] if isinstance(a, fx.Node)]
    return users[0] if all(len(a.users) == 1 for a in parts) else None


def _shift(program: Program, channels: Channels, node: fx.Node, twin: fx.Node, amount: Tensor) -> None:
    """Add a constant a channel to what a conv or linear gives: to a running mean behind it, to its bias, or as one."""
    norm, sources = _norm_behind(channels, node), program.sources
    bias = twin.args[2] if len(twin.args) > 2 else twin.kwargs.get("bias")
    if norm is not None:
        name = channels.at(norm.args[3]).source
        mean = program.state[name]
        program.state[name] = (mean.double() - amount).to(mean.dtype)
    elif isinstance(bias, fx.Node) and len(bias.users) == 1:
        old = program.state[sources[bias]]
        program.state[sources[bias]] = (old.double() + amount).to(old.dtype)
    else:
        dtype = program.state[channels.at(node.args[1]).source].dtype
        old = program.state[sources[bias]].double() if isinstance(bias, fx.Node) else torch.zeros(()).double()
        name = program.free_name(f"{node.name}_constant")
        made = program.add_buffer(name, (old + amount).to(dtype))
        outs = channels.made(channels.at(node.args[1]).source)
        channels.dims.setdefault(name, {0: outs})
        twin.args = (*twin.args[:2], made, *twin.args[3:])
        twin.kwargs = {k: v for k, v in twin.kwargs.items() if k != "bias"}


def _with_ones(program: Program, channels: Channels, node: fx.Node, twin: fx.Node, kernel: Tensor) -> None:
    """Give the reader a picture of ones beside its input: zero padding then cuts the constants as it cut theirs."""
    x, place = twin.args[0], geometry(node)
    assert isinstance(x, fx.Node)
    if place.transposed:
        kernel = kernel.transpose(0, 1)
    scale, _ = _behind(program, channels, node)
    outs = 1 if place.transposed else 0
    kernel = kernel * shaped(scale, outs, kernel.ndim)
    name, dtype = program.free_name(f"{node.name}_border"), program.state[channels.at(node.args[1]).source].dtype
    weight = program.add_buffer(name, kernel.to(dtype))
    channels.dims.setdefault(name, {outs: channels.made(channels.at(node.args[1]).source)})
    aten = torch.ops.aten
    with program.graph.inserting_before(twin):
        size = node.args[0].meta["val"].shape[2:]  # type: ignore[union-attr]
        if all(isinstance(s, int) for s in size):
            ones = program.graph.call_function(aten.full.default, ([1, 1, *size], 1.0), {"dtype": dtype})
        else:
            one = program.graph.call_function(aten.slice.Tensor, (x, 1, 0, 1))
            ones = program.graph.call_function(aten.ones_like.default, (one,))
        args: list[Any] = list(node.args)
        args[:2] = [ones, weight]
        if len(args) > 2:
            args[2] = None
        if len(args) > place.at:
            args[place.at] = 1
        kwargs = {k: v for k, v in node.kwargs.items() if k not in ("groups", "bias")}
        border = program.graph.call_function(node.target, tuple(args), kwargs)  # type: ignore[arg-type]
    _insert_sum(program, channels, node, twin, border)


def _add(program: Program, channels: Channels, node: fx.Node, twin: fx.Node, picture: Tensor) -> None:
    """Add a fixed picture, (1, C, H, W): what constants give that are not the same everywhere."""
    scale, _ = _behind(program, channels, node)
    name, dtype = program.free_name(f"{node.name}_picture"), program.state[channels.at(node.args[1]).source].dtype
    made = program.add_buffer(name, (picture * shaped(scale, 1, picture.ndim)).to(dtype))
    channels.dims.setdefault(name, {1: channels.made(channels.at(node.args[1]).source)})
    _insert_sum(program, channels, node, twin, made)


def _behind(program: Program, channels: Channels, node: fx.Node) -> tuple[Tensor, fx.Node]:
    """Return where a sum is placed, behind a batch normalisation so that it stays fused, and its scale there."""
    norm = _norm_behind(channels, node)
    if norm is None:
        return torch.ones(len(channels.made(channels.at(node.args[1]).source)), dtype=torch.float64), node
    parts = [channels.values[a].value if isinstance(a, fx.Node) else None for a in norm.args[1:5]]
    eps = norm.args[7] if name_of(norm) == "aten.batch_norm" else norm.args[6]
    assert isinstance(eps, float)
    assert parts[2] is not None and parts[3] is not None
    scale, _ = batch_affine(parts[0], parts[1], parts[2], parts[3], eps)
    return scale, norm


def _insert_sum(program: Program, channels: Channels, node: fx.Node, twin: fx.Node, other: fx.Node) -> None:
    place = twin
    norm = _norm_behind(channels, node)
    if norm is not None:
        place = next(iter(twin.users))
        if name_of(norm) != "aten.batch_norm":
            place = next(u for u in place.users if u.args[1] == 0)
    with program.graph.inserting_after(place):
        total = program.graph.call_function(torch.ops.aten.add.Tensor, (place, other))
    place.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)
