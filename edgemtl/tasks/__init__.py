"""Tasks: labels, head, loss, metrics and drawing of each, a file each (`base.Task`) and a line in `TASKS`."""

from ..registry import Registry
from .base import Metric, SimpleTask, Task

TASKS: Registry[type[Task]] = Registry(
    "task",
    {
        "boxes": f"{__name__}.boxes:Boxes",
        "semantic": f"{__name__}.semantic:Semantic",
        "depth": f"{__name__}.depth:Depth",
        "normals": f"{__name__}.normals:Normals",
        "edges": f"{__name__}.edges:Edges",
        "attributes": f"{__name__}.attributes:Attributes",
    },
)
"""Imported at their first use, and then without torch, which only losses and targets need."""

__all__ = ["TASKS", "Metric", "SimpleTask", "Task"]
