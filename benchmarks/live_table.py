"""The tables of results/live.json: `python benchmarks/live_table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from live_streams import DOWN_S

from edgemtl.console import print_table

RENAMED = {"told_after_s": "event_after_s", "results_of_no_new_picture": "stale_results"}
"""Keys in rows of version 0.1, and today's names."""
KEYS = ("beyond_ms", "bare_beyond_ms", "bare_wakes_ms")


def show(report: dict[str, Any]) -> None:
    """Print the tables of a results file."""
    lines = []
    for row in report.get("throughput", ()):
        low, high = row["ratio_range"]
        ratio = f"{row['ratio']:.3f} ({low:.3f} to {high:.3f})"
        lines.append([f"{row['camera']}: throughput, of the bare loop's", ratio, f"{row['asked']}"])
    for row in report.get("latency", ()):
        at = f"{row['camera']} at {row['fps']:g}/s"
        for p, asked in (("p50", ""), ("p99", f"{row['asked_p99_ms']:.2f}")):
            ours, bare, wakes = (f"{row[key][p]:.2f}" for key in KEYS)
            times = f"{ours} (bare loop {bare}, it wakes {wakes} late)"
            lines.append([f"{at}: ms beyond inference, {p}", times, asked])
        low, high = row["cores_beyond_range"]
        lines.append([f"{at}: cores beyond inference", f"{row['cores_beyond']:.3f} ({low:.3f} to {high:.3f})", ""])
    if lines:
        print_table([["", "measured", "required"], *lines], "against a bare loop")
    lines = [["", "results/s", "p50 ms", "p99 ms", "MB", "cores", "starts s", "event s", "stale", "back s", "then"]]
    for row in report.get("peers", ()):
        if "failed" in row:
            lines.append([row["peer"], row["failed"][:40], *[""] * 9])
            continue
        outage, ages = row["outage"], row["latency_ms"]
        outage = {RENAMED.get(key, key): value for key, value in outage.items()}
        numbers = [row["results_per_second"], ages["p50"], ages["p99"], row["memory_mb"]]
        stale = sum(outage["stale_results"].values())
        event_s, back_s = (
            "-" if outage[key] is None else f"{outage[key]:.1f}" for key in ("event_after_s", "back_after_s")
        )
        cells = [*(f"{v:.1f}" for v in numbers), f"{row['cores']:.2f}", f"{row['first_result_s']:.1f}"]
        lines.append([row["peer"], *cells, event_s, str(stale), back_s, outage["end"]])
    if len(lines) > 1:
        print_table(lines, f"one camera over HTTP; its server down for {DOWN_S:g} s")


if __name__ == "__main__":
    show(json.loads((Path(__file__).parent / "results" / "live.json").read_text()))
