"""Tasks: what is learned, how it is judged, and how a bundle hands it over. One file a task; add it to `TASKS`."""

from .base import Metric, Task
from .boxes import Boxes
from .semantic import Semantic

TASKS: dict[str, type[Task]] = {"boxes": Boxes, "semantic": Semantic}

__all__ = ["TASKS", "Metric", "Task"]
