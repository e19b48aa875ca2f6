"""The measured part of docs/live.md on topics, written from the results of `robot.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page_section import table, write_section

PAGE = Path(__file__).parents[1] / "docs" / "live.md"
SECTION = "topics"
Rows = Sequence[dict[str, Any]]


def write(runs: Rows) -> None:
    """Write the section again."""
    write_section(PAGE, SECTION, section(runs))


def section(runs: Rows) -> str:
    """Return the section: pairs by topic and by RTSP, then messages."""
    body = [["cameras", "second one later by", "pairs", "beyond 30 ms", "true skew", "stamps off by", "latency"]]
    for row in runs:
        if row["case"] == "topics":
            off = max(row["stamp_error_ms_p50"])
            numbers = [f"{row['true_skew_ms_p50']:.1f} ms", f"{off:.1f} ms", f"{row['latency_ms_p50']:.1f} ms"]
            counts = [f"{row['delay_ms']} ms", str(row["pairs"]), str(row["beyond_tolerance"])]
            body.append([{"zenoh": "topics by Zenoh", "rtsp": "RTSP"}[row["transport"]], *counts, *numbers])
    machines = ", ".join(dict.fromkeys(row["machine"] for row in runs))
    intro = (
        "Two publishers in processes of their own on one machine, 20 pictures a second with the time of their drawing\n"
        f"in them (`make bench-robot`, {machines}); medians, latency from the drawing of the later picture to the pair:"
    )
    lines = [
        f"Of {row['count']:,} messages at {row['rate']:,} a second {row['lost']:,} were lost, and memory grew by "
        f"{row['growth_mb']:.1f} MB."
        for row in runs
        if row["case"] == "messages"
    ]
    return "\n\n".join([intro, table(body), *lines])
