"""Inputs of other sizes than the example's: what is right at one size of a dynamic program may not be at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor

from .program import Program

RULES: tuple[Callable[[int], int], ...] = (lambda n: n // 2, lambda n: n + 1, lambda n: n - 1, lambda n: 2 * n)
"""Other sizes, the cheapest first: halves suit networks with strides, neighbours show what divides evenly by chance."""
MOST = 2**31


def at_other_sizes(program: Program, inputs: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield the flat example inputs at other sizes within the program's constraints; what is new repeats the example.

    Sizes that a formula of others decides follow them. Nothing where no size is dynamic.
    """
    known = _sizes(program, inputs)
    constraints = program.exported.range_constraints
    tried = [known]
    for rule in RULES:
        sizes = {}
        for symbol, size in known.items():
            bounds = constraints.get(symbol)
            low, high = (1, MOST) if bounds is None else (max(1, bounds.lower), min(MOST, bounds.upper))
            sizes[symbol] = int(min(max(rule(size), low), high))
        if sizes not in tried:
            tried.append(sizes)
            yield [_resized(x, node.meta.get("val"), sizes) for x, node in zip(inputs, program.inputs, strict=True)]


def _sizes(program: Program, inputs: Sequence[Any]) -> dict[Any, int]:
    """Return the value at the example for every symbol that decides the size of some dimension."""
    sizes: dict[Any, int] = {}
    for x, node in zip(inputs, program.inputs, strict=True):
        recorded = node.meta.get("val")
        if isinstance(x, Tensor) and isinstance(recorded, Tensor):
            for size, dim in zip(x.shape, recorded.shape, strict=True):
                symbols = dim.node.expr.free_symbols if isinstance(dim, torch.SymInt) else ()
                if len(symbols) == 1:  # n, or a formula like 2 n
                    (symbol,) = symbols
                    sizes.setdefault(symbol, int(sympy.solve(dim.node.expr - int(size), symbol)[0]))
    return sizes


def _resized(x: Any, recorded: object, sizes: dict[Any, int]) -> Any:
    if not isinstance(x, Tensor) or not isinstance(recorded, Tensor) or not x.numel():
        return x
    for dim, size in enumerate(recorded.shape):
        if isinstance(size, torch.SymInt):
            extent = size.node.expr.subs(sizes)
            if extent.is_Integer:
                x = x.index_select(dim, torch.arange(int(extent)) % x.shape[dim])
    return x
