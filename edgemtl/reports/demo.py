"""The HTML report of the demo: the dense, the sparse and the shrunk network, predictions, training curves, streams."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.cpu import cpu_name
from edgemtl_runtime.stats import Stats

from ..data.sample import Dataset, Sample
from ..evaluate import open_predictor
from ..metric_report import Reports
from ..plots import channels_by_layer, layer_stage
from ..run import Run
from ..tables import Table
from ..visualize import draw_results
from .html import image, jpeg, page, paragraph, png, section, table
from .metrics import INTERVAL_NOTE, task_tables

DENSE_SPARSE_SHRUNK = (
    "Dense: trained at full width for comparison. Sparse: the channels are zero but still computed. Shrunk: the same "
    "outputs without them. Latency is ONNX Runtime's on one thread of {cpu}, all three in turns."
)
HELD_OUT = (
    "What the bundle predicts on held-out streets, never trained on. Left: the colour camera, the label map over it. "
    "Right: the thermal camera."
)
STREAMS = (
    "stream.mp4 next to this page shows them. The bundle ran on two folders of images, paired by time, as fast as "
    "they could be read."
)
PANEL_PX = 480
SAMPLES = 4
"""Images by day, and as many by night."""


def write_report(
    file: Path,
    bundle: Bundle,
    run: Run,
    dense: Run,
    samples: Dataset,
    comparison: Table,
    reports: Reports,
    shrunk: Shrunk,
    latency: Mapping[str, float],
    stats: Stats,
) -> None:
    """Write the report of a demo, and next to it ``result.png`` with two predictions by day and two by night.

    ``latency`` are milliseconds of the networks of ``comparison``.
    """
    predictor = open_predictor(bundle.path, threshold=None)
    by_light = {name: _with_objects(samples, name == "day") for name in ("day", "night")}
    images = {n: [draw_results(s, predictor(s), PANEL_PX) for s in chosen] for n, chosen in by_light.items()}
    (file.parent / "result.png").write_bytes(png(np.vstack([np.hstack(row[:2]) for row in images.values()])))
    by_day, by_night = (
        "".join(image(jpeg(pixels), f"street {s.name}") for pixels, s in zip(images[name], chosen, strict=True))
        for name, chosen in by_light.items()
    )
    small, share = latency["shrunk"], latency["shrunk"] / latency["dense"]
    title = f"Two cameras, two tasks, {small:.1f} ms: {share:.0%} of the dense network's, on one thread of {cpu_name()}"
    metrics = [
        f"<h3>{task}</h3>" + '<div class="side">' + "".join(map(table, tables)) + "</div>"
        for task, tables in task_tables(reports).items()
    ]
    file.write_text(
        page(
            "edgemtl demo",
            title,
            paragraph(_summary(run, reports, shrunk)),
            section("Dense, sparse, shrunk", table(comparison), paragraph(DENSE_SPARSE_SHRUNK.format(cpu=cpu_name()))),
            section("By day", paragraph(HELD_OUT), by_day),
            section("By night", by_night),
            section("The bundle, by task, class and light", *metrics, paragraph(INTERVAL_NOTE)),
            section("Channels by layer", image(_layer_chart(shrunk, run), "channels before (grey) and after (blue)")),
            section(
                "Training",
                image((run.path / "curves.png").read_bytes(), "sparse, then shrunk"),
                image((dense.path / "curves.png").read_bytes(), "dense network"),
            ),
            section("The two streams", f"<pre>{html.escape(stats.table())}</pre>", paragraph(STREAMS)),
        )
    )


def _summary(run: Run, reports: Reports, shrunk: Shrunk) -> str:
    pruned = 1 - shrunk.report.parameters_after / shrunk.report.parameters_before
    day, night, overall = (reports[subset].flat() for subset in ("day", "night", "all"))
    return (
        f"Trained for {run.metrics['steps']} steps on drawn streets, colour and thermal, by day and by night. "
        f"{pruned:.0%} of the parameters are pruned; AP50 is {day['ap50']:.2f} by day and "
        f"{night['ap50']:.2f} by night, mIoU {overall['miou']:.2f}."
    )


def _with_objects(samples: Dataset, is_day: bool) -> list[Sample]:
    """Return the first samples of this light that have objects."""
    every = (samples[index] for index in range(len(samples)))
    return [s for s in every if s.is_day is is_day and len(s.labels["boxes"].classes)][:SAMPLES]


def _layer_chart(shrunk: Shrunk, run: Run) -> bytes:
    order = {name: index for index, (name, _) in enumerate(run.network.named_modules())}
    layers = sorted(shrunk.report.layers, key=lambda layer: order.get(layer.name.removesuffix(".weight"), len(order)))
    stages = [layer_stage(layer.name) for layer in layers]
    return channels_by_layer([layer.before for layer in layers], [layer.after for layer in layers], stages, 3.4)
