"""Figures drawn with matplotlib, as the bytes of a file; matplotlib is imported with the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from .metric_report import Reports
from .tasks import TASKS
from .training_log import GROUPS, LEGEND, TITLES, VAL, smooth, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_PER_ROW = 3
MIN_POINTS = 3
"""Fewer evaluations while training are no curve; the report has them as a table."""


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encoded(figure: Figure, dpi: int = 100, file_format: str = "png") -> bytes:
    """Return a figure as a file: png, pdf or svg."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi, format=file_format)
    return buffer.getvalue()


def training_curves(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Draw every column of a training log over the steps, smoothed, a panel each or one a group."""
    counts = Counter(name for row in rows for name in row)
    names = [n for n in counts if n != "step" and not (n.startswith(VAL) and counts[n] < MIN_POINTS)]
    grouped = {prefix: [name for name in names if name.startswith(prefix)] for prefix in GROUPS}
    panels = [("", [name]) for name in names if not name.startswith(tuple(GROUPS))]
    panels += [(prefix, members) for prefix, members in grouped.items() if members]
    columns = min(PANELS_PER_ROW, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(3.2 * columns, 2.4 * lines)
    for index, (prefix, panel) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, index + 1)
        for name in panel:
            _curve(axes, name, prefix, [(row["step"], row[name]) for row in rows if name in row])
        if prefix and len(panel) <= LEGEND:
            axes.legend(fontsize=6)
        axes.set_title(GROUPS[prefix] if prefix else title(panel[0]), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        if prefix == "strength/" and any(row.get(name, 0) > 0 for row in rows for name in panel):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    return encoded(figure, 110)


def _curve(axes: Axes, name: str, prefix: str, points: Sequence[tuple[float, float]]) -> None:
    steps, values = [step for step, _ in points], [value for _, value in points]
    if name.startswith(VAL):
        axes.plot(steps, values, color="tab:orange", marker=".")
    elif prefix or name in TITLES:
        values = smooth(values) if prefix == "loss_weight/" else values
        axes.plot(steps, values, label=name.removeprefix(prefix), linewidth=1 if prefix else 1.5)
    else:
        axes.plot(steps, values, color="0.8", linewidth=0.8)
        axes.plot(steps, smooth(values), color="tab:blue")


def metric_over_steps(curves: Mapping[str, Sequence[tuple[float, float]]], label: str) -> bytes:
    """Draw a metric over the steps, a line a start."""
    figure = new_figure(5.2, 3.2)
    axes = figure.add_subplot()
    for name, points in curves.items():
        axes.plot([step for step, _ in points], [value for _, value in points], marker=".", label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return encoded(figure, 110)


def layer_profiles(profiles: Mapping[str, Mapping[str, float]], taps: Mapping[str, str], threshold: float) -> bytes:
    """Draw the share of active groups over the layers, a panel a task, and the block that its head reads."""
    figure = new_figure(9, 1.6 * len(profiles))
    rows = figure.subplots(len(profiles), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (task, profile) in zip(rows, profiles.items(), strict=True):
        axes.bar(range(len(profile)), list(profile.values()), color="tab:blue", width=0.9)
        axes.axhline(threshold, color="0.5", linewidth=0.8)
        inside = [index for index, layer in enumerate(profile) if layer.startswith(f"{taps[task]}.")]
        axes.axvline(max(inside, default=len(profile) - 1) + 0.5, color="tab:orange", linewidth=2)
        axes.set_title(f"{task}: head tap after {taps[task]}", fontsize=9)
        axes.set_xlim(-0.6, len(profile) - 0.4)
        axes.locator_params(axis="x", integer=True)
        axes.set_ylim(0, 1)
        axes.tick_params(labelsize=7)
    rows[-1].set_xlabel("layers of the trunk, from the input on", fontsize=8)
    figure.supylabel("share of active groups", fontsize=8)
    return encoded(figure, 110)


def misalignment(
    reports: Reports,
    tasks: Sequence[str],
    shifts_px: Sequence[int],
    rotations_deg: Sequence[int],
    file_format: str = "png",
) -> bytes:
    """Draw the primary metric of every task over the shift, and over the rotation, of one camera to the other."""
    figure = new_figure(7.2, 3.0)
    panels = (
        ("shift, pixels of the labels", {px: f"shift {px} px" for px in shifts_px}),
        ("rotation, degrees", {deg: f"turn {deg}°" for deg in rotations_deg}),
    )
    for axes, (label, subsets) in zip(figure.subplots(1, 2), panels, strict=True):
        for task in tasks:
            points = [(x, reports[subset].primary(task)) for x, subset in ({0: "all"} | subsets).items()]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=TASKS[task].primary)
        axes.set_xlabel(label, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return encoded(figure, 150, file_format)


@dataclass(frozen=True)
class BarPanel:
    """A panel of bars: ``bars`` has by name the values of every run's seeds, none where a run has no such value."""

    title: str
    runs: Sequence[str]
    bars: Mapping[str, Sequence[Sequence[float]]]


def bar_panels(panels: Sequence[BarPanel], file_format: str = "png") -> bytes:
    """Draw runs side by side, each panel a group of bars a run; one of several bars a run has a row to itself.

    The error bars are standard deviations over seeds.
    """
    narrow = [panel for panel in panels if len(panel.bars) == 1]
    wide = [panel for panel in panels if len(panel.bars) > 1]
    columns = max(1, min(PANELS_PER_ROW, len(narrow)))
    lines = -(-len(narrow) // columns)
    runs = max(len(panel.runs) for panel in panels)
    figure = new_figure(max(3.4 * columns, 2.6 + 1.2 * runs if wide else 4.5), 3.2 * (lines + len(wide)))
    grid = figure.add_gridspec(lines + len(wide), columns)
    for index, panel in enumerate([*narrow, *wide]):
        is_wide = index >= len(narrow)
        row = lines + index - len(narrow) if is_wide else index // columns
        axes = figure.add_subplot(grid[row, :] if is_wide else grid[row, index % columns])
        _bars(axes, panel.runs, panel.bars)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(panel.title, fontsize=9)
        if is_wide:
            axes.legend(fontsize=8, frameon=False, ncols=len(panel.bars), loc="best")
    return encoded(figure, 150, file_format)


def _bars(axes: Axes, runs: Sequence[str], bars: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw a group of bars a run, with standard deviations where there are several seeds."""
    width = 0.8 / len(bars)
    for index, (name, by_run) in enumerate(bars.items()):
        deviations = [stdev(values) if len(values) > 1 else 0.0 for values in by_run]
        axes.bar(
            [x + (index - (len(bars) - 1) / 2) * width for x in range(len(runs))],
            [fmean(values) if values else 0.0 for values in by_run],
            width * 0.92,
            yerr=deviations if any(deviations) else None,
            label=name,
            color="0.25" if name == "Δm" else "tab:blue" if len(bars) == 1 else f"C{index}",
            error_kw={"elinewidth": 0.8},
        )
    slanted = max(map(len, runs)) * len(runs) > 36
    axes.set_xticks(
        range(len(runs)), runs, fontsize=7, rotation=30 if slanted else 0, ha="right" if slanted else "center"
    )
    axes.tick_params(axis="y", labelsize=7)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def layer_stage(layer: str) -> str:
    """Return the part of the network that a layer belongs to, for an axis: ``rgb.stage8``, ``top16``, ``boxes``."""
    parts = [part for part in layer.split(".") if part not in ("trunk", "backbones", "heads")]
    return ".".join(parts[:2]) if len(parts) > 2 and parts[0] in ("rgb", "ir") else parts[0]


def channels_by_layer(before: Sequence[int], after: Sequence[int], stages: Sequence[str], height_in: float) -> bytes:
    """Draw the channels of every layer before (grey) and after (blue) pruning; ``stages`` name the layers' parts."""
    figure = new_figure(11, height_in)
    axes = figure.add_subplot()
    layers = range(len(before))
    axes.bar(layers, before, color="0.85", width=0.9, label="before pruning")
    axes.bar(layers, after, color="tab:blue", width=0.9, label="after")
    starts = [i for i in layers if not i or stages[i] != stages[i - 1]]
    ends = [*starts[1:], len(before)]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="0.75", linewidth=0.6)
    apart = len(before) / 85  # a line of text is as wide as that many bars
    ticks: list[tuple[float, str]] = []
    for start, end in zip(starts, ends, strict=True):
        middle = (start + end - 1) / 2
        if not ticks or middle - ticks[-1][0] >= apart:
            ticks.append((middle, stages[start]))
    axes.set_xticks([x for x, _ in ticks], [name for _, name in ticks], rotation=90, fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("layers, from the input on, by part of the network", fontsize=8)
    axes.set_ylabel("output channels", fontsize=8)
    axes.margins(x=0.01)
    figure.legend(fontsize=7, loc="outside upper right", frameon=False, ncols=2)
    return encoded(figure, 110)
