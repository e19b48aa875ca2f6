"""The HTML report of a run: its settings, metrics, predictions next to the labels, and training curves."""

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
from ..evaluate import Predictor
from ..metric_report import Reports, from_json, metric_row
from ..plots import channels_by_layer
from ..tables import Table, as_html
from ..tasks import TASKS
from ..visualize import draw_labels, draw_results
from .html import image, jpeg, page, paragraph, section

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
    """Write ``report.html`` into a run's folder, which has its ``curves.png``; ``samples`` are those of ``metrics``."""
    overall, *by_class = tables(from_json(metrics))
    title = f"{config.network}: {', '.join(tasks)}"
    file = page(
        title,
        title,
        paragraph(summary(config, metrics)),
        section("Metrics", '<div class="side">', *(as_html(table) for table in (overall, *by_class)), "</div>"),
        *_task_changes(metrics),
        section(
            "Labels and predictions",
            paragraph("Held-out images, evenly spaced over the split: the labels above, the predictions below."),
            f'<div class="{"grid" if len(tasks) < 3 else ""}">',
            *(_sample(predictor, samples, index, tasks) for index in evenly_spaced(len(samples), SAMPLES)),
            "</div>",
        ),
        section("Training", image((folder / "curves.png").read_bytes(), "every step, and smoothed")),
        *_active_channels(config, network),
    )
    (folder / "report.html").write_text(file)


def summary(config: Config, metrics: dict[str, Any]) -> str:
    """Return a run's size, duration and settings in a sentence or two."""
    minutes = metrics["seconds"] / 60
    height, width = config.input_size
    text = (
        f"{metrics['parameters']:,} parameters at {width}×{height} pixels, {metrics['steps']} steps in {minutes:.1f} "
        f"minutes ({metrics['seconds_epoch']:g} s an epoch, {metrics['data_wait']:.1%} of it waiting for data), "
        f"task weighting {config.task_weighting}, seed {config.seed}."
    )
    if changes := metrics.get("delta_m"):
        text += f" Against single-task networks: Δm {changes['delta_m']:+.2f} %."
    return text


def tables(reports: Reports) -> list[Table]:
    """Return a table of the overall metrics, primary ones first, and one for each metric that classes have."""
    names = list(reports["all"].flat())
    known = {task.per_class for task in TASKS.values()} - {""}
    per_class = Counter(name.partition("_")[0] for name in names if name.partition("_")[0] in known)
    overall = [name for name in names if name.partition("_")[0] not in per_class or "_" not in name]
    primary = {task.primary: "↑" if task.higher_is_better else "↓" for task in TASKS.values()}
    overall.sort(key=lambda name: name not in primary)
    labels = {name: f"{name} {primary.get(name, '')}".strip() for name in overall}
    out = [[["", *reports], *(metric_row(reports, name, label) for name, label in labels.items())]]
    for metric in per_class:
        members = [name for name in names if name.startswith(f"{metric}_")]
        rows = [metric_row(reports, name, name.removeprefix(f"{metric}_")) for name in members]
        if rows:
            out.append([[metric.upper(), *reports], *rows])
    return out


def _task_changes(metrics: dict[str, Any]) -> list[str]:
    changes = metrics.get("delta_m")
    if not changes:
        return []
    rows = [["task", "change, %"], *([name, f"{value:+.2f}"] for name, value in changes.items())]
    text = "The primary metric of each task against a single-task network under the same protocol; + is better."
    return [section("Multi-task against single-task", paragraph(text), as_html(rows))]


def _sample(predictor: Predictor, samples: Dataset, index: int, tasks: Sequence[str]) -> str:
    sample = samples[index]
    labels = draw_labels(sample, {task: samples.classes[task] for task in tasks})
    predictions = draw_results(sample, predictor(sample))
    width = max(labels.shape[1], predictions.shape[1])
    both = [np.pad(pixels, ((0, 4), (0, width - pixels.shape[1]), (0, 0))) for pixels in (labels, predictions)]
    return image(jpeg(np.vstack(both)), sample.name)


def _active_channels(config: Config, network: nn.Module) -> list[str]:
    """Return a chart of every convolution's channels that are not zero, of a network that was pruned."""
    if not (config.sparse or config.keep_sparsity):
        return []
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    channels = [m.out_channels for m in convolutions]
    active = [int(m.weight.detach().flatten(1).any(1).sum()) for m in convolutions]
    caption = f"{sum(active):,} of {sum(channels):,} channels are not zero (blue)"
    return [section("Active channels", image(channels_by_layer(channels, active), caption))]
