"""What a training and an export end with: one short text of figures, files and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle, Head
from edgemtl_runtime.errors import flag
from edgemtl_runtime.manifest_schema import PrecisionFigures

from .metric_report import Reports
from .run import Run
from .sizes import Sizes
from .tables import Table, as_text
from .tasks import TASKS


def training_summary(run: Run) -> str:
    """Return the figure of each task, the sizes of a pruned network, the report, and the next command."""
    metrics, path = run.metrics, shlex.quote(str(run.path))
    minutes = metrics.get("seconds", 0) / 60
    parts = [f"{run.path}: {metrics['steps']} steps in {minutes:.1f} minutes"]
    if run.reports:
        parts.append(as_text(task_rows(run.reports, run.interface.heads, metrics.get("delta_m", {}))))
    if sizes := Sizes.in_metrics(metrics):
        parts.append(as_text(sizes.rows()))
    elif parameters := metrics.get("parameters"):
        parts.append(f"{parameters:,} parameters in training")
    report = run.path / "report.html"
    next_ = [f"report: {report}"] if report.is_file() else []
    if not run.reports:
        next_.append(f"it was not evaluated: edgemtl eval {path}")
    return "\n\n".join([*parts, "\n".join([*next_, f"next: edgemtl export {path} --out BUNDLE"])])


def task_rows(reports: Reports, heads: Sequence[Head], changes: dict[str, float]) -> Table:
    """Return a row for each task: its primary metric on each subset, and its change against a single-task network."""
    header = ["", *("held out" if name == "all" else name for name in reports)]
    rows = [header + (["against single, %"] if changes else [])]
    for head in heads:
        task = TASKS[head.task]
        values = [report.primary(head.name) for report in reports.values()]
        row = [f"{head.name} {task.primary} {'↑' if task.higher_is_better else '↓'}", *map(_figure, values)]
        rows.append(row + ([_change(changes.get(head.name))] if changes else []))
    if "delta_m" in changes:
        rows.append(["Δm", *("" for _ in reports), _change(changes["delta_m"])])
    return rows


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def export_summary(bundle: Bundle, shrunk: Shrunk, run: Path, written: Sequence[str], verbose: bool = False) -> str:
    """Return what a bundle holds, its sizes, how it compares with its run, what was written, and the next command.

    With ``verbose`` the layers that lost channels and the proof too.
    """
    manifest = bundle.manifest
    parity = manifest.parity
    heads = ", ".join(head.name for head in manifest.heads)
    parts = [f"{bundle.path}: {heads} of {run}", as_text(Sizes.of(shrunk.report).rows())]
    if shrunk.report.pinned:
        pinned = ", ".join(f"{count} by {reason}" for reason, count in sorted(shrunk.report.pinned.items()))
        parts[-1] += f"\nchannels that had to stay: {pinned}"
    parts.append(as_text(precision_rows(bundle)))
    if verdicts := precision_verdicts(bundle):
        parts.append("\n".join(verdicts))
    raw = max(parity["raw_max_abs"].values(), default=0.0)
    agreement = ", ".join(f"{name} {value:.2%}" for name, value in parity["agreement"].items() if value is not None)
    parts.append(
        f"as the run on {parity['frames']} held-out images: raw heads within {raw:.1e}; equal outputs: {agreement}"
    )
    if verbose:
        parts.append(str(shrunk.report))  # with its warnings
    elif warnings := shrunk.report.warnings:
        parts.append("\n".join(f"warning: {warning}" for warning in warnings))
    cameras = " ".join(flag(spec.name, "SRC") for spec in manifest.inputs)
    next_ = f"next: edgemtl run {shlex.quote(str(bundle.path))} {cameras} --show"
    return "\n\n".join([*parts, "\n".join([*written, next_])])


def precision_verdicts(bundle: Bundle) -> list[str]:
    """Return a line for each precision that was rejected or not decided, and the heads without a metric."""
    manifest = bundle.manifest
    lines = []
    for name, reason in manifest.rejected.items():
        undecided = reason.startswith("undecided")
        lines.append(
            f"{name} {reason}; not written: hold out more, or give --keep-undecided"
            if undecided
            else f"{name} rejected: {reason}"
        )
    lines += [
        f"{name} undecided, written as asked: {figures['undecided']}"
        for name, figures in manifest.precisions.items()
        if "undecided" in figures
    ]
    scores = manifest.precisions.get("fp32", {}).get("scores")
    unscored = [head.name for head in manifest.heads if scores is not None and head.name not in scores]
    if unscored:
        lines.append(f"no metric of {', '.join(unscored)} on the held-out split: held to fp32's outputs alone")
    return lines


def precision_rows(bundle: Bundle) -> Table:
    """Return a row for each network of a bundle: its file, its size and its metrics."""
    figures: dict[str, PrecisionFigures] = {
        name: bundle.manifest.precisions.get(name, {}) for name in bundle.precisions
    }
    metrics = list(
        dict.fromkeys((h, m) for f in figures.values() for h, scores in f.get("scores", {}).items() for m in scores)
    )
    rows = [["network", "kB", *(f"{head} {metric}" for head, metric in metrics)]]
    for name, precision in figures.items():
        scores = [precision.get("scores", {}).get(head, {}).get(metric) for head, metric in metrics]
        rows.append([name, f"{bundle.model_in(name).stat().st_size / 1000:,.0f}", *map(_figure, scores)])
    return rows
