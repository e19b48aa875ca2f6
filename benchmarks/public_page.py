"""The table of `public.py`: its rows, and what the field has published for the same set."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from shrinking_page import rows

FIELD: dict[str, tuple[tuple[str, str, str, str, str], ...]] = {
    "flir": (
        ("YOLO11n, thermal alone", "COCO", "2.47", "73.5", "40.3"),
        ("YOLO11n, thermal alone", "scratch", "2.47", "70.5", "37.3"),
        ("YOLO11n, fused at P3", "COCO", "2.57", "76.9", "41.0"),
        ("YOLO11n, fused at three levels", "COCO", "3.62", "75.2", "40.3"),
        ("YOLO11x, MCF", "COCO", "92", "83.5", "47.6"),
    ),
    "llvip": (
        ("YOLO11n, thermal alone", "COCO", "2.47", "96.9", "67.2"),
        ("YOLO11n, thermal alone", "scratch", "2.47", "96.2", "66.3"),
        ("YOLO11n, fused at P3", "COCO", "2.57", "96.6", "65.5"),
        ("YOLO11n, fused at three levels", "COCO", "3.62", "96.7", "65.8"),
        ("YOLO11x, MCF", "COCO", "92", "97.1", "70.3"),
    ),
    "m3fd": (
        ("YOLO11n, colour alone", "COCO", "2.47", "79.9", "53.6"),
        ("YOLO11n, thermal alone", "COCO", "2.47", "78.1", "52.7"),
        ("YOLO11n, fused at P3", "COCO", "2.57", "83.0", "57.9"),
        ("YOLO11n, fused at three levels", "COCO", "3.62", "83.6", "57.6"),
        ("YOLO11x, fused at P3", "COCO", "58.7", "90.6", "66.2"),
    ),
}
"""Network, start, millions of parameters, AP50 and AP at 640 pixels, as arXiv:2506.14696 (v2) has them."""
WHERE = "Figures of arXiv:2506.14696 (v2) at 640×640; its training, and for M3FD its split, are others than ours."


def table(runs: list[dict[str, Any]], name: str) -> list[str]:
    """Return the rows of a set, means over their seeds, and the field's."""
    body = []
    for start, variant in dict.fromkeys((r["start"], r["variant"]) for r in runs):
        of = [r for r in runs if (r["start"], r["variant"]) == (start, variant)]
        cells = [f"{r:.1f}" for r in (100 * fmean(o[key] for o in of) for key in ("ap50", "ap"))]
        params = f"{fmean(o['params'] for o in of) / 1e6:.2f}"
        body.append(
            [f"edgemtl {variant}", start, params, *cells, f"{fmean(o['latency_ms'] for o in of):.1f}", str(len(of))]
        )
    body += [[*field, "", ""] for field in FIELD[name]]
    head = ["network", "start", "M parameters", "AP50", "AP", "ms, one thread", "seeds"]
    return [f"# {name}", "", *rows(head, body), "", WHERE, ""]


def write_table(runs: list[dict[str, Any]], name: str, file: Path) -> str:
    """Write the table of a set and return it."""
    text = "\n".join(table(runs, name))
    file.write_text(text)
    return text
