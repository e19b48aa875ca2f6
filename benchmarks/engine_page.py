"""docs/latency.md, written from the results of `engine.py`.

python benchmarks/engine_page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "latency.md"
Row = dict[str, Any]

HEAD = """\
# Latency, predicted and aimed at

What `sparsity.metric=latency` stands on (docs/methods.md), measured by `make bench-engine` (`benchmarks/engine.py`; a
row alone with `--case`, `--network` and `--seed`). One thread of ONNX Runtime, fp32, batches of one; networks have
random weights.
"""
COST_MODEL = """\
## The estimate

Thirty patterns of each network: every group of layers keeps a share of its channels that is drawn uniformly between a
quarter and all of them, in multiples of eight. Each narrow network is exported and measured, medians in turns, in
several fresh sessions; none is among the thirteen that the estimate is fitted on. Rank is Spearman's correlation of
both orders: the thirty differ from each other by no more than the range says.
"""
AIM = """\
## The aim

Each network is pruned to half of its latency in sixty steps, the narrow network measured on the way; then both are
measured once more, in turns.
"""
IMPORTANCE = """\
## Importance

Half of a network's latency is pruned by each importance, with the sensitivity of every layer measured and without,
refitted on the way and not. The dense network teaches, no label does; all variants see the same images, as many steps.
Metrics, and the loss against the dense network on one batch of other crops, when the schedule ends and, after the rest
of the steps, at the end. `yolox_nano` is COCO's, taught on 815 colour images, its AP50 that of persons, bicycles and
cars in others, by day and by night; `streets` the demo's two-camera network, trained on drawn streets first.

At half of the latency these small networks keep 10 to 18 % of their parameters, and so few steps do not bring back what
went. A refit leaves less loss in all pairs but that of magnitude on `yolox_nano`; it did not raise every metric. One
seed decides nothing finer.
"""
PROBE = """\
## A probe

The network's probe is written to a folder, measured by a second process (`edgemtl-runtime profile`) and read back:
how far the shares of the thirty patterns' latencies are from those by the first process' own measurement.
"""
OVERHEAD = """\
## What a sparsifier costs

Bookkeeping of a training step, as a share of forward, backward and the optimiser's step.
"""


def table(head: Iterable[str], body: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([str(value) for value in line] for line in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page(rows: list[Row]) -> str:
    """Return the page of all rows."""
    of_case: dict[str, list[Row]] = {}
    for row in rows:
        of_case.setdefault(row["case"], []).append(row)
    parts = [HEAD]
    if cases := of_case.get("cost_model"):
        body = [
            [
                r["network"],
                f"{r['dense_ms']:.1f}",
                f"{r['narrowest_to_dense']:.2f} to {r['widest_to_dense']:.2f}",
                f"{r['mean_error']:.3f}",
                f"{r['rank_correlation']:.3f}",
                r["channels_at_a_time"],
                f"{r['seconds']:.0f}",
            ]
            for r in cases
        ]
        head = ["network", "dense, ms", "of the dense", "mean error", "rank", "channels at a time", "measured in, s"]
        parts += [COST_MODEL, table(head, body)]
    if cases := of_case.get("aim"):
        body = [
            [r["network"], f"{r['asked']:.2f}", f"{r['measured']:.3f}", f"{r['parameters_kept']:.2f}"] for r in cases
        ]
        parts += [AIM, table(["network", "asked", "measured", "of the parameters"], body)]
    if cases := of_case.get("importance"):
        parts.append(IMPORTANCE)
        for network in dict.fromkeys(r["network"] for r in cases):
            parts.append(importance_table([r for r in cases if r["network"] == network]))
    if cases := of_case.get("probe"):
        body = [
            [
                r["network"],
                f"{r['models']}, {r['megabytes']} MB",
                f"{r['profile_s']:.0f}",
                f"{r['mean_difference']:.3f}",
                f"{r['rank_correlation']:.3f}",
            ]
            for r in cases
        ]
        parts += [PROBE, table(["network", "models", "measured in, s", "mean difference", "rank"], body)]
    if cases := of_case.get("overhead"):
        body = [[r["network"], r["batch"], f"{r['step_ms']:.0f}", f"{r['sparsifier_to_step']:.3f}"] for r in cases]
        parts += [OVERHEAD, table(["network", "batch", "step, ms", "share"], body)]
    machines = ", ".join(dict.fromkeys(row["machine"] for row in rows))
    return "\n".join([*parts, f"On {machines}.\n"])


def importance_table(rows: list[Row]) -> str:
    """Return the table of one network's variants, and of the dense network."""
    metrics = [
        key.removesuffix("_dense")
        for key in rows[0]
        if key.endswith("_dense") and not key.startswith(("latency", "params"))
    ]
    ends = [f"{name} {when}" for when in ("pruned", "at the end") for name in (*metrics, "loss")]
    body = []
    for row in sorted(rows, key=lambda r: r["loss_recovered"]):
        values = [row[f"{name}_{when}"] for when in ("pruned", "recovered") for name in (*metrics, "loss")]
        shares = [f"{row[f'{name}_to_dense']:.2f}" for name in ("latency", "params")]
        body.append([row["variant"], row["seed"], *(f"{value:.3f}" for value in values), *shares])
    dense = ", ".join(f"{name} {rows[0][f'{name}_dense']:.3f}" for name in metrics)
    head = [f"{rows[0]['network']}, {rows[0]['steps']} steps", "seed", *ends, "latency", "parameters"]
    return f"{table(head, body)}\nDense: {dense}.\n"


def write_page(rows: list[Row]) -> None:
    """Write the page."""
    PAGE.write_text(page(rows))


if __name__ == "__main__":
    write_page(json.loads((HERE / "results" / "engine.json").read_text())["runs"])
