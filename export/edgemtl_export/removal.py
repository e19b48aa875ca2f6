"""shrink: a program whose zeroed channels are gone, with the same outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from .channels import Channels, Value, analyse, distinct, name_of
from .report import Layer, Report, count_flops

Keep = dict[str, dict[int, NDArray[np.int64]]]
TOLERANCE = 1e-9
"""Largest error in float64, relative to the largest output value, that still counts as rounding."""


class NotEqualError(RuntimeError):
    """The shrunk program differs from the given one: a bug in a rule, and nothing is returned."""


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller program with the same outputs.

    ``program`` is the export, ``module()`` an nn.Module with the pruned parameters; ``keep`` gives for each parameter
    and buffer the kept indices a dimension; ``report`` says what went and why.
    """

    program: ExportedProgram
    keep: Keep
    report: Report

    def module(self) -> nn.Module:
        """Return the shrunk network as an nn.Module (batch statistics frozen)."""
        return self.program.module()


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> fx.GraphModule:
    """Return the functional, unlifted graph of ``model`` in evaluation mode, parameters by their own names.

    The model is copied first, to the CPU: exporting leaves traces in modules that cache what they compute.
    """
    args, kwargs = on_cpu((args, kwargs or {}))
    program = torch.export.export(copy.deepcopy(model).cpu().eval(), args, kwargs)
    module = program.run_decompositions({}).module()
    assert isinstance(module, fx.GraphModule)
    for node in list(module.graph.nodes):
        if not node.users and ("_guards_fn" in str(node.target) or "_assert" in str(node.target)):
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    _drop_unread_state(module)
    module.recompile()
    return module


def on_cpu(tree: Any) -> Any:
    """Return a tree of example inputs with its tensors on the CPU."""
    return pytree.tree_map_only(Tensor, lambda t: t.detach().cpu(), tree)


def shrink(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    align: int = 1,
    verify: bool = True,
) -> Shrunk:
    """Remove every channel that is provably zero or unread from ``model`` (evaluation mode), exactly.

    ``args`` and ``kwargs`` are example inputs as for ``torch.export.export``; the result has their shapes. What cannot
    be proved stays and is named in ``report.pinned``. ``align`` keeps dead channels up to its next multiple in every
    layer, where the hardware is faster on round numbers. ``verify`` compares both programs in float64 on random inputs
    and raises `NotEqualError` with the first differing output; integer inputs keep the values given.
    """
    args, kwargs = on_cpu((args, kwargs or {}))
    graph = trace(model, args, kwargs)
    channels = analyse(graph)
    live = _live(channels, align)
    keep = {name: {dim: np.flatnonzero(live[ids]) for dim, ids in dims.items()} for name, dims in channels.dims.items()}
    small = _rebuild(graph, channels, live, keep)
    if verify:
        _verify(graph, small, args, kwargs or {})
    report = _report(graph, small, channels, live, args, kwargs or {})
    return Shrunk(torch.export.export(small, args, kwargs or {}), keep, report)


def _live(channels: Channels, align: int = 1) -> NDArray[np.bool_]:
    """Return for every id whether its channel stays, so that every tensor keeps a box of at least one channel."""
    roots = channels.roots()
    kept: set[int] = set()
    while True:
        live = channels.needed(roots, kept)
        more = set()
        for node, value in channels.values.items():
            for part in [v for v in pytree.tree_leaves(value) if isinstance(v, Value) and v.ids is not None]:
                assert part.ids is not None
                mask = live[part.ids.numpy()]
                if not mask.size:
                    continue
                if not mask.any():  # the last channel of a tensor stays
                    more.add(int(part.ids.reshape(-1)[0]))
                elif mask.sum() != np.prod([len(k) for k in _box(mask)]) or not _can_follow(node, mask):
                    channels.pins.setdefault(f"{name_of(node)} (uneven)", set()).update(distinct(part.ids))
                    more.update(distinct(part.ids))
        if more <= kept:
            more = _up_to_multiples(channels, live, align)
        if more <= kept:
            return live
        kept |= more


def _up_to_multiples(channels: Channels, live: NDArray[np.bool_], align: int) -> set[int]:
    """Return dead ids to keep, so that the channels of every layer come to a multiple of ``align`` or stay all."""
    kept: set[int] = set()
    for name in channels.writers:
        ids = channels.dims[name][0]
        dead = ids[~live[ids]]
        if channels.state[name].ndim > 1 and len(dead):
            short = -(len(ids) - len(dead)) % align
            kept.update(dead[:short].tolist())
    return kept


def _box(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the indices along each dimension where anything is live."""
    axes = range(mask.ndim)
    return [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != d))) for d in axes]


def _can_follow(node: fx.Node, mask: NDArray[np.bool_]) -> bool:
    """Whether the literals of a node can be rewritten for a result that lost channels."""
    name = name_of(node)
    if mask.all():
        return True
    if name == "aten.squeeze" and len(node.args) < 2:
        return False  # a dimension that shrinks to 1 would go as well
    if name == "aten.slice":
        return bool(len(node.args) < 5 or node.args[4] == 1)
    return name not in ("aten.unflatten", "aten.narrow", "aten.roll", "aten.pixel_shuffle", "aten.channel_shuffle")


def _rebuild(graph: fx.GraphModule, channels: Channels, live: NDArray[np.bool_], keep: Keep) -> fx.GraphModule:
    small = copy.deepcopy(graph)
    twins = dict(zip(graph.graph.nodes, small.graph.nodes, strict=True))
    for name, dims in keep.items():
        _slice_parameter(small, name, dims)
    for node, twin in twins.items():
        if node.op == "call_function":
            _rewrite(channels, live, node, twin)
    small.graph.lint()
    small.recompile()
    return small


def _slice_parameter(module: nn.Module, name: str, dims: dict[int, NDArray[np.int64]]) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    tensor = getattr(owner, leaf)
    data = tensor.detach()
    for dim, indices in dims.items():
        if data.shape[dim] > 1 or not len(indices):
            data = data.index_select(dim, torch.from_numpy(indices).to(data.device))
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, nn.Parameter(data.clone(), requires_grad=tensor.requires_grad))
    else:
        owner.register_buffer(leaf, data.clone())


def _sizes(value: Value, live: NDArray[np.bool_]) -> list[int]:
    assert value.ids is not None
    return [len(k) for k in _box(live[value.ids.numpy()])]


def _rewrite(channels: Channels, live: NDArray[np.bool_], node: fx.Node, twin: fx.Node) -> None:
    """Bring the numbers of channels that the graph holds as literals to the shrunk sizes."""
    value, name = channels.values[node], name_of(node)
    rewrite = _REWRITES.get(name)
    if rewrite and any(isinstance(v, Value) and v.ids is not None for v in pytree.tree_leaves(value)):
        rewrite(channels, live, node, twin)


def _rewrite_shape(channels: Channels, live: NDArray[np.bool_], node: fx.Node, twin: fx.Node) -> None:
    twin.args = (twin.args[0], _sizes(channels.values[node], live), *twin.args[2:])


def _rewrite_split(channels: Channels, live: NDArray[np.bool_], node: fx.Node, twin: fx.Node) -> None:
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    assert isinstance(dim, int)
    sizes = [_sizes(part, live)[dim] for part in channels.values[node]]
    twin.target = torch.ops.aten.split_with_sizes.default
    twin.args, twin.kwargs = (twin.args[0], sizes, dim), {}


def _rewrite_slice(channels: Channels, live: NDArray[np.bool_], node: fx.Node, twin: fx.Node) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    ids = channels.values[source].ids
    given = list(node.args[1:4])
    dim, start, end = given + [0, None, None][len(given) :]
    length = ids.shape[dim]
    begin, stop, _ = slice(start, end).indices(length)
    kept = _box(live[ids.numpy()])[dim % ids.ndim]
    twin.args = (twin.args[0], dim, int((kept < begin).sum()), int((kept < stop).sum()))


def _rewrite_select(channels: Channels, live: NDArray[np.bool_], node: fx.Node, twin: fx.Node) -> None:
    source, dim, index = node.args[:3]
    assert isinstance(source, fx.Node) and isinstance(dim, int) and isinstance(index, int)
    ids = channels.values[source].ids
    kept = _box(live[ids.numpy()])[dim % ids.ndim]
    twin.args = (twin.args[0], dim, int((kept < index % ids.shape[dim]).sum()))


def _rewrite_groups(channels: Channels, live: NDArray[np.bool_], node: fx.Node, twin: fx.Node) -> None:
    if len(node.args) > 6 and node.args[6] != 1:
        weight = node.args[1]
        assert isinstance(weight, fx.Node)
        ids = channels.dims.get(str(weight.target), {}).get(0)
        if ids is not None:  # depthwise; other grouped convolutions are pinned
            twin.args = (*twin.args[:6], int(live[ids].sum()))


_REWRITES: dict[str, Callable[[Channels, NDArray[np.bool_], fx.Node, fx.Node], None]] = {
    "aten.view": _rewrite_shape,
    "aten.reshape": _rewrite_shape,
    "aten._unsafe_view": _rewrite_shape,
    "aten.expand": _rewrite_shape,
    "aten.split": _rewrite_split,
    "aten.split_with_sizes": _rewrite_split,
    "aten.chunk": _rewrite_split,
    "aten.slice": _rewrite_slice,
    "aten.select": _rewrite_select,
    "aten.conv2d": _rewrite_groups,
}


def _drop_unread_state(module: fx.GraphModule) -> None:
    """Drop parameters and buffers that no node reads, so that what is counted is what runs."""
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for owner_name, owner in module.named_modules():
        for store in (owner._parameters, owner._buffers):
            for leaf in list(store):
                if f"{owner_name}.{leaf}".lstrip(".") not in read:
                    del store[leaf]


def _verify(given: fx.GraphModule, small: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Compare both programs in float64 around the example inputs and on noise of their range."""
    exact, shrunk = _in_double(given), _in_double(small)
    generator = torch.Generator().manual_seed(0)
    for spread in (0.1, 1.0):
        a, k = pytree.tree_map_only(Tensor, partial(_noisy, generator, spread), (args, kwargs))
        with torch.no_grad():
            expected, _ = pytree.tree_flatten_with_path(exact(*a, **k))
            found = pytree.tree_leaves(shrunk(*a, **k))
        for (path, left), right in zip(expected, found, strict=True):
            if isinstance(left, Tensor) and left.numel():
                error = relative_error(left, right)
                if not error <= TOLERANCE:  # also when NaN
                    raise NotEqualError(
                        f"output {pytree.keystr(path)} differs by {error:.2e} of its size after shrinking"
                    )


def _in_double(module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy that computes in float64, also where the graph itself names a type."""
    module = copy.deepcopy(module).double()
    low = (torch.float32, torch.float16, torch.bfloat16)
    for node in module.graph.nodes:
        node.args, node.kwargs = pytree.tree_map_only(
            torch.dtype, lambda dtype: torch.float64 if dtype in low else dtype, (node.args, node.kwargs)
        )
    module.recompile()
    return module


def _noisy(generator: torch.Generator, spread: float, like: Tensor) -> Tensor:
    """Return a float64 input drawn, by a share ``spread``, from the range of the example; integers as they are."""
    if not like.is_floating_point() or not like.numel():
        return like
    low, high = float(like.min()), float(like.max())
    drawn = low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return (1 - spread) * like.double() + spread * drawn


def relative_error(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference over the largest expected value; NaN when anything is."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if not expected.is_floating_point():
        return 0.0 if torch.equal(expected, found) else float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-12))


def _report(
    given: fx.GraphModule,
    small: fx.GraphModule,
    channels: Channels,
    live: NDArray[np.bool_],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Report:
    roots = channels.roots()
    written_nonzero = np.zeros(len(roots), bool)
    for name in channels.writers:
        rows = channels.state[name].flatten(1) if channels.state[name].ndim > 1 else channels.state[name][:, None]
        ids = channels.dims[name][0]
        written_nonzero[roots[ids[(rows != 0).any(1).numpy()]]] = True
    layers = []
    for name, dims in channels.dims.items():
        if channels.state[name].ndim > 1 and 0 in dims:
            dead = ~live[dims[0]]
            unread = int((dead & written_nonzero[roots[dims[0]]]).sum())
            layers.append(Layer(name, len(dims[0]), int((~dead).sum()), int(dead.sum()) - unread, unread))
    constant = {int(roots[i]) for read in channels.reads for i in read.in_ids[read.constant & read.needs.any(0)]}
    parameters = [sum(p.numel() for p in m.parameters()) for m in (given, small)]
    flops = [count_flops(m, args, kwargs) for m in (given, small)]
    pinned = {why: len(ids) for why, ids in channels.pins.items() if why != "output"}
    return Report(parameters[0], parameters[1], flops[0], flops[1], layers, pinned, len(constant - {0}))
