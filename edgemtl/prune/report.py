"""The HTML report of a pruning: figures before and after, both networks on the same images, the channels that stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgemtl_export import Shrunk

from ..data.datasets import evenly_spaced
from ..data.sample import Dataset
from ..evaluate import Predictor
from ..plots import channels_by_layer, layer_stage, training_curves
from ..reports.html import facts, image, jpeg, page, pair, paragraph, section, table
from ..visualize import draw_results
from .agreement import by_kind
from .figures import Figures

SAMPLES = 6
METRICS = {"flops": "FLOPs"}
PANEL_PX = 480


def write_report(
    file: Path,
    figures: Figures,
    shrunk: Shrunk,
    dense: Predictor,
    pruned: Predictor,
    images: Dataset,
    history: Sequence[tuple[int, float, float]],
    notes: Sequence[str],
) -> None:
    """Write the report; ``images`` are held out of the training, ``history`` is step, loss and pruned share."""
    title = f"{figures.network}: {figures.target:.0%} of the {METRICS.get(figures.metric, figures.metric)} pruned"
    decoders = {head.name: head.decoder for head in dense.heads}
    rows = {
        "latency": f"{figures.latency_to_dense:.2f} of the dense network's, in ONNX Runtime on one thread of "
        f"{figures.machine}, both in turns: images in, decoded outputs out",
        "training": f"{figures.steps:,} steps",
        **by_kind(figures.agreement, decoders),
    }
    if figures.device:
        rows["target of"] = figures.device
    if figures.latency_measured:
        shares = ", ".join(f"{share:.2f}" for share in figures.latency_measured)
        rows["measured on the way"] = f"{shares} of the dense latency"
    content = page(
        title,
        title,
        facts(rows),
        *map(paragraph, notes),
        section("Before and after", table(figures.rows())),
        section(
            "The same images",
            paragraph("Held out of the training, evenly spaced. Left the dense network, right the pruned one."),
            *(_sample(dense, pruned, images, index) for index in evenly_spaced(len(images), SAMPLES)),
        ),
        _channels(shrunk),
        _curves(history),
    )
    file.write_text(content)


def _sample(dense: Predictor, pruned: Predictor, images: Dataset, index: int) -> str:
    sample = images[index]
    name = sample.name or str(index)
    drawn = [jpeg(draw_results(sample, predictor(sample), PANEL_PX, 1)) for predictor in (dense, pruned)]
    return pair(name, (drawn[0], f"{name}: dense"), (drawn[1], f"{name}: pruned"))


def _channels(shrunk: Shrunk) -> str:
    layers = [layer for layer in shrunk.report.layers if layer.before > 1]
    if not layers:
        return ""
    before, after = [layer.before for layer in layers], [layer.after for layer in layers]
    chart = channels_by_layer(before, after, [layer_stage(layer.name) for layer in layers], 3.4)
    return section("Channels", image(chart, f"{sum(after):,} of {sum(before):,} channels of all layers stay (blue)"))


def _curves(history: Sequence[tuple[int, float, float]]) -> str:
    if len(history) < 2:
        return ""
    rows = [{"step": float(step), "loss": loss, "pruned": share} for step, loss, share in history]
    return section("Training", image(training_curves(rows), "over the steps: each step grey, smoothed blue"))
