"""The report of a shrunk program, as text and as JSON: sizes before and after, layers, pinned channels, the proof."""

from __future__ import annotations

import math
from typing import Any

from edgemtl_export.report import Report

from . import tables

PROOF = {
    "noise": "with noise in every removed channel, once its readers are cut: nothing else reads it",
    "control": "with the same noise and nothing cut: above 0, so noise would have been noticed",
    "float64": "the smaller program, in float64",
    "float32": "the smaller program, in float32",
}
"""What each error of the proof compares with the given program."""
NO_CONTROL = "with the same noise and nothing cut: 0, so noise proves nothing here"
"""The same, of a control of 0."""


def as_json(report: Report) -> dict[str, Any]:
    """Return a report for JSON, which has no infinity: such an error of the proof is null."""
    proof = {name: error if math.isfinite(error) else None for name, error in report.proof.items()}
    return {**report.to_dict(), "proof": proof}


def as_text(report: Report) -> str:
    """Return totals, the layers that lost channels, what was pinned, the proof, and warnings."""
    warnings = "\n".join(f"warning: {warning}" for warning in report.warnings)
    parts = [_totals(report), _layers(report), _pinned(report), _proof(report), warnings]
    return "\n\n".join(part for part in parts if part)


def _totals(report: Report) -> str:
    pairs = {
        "parameters": (report.parameters_before, report.parameters_after),
        "buffers": (report.buffers_before, report.buffers_after),
        "FLOPs": (report.flops_before, report.flops_after),
    }
    rows = [["", "before", "after", "removed"]]
    for name, (before, after) in pairs.items():
        if before or after:
            removed = f"{1 - after / before:.1%}" if before >= after else ""
            rows.append([name, f"{before:,}", f"{after:,}", removed])
    bound = f"\n{report.parameters_bound:,} parameters are the least that removal by position can leave"
    return tables.as_text(rows, numeric=3) + (bound if report.parameters_bound < report.parameters_after else "")


def _layers(report: Report) -> str:
    smaller = [layer for layer in report.layers if layer.after < layer.before]
    if not smaller:
        return "no channel is zero, constant or unread where it could be removed"
    rows = [["channels of", "before", "after", "zero", "constant", "unread"]]
    for layer in smaller:
        reasons = [str(count or "") for count in (layer.zero, layer.constant, layer.unread)]
        rows.append([layer.name, str(layer.before), str(layer.after), *reasons])
    return tables.as_text(rows, numeric=5)


def _pinned(report: Report) -> str:
    rows = [["pinned by", "channels"], *([rule, f"{count:,}"] for rule, count in sorted(report.pinned.items()))]
    return tables.as_text(rows, numeric=1) if report.pinned else ""


def _proof(report: Report) -> str:
    if not report.proof:
        return "not proved (--no-verify)"
    rows = [["proof", "error", "largest difference from the given program, relative to how much the output varies"]]
    for name, error in report.proof.items():
        meaning = NO_CONTROL if name == "control" and error == 0 else PROOF.get(name, "")
        rows.append([name, f"{error:.0e}", meaning])
    return tables.as_text(rows, numeric=1)
