"""The measured tables of docs/live.md, written from the results of `live.py` and `time_pairs.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from page_section import table, write_section

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "live.md"
PROGRAMS = {
    "edgemtl": "edgemtl-runtime",
    "ultralytics": "ultralytics {ultralytics}, predict",
    "roboflow": "roboflow's inference {inference}, pipeline",
    "supervision": "supervision {supervision} and OpenCV",
}
RTSP, H264 = ("rtsp", "rtsp"), ("h264", "h264")
OPENCV = ("opencv", "opencv")
Streams = tuple[str, tuple[str, ...], tuple[str, ...], tuple[int, ...], tuple[int, ...]]
"""Tool, paths, codecs, images a second, B-frames."""
STREAMS: dict[str, Streams] = {
    "RTSP H.264 at 30 and 9": ("edgemtl", RTSP, H264, (30, 9), (0, 0)),
    "the same by GStreamer alone": ("gstreamer", ("gstreamer alone",) * 2, H264, (30, 9), (0, 0)),
    "the same by OpenCV's `read`": ("opencv", ("opencv alone",) * 2, H264, (30, 9), (0, 0)),
    "without PyAV (OpenCV fallback)": ("edgemtl", OPENCV, H264, (30, 9), (0, 0)),
    "RTSP H.264 with MJPEG over HTTP, 30 and 15": ("edgemtl", ("rtsp", "http"), ("h264", "mjpeg"), (30, 15), (0, 0)),
    "RTSP at 9 with `gst:` at 30": ("edgemtl", ("rtsp", "gst"), H264, (9, 30), (0, 0)),
    "without and with two B-frames, at 30": ("edgemtl", RTSP, H264, (30, 30), (0, 2)),
    "with B-frames and without, GStreamer alone": ("gstreamer", ("gstreamer alone",) * 2, H264, (30, 30), (2, 0)),
    "H.265 at 15 and H.264 at 9": ("edgemtl", RTSP, ("h265", "h264"), (15, 9), (0, 0)),
    "B-frames, without PyAV": ("edgemtl", OPENCV, H264, (30, 9), (2, 0)),
}
STALLS: dict[str, tuple[str, str]] = {
    "RTSP at 30 and 9": ("RTSP H.264 at 30 and 9", "network"),
    "the same, of the server": ("RTSP H.264 at 30 and 9", "server"),
    "with two B-frames, at 30": ("without and with two B-frames, at 30", "network"),
    "RTSP and MJPEG over HTTP": ("RTSP H.264 with MJPEG over HTTP, 30 and 15", "network"),
    "RTSP and `gst:`": ("RTSP at 9 with `gst:` at 30", "network"),
    "OpenCV fallback": ("without PyAV (OpenCV fallback)", "network"),
}
"""By the line's name: the streams' name, and what stands still."""
STALLS_S = (0.3, 1.0, 3.0)


def write() -> None:
    """Write the tables again."""
    for name, text in sections().items():
        write_section(PAGE, name, text)


def sections() -> dict[str, str]:
    """Return the tables by the name of their section."""
    live = json.loads((RESULTS / "live.json").read_text())
    times = json.loads((RESULTS / "time.json").read_text())["rows"]
    return {
        "loop": _loop(live["throughput"], live["latency"]),
        "programs": _programs(live["peers"]),
        "pairs": _pairs(times),
        "stalls": _stalls(times),
    }


def _loop(throughput: Sequence[Mapping[str, Any]], latency: Sequence[Mapping[str, Any]]) -> str:
    rows = [["relative to a bare loop", "measured", "required"]]
    for row, words in zip(throughput, (" in single turns", ""), strict=True):
        low, high = row["ratio_range"]
        measured = f"{row['ratio']:.3f} of it ({low:.2f} to {high:.2f}{words})"
        rows.append([f"throughput, cameras of {row['camera']}", measured, f"{row['asked']:g}"])
    by_fps = {row["fps"]: row for row in latency}
    for fps, words in (
        (15, "later frame to result, beyond inference, at 15 a second: p50 / p99"),
        (30, "the same at 30 a second"),
    ):
        row = by_fps[fps]
        missed = "" if row["within"] else ": missed"
        measured = f"{row['beyond_ms']['p50']:.1f} / {row['beyond_ms']['p99']:.1f} ms"
        rows.append([words, measured, f"{row['asked_p99_ms']:.1f} ms{missed}"])
    cores = f"{by_fps[30]['cores_beyond']:.3f} of a core"
    rows.append([f"processor beyond inference at 30 a second, two cameras of {by_fps[30]['camera']}", cores, ""])
    return table(rows)


def _programs(peers: Sequence[Mapping[str, Any]]) -> str:
    rows = [["", "results/s", "p50 / p99 ms", "MB", "starts in s", "repeated", "when the server is killed"]]
    for peer in peers:
        outage = peer["outage"]
        goes_on = outage["end"] == "goes on"
        end = f"goes on {outage['back_after_s'] or 0:.1f} s after the server is back" if goes_on else _ended(outage)
        repeated = peer["repeated_or_empty"] + sum(outage["results_of_no_new_picture"].values())
        rows.append(
            [
                PROGRAMS[peer["peer"]].format(**peer["versions"]),
                f"{peer['results_per_second']:.1f}",
                f"{peer['latency_ms']['p50']:.0f} / {peer['latency_ms']['p99']:.0f}",
                f"{peer['memory_mb']:.0f}",
                f"{peer['first_result_s']:.1f}",
                f"{repeated}",
                end,
            ]
        )
    return table(rows)


def _ended(outage: Mapping[str, Any]) -> str:
    return f"ends after {outage['ended_after_s']:.1f} s, {outage['told'].removeprefix('ends with ')}"


def _pairs(times: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        ["streams", "pairs", "beyond 30 ms, of these unmarked", "skew, true and measured", "error of stamps", "latency"]
    ]
    for name, streams in STREAMS.items():
        row = _row(times, streams, 0.0, "")
        first, second = row["stamp_error_ms_p50"]
        rows.append(
            [
                name,
                f"{row['pairs']}",
                f"{row['beyond_tolerance']}, {row['unmarked_beyond']}",
                f"{row['true_skew_ms_p50']:.1f}, {row['reported_skew_ms_p50']:.1f} ms",
                f"{first:.1f}, {second:.1f} ms",
                f"{row['latency_ms_p50']:.1f} ms",
            ]
        )
    return table(rows)


def _stalls(times: Sequence[Mapping[str, Any]]) -> str:
    rows = [["a stall of one stream (of the network by default)", *(f"{seconds:g} s" for seconds in STALLS_S)]]
    for name, (streams, stalled) in STALLS.items():
        measured = [_row(times, STREAMS[streams], seconds, stalled) for seconds in STALLS_S]
        rows.append([name, *(f"{row['recovery_s']:.2f} s, {row['unmarked_beyond']} unmarked" for row in measured)])
    return table(rows)


def _row(times: Sequence[Mapping[str, Any]], streams: Streams, stall_s: float, stalled: str) -> Mapping[str, Any]:
    """Return the row of streams, with a stall or without."""
    tool, *lists = streams
    for row in times:
        same = all(tuple(row[key]) == of for key, of in zip(("path", "codec", "fps", "b_frames"), lists, strict=True))
        if same and (row["tool"], row["stall_s"], row["stall"]) == (tool, stall_s, stalled):
            return row
    raise ValueError(f"no row of {streams} with a stall of {stall_s:g} s")


if __name__ == "__main__":
    write()
