"""The tasks that come with edgemtl: labels, metric, head and result of each, from their classes."""

from __future__ import annotations

import inspect
from typing import Any

from edgemtl.tasks import TASKS
from edgemtl_runtime import result

HEAD = """\
# Tasks

What a network can learn to tell, one or several at once: `tasks=[boxes,semantic,depth]`. Each has a head in the
network, a loss, a metric, labels in a dataset ([how they lie](../data.md)) and a typed result on the robot
([results](results.md)).
[A task of your own](../tutorials/new-task.md) is a file.

"""
RESULTS = {
    "topk_boxes": "Boxes",
    "label_map": "LabelMap",
    "depth_map": "DepthMap",
    "normal_map": "NormalMap",
    "edge_map": "EdgeMap",
    "attributes": "Attributes",
}


def page() -> str:
    """Return the page: a section for each task."""
    return HEAD + "\n".join(_section(name, kind) for name, kind in TASKS.items())


def _section(name: str, kind: Any) -> str:
    task = kind(("a", "b"))
    head = task.head()
    labels = f"images in `{name}/`" if kind.label_files else "`attributes.csv`" if name == "attributes" else "`labels/`"
    rows = {
        "labels": labels + (f"; classes by `{kind.class_key}` in `data.yaml`" if kind.class_key else ""),
        "metric": f"`{kind.primary}`, {'higher' if kind.higher_is_better else 'lower'} is better",
        "in the graph": f"`{head.decoder}`",
        "result": f"[`{RESULTS[head.decoder]}`](edgemtl_runtime.md#edgemtl_runtime.{RESULTS[head.decoder]})",
        "units": head.units or "none",
        "default head": ", ".join(f"{key} {value}" for key, value in kind.default_head.items()),
    }
    assert hasattr(result, RESULTS[head.decoder])
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    about = " ".join((inspect.getdoc(kind) or "").split())
    return f"## {name}\n\n{about}\n\n| what | of this task |\n| --- | --- |\n{table}\n"
