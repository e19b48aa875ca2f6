"""Metric values of a network by subset of the data and by task: what an evaluation returns and metrics.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from .errors import EdgemtlError
from .tables import Table
from .tasks import TASKS


@dataclass(frozen=True)
class MetricReport:
    """The metric values of one network on one subset of the data: {task: {metric: value}}."""

    by_task: Mapping[str, Mapping[str, float]]

    def __getitem__(self, task: str) -> Mapping[str, float]:
        """Return the metrics of a task; raises KeyError where it was not evaluated."""
        return self.by_task[task]

    def primary(self, task: str) -> float | None:
        """Return the value of a task's primary metric, None where it has none, as without any object."""
        return self.by_task.get(task, {}).get(TASKS[task].primary) if task in TASKS else None

    def flat(self) -> dict[str, float]:
        """Return the metrics of all tasks by name; one that has the name of another task's is TASK/NAME."""
        flat: dict[str, float] = {}
        for task, metrics in self.by_task.items():
            for name, value in metrics.items():
                owned = _OWNERS.get(name, task) == task and name not in flat
                flat[name if owned else f"{task}/{name}"] = value
        return flat


_OWNERS = {f"ap_{size}": "boxes" for size in ("small", "medium", "large")}
"""Tasks whose metrics keep their names although an attribute's may be the same, whatever is known of a subset."""

Reports = dict[str, MetricReport]
"""Reports by subset: "all", "day" and "night" where the light is known, and each corruption that was asked for."""

KEY, FLAT_KEY = "evaluation", "val"
"""The keys in metrics.json: {subset: {task: {metric: value}}}; without the tasks, as version 0.1 has it."""


def to_json(reports: Reports) -> dict[str, Any]:
    """Return the entries of metrics.json; the older one is written for one version more."""
    nested = {subset: {task: dict(values) for task, values in r.by_task.items()} for subset, r in reports.items()}
    return {KEY: nested, FLAT_KEY: flat(reports)}


def flat(reports: Reports) -> dict[str, dict[str, float]]:
    """Return the metrics of every subset by name: {subset: {metric: value}}."""
    return {subset: report.flat() for subset, report in reports.items()}


def from_json(metrics: Mapping[str, Any]) -> Reports:
    """Return the reports in a metrics.json of this version or of 0.1; nothing where the run was not evaluated."""
    try:
        if KEY in metrics:
            nested = msgspec.convert(metrics[KEY], dict[str, dict[str, dict[str, float]]])
        else:
            flat = msgspec.convert(metrics.get(FLAT_KEY, {}), dict[str, dict[str, float]])
            nested = {subset: _by_task(values) for subset, values in flat.items()}
    except msgspec.ValidationError as error:
        raise EdgemtlError(f"metrics that cannot be read ({error})") from error
    return {subset: MetricReport(values) for subset, values in nested.items()}


def table(reports: Reports) -> Table:
    """Return every metric, a row each and a column a subset."""
    names = list(reports["all"].flat())
    return [["", *reports], *(metric_row(reports, name, name) for name in names)]


def metric_row(reports: Reports, name: str, label: str) -> list[str]:
    """Return the row of a metric: its label, and its value on each subset."""
    values = [report.flat().get(name) for report in reports.values()]
    return [label, *("-" if value is None else f"{value:.3f}" for value in values)]


_FIRST_METRICS = {
    "ap": "boxes",
    "miou": "semantic",
    "abs_rel": "depth",
    "angle_mean_deg": "normals",
    "edge_f1": "edges",
    "attribute_map": "attributes",
}
"""The metric that each task's began with in a metrics.json of version 0.1."""


def _by_task(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    by_task: dict[str, dict[str, float]] = {}
    task = ""
    for name, value in values.items():
        task = _FIRST_METRICS.get(name, task)
        by_task.setdefault(task, {})[name] = value
    return by_task
