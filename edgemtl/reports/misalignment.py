"""Plot of how much a network loses by misalignment of its cameras."""

from __future__ import annotations

from collections.abc import Mapping

from ..corruptions import ROTATIONS_DEG, SHIFTS_PX
from ..evaluate import Figures
from ..tasks import TASKS
from .html import drawing


def plot(figures: Figures, heads: Mapping[str, str], ending: str = "png") -> bytes:
    """Return a plot of every head's primary metric over shift and rotation, as a file with this ending.

    ``figures`` are those of `corruptions.misalignments`, ``heads`` the tasks by head.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("shift, pixels of the labels", [(f"shift {px} px", px) for px in SHIFTS_PX]),
        ("turn, degrees", [(f"turn {deg}°", deg) for deg in ROTATIONS_DEG]),
    )
    for axes, (title, corruptions) in zip(figure.subplots(1, 2), panels, strict=True):
        for task in heads.values():
            metric = TASKS[task].primary
            points = [(amount, figures[name][metric]) for name, amount in [("all", 0), *corruptions]]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=metric)
        axes.set_xlabel(title, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return drawing(figure, 150, ending)
