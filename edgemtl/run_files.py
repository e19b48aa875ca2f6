"""The files of a run: their names, and what can be checked and read without importing torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgemtl_runtime.limits import read_bounded, reason

from .errors import EdgemtlError
from .training_log import renamed

RUN = "run"
"""The type of such a folder, for `edgemtl_runtime.atomic`."""
CONFIG, WEIGHTS, METRICS = "config.yaml", "weights.safetensors", "metrics.json"
MAX_METRICS_BYTES = 64 << 20
RENAMED_METRICS = {"judged": "evals"}
"""Keys of version 0.1, and today's; those of "loss" are columns of the log."""


def is_run(path: Path) -> bool:
    """Whether a folder looks like a run, finished or not."""
    return (path / CONFIG).is_file()


def check_run(folder: Path) -> None:
    """Raise `EdgemtlError` with the first file that a run needs and the folder lacks."""
    for name in (CONFIG, WEIGHTS, METRICS):
        if not (folder / name).is_file():
            raise EdgemtlError(f"{folder}: no run here ({name} is missing); make one with `edgemtl train`")


def runs_in(path: Path) -> list[Path]:
    """Return a run, or the runs that a folder holds; raises `EdgemtlError` where there is none."""
    if is_run(path):
        return [path]
    runs = sorted(file.parent for file in path.glob(f"*/{CONFIG}"))
    if not runs:
        raise EdgemtlError(f"{path}: no run here, nor a folder of runs")
    return runs


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return a run's metrics, those of version 0.1 by today's keys; raises `EdgemtlError` where they cannot be read."""
    try:  # not msgspec: a metric may be NaN, which is no JSON, but Python writes it
        metrics = json.loads(read_bounded(folder / METRICS, MAX_METRICS_BYTES))
        if not isinstance(metrics, dict):
            raise ValueError("holds no names")
    except (ValueError, RecursionError) as error:
        raise EdgemtlError(
            f"{folder / METRICS}: cannot be read ({reason(error)}); run `edgemtl eval {folder}`"
        ) from error
    metrics = {RENAMED_METRICS.get(key, key): value for key, value in metrics.items()}
    if isinstance(metrics.get("loss"), dict):
        metrics["loss"] = renamed(metrics["loss"])
    return metrics
