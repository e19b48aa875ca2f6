"""Δm: the relative performance of a multi-task network against single-task networks of the same protocol.

The mean over tasks of the signed relative change of the primary metric, in percent; + is better (Maninis et al. 2019,
arXiv 1904.08918, with the sign of Vandenhende et al. 2021, arXiv 2004.13379). The single-task networks are runs
themselves, of ``method=single``: they are looked for next to a run, with any seeds.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from . import config_file
from .config import Config
from .errors import EdgemtlError
from .run_files import CONFIG, read_metrics
from .tasks import TASKS

FREE = (
    "plugins",
    "options",
    "tasks",
    "method",
    "task_weighting",
    "loss_weights",
    "sparsity",
    "episodes",
    "lomt",
    "head_taps",
    "fusion",
    "alignment",
    "teachers",
    "distill_weight",
    "teacher",
    "teacher_weight",
    "num_evals",
    "checkpoint_interval_s",
    "num_threads",
    "seed",
    "tensorboard",
)
"""Keys that may differ between a run and its reference."""
FREE_DATA = ("cache_mb", "num_workers", "source", "label_policy", "modality")
FIXED = (
    "network",
    "modalities",
    "activation",
    "init_from",
    "keep_sparsity",
    "freeze",
    "input_size",
    "data",
    "steps",
    "epochs",
    "batch_size",
    "lr",
    "warmup_steps",
    "weight_decay",
    "grad_clip_norm",
    "ema_decay",
    "unimodal_aux_loss",
    "augment",
    "thermal_range",
    "precision",
)
"""Keys that may not: a test holds that every key is in one of the two."""
FIXED_DATA = (
    "val_fraction",
    "balance_light",
    "synthetic",
)
Figures = dict[str, float]


def protocol(config: Config, task: str) -> dict[str, Any]:
    """Return the settings that two runs must have in common to be compared by a task.

    Of several datasets only those that have the task's labels, as long as epochs are counted: then the network is
    trained on each of the task's images as often.
    """
    settings: dict[str, Any] = msgspec.to_builtins(config)
    fixed = {key: value for key, value in settings.items() if key not in FREE}
    data = {key: value for key, value in settings["data"].items() if key not in FREE_DATA}
    sources = [(s.source, s.label_policy, s.modality) for s in config.data.sources if config.steps or s.gives(task)]
    return fixed | {"data": data, "sources": sources}


def references(config: Config, folder: Path) -> dict[str, list[Figures]]:
    """Return the metrics of every single-task run of the same protocol in a folder, or one level below, by task."""
    by_task: dict[str, list[Figures]] = {}
    for file in sorted([*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}")]):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue  # unfinished, or about to be removed
        try:
            other = config_file.load(file)
            figures = read_metrics(file.parent)["val"]["all"]
        except (EdgemtlError, KeyError, TypeError):
            continue  # an old or broken run is no reference
        task = other.tasks[0]
        if other.method == "single" and len(other.tasks) == 1 and protocol(other, task) == protocol(config, task):
            by_task.setdefault(task, []).append(figures)
    return by_task


def delta_m(figures: Figures, single: dict[str, list[Figures]], tasks: list[str]) -> Figures:
    """Return the change of every task's primary metric in percent, and their mean as "delta_m".

    {} when a task has no reference, or no metric.
    """
    out: Figures = {}
    for task in tasks:
        if task not in TASKS:  # of a plugin that is not loaded
            return {}
        primary, sign = TASKS[task].primary, 1 if TASKS[task].higher_is_better else -1
        values = [reference[primary] for reference in single.get(task, []) if primary in reference]
        if not values or primary not in figures or not fmean(values):
            return {}
        out[task] = 100 * sign * (figures[primary] - fmean(values)) / abs(fmean(values))
    return out | {"delta_m": fmean(out.values())}
