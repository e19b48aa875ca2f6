"""Verification of every removal: noise, float64 and float32.

1. Noise in everything that was pruned, after its readers are masked, moves no output. The control: without the mask
   it does. Where it does not (a constant output, a saturated activation), this check proves nothing and the report
   notes it.
2. The given program and the smaller one agree in float64 to `TOLERANCE` of the signal on several inputs.
3. In float32 the smaller program is as close to the float64 outputs as the given one, or within `FLOAT32` of the
   signal.
4. With dynamic sizes, the two agree in float64 at other sizes than the example's too.

The signal of an output is the largest change between two inputs. NaN is a failure.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from .errors import UnsupportedError, first_sentence
from .masking import mask_pruned
from .other_sizes import at_other_sizes
from .plan import Plan
from .program import Program
from .pruned_state import Keep
from .rewrite import rewrite
from .widening import in_double, widen_tensor

TOLERANCE = 1e-9
FLOAT32 = 1e-4
UNMOVED = 1e-12
"""Largest change of an output, as a share of its size, that is rounding."""
BLENDS = (0.1, 0.5, 1.0)
"""How far each input is moved from the example to a drawn one."""

OTHER_SIZES = 2
"""At so many other sizes a program with dynamic ones is checked."""

Outputs = list[list[Any]]
"""The flat outputs for each input."""


class NotEqualError(RuntimeError):
    """The shrunk program differs from the given one: a bug in a rule, and nothing is returned."""


@dataclass(frozen=True)
class Proof:
    """The largest errors by check, and the positions of the outputs that no input moved."""

    errors: dict[str, float]
    unmoved: frozenset[int]


def verify_equal(
    original: Program, analysed: Program, small: Program, plan: Plan, keep: Keep, inputs: Sequence[Any]
) -> Proof:
    """Raise `NotEqualError` with the first differing output, or return the proof that there is none.

    ``analysed`` is the program of the plan: the original without its zero operands.
    Raises `UnsupportedError` where the program cannot be computed in float64.
    """
    names = output_names(original)
    generator = torch.Generator().manual_seed(0)
    drawn = [[draw(generator, blend, x) for x in inputs] for blend in BLENDS]
    exact = in_double(original)
    try:
        reference = _Reference(names, [exact.run(x) for x in drawn])
    except Exception as error:  # operators fail in any way
        raise UnsupportedError(
            f"the program cannot be computed in float64 ({first_sentence(error)}), so nothing can be proved on it; "
            "verify=False (--no-verify) removes without a proof"
        ) from error
    sized = [out.numel() for out in reference.outputs[0] if isinstance(out, Tensor)]
    if sized and not any(sized):
        raise UnsupportedError("every output is empty for the example inputs: nothing can be proved on them")
    for row in reference.outputs:
        for name, out in zip(names, row, strict=True):
            if is_inexact(out) and not bool(out.isfinite().all()):
                raise NotEqualError(f"{name} of the given program is not finite: nothing can be proved on it")
    exact = in_double(analysed)
    errors = _noise_errors(exact, plan, keep, drawn[0], reference)
    tight, _ = rewrite(exact, plan)
    errors["float64"] = reference.check([tight.run(x) for x in drawn], TOLERANCE, "float64")
    single = [[x.float() if isinstance(x, Tensor) and x.dtype == torch.float64 else x for x in row] for row in drawn]
    if original.dynamic:
        errors |= _errors_at_other_sizes(in_double(original), tight, names, inputs)
    proof = Proof(errors, unmoved(reference.outputs))
    if any(t.is_floating_point() and t.dtype != torch.float32 for t in original.state.values()):
        return proof
    rounding = reference.errors([original.run(x) for x in single])
    bound = max(FLOAT32, 10 * max(rounding.values(), default=0.0))
    errors["float32"] = reference.check([small.run(x) for x in single], bound, "float32")
    return proof


def _errors_at_other_sizes(exact: Program, tight: Program, names: list[str], inputs: Sequence[Any]) -> dict[str, float]:
    """Compare two programs at up to `OTHER_SIZES` other sizes than the example's, of those that the given one takes."""
    errors: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    for resized in at_other_sizes(exact, inputs):
        drawn = [[draw(generator, blend, x) for x in resized] for blend in BLENDS[:2]]
        try:
            outputs = [exact.run(x) for x in drawn]
        except Exception:  # whatever a network raises at a size that it was not made for
            continue
        try:
            smaller = [tight.run(x) for x in drawn]
        except Exception as error:
            raise NotEqualError(f"the shrunk program fails at another size ({first_sentence(error)})") from error
        label = "float64, at another size"
        errors[f"size {len(errors) + 1}"] = _Reference(names, outputs).check(smaller, TOLERANCE, label)
        if len(errors) == OTHER_SIZES:
            break
    return errors


class _Reference:
    """The given program's outputs in float64, and the signal of each."""

    def __init__(self, names: list[str], outputs: Outputs, scale: list[float] | None = None) -> None:
        self.names, self.outputs = names, outputs
        self.scale = signal(outputs) if scale is None else scale

    def first(self) -> _Reference:
        """Return the reference for the first input alone."""
        return _Reference(self.names, self.outputs[:1], self.scale)

    def errors(self, outputs: Outputs) -> dict[str, float]:
        """Return by output the largest error over its signal; NaN when anything is, infinite for another shape."""
        errors: dict[str, float] = {}
        for expected, row in zip(self.outputs, outputs, strict=True):
            for name, truth, actual, scale in zip(self.names, expected, row, self.scale, strict=True):
                if isinstance(truth, Tensor) and truth.numel():
                    error = difference(truth, actual, scale)
                    errors[name] = error if error != error else max(errors.get(name, 0.0), error)
        return errors

    def check(self, outputs: Outputs, bound: float, precision: str) -> float:
        """Return the largest error; raises `NotEqualError` where one is above the bound."""
        errors = self.errors(outputs)
        for name, error in errors.items():
            if not error <= bound:  # also when NaN
                raise NotEqualError(f"{name} differs by {error:.2e} of its signal after shrinking ({precision})")
        return max(errors.values(), default=0.0)


def _noise_errors(exact: Program, plan: Plan, keep: Keep, inputs: list[Any], reference: _Reference) -> dict[str, float]:
    """Check that noise in pruned parameters moves no output, and measure whether it does without the mask."""
    noisy = exact.copy()
    noisy.state = add_noise(exact.state, plan, keep)
    full, cut = mask_pruned(noisy, plan)
    first = reference.first()
    errors = {"noise": first.check([full.run(inputs)], TOLERANCE, "float64, with noise in what is pruned")}
    if cut:
        moved = first.errors([noisy.run(inputs)]).values()
        largest = sys.float_info.max  # what overflows has moved too
        errors["control"] = max((e if e < largest else largest for e in moved), default=0.0)
    return errors


def add_noise(state: dict[str, Tensor], plan: Plan, keep: Keep) -> dict[str, Tensor]:
    """Return the state with noise in every row that is pruned."""
    channels = plan.channels
    generator = torch.Generator().manual_seed(1)
    filled = dict(state)
    for name, dims in keep.items():
        tensor = state.get(name)
        if tensor is None or not tensor.is_floating_point() or name not in channels.dims:
            continue
        for dim in channels.dims[name].keys() - channels.input_dims.get(name, frozenset()):
            pruned = torch.ones(tensor.shape[dim], dtype=torch.bool)
            pruned[torch.from_numpy(dims[dim].reshape(-1))] = False
            if pruned.any():
                tensor = tensor.clone()
                view = tensor.movedim(dim, 0)
                drawn = torch.rand(view[pruned].shape, generator=generator, dtype=torch.float64)
                view[pruned] = (drawn + 0.5).to(tensor.dtype)
        filled[name] = tensor
    return filled


def difference(expected: Tensor, actual: Tensor, size: float) -> float:
    """Return the largest difference over ``size``; for other than floating types 0 or infinite."""
    if expected.shape != actual.shape or is_inexact(expected) != is_inexact(actual):
        return float("inf")
    if not is_inexact(expected):
        return 0.0 if torch.equal(expected, actual) else float("inf")
    return float((widen_tensor(expected) - widen_tensor(actual)).abs().max() / size)


def is_inexact(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor of real or complex numbers, which are rounded."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def signal(outputs: list[list[Any]]) -> list[float]:
    """Return for every output the largest change between two inputs; its size where it never changes."""
    sizes = []
    for parts in zip(*outputs, strict=True):
        reference = parts[0]
        if not is_inexact(reference) or not reference.numel():
            sizes.append(1.0)
            continue
        change = max(float((p - reference).abs().max()) for p in parts[1:])
        largest = float(reference.abs().max())
        sizes.append(change if change > 1e-6 * largest else largest or 1.0)
    return sizes


def unmoved(outputs: list[list[Any]]) -> frozenset[int]:
    """Return the positions of floating outputs that are the same for every input, but for rounding."""
    positions = set()
    for position, (first, *others) in enumerate(zip(*outputs, strict=True)):
        if is_inexact(first) and first.numel():
            largest = float(first.abs().max())
            if max(float((other - first).abs().max()) for other in others) <= UNMOVED * largest:
                positions.add(position)
    return frozenset(positions)


def output_names(program: Program) -> list[str]:
    """Return every output of the graph in words, with its path where there is more than one."""
    spec = program.exported.call_spec.out_spec
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = iter(pytree.keystr(path) or "of the network" for path, _ in pytree.tree_flatten_with_path(tree)[0])
    specs = program.exported.graph_signature.output_specs
    return [f"output {next(paths)}" if s.kind is OutputKind.USER_OUTPUT else f"buffer {s.target}" for s in specs]


def draw(generator: torch.Generator, blend: float, like: Any) -> Any:
    """Return a float64 input moved, by a share ``blend``, to one drawn in the example's range; integers as they are.

    Drawn are blocks of many sizes, with another contrast and brightness for every channel. White noise alone
    will not do: after a mean over the image all noise is alike, and next to so small a signal every rounding counts.
    """
    if not isinstance(like, Tensor) or not like.is_floating_point():
        return like
    if not like.numel():
        return like.double()
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
    return (1 - blend) * like.double() + blend * (low + (high - low) * drawn)
