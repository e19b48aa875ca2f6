"""A run's report: what it learned, how well, and what that looks like beside the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..config import Config
from ..data.datasets import evenly_spaced
from ..data.sample import Dataset
from ..evaluate import Figures, Predictor
from ..tasks import TASKS
from ..visualize import drawn, labelled
from . import html as parts
from .html import page, section, text

SAMPLES = 6


def write_run_report(
    folder: Path,
    config: Config,
    metrics: dict[str, Any],
    network: nn.Module,
    predictor: Predictor,
    samples: Dataset,
    tasks: Sequence[str],
) -> None:
    """Write ``report.html`` into a run's folder, which has its ``curves.png`` already; ``samples`` were judged on."""
    whole, by_class = tables(metrics["val"])
    file = page(
        f"{config.network}: {', '.join(tasks)}",
        f"{config.network}: {', '.join(tasks)}",
        text(summary(config, metrics)),
        section("Figures", '<div class="side">', *(parts.table(rows) for rows in (whole, *by_class) if rows), "</div>"),
        *_gained(metrics),
        section(
            "Labels and predictions",
            text("Held-out pictures, evenly spread over the split: the labels above, what the network saw below."),
            f'<div class="{"grid" if len(tasks) < 3 else ""}">',
            *(_sample(predictor, samples, place, tasks) for place in evenly_spaced(len(samples), SAMPLES)),
            "</div>",
        ),
        section("Training", parts.image((folder / "curves.png").read_bytes(), "every step, and smoothed")),
        *_live(config, network),
    )
    (folder / "report.html").write_text(file)


def summary(config: Config, metrics: dict[str, Any]) -> str:
    """Return the run in a sentence or two."""
    minutes = metrics["seconds"] / 60
    height, width = config.input_size
    words = (
        f"{metrics['parameters']:,} parameters at {width}×{height} pixels, {metrics['steps']} steps in {minutes:.1f} "
        f"minutes ({metrics['seconds_epoch']:g} s an epoch, {metrics['data_wait']:.1%} of it waiting for data), "
        f"balance {config.task_weighting}, seed {config.seed}."
    )
    if gained := metrics.get("delta_m"):
        words += f" Against one network a task: Δm {gained['delta_m']:+.2f} %."
    return words


def tables(figures: Figures) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Return the figures of the whole, primary ones first, and a table for each kind of figure a class."""
    names = list(figures["all"])
    kinds = Counter(name.partition("_")[0] for name in names if name.partition("_")[0] in ("ap50", "iou", "ap"))
    single = [name for name in names if name.partition("_")[0] not in kinds or "_" not in name]
    primary = {task.primary: "↑" if task.higher_is_better else "↓" for task in TASKS.values()}
    single.sort(key=lambda name: name not in primary)

    def row(name: str, told: str) -> list[str]:
        return [told, *(f"{figures[part][name]:.3f}" if name in figures[part] else "-" for part in figures)]

    whole = [["", *figures], *(row(name, f"{name} {primary.get(name, '')}".strip()) for name in single)]
    by_class = []
    for kind in kinds:
        inner = [name for name in names if name.startswith(f"{kind}_")]
        if inner:
            by_class.append([[kind.upper(), *figures], *(row(name, name.removeprefix(f"{kind}_")) for name in inner)])
    return whole, by_class


def _gained(metrics: dict[str, Any]) -> list[str]:
    gained = metrics.get("delta_m")
    if not gained:
        return []
    rows = [["task", "change, %"], *([name, f"{value:+.2f}"] for name, value in gained.items())]
    told = "The primary metric of each task against a network of its own under the same protocol; + is better."
    return [section("Together or apart", text(told), parts.table(rows))]


def _sample(predictor: Predictor, samples: Dataset, place: int, tasks: Sequence[str]) -> str:
    sample = samples[place]
    known = labelled(sample, {task: samples.classes[task] for task in tasks})
    seen = drawn(sample, predictor(sample))
    width = max(known.shape[1], seen.shape[1])
    both = [np.pad(picture, ((0, 4), (0, width - picture.shape[1]), (0, 0))) for picture in (known, seen)]
    return parts.image(parts.jpeg(np.vstack(both)), sample.name)


def _live(config: Config, network: nn.Module) -> list[str]:
    """Return a chart of the channels of every convolution that are not zero, where some were meant to go."""
    if not (config.sparse or config.keep_sparsity):
        return []
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    live = [int(m.weight.detach().flatten(1).any(1).sum()) for m in convolutions]
    figure = Figure(figsize=(11, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.bar(range(len(live)), [m.out_channels for m in convolutions], color="0.85", width=0.9)
    axes.bar(range(len(live)), live, color="tab:blue", width=0.9)
    axes.set_xlabel("convolutions, from the input on", fontsize=8)
    axes.set_ylabel("channels", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.margins(x=0.01)
    told = f"{sum(live):,} of {sum(m.out_channels for m in convolutions):,} channels are not zero (blue)"
    return [section("Live channels", parts.image(parts.drawing(figure), told))]
