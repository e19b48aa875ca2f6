"""The demo's report: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from pathlib import Path
from string import Template

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.draw import draw
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.result import Result
from edgemtl_runtime.stats import Stats

from .data.sample import Sample, Samples
from .evaluate import Figures, Predictor, open_predictor, table
from .run import Run

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgemtl demo</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 68em; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .3em .9em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #999 }
figure { margin: 0 0 1em } figcaption { color: #555; font-size: .9em } img { max-width: 100% }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(30em, 1fr)); gap: 1em } .grid img { width: 100% }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto }
</style></head><body>
<h1>One small network on two cameras</h1>
<p>$summary</p>
<h2>Dense, sparse, shrunk</h2>
$comparison
<p>Dense: trained beside it at full width. Sparse: the channels are zero but still computed. Shrunk: the same answers
without them. Latency is ONNX Runtime's on one thread of this machine, all three in turns.</p>
<h2>By day</h2><div class="grid">$day</div>
<h2>By night</h2><div class="grid">$night</div>
<p>Held-out streets, never trained on. Left: the colour camera, the label map over it. Right: the thermal camera.</p>
<h2>The bundle, by class and light</h2>$figures
<h2>What each layer kept</h2>$layers
<h2>Training</h2>$curves
<h2>The two streams</h2><pre>$stats</pre>
<p><code>stream.mp4</code> beside this page shows them. The bundle ran on two folders of pictures, paired by time, as
fast as they could be read.</p>
</body></html>
""")


def write_report(
    file: Path,
    bundle: Bundle,
    run: Run,
    dense: Run,
    samples: Samples,
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
    drawn = {name: [_draw(sample, predictor) for sample in chosen] for name, chosen in (("day", day), ("night", night))}
    (file.parent / "result.png").write_bytes(_png(np.vstack([np.hstack(drawn[name][:2]) for name in drawn])))
    pictures = {
        name: "".join(_image(_png(one), f"street {s.name}") for one, s in zip(drawn[name], chosen, strict=True))
        for name, chosen in (("day", day), ("night", night))
    }
    page = PAGE.substitute(
        summary=html.escape(summary),
        comparison=_table(comparison),
        day=pictures["day"],
        night=pictures["night"],
        figures=_table(table(figures)),
        layers=_image(_layer_chart(shrunk), "channels before (grey) and after (blue)"),
        curves=_image((run.path / "curves.png").read_bytes(), "sparse, then shrunk")
        + _image((dense.path / "curves.png").read_bytes(), "dense twin"),
        stats=html.escape(stats.table()),
    )
    file.write_text(page)


def _draw(sample: Sample, predictor: Predictor) -> NDArray[np.uint8]:
    frames = {name: Frame(image, 0, name, 0) for name, image in sample.images.items()}
    return draw(FramePair(frames), Result(predictor(sample), "rgb", 0, 0, 0))


def _png(image: NDArray[np.uint8]) -> bytes:
    _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return png.tobytes()


def _image(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _table(rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(word)}</th>" for word in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(word)}</td>" for word in row) + "</tr>" for row in rows[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


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
    buffer = BytesIO()
    figure.savefig(buffer, dpi=100)
    return buffer.getvalue()


def _stage(layer: str) -> str:
    """Return the part of the network that a weight belongs to, for the axis: ``rgb.stage8``, ``top16``, ``boxes``."""
    parts = layer.replace("trunk.", "").replace("backbones.", "").replace("heads.", "").split(".")
    return ".".join(parts[:2]) if parts[0] in ("rgb", "ir") else parts[0]
