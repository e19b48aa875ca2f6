"""shrink: a program whose zero, constant and unused channels are removed, with the same outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import fx, nn
from torch.export import ExportedProgram

from .analysis import RULES, Rule, analyse
from .analysis.builder import gather_all, gather_none
from .channel_rounding import fastest_rounding
from .computed_weights import materialise_weights
from .functionalise import to_program
from .liveness import make_plan
from .outputs import select_outputs
from .program import Program
from .pruned_state import Keep
from .report import Report, make_report
from .rewrite import rewrite
from .tracing import on_cpu
from .verify import NotEqualError, Proof, verify_equal
from .zero_operands import drop_zero_operands

__all__ = ["Keep", "NotEqualError", "Shrunk", "shrink"]


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller program with the same outputs.

    ``program`` is the export, ``module()`` an nn.Module with the pruned parameters; ``keep`` gives for each parameter
    and buffer the kept indices a dimension; ``report`` holds what was removed and why.
    """

    program: ExportedProgram
    keep: Keep
    report: Report

    def module(self) -> nn.Module:
        """Return the shrunk network as an nn.Module (batch statistics frozen)."""
        # Guards are code that cannot be traced again, and that fails at some dynamic sizes; inputs are checked anyway.
        return self.program.module(check_guards=False)


def shrink(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    outputs: Sequence[str] | None = None,
    align: int | Literal["auto"] = 1,
    branches: Literal["keep", "cut", "auto"] = "keep",
    norms: Literal["keep", "rewrite"] = "keep",
    dynamic_shapes: Any = None,
    verify: bool = True,
    rules: Mapping[str, Rule] = RULES,
) -> Shrunk:
    """Remove every channel that is provably constant or unused from ``model`` (evaluation mode), exactly.

    ``args``, ``kwargs`` and ``dynamic_shapes`` are as for ``torch.export.export``; an ExportedProgram brings its own
    where they are not given. ``outputs`` names the outputs to ship (dict keys, positions in a tuple, dotted for nested
    ones); the others are removed, and all that only they read. ``align`` keeps pruned channels up to its next multiple
    in every layer; ``"auto"`` measures which multiple each layer wants on ONNX Runtime. ``branches="cut"`` lets the two
    operands of a sum keep different channels (each is laid out for the sum as it is read), ``"auto"`` where that is
    measured to be faster. ``norms="rewrite"`` writes layer and group normalisation out, so that what they read may be
    pruned too. ``rules`` holds the rule of every operator (see `analysis`): ``RULES | {name: rule}`` adds one.

    What cannot be proved stays and is named in ``report.pinned``. ``verify`` is the check of `verify`: it raises
    `NotEqualError` with the first differing output, and nothing is returned.
    """
    _check_options(align, branches, norms)
    given = to_program(model, args, kwargs, dynamic_shapes)
    whole = given.copy()  # what the report counts from
    if outputs is not None:
        select_outputs(given, outputs)
    inputs = given.flatten(*on_cpu(example_inputs(given, args, kwargs)))
    materialise_weights(given)
    original = given.copy()
    first = channels = analyse(given, inputs, rules)
    while drop_zero_operands(given, channels):
        channels = analyse(given, inputs, rules)
    rewrite_norms = norms == "rewrite"
    may_gather: Callable[[fx.Node], bool] = gather_all if branches == "cut" else gather_none
    multiples: Mapping[str, int] | int = 1 if align == "auto" else align
    if align == "auto" or branches == "auto":
        tuned = fastest_rounding(given, inputs, align, branches, rewrite_norms, rules)
        may_gather, multiples = tuned.may_gather, tuned.multiples
    if may_gather is not gather_none or rewrite_norms:
        channels = analyse(given, inputs, rules, may_gather=may_gather, rewrite_norms=rewrite_norms)
    plan = make_plan(channels, multiples)
    small, keep = rewrite(given, plan)
    proof = verify_equal(original, given, small, plan, keep, inputs) if verify else Proof({}, frozenset())
    small.refresh()
    report = make_report(whole, first, small, plan, proof)
    return Shrunk(small.to_exported(), {n: k for n, k in keep.items() if n in given.state}, report)


def _check_options(align: object, branches: object, norms: object) -> None:
    """Raise `ValueError` for an option that would be taken for another."""
    if align != "auto" and (not isinstance(align, int) or isinstance(align, bool) or align < 1):
        raise ValueError(f'align is {align!r}; it is a whole number from 1, or "auto"')
    for name, value, known in (("branches", branches, ("keep", "cut", "auto")), ("norms", norms, ("keep", "rewrite"))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; it is one of {', '.join(known)}")


def example_inputs(
    program: Program, args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the example inputs given, or those that the program holds."""
    if args or kwargs:
        return args, kwargs or {}
    held = program.exported.example_inputs
    if held is None:
        raise ValueError("the program holds no example inputs: give args as for torch.export.export")
    return held[0], held[1]
