"""The table of our own networks: what was measured of each (`benchmarks/zoo.py`), and what it starts from."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from edgemtl_models.pretrained_weights import PACKAGED

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
HEAD = """\
# Networks

What `network=` takes by name. Each has a stream for a colour and a thermal camera and heads of every task;
`modalities=[rgb]` builds one stream alone, `fusion.kind` says how two come together ([two cameras](../cameras.md)). A
YAML file of your own describes another ([extending](../extending.md)).

"""
TABLE = """\
Finding boxes of {classes} classes at {width}×{height} pixels, ONNX Runtime on one thread of an {machine}, all in
turns, while the machine did other work as well (`make bench-zoo`). What only training needs is not counted.

| network | begins from | licence of that | colour: parameters | GFLOP | ms | both: parameters | GFLOP | ms |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
ACCURACY = """
## How well they see

On real RGB-IR pairs at 320×256, from these starts: [what a training starts from, measured](../starts.md). What pruning
leaves of their milliseconds: [our own networks by milliseconds](../speed.md).
"""


def page() -> str:
    """Return the page."""
    measured = json.loads((RESULTS / "zoo.json").read_text())
    rows: dict[str, dict[str, Any]] = {}
    for row in measured["rows"]:
        rows.setdefault(row["network"], {})[row["cameras"]] = row
    height, width = measured["size"]
    text = HEAD + TABLE.format(classes=measured["classes"], width=width, height=height, machine=measured["machine"])
    for name, of in sorted(rows.items(), key=lambda item: item[1]["both"]["latency_ms"]):
        cells = [f"`{name}`", *start(name)]
        for cameras in ("colour", "both"):
            row = of[cameras]
            cells += [f"{row['params']:,}", f"{row['flops'] / 1e9:.1f}", f"{row['latency_ms']:.0f}"]
        text += f"| {' | '.join(cells)} |\n"
    return text + ACCURACY


def start(name: str) -> tuple[str, str]:
    """Return what a network begins from, and the licence of that."""
    text = (resources.files("edgemtl_models") / "zoo" / f"{name}.yaml").read_text()
    backbone = yaml.safe_load(text)["streams"]["rgb"]["backbone"]
    weights = backbone.get("weights", "")
    if packaged := PACKAGED.get(weights):
        return f"{packaged.trained_on}, by the extra `weights`", packaged.licence
    if weights:
        return "ImageNet, a file in `$EDGEMTL_WEIGHTS`", "of its authors"
    if name.startswith("rgbir-yolo"):
        return f"`init_from={name.removeprefix('rgbir-')}.pt`, or nothing", "AGPL-3.0"
    return "nothing", ""
