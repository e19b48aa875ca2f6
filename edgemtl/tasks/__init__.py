"""Tasks: labels, head, loss and metrics of each. A new task is one file and one line in `TASKS`."""

from .attributes import Attributes
from .base import Metric, Task
from .boxes import Boxes
from .depth import Depth
from .edges import Edges
from .normals import Normals
from .semantic import Semantic

TASKS: dict[str, type[Task]] = {
    "boxes": Boxes,
    "semantic": Semantic,
    "depth": Depth,
    "normals": Normals,
    "edges": Edges,
    "attributes": Attributes,
}

__all__ = ["TASKS", "Metric", "Task"]
