"""The measured parts of docs/live.md and docs/deploying.md that `robot.py` gives: topics, processor, exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page_section import table, write_section

DOCS = Path(__file__).parents[1] / "docs"
Rows = Sequence[dict[str, Any]]


def write(runs: Rows) -> None:
    """Write the sections again."""
    write_section(DOCS / "live.md", "topics", section(runs))
    write_section(
        DOCS / "live.md", "processor", processor([row for row in runs if row["case"] in ("processor", "scaling")])
    )
    write_section(DOCS / "deploying.md", "exchange", exchange([row for row in runs if row["case"] == "exchange"]))


def processor(rows: Rows) -> str:
    """Return the section of the share of a core."""
    body = [["cameras", "results", "of a core", "inference", "the rest"]]
    for row in (row for row in rows if row["case"] == "processor"):
        source = {"pattern": "drawn (`pattern:`)", "h264": "H.264 files"}[row["transport"]]
        sinks = "JSON lines" + (", and label maps read" if row["read"] else "")
        shares = row["core_per_pair"], row["core_inference"], row["core_per_pair"] - row["core_inference"]
        body.append([source, sinks, *(f"{share:.3f}" for share in shares)])
    machines = ", ".join(dict.fromkeys(row["machine"] for row in rows))
    lines = [
        f"Decoders give whole images. FFmpeg's own scaling of this video to 160x128 takes {row['scaled_ms']:.2f} ms\n"
        f"an image in place of {row['whole_ms']:.2f} ms, and what the network sees would differ by\n"
        f"{row['difference_mean']:.1f} grey levels on average, {row['difference_max']} at the most."
        for row in rows
        if row["case"] == "scaling" and row["transport"] == "h264"
    ]
    lines += [
        "JPEG is another matter: with `?reduce=2` (`v4l2:` and MJPEG over HTTP) an image of 1280x1024 becomes one of\n"
        f"320x256 in {row['scaled_ms']:.1f} ms in place of {row['whole_ms']:.1f} ms, and differs by "
        f"{row['difference_mean']:.1f} grey levels on average,\n{row['difference_max']} at the most; frames and "
        "results are then of half the size."
        for row in rows
        if row["case"] == "scaling" and row["transport"] == "jpeg"
    ]
    return (
        "Two cameras of 640x512, 30 pairs a second, the demo's network on one thread (`make bench-robot`,\n"
        + "\n\n".join([f"{machines}), decoding included:", table(body), *lines])
    )


def exchange(rows: Rows) -> str:
    """Return the section of bundles that were exchanged."""
    body = [["the new bundle", "times", "pairs lost", "longest gap then", "at other times", "answer within"]]
    for row in rows:
        kind = {
            "good": "is good",
            "another network": "is signed, with another network than its self-test's",
            "forged": "is not signed",
        }
        gaps = f"{row['gap_ms']:.0f} ms", f"{row['gap_ms_else']:.0f} ms", f"{row['answer_ms_max']} ms"
        body.append([kind[row["transport"]], str(row["exchanges"]), str(row["lost"]), *gaps])
    return (
        "Two cameras at 30 a second, a link changed every 5 seconds (`make bench-robot`); the gap is between two\n"
        f"results, the answer the exchange or the warning:\n\n{table(body)}"
    )


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
