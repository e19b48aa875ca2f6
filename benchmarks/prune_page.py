"""The page of the pruning benchmark, docs/pruning-measured.md, from its rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from page_section import table

PAGE = Path(__file__).parents[1] / "docs" / "pruning-measured.md"
HEAD = """# Pruning of networks that others trained, measured

`make bench-prune` computes these rows (`benchmarks/prune.py`, `benchmarks/results/prune.json`); `--case`, `--budget`
and `--seed` repeat one. A budget is the share of the dense network's milliseconds that was asked for; *latency* is what
was measured afterwards: ONNX Runtime on one thread, images in and decoded boxes out, dense and narrow in turns. AP50 is
of person, bicycle and car on the colour val images of 122 real RGB-IR pairs at 320×320 (66 by day, 56 by night), with
the boxes that are seen in colour.
"""
FREE = """
## Without labels

YOLOX-nano as its authors trained it on COCO (904,463 parameters), read from its ONNX file. It teaches its smaller self
on colour images without any label, one in sixteen of them held out: of 815, 273 are of the pairs' train split, 367 of
CamVid, 175 of a kitchen. *Five classes*: those of COCO that the evaluation reads (person, bicycle; car, bus and truck
as car), chosen by `--classes`; its budget is of the milliseconds that it takes then. Minutes are those of a machine
that did other things as well.

"""
LABELLED = """
## With labels

Networks of ultralytics, trained here on the 273 colour images of the train split, then pruned in ultralytics' own
training. The twin is the dense network, trained on as long with the same arguments. Torch-Pruning removes at once, by
the norm of groups over the whole network and in multiples of 16, at the ratio whose milliseconds meet the budget; then
it is trained as long. A budget of one seed is a hint, and decides nothing.

"""


def write(results: Path) -> None:
    """Write the page of a results file."""
    runs: list[dict[str, Any]] = json.loads(results.read_text())["runs"]
    free = [row for row in runs if row["case"] == "label_free"]
    labelled = [row for row in runs if row["case"] == "labelled"]
    parts = [HEAD]
    if free:
        parts += [FREE, _free(free)]
    if labelled:
        parts += [LABELLED, _labelled(labelled)]
    PAGE.write_text("".join(parts))


def _free(rows: Iterable[Mapping[str, Any]]) -> str:
    head = [
        "network",
        "budget",
        "seed",
        "steps",
        "latency",
        "parameters",
        "AP50 by day",
        "dense",
        "by night",
        "dense",
        "minutes",
    ]
    lines = [
        [
            row["network"],
            f"{row['budget']:g}",
            f"{row['seed']}",
            f"{row['steps']:,}",
            f"{row['latency_to_dense']:.2f}",
            f"{row['params']:,}",
            f"{row['ap50']:.3f}",
            f"{row['ap50_dense']:.3f}",
            f"{row['ap50_night']:.3f}",
            f"{row['ap50_night_dense']:.3f}",
            f"{row['seconds'] / 60:.0f}",
        ]
        for row in sorted(rows, key=lambda r: (r["network"], -r["budget"], r["steps"], r["seed"]))
    ]
    return table([head, *lines]) + "\n"


def _labelled(rows: Iterable[Mapping[str, Any]]) -> str:
    head = ["network", "tool", "budget", "seed", "latency", "parameters", "AP50", "dense twin", "difference"]
    ordered = sorted(rows, key=lambda r: (r["network"], -r["budget"], r["tool"], r["seed"]))
    lines = [
        [
            row["network"],
            row["tool"],
            f"{row['budget']:g}",
            f"{row['seed']}",
            f"{row['latency_to_dense']:.2f}",
            f"{row['params']:,}",
            f"{row['ap50']:.3f}",
            f"{row['ap50_dense']:.3f}",
            f"{row['ap50'] - row['ap50_dense']:+.3f}",
        ]
        for row in ordered
    ]
    means = []
    for key in dict.fromkeys((row["network"], row["tool"], row["budget"]) for row in ordered):
        group = [r for r in ordered if (r["network"], r["tool"], r["budget"]) == key]
        if len(group) > 1:
            changes = [r["ap50"] - r["ap50_dense"] for r in group]
            error = stdev(changes) / math.sqrt(len(changes))
            means.append(f"- {key[0]}, {key[1]}, {key[2]:g}: {fmean(changes):+.3f} ± {error:.3f} ({len(group)} seeds)")
    text = "\nMean difference to the twin, with its standard error:\n\n" + "\n".join(means) + "\n" if means else ""
    return table([head, *lines]) + "\n" + text
