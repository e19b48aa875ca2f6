"""The files of a run: their names, and what can be checked and read without importing torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgemtl_runtime.limits import read_bounded, reason
from edgemtl_runtime.path_kinds import instead_of_run

from .errors import EdgemtlError
from .training_log import renamed

RUN = "run"
"""The type of such a folder, for `edgemtl_runtime.atomic`."""
SINGLE, LOMT, ADAPTATION = "single training", "lomt training", "adaptation"
PREDICTION, DEMO, PRUNING, DRAWING = "prediction", "demo", "pruning", "drawn dataset"
"""The types of other folders of ours."""
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
            raise EdgemtlError(f"{folder}: no run here {instead_of_run(folder, name)}")


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description in a run's weights, as JSON has it; {} where there is none that can be read."""
    try:
        with (folder / WEIGHTS).open("rb") as file:  # of safetensors: the length of a JSON header, then the header
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), MAX_METRICS_BYTES)))
        description = json.loads(header["__metadata__"]["interface"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return description if isinstance(description, dict) else {}


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
