"""Names of the metrics that each class has."""

from __future__ import annotations

from collections.abc import Container


def class_metric(metric: str, class_name: str, taken: Container[str]) -> str:
    """Return the name of a class's metric, METRIC_CLASS; METRIC_class_CLASS where another metric has ``taken`` that."""
    name = f"{metric}_{class_name}"
    while name in taken:
        class_name = f"class_{class_name}"
        name = f"{metric}_{class_name}"
    return name
