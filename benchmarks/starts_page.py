"""docs/starts.md, written from the results of `starts.py`."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from shrinking_page import rows

PAGE = Path(__file__).parent.parent / "docs" / "starts.md"
Row = dict[str, Any]
HEAD = """# What a training starts from, measured

`make bench-starts` computes these rows (`benchmarks/starts.py`, `benchmarks/results/starts.json`) and writes this
page; `--case`, `--network`, `--cameras` and `--seed` repeat one. Real pairs: 273 for training, 122 held out, 320×240,
boxes of person, bicycle and car; 12 epochs by `benchmarks/rgbir.yaml`. Means over the seeds with their standard errors,
where there are several: a difference below two standard errors decides nothing. Milliseconds: ONNX Runtime, one thread,
after removal of what is not needed; *relative* is to `rgbir-n` on both cameras, in turns with it.
"""


def mean(values: list[float]) -> str:
    """Return a mean with its standard error."""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values) / sqrt(len(values)):.3f}" if len(values) > 1 else "")


def starts(runs: list[Row]) -> list[str]:
    """Return the table of networks by what their streams begin with."""
    body = []
    for network, cameras in dict.fromkeys((r["network"], r["cameras"]) for r in runs):
        of = [r for r in runs if (r["network"], r["cameras"]) == (network, cameras)]
        figures = [mean([r[key] for r in of]) for key in ("ap50", "ap", "ap50_day", "ap50_night")]
        costs = [f"{fmean(r[key] for r in of):.{digits}f}" for key, digits in (("latency_ms", 1), ("latency_to_n", 2))]
        body.append([network, cameras.replace(",", " + "), *figures, *costs, f"{of[0]['params']:,}", str(len(of))])
    head = ["network", "cameras", "AP50", "AP", "AP50 by day", "by night", "ms", "relative", "parameters", "seeds"]
    return ["## Weights to start from", "", *rows(head, body), ""]


def heads(runs: list[Row]) -> list[str]:
    """Return the table of our head next to ultralytics', in pairs of one seed."""
    body = []
    for data, network in dict.fromkeys((r["data"], r["network"]) for r in runs):
        of = {(r["head"], r["seed"]): r for r in runs if (r["data"], r["network"]) == (data, network)}
        seeds = [seed for head, seed in of if head == "own" and ("ultralytics", seed) in of]
        if not seeds:
            continue
        both = [[of[head, seed][key] for seed in seeds] for key in ("ap50", "ap") for head in ("own", "ultralytics")]
        differences = [[a - b for a, b in zip(*both[at : at + 2], strict=True)] for at in (0, 2)]
        cells = [mean(both[0]), mean(both[1]), mean(differences[0]), mean(differences[1])]
        body.append([data, network, *cells, str(len(seeds))])
    head = ["data", "network", "AP50, own head", "AP50, ultralytics' head", "difference", "difference in AP", "seeds"]
    text = (
        "Drawn streets: the demo's dense network, 400 steps of 16 images; a difference is of one seed's two networks.\n"
        "Both heads have the same layers, first weights and losses up to rounding (`tests/models/test_box_head.py`):\n"
        "what is different in the end is how roundings grow over a training."
    )
    return ["## Own box head next to ultralytics'", "", text, "", *rows(head, body), ""] if body else []


def yolos(runs: list[Row]) -> list[str]:
    """Return the table of a start from a trained YOLO and of one from scratch, by epochs."""
    body = []
    for epochs in sorted({r["epochs"] for r in runs}):
        of = {s: [r["ap50"] for r in runs if (r["start"], r["epochs"]) == (s, epochs)] for s in ("yolo11n", "scratch")}
        body.append([str(epochs), *(mean(values) if values else "" for values in of.values()), str(len(of["yolo11n"]))])
    text = (
        "`rgbir-yolo11n` on both cameras, from a yolo11n that was trained on the 273 colour images (60 epochs), or not."
    )
    return ["## From a YOLO", "", text, "", *rows(["epochs", "AP50 from yolo11n", "from scratch", "seeds"], body), ""]


def write_page(runs: list[Row]) -> None:
    """Write the page."""
    lines = [HEAD]
    if of_start := [r for r in runs if r["case"] == "start"]:
        lines += starts(of_start)
    lines += heads([r for r in runs if r["case"] == "head"])
    if of_yolo := [r for r in runs if r["case"] == "yolo"]:
        lines += yolos(of_yolo)
    PAGE.write_text("\n".join(lines).rstrip() + "\n")
