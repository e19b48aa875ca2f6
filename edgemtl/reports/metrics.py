"""Tables of metrics by task: a row a metric, intervals in the cell of what they are of, and a row a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..metric_report import Reports
from ..tables import Table
from ..tasks import TASKS

OF_BOXES = {"ap_small": "ap, small objects", "ap_medium": "ap, medium objects", "ap_large": "ap, large objects"}
INTERVALS = {"ap50": ("ap50_low", "ap50_high")}
"""The ends of a metric's interval, among the metrics of boxes."""
INTERVAL_NOTE = "In brackets: the 90 % interval over the images (bootstrap)."


def task_tables(reports: Reports) -> dict[str, list[Table]]:
    """Return a table of the overall metrics of every task, primary one first, and one of its classes if it has some."""
    return {task: _tables(task, list(reports["all"][task]), reports) for task in reports["all"].by_task}


def has_intervals(reports: Reports) -> bool:
    """Whether some metric is given with its interval."""
    return "boxes" in reports["all"].by_task and "ap50_low" in reports["all"]["boxes"]


def _tables(task: str, names: Sequence[str], reports: Reports) -> list[Table]:
    ends = [end for pair in INTERVALS.values() for end in pair] if task == "boxes" else []
    labels = OF_BOXES if task == "boxes" else {}
    primary, per_class = (TASKS[task].primary, TASKS[task].per_class) if task in TASKS else ("", ())
    whole = (*ends, *labels)
    classes = {name: parts for name in names if name not in whole and (parts := _class_parts(name, per_class))}
    overall = [name for name in names if name not in ends and name not in classes]
    overall.sort(key=lambda name: name != primary)
    by_subset = {subset: report.by_task.get(task, {}) for subset, report in reports.items()}
    rows = []
    for name in overall:
        arrow = "" if name != primary else " ↑" if TASKS[task].higher_is_better else " ↓"
        interval = INTERVALS.get(name, ("", "")) if ends else ("", "")
        rows.append([labels.get(name, name) + arrow, *(_cell(v, name, *interval) for v in by_subset.values())])
    tables = [[["", *reports], *rows]]
    if classes:
        tables.append(_class_table(classes, by_subset))
    return tables


def _class_parts(name: str, per_class: Sequence[str]) -> tuple[str, str] | None:
    """Return the metric and the class in the name of a metric, None where it is of no class."""
    return next(((m, name.removeprefix(f"{m}_")) for m in per_class if name.startswith(f"{m}_")), None)


def _class_table(classes: Mapping[str, tuple[str, str]], by_subset: Mapping[str, Mapping[str, float]]) -> Table:
    metrics = list(dict.fromkeys(metric for metric, _ in classes.values()))
    names = list(dict.fromkeys(name for _, name in classes.values()))
    columns = [(metric, subset) for metric in metrics for subset in by_subset]
    header = ["class", *(metric if len(by_subset) == 1 else f"{metric}, {subset}" for metric, subset in columns)]
    return [header, *([name, *(_cell(by_subset[s], f"{m}_{name}") for m, s in columns)] for name in names)]


def _cell(values: Mapping[str, float], name: str, low: str = "", high: str = "") -> str:
    if name not in values:
        return "-"
    text = f"{values[name]:.3f}"
    return f"{text} [{values[low]:.3f}, {values[high]:.3f}]" if low in values and high in values else text
