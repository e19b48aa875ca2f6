"""The HTML report of a run: its settings, metrics, predictions next to the labels, and training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..config import Config, Data
from ..data.datasets import evenly_spaced, name_of
from ..data.sample import Dataset
from ..evaluate import Predictor
from ..machine import device_name
from ..metric_report import from_json
from ..plots import channels_by_layer, layer_stage
from ..sizes import RunLatency, Sizes
from ..tasks import TASKS
from ..visualize import depth_limits, draw_results, label_results
from .html import facts, image, jpeg, page, pair, paragraph, section, table
from .metrics import INTERVAL_NOTE, has_intervals, task_tables

SAMPLES = 6
PANEL_PX = 480
"""Width of the panels of labels and predictions; a page has room for two next to each other."""


def write_run_report(
    folder: Path,
    config: Config,
    metrics: dict[str, Any],
    network: nn.Module,
    predictor: Predictor,
    samples: Dataset,
    tasks: Sequence[str],
    licence: str,
) -> None:
    """Write ``report.html`` into a run's folder, which has its ``curves.png``; ``samples`` are those of ``metrics``."""
    title = f"{config.network} on {short_name(config.data)}: {', '.join(tasks)}"
    if pruned := share_pruned(config, metrics):
        title += f", {pruned}"
    file = page(
        title,
        title,
        facts(run_facts(config, metrics, samples) | {"licence": licence}),
        *_metrics(metrics),
        *_task_changes(metrics),
        section(
            "Labels and predictions",
            paragraph("Held-out images, evenly spaced over the split; depths of a pair in the same colours."),
            *(_sample(predictor, samples, index, tasks) for index in evenly_spaced(len(samples), SAMPLES)),
        ),
        section(
            "Training", image((folder / "curves.png").read_bytes(), "over the steps: each step grey, smoothed blue")
        ),
        *_evaluations(metrics),
        *_active_channels(config, network),
    )
    (folder / "report.html").write_text(file)


def run_facts(config: Config, metrics: Mapping[str, Any], samples: Dataset) -> dict[str, str]:
    """Return a run's data, device, size, duration and settings by name."""
    height, width = config.input_size
    rows = {
        "data": f"{name_of(config.data)}; metrics on {len(samples):,} held-out images",
        **({"latency": str(latency)} if (latency := RunLatency.in_metrics(metrics)) else {}),
        **sizes(metrics),
        "input": f"{width}×{height} pixels, {' and '.join(config.modalities or samples.modalities)}",
        **({"pruned": pruned} if (pruned := share_pruned(config, metrics)) else {}),
        **{name.replace("_", " "): text for name, text in metrics.get("figures", {}).items()},
        "device": device_name(),
        "training": f"{metrics['steps']:,} steps in {metrics['seconds'] / 60:.1f} minutes, "
        f"{metrics['seconds_epoch']:g} s an epoch, {metrics['data_wait']:.1%} of it waiting for data",
        "method": f"{config.method}, task weighting {config.task_weighting}, seed {config.seed}",
    }
    if changes := metrics.get("delta_m"):
        rows["Δm"] = f"{changes['delta_m']:+.2f} % against single-task networks"
    return rows


def sizes(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters and operations before and after removal; of a training that removes none its parameters."""
    known = Sizes.in_metrics(metrics)
    if known is None:
        return {"parameters": f"{metrics['parameters']:,} in training"}
    return {name: f"{before}; {after} after removal, {pruned} less" for name, before, after, pruned in known.rows()[1:]}


def short_name(data: Data) -> str:
    """Return the data's name without the folders that it lies in."""
    return " + ".join(Path(source.source).name or source.source for source in data.sources)


def share_pruned(config: Config, metrics: Mapping[str, Any]) -> str:
    """Return the share of its cost that a sparse training pruned, in words; "" for another training."""
    share = metrics.get("loss", {}).get("pruned")
    if share is None:
        return ""
    cost = {"parameters": "the parameters", "flops": "the FLOPs", "latency": "the latency"}[config.sparsity.metric]
    return f"{share:.0%} of {cost} pruned"


def _metrics(metrics: dict[str, Any]) -> list[str]:
    reports = from_json(metrics)
    parts = []
    for task, tables in task_tables(reports).items():
        parts.append(f'<h3>{task}</h3><div class="side">{"".join(table(rows) for rows in tables)}</div>')
    if has_intervals(reports):
        parts.append(paragraph(INTERVAL_NOTE))
    return [section("Metrics", *parts)]


def _evaluations(metrics: dict[str, Any]) -> list[str]:
    """Return a table of the evaluations while training, where there was one before the last."""
    evals = metrics.get("evals", [])
    if len(evals) < 2:
        return []
    tasks = [name for name in evals[-1] if name != "step"]
    primary = {
        t: f"{t}: {TASKS[t].primary} {'↑' if TASKS[t].higher_is_better else '↓'}" if t in TASKS else t for t in tasks
    }
    rows = [[f"{e['step']:,.0f}", *(f"{e[t]:.3f}" if t in e else "-" for t in tasks)] for e in evals]
    return [section("Evaluations", table([["step", *primary.values()], *rows]))]


def _task_changes(metrics: dict[str, Any]) -> list[str]:
    changes = metrics.get("delta_m")
    if not changes:
        return []
    rows = [
        ["task", "change, %"],
        *(["Δm, the mean" if n == "delta_m" else n, f"{v:+.2f}"] for n, v in changes.items()),
    ]
    text = "The primary metric of each task against a single-task network under the same protocol; + is better."
    return [section("Multi-task against single-task", paragraph(text), table(rows))]


def _sample(predictor: Predictor, samples: Dataset, index: int, tasks: Sequence[str]) -> str:
    """Return the labels of a sample and its predictions next to each other."""
    sample = samples[index]
    labels = label_results(sample, {task: samples.classes[task] for task in tasks})
    limits = depth_limits(labels)
    left = draw_results(sample, labels, PANEL_PX, 1, limits, are_labels=True)
    right = draw_results(sample, predictor(sample), PANEL_PX, 1, limits)
    name = sample.name or str(index)
    return pair(name, (jpeg(left), f"{name}: labels"), (jpeg(right), f"{name}: predictions"))


def _active_channels(config: Config, network: nn.Module) -> list[str]:
    """Return a chart of every convolution's channels that are not zero, of a network that was pruned."""
    if not (config.sparse or config.keep_sparsity):
        return []
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    channels = [m.out_channels for m in convolutions.values()]
    active = [int(m.weight.detach().flatten(1).any(1).sum()) for m in convolutions.values()]
    caption = f"{sum(active):,} of {sum(channels):,} output channels of the convolutions are not zero (blue)"
    chart = channels_by_layer(channels, active, [layer_stage(name) for name in convolutions], 3.4)
    return [section("Active channels", image(chart, caption))]
