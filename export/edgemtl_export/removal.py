"""shrink: a program whose zeroed channels are gone, with the same outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.export import ExportedProgram

from .channels import analyse
from .live import settle
from .outputs import select_outputs
from .program import Program, on_cpu, to_program
from .proof import NotEqualError, prove
from .report import Report, make_report
from .rewrite import Keep, smaller

__all__ = ["Keep", "NotEqualError", "Shrunk", "shrink"]


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
) -> Shrunk:
    """Remove every channel that is provably constant or unread from ``model`` (evaluation mode), exactly.

    ``args``, ``kwargs`` and ``dynamic_shapes`` are as for ``torch.export.export``; an ExportedProgram brings its own
    where they are left out. ``outputs`` names the outputs to ship (dict keys, positions in a tuple, dotted for what is
    nested); the others go, and all that only they read. ``align`` keeps dead channels up to its next multiple in every
    layer; ``"auto"`` measures which multiple each layer wants on ONNX Runtime. ``branches="cut"`` lets the two operands
    of a sum keep different channels (each is laid out for the sum as it is read), ``"auto"`` where that is measured to
    be faster. ``norms="rewrite"`` writes layer and group normalisation out, so that what they read may go too.

    What cannot be proved stays and is named in ``report.pinned``. ``verify`` is the proof of `proof`: it raises
    `NotEqualError` with the first differing output, and nothing is returned.
    """
    given = to_program(model, args, kwargs, dynamic_shapes)
    whole = given.copy()  # what the report counts from
    if outputs is not None:
        select_outputs(given, outputs)
    inputs = given.flatten(*on_cpu(example(given, args, kwargs)))
    choice = None
    if align == "auto" or branches == "auto":
        from .channel_rounding import tune

        choice = tune(given, inputs, align, branches, norms == "rewrite")
    cut = choice.cut if choice else (lambda node: branches == "cut")
    channels = analyse(given, inputs, cut=cut, rewrite_norms=norms == "rewrite")
    live, moves = settle(channels, choice.align if choice else align)  # type: ignore[arg-type]
    small, keep = smaller(given, channels, live, moves)
    errors = prove(given, small, channels, live, moves, keep, inputs) if verify else {}
    small.refresh()
    report = make_report(whole, small, channels, live, errors)
    return Shrunk(small.to_exported(), {n: k for n, k in keep.items() if n in given.state}, report)


def example(program: Program, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """Return the example inputs given, or the program's own."""
    if args or kwargs:
        return args, kwargs or {}
    own = program.exported.example_inputs
    if own is None:
        raise ValueError("the program holds no example inputs: give args as for torch.export.export")
    return own[0], own[1]
