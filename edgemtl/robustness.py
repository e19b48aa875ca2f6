"""How much a network of several cameras loses when one is absent, and when they are out of line."""

from __future__ import annotations

from collections.abc import Mapping

from .corruptions import Fault
from .errors import EdgemtlError
from .evaluate import Faulty, Figures, Predictor
from .reports.html import drawing
from .tasks import TASKS

SHIFTS_PX = (2, 4, 8, 12, 16)
"""Pixels of the labels."""
TURNS_DEG = (1, 2, 4)
WAYS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Each picture is shifted one of these ways, and turned to one side, so that no direction is favoured."""


def absences(predictor: Predictor) -> Faulty:
    """Return every camera of several absent in its turn."""
    cameras = _several(predictor)
    return {f"{name} absent": [Fault(absent=name)] for name in cameras}


def misalignments(predictor: Predictor) -> Faulty:
    """Return shifts and turns of every camera but the first."""
    _several(predictor)
    shifts = {f"shift {px} px": [Fault(shift_px=(px * x, px * y)) for x, y in WAYS] for px in SHIFTS_PX}
    return shifts | {f"turn {deg}°": [Fault(turn_deg=deg), Fault(turn_deg=-deg)] for deg in TURNS_DEG}


def _several(predictor: Predictor) -> list[str]:
    if len(predictor.inputs) < 2:
        raise EdgemtlError(f"the network has one camera, {next(iter(predictor.inputs))}: none can be absent or apart")
    return list(predictor.inputs)


def draw(figures: Figures, heads: Mapping[str, str], ending: str = "png") -> bytes:
    """Return a drawing of the primary metric of every head over the shift and over the turn, as a file of a kind.

    ``heads`` are the tasks by head.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (("shift", SHIFTS_PX, "px", "shift, pixels of the labels"), ("turn", TURNS_DEG, "°", "turn, degrees"))
    for axes, (kind, amounts, unit, words) in zip(figure.subplots(1, 2), panels, strict=True):
        space = " " if unit == "px" else ""
        parts = ["all", *(f"{kind} {amount}{space}{unit}" for amount in amounts)]
        for task in heads.values():
            metric = TASKS[task].primary
            points = [(x, figures[part][metric]) for x, part in zip((0, *amounts), parts, strict=True)]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=metric)
        axes.set_xlabel(words, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return drawing(figure, 150, ending)
