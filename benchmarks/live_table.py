"""The tables of results/live.json: `python benchmarks/live_table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from live_streams import DOWN_S

from edgemtl.console import print_table

KEYS = ("beyond_ms", "bare_beyond_ms", "bare_wakes_ms")


def show(told: dict[str, Any]) -> None:
    """Print what was measured."""
    lines = []
    for row in told.get("throughput", ()):
        low, high = row["ratio_range"]
        found = f"{row['ratio']:.3f} ({low:.3f} to {high:.3f})"
        lines.append([f"{row['camera']}: throughput, of the bare loop's", found, f"{row['asked']}"])
    for row in told.get("latency", ()):
        at = f"{row['camera']} at {row['fps']:g}/s"
        found = {key: [f"{row[key][p]:.2f}" for p in ("p50", "p99")] for key in KEYS}
        for place, (p, asked) in enumerate((("p50", ""), ("p99", f"{row['asked_p99_ms']:.2f}"))):
            ours, bare, wakes = (found[key][place] for key in KEYS)
            beside = f"{ours} (bare loop {bare}, it wakes {wakes} late)"
            lines.append([f"{at}: ms beyond inference, {p}", beside, asked])
        low, high = row["cores_beyond_range"]
        lines.append([f"{at}: cores beyond inference", f"{row['cores_beyond']:.3f} ({low:.3f} to {high:.3f})", ""])
    if lines:
        print_table([["", "found", "asked"], *lines], "beside a bare loop")
    lines = [["", "results/s", "p50 ms", "p99 ms", "MB", "cores", "starts s", "tells s", "made up", "back s", "then"]]
    for row in told.get("peers", ()):
        if "failed" in row:
            lines.append([row["peer"], row["failed"][:40], *[""] * 9])
            continue
        gone, ages = row["outage"], row["latency_ms"]
        numbers = [row["results_per_second"], ages["p50"], ages["p99"], row["memory_mb"]]
        made = sum(gone["results_of_no_new_picture"].values())
        told_s, back_s = (f"{v:.1f}" if v is not None else "-" for v in (gone["told_after_s"], gone["back_after_s"]))
        cells = [*(f"{v:.1f}" for v in numbers), f"{row['cores']:.2f}", f"{row['first_result_s']:.1f}"]
        lines.append([row["peer"], *cells, told_s, str(made), back_s, gone["end"]])
    if len(lines) > 1:
        print_table(lines, f"one camera over HTTP; its server gone for {DOWN_S:g} s")


if __name__ == "__main__":
    show(json.loads((Path(__file__).parent / "results" / "live.json").read_text()))
