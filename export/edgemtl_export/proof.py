"""The proof that goes with every removal: noise, float64 and float32.

1. Noise in everything that was removed, after its readers are cut, moves no output. The control: without the cut it
   does. Where it does not (a dead output, a saturated activation), this part proves nothing and the report says so.
2. The given program and the smaller one agree in float64 to `TOLERANCE` of the signal on several inputs.
3. In float32 the smaller program is as close to the truth as the given one, or within `FLOAT32` of the signal.

The signal of an output is the largest change between two inputs. NaN is a failure.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .channels import Channels
from .live import Liveness
from .movement import Move
from .program import Program
from .rewrite import Keep, silenced, smaller

TOLERANCE = 1e-9
FLOAT32 = 1e-4
SPREADS = (0.1, 0.5, 1.0)


class NotEqualError(RuntimeError):
    """The shrunk program differs from the given one: a bug in a rule, and nothing is returned."""


def prove(
    given: Program,
    small: Program,
    channels: Channels,
    live: Liveness,
    moves: dict[fx.Node, Move],
    keep: Keep,
    inputs: Sequence[Any],
) -> dict[str, float]:
    """Raise `NotEqualError` with the first differing output, or return the largest errors found."""
    names = output_names(given)
    generator = torch.Generator().manual_seed(0)
    drawn = [[draw(generator, spread, x) for x in inputs] for spread in SPREADS]
    exact = in_double(given)
    truth = [exact.run(x) for x in drawn]
    scale = signal(truth)
    for row in truth:
        for name, out in zip(names, row, strict=True):
            if isinstance(out, Tensor) and out.is_floating_point() and not bool(out.isfinite().all()):
                raise NotEqualError(f"output {name} of the given program is not finite: nothing can be proved on it")
    errors = _noise(exact, channels, live, keep, drawn, truth, scale, names)
    tight, _ = smaller(exact, channels, live, moves)
    found = [tight.run(x) for x in drawn]
    errors["float64"] = _compare(truth, found, scale, names, TOLERANCE, "float64")
    single = [[x.float() if isinstance(x, Tensor) and x.dtype == torch.float64 else x for x in row] for row in drawn]
    if any(t.is_floating_point() and t.dtype != torch.float32 for t in given.state.values()):
        return errors
    rounding = _errors(truth, [given.run(x) for x in single], scale, names)
    bound = max(FLOAT32, 10 * max((e for e in rounding.values()), default=0.0))
    errors["float32"] = _compare(truth, [small.run(x) for x in single], scale, names, bound, "float32")
    return errors


def _noise(
    exact: Program,
    channels: Channels,
    live: Liveness,
    keep: Keep,
    drawn: list[list[Any]],
    truth: list[list[Any]],
    scale: list[float],
    names: list[str],
) -> dict[str, float]:
    noisy = exact.copy()
    noisy.state = noise(exact.state, channels, keep)
    full, cut = silenced(noisy, channels, live)
    how = "float64, with noise in what goes"
    errors = {"noise": _compare(truth[:1], [full.run(drawn[0])], scale, names, TOLERANCE, how)}
    if cut:
        moved = _errors(truth[:1], [noisy.run(drawn[0])], scale, names).values()
        largest = sys.float_info.max  # what overflows has moved too
        errors["control"] = max((e if e < largest else largest for e in moved), default=0.0)
    return errors


def noise(state: dict[str, Tensor], channels: Channels, keep: Keep) -> dict[str, Tensor]:
    """Return the state with noise in every row that is removed."""
    generator = torch.Generator().manual_seed(1)
    filled = dict(state)
    for name, dims in keep.items():
        tensor = state.get(name)
        if tensor is None or not tensor.is_floating_point() or name not in channels.dims:
            continue
        for dim in channels.dims[name].keys() - channels.columns.get(name, set()):
            gone = torch.ones(tensor.shape[dim], dtype=torch.bool)
            gone[torch.from_numpy(dims[dim].reshape(-1))] = False
            if gone.any():
                tensor = tensor.clone()
                view = tensor.movedim(dim, 0)
                drawn = torch.rand(view[gone].shape, generator=generator, dtype=torch.float64)
                view[gone] = (drawn + 0.5).to(tensor.dtype)
        filled[name] = tensor
    return filled


def _compare(
    truth: list[list[Any]], found: list[list[Any]], scale: list[float], names: list[str], bound: float, how: str
) -> float:
    errors = _errors(truth, found, scale, names)
    for name, error in errors.items():
        if not error <= bound:  # also when NaN
            raise NotEqualError(f"output {name} differs by {error:.2e} of its signal after shrinking ({how})")
    return max(errors.values(), default=0.0)


def _errors(truth: list[list[Any]], found: list[list[Any]], scale: list[float], names: list[str]) -> dict[str, float]:
    """Return by output the largest error over its signal; NaN when anything is, infinite for another shape."""
    errors: dict[str, float] = {}
    for expected, got in zip(truth, found, strict=True):
        for name, left, right, size in zip(names, expected, got, scale, strict=True):
            if isinstance(left, Tensor) and left.numel():
                error = difference(left, right, size)
                errors[name] = error if error != error else max(errors.get(name, 0.0), error)
    return errors


def difference(expected: Tensor, found: Tensor, size: float) -> float:
    """Return the largest difference over ``size``; for other than floating types 0 or infinite."""
    if expected.shape != found.shape or expected.is_floating_point() != found.is_floating_point():
        return float("inf")
    if not expected.is_floating_point():
        return 0.0 if torch.equal(expected, found) else float("inf")
    return float((expected.double() - found.double()).abs().max() / size)


def signal(outputs: list[list[Any]]) -> list[float]:
    """Return for every output the largest change between two inputs; its size where it never changes."""
    sizes = []
    for parts in zip(*outputs, strict=True):
        first = parts[0]
        if not isinstance(first, Tensor) or not first.is_floating_point() or not first.numel():
            sizes.append(1.0)
            continue
        change = max(float((p - first).abs().max()) for p in parts[1:])
        largest = float(first.abs().max())
        sizes.append(change if change > 1e-6 * largest else largest or 1.0)
    return sizes


def output_names(program: Program) -> list[str]:
    """Return a readable path for every output of the graph."""
    spec = program.exported.call_spec.out_spec
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    return [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(tree)[0]]


def in_double(program: Program) -> Program:
    """Return a copy that computes in float64, also where the graph itself names a type."""
    double = program.copy()
    low = (torch.float32, torch.float16, torch.bfloat16)
    double.state = {n: t.double() if t.dtype in low else t for n, t in program.state.items()}
    for node in double.graph.nodes:
        node.args, node.kwargs = pytree.tree_map_only(
            torch.dtype, lambda dtype: torch.float64 if dtype in low else dtype, (node.args, node.kwargs)
        )
    return double


def draw(generator: torch.Generator, spread: float, like: Any) -> Any:
    """Return a float64 input moved, by a share ``spread``, to one drawn in the example's range; integers as they are.

    Drawn are blocks of many sizes, with a contrast and a brightness of their own for every channel. White noise alone
    will not do: behind a mean over the picture all noise is alike, and next to so small a signal every rounding counts.
    """
    if not isinstance(like, Tensor) or not like.is_floating_point() or not like.numel():
        return like
    low, high = float(like.min()), float(like.max())
    if low == high:
        low, high = low - 1, high + 1
    drawn = torch.zeros(like.shape, dtype=torch.float64)
    for block in (1, 4, 16, 64, 256):
        coarse = [*like.shape[:2], *(-(-size // block) for size in like.shape[2:])]
        field = torch.rand(coarse, generator=generator, dtype=torch.float64)
        for dim, size in enumerate(like.shape[2:], 2):
            field = field.index_select(dim, torch.arange(size) // block)
        drawn += field
    drawn = (drawn - drawn.min()) / (drawn.max() - drawn.min()).clamp(min=1e-12)
    of_channel = [*like.shape[:2], *(1 for _ in like.shape[2:])]
    contrast, brightness = torch.rand([2, *of_channel], generator=generator, dtype=torch.float64)
    drawn = drawn * contrast + brightness * (1 - contrast)
    return (1 - spread) * like.double() + spread * (low + (high - low) * drawn)
