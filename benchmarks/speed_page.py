"""docs/speed.md, written from the results of `speed.py`."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from shrinking_page import rows

from edgemtl_runtime.engine.cpu import cpu_name

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
Row = dict[str, Any]
HEAD = """# Our own networks by milliseconds

`make bench-speed` computes these rows (`benchmarks/speed.py`, `benchmarks/results/speed.json`) and writes this page;
`--case`, `--variant`, `--seed` and `--budget` repeat one. Milliseconds: ONNX Runtime in fp32, batches of one, medians
in turns with the reference, of the network as it is deployed, pre- and post-processing included; *of the reference's*
on one thread, and on two. Means over the seeds with their standard errors: a difference below two of them decides
nothing.
"""
METRICS = ("ap50", "ap", "miou", "abs_rel", "angle_mean_deg", "edge_f1")
TITLES = {
    "demo": (
        "The demo",
        "Drawn streets, 160×128, 640 steps of 8 images, `rgbir-n`: boxes and segmentation; *half* is the demo's.",
    ),
    "rgbir": (
        "Two cameras",
        "Real pairs, 320×256, `rgbir-lite0`, 12 epochs by `benchmarks/rgbir.yaml`. *concat_aux* has the auxiliary "
        "unimodal loss, *concat_sparse* too; the sparse ones are pruned to the same milliseconds.",
    ),
    "kitchen": (
        "Four tasks",
        "RedKitchen, 160×128, `rgbir-lite0`'s colour stream: depth, normals, segmentation and edges in one network, "
        "next to a network for each; their milliseconds are added up.",
    ),
    "front streets": ("Narrow networks, drawn streets", "`rgbir-n`, pruned, and narrower from the start."),
    "front kitchen": ("Narrow networks, the kitchen", "`rgbir-n`, pruned, and narrower from the start."),
}


def mean(values: list[float], digits: int = 3) -> str:
    """Return a mean with its standard error."""
    error = f" ± {stdev(values) / sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{error}"


def graphs(runs: list[Row]) -> list[str]:
    """Return the table of what the exporter's rewriting saves, and where the time goes."""
    body = []
    for row in runs:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in list(row["operators"].items())[:6])
        ratios = [f"{row[f'latency_to_reference{end}']:.3f}" for end in ("", "_2_threads")]
        counts = [str(row["splits"]), str(row["softmaxes"])]
        body.append([row["variant"], f"{row['latency_ms']:.1f}", *ratios, *counts, shares])
    text = """Random weights, 320×256 (YOLO: 320×320), without pre- and post-processing. The reference is the graph as
torch writes it; of a network with ReLU, the same with SiLU, which no back end computes within a convolution. *splits*:
of a convolution's channels, each of which became a convolution a part. *softmaxes*: computed over the last axis. The
numbers are the same."""
    head = ["network", "ms", "of the reference's", "2 threads", "splits", "softmaxes", "time by operator"]
    return ["## The graph", "", text, "", *rows(head, body), ""]


def table(case: str, runs: list[Row]) -> list[str]:
    """Return the table of a case, a row for each variant and budget."""
    title, text = TITLES[case]
    metrics = [name for name in METRICS if any(name in run for run in runs)]
    body = []
    for variant, budget in dict.fromkeys((r["variant"], r["budget"]) for r in runs):
        of = [r for r in runs if (r["variant"], r["budget"]) == (variant, budget)]
        ratios = [mean([r[f"latency_to_reference{end}"] for r in of], 2) for end in ("", "_2_threads")]
        figures = [mean([r[name] for r in of]) if all(name in r for r in of) else "" for name in metrics]
        latency = f"{fmean(r['latency_ms'] for r in of):.1f}"
        asked = "" if budget == 1 else f"{budget:g}"
        body.append([variant, asked, latency, *ratios, f"{of[0]['params']:,}", *figures, str(len(of))])
    reference = runs[0]["reference"]
    head = ["network", "asked", "ms", f"of {reference}'s", "2 threads", "parameters", *metrics, "seeds"]
    return [f"## {title}", "", text, "", *rows(head, body), ""]


def write_page(runs: list[Row]) -> None:
    """Write the page of all rows."""
    parts = [HEAD]
    if graph := [r for r in runs if r["case"] == "graph"]:
        parts += graphs(graph)
    for case in TITLES:
        if of := [r for r in runs if r["case"] == case]:
            parts += table(case, of)
    PAGE.write_text("\n".join([*parts, f"On {cpu_name()}."]) + "\n")
