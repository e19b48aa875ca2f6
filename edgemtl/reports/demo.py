"""The demo's report: one HTML file that needs nothing beside it."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.stats import Stats

from ..data.sample import Dataset
from ..evaluate import Figures, open_predictor, table
from ..run import Run
from ..visualize import drawn
from . import html as parts
from .html import page, section, text

DENSE_SPARSE_SHRUNK = (
    "Dense: trained beside it at full width. Sparse: the channels are zero but still computed. Shrunk: the same "
    "answers without them. Latency is ONNX Runtime's on one thread of this machine, all three in turns."
)
HELD_OUT = (
    "Held-out streets, never trained on. Left: the colour camera, the label map over it. Right: the thermal camera."
)
STREAMS = (
    "stream.mp4 beside this page shows them. The bundle ran on two folders of pictures, paired by time, as fast as "
    "they could be read."
)


def write_report(
    file: Path,
    bundle: Bundle,
    run: Run,
    dense: Run,
    samples: Dataset,
    comparison: list[list[str]],
    figures: Figures,
    shrunk: Shrunk,
    stats: Stats,
) -> None:
    """Write the report of a demo, and ``result.png`` beside it with two of its pictures by day and two by night."""
    report = shrunk.report
    gone = 1 - report.parameters_after / report.parameters_before
    summary = (
        f"Trained for {run.metrics['steps']} steps on drawn streets, colour and thermal, by day and by night. "
        f"{gone:.0%} of the parameters are gone; AP50 is {figures['day']['ap50']:.2f} by day and "
        f"{figures['night']['ap50']:.2f} by night, mIoU {figures['all']['miou']:.2f}."
    )
    day, night = (
        [s for s in (samples[i] for i in range(len(samples))) if s.is_day is light and len(s.labels["boxes"].classes)][
            :4
        ]
        for light in (True, False)
    )
    predictor = open_predictor(bundle.path, threshold=None)
    seen = {
        name: [drawn(sample, predictor(sample)) for sample in chosen]
        for name, chosen in (("day", day), ("night", night))
    }
    (file.parent / "result.png").write_bytes(parts.png(np.vstack([np.hstack(seen[name][:2]) for name in seen])))
    pictures = {
        name: "".join(
            parts.image(parts.png(one), f"street {s.name}") for one, s in zip(seen[name], chosen, strict=True)
        )
        for name, chosen in (("day", day), ("night", night))
    }
    file.write_text(
        page(
            "edgemtl demo",
            "One small network on two cameras",
            text(summary),
            section("Dense, sparse, shrunk", parts.table(comparison), text(DENSE_SPARSE_SHRUNK)),
            section("By day", f'<div class="grid">{pictures["day"]}</div>'),
            section("By night", f'<div class="grid">{pictures["night"]}</div>', text(HELD_OUT)),
            section("The bundle, by class and light", parts.table(table(figures))),
            section(
                "What each layer kept", parts.image(_layer_chart(shrunk), "channels before (grey) and after (blue)")
            ),
            section(
                "Training",
                parts.image((run.path / "curves.png").read_bytes(), "sparse, then shrunk"),
                parts.image((dense.path / "curves.png").read_bytes(), "dense twin"),
            ),
            section("The two streams", f"<pre>{html.escape(stats.table())}</pre>", text(STREAMS)),
        )
    )


def _layer_chart(shrunk: Shrunk) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layers = shrunk.report.layers
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(layers))
    axes.bar(places, [layer.before for layer in layers], color="0.85", width=0.9)
    axes.bar(places, [layer.after for layer in layers], color="tab:blue", width=0.9)
    stages = [_stage(layer.name) for layer in layers]
    starts = [i for i in places if not i or stages[i] != stages[i - 1]]
    axes.set_xticks(starts, [stages[i] for i in starts], rotation=60, ha="right", fontsize=7)
    axes.set_ylabel("channels", fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(x=0.01)
    return parts.drawing(figure)


def _stage(layer: str) -> str:
    """Return the part of the network that a weight belongs to, for the axis: ``rgb.stage8``, ``top16``, ``boxes``."""
    parts = layer.replace("trunk.", "").replace("backbones.", "").replace("heads.", "").split(".")
    return ".".join(parts[:2]) if parts[0] in ("rgb", "ir") else parts[0]
