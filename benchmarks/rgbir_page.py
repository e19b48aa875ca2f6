"""docs/rgbir.md and its plots, written from the results of `rgbir.py`."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from shrinking_page import rows

from edgemtl.corruptions import SHIFTS_PX

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "rgbir.md"
OURS = "aligned_sparse"
Row = dict[str, Any]
RENAMED = {"ap50_rgb_absent": "ap50_rgb_missing", "ap50_ir_absent": "ap50_ir_missing"}
"""Keys in rows of version 0.1, and today's names."""
ABLATION = (
    "",
    "What the thesis' idea rests on: streams that have nothing in common (*aligned nowhere*), lower layers (*below*),",
    "higher ones (*shared*) or all (*everywhere*); *aligned* has four fifths of the higher ones' weights in common.",
    "All have an auxiliary unimodal loss, which mid has not.",
)


class Variants:
    """The rows of every variant, as means over its seeds."""

    def __init__(self, runs: list[Row], order: list[str]) -> None:
        rows = [{RENAMED.get(key, key): value for key, value in run.items()} for run in runs]
        self.rows = {name: [r for r in rows if r["variant"] == name] for name in order}
        self.names = [name for name in order if self.rows[name]]

    def mean(self, variant: str, key: str) -> float | None:
        """Return a metric's mean over the seeds, None where a variant has none."""
        values = [r[key] for r in self.rows[variant]]
        return None if not values or None in values else fmean(values)

    def interval(self, variant: str) -> tuple[float, float]:
        """Return the mean of the ends of the seeds' bootstrap intervals of AP50."""
        low, high = zip(*(r["ap50_interval"] for r in self.rows[variant]), strict=True)
        return fmean(low), fmean(high)

    def of_mid(self, variant: str) -> float | None:
        """Return the share of mid's parameters."""
        params, mid = self.mean(variant, "params"), self.mean("mid", "params")
        return params / mid if params and mid else None

    def at_shift(self, variant: str, px: int) -> float | None:
        """Return the mean AP50 with the infrared image shifted."""
        values = [r["figures"].get(f"shift {px} px", {}).get("ap50") for r in self.rows[variant]]
        return fmean(values) if values and None not in values else None


def formatted(value: float | None, form: str = ".3f") -> str:
    """Return a metric for a table's cell, empty where there is none."""
    return "" if value is None else format(value, form)


def whole_table(variants: Variants) -> list[str]:
    """Return the table of every variant but the ablations."""
    head = ["", "AP50, 90 % interval", "AP", "day", "night", "rgb missing", "ir missing", "shift 8 px"]
    head += ["parameters", "of mid's", "latency, of mid's", "tied", "seeds"]
    body = []
    for name in variants.names:
        low, high = variants.interval(name)
        cells = [name, f"{variants.mean(name, 'ap50'):.3f} ({low:.3f} to {high:.3f})"]
        for key in ("ap", "ap50_day", "ap50_night", "ap50_rgb_missing", "ap50_ir_missing", "ap50_shift8"):
            cells.append(formatted(variants.mean(name, key)))
        cells += [formatted(variants.mean(name, "params"), ",.0f"), formatted(variants.of_mid(name), ".2f")]
        cells += [
            formatted(variants.mean(name, "latency_to_mid"), ".2f"),
            formatted(variants.mean(name, "tied_share"), ".2f"),
        ]
        body.append([*cells, str(len(variants.rows[name]))])
    return rows(head, body)


def against(variants: Variants) -> list[str]:
    """Return how each variant's AP50 stands against that of the smallest aligned one; overlap is undecided."""
    low, high = variants.interval(OURS)
    body = []
    for name in variants.names:
        if name == OURS:
            continue
        other_low, other_high = variants.interval(name)
        difference = (variants.mean(OURS, "ap50") or 0) - (variants.mean(name, "ap50") or 0)
        decided = "better" if low > other_high else "worse" if high < other_low else "undecided"
        body.append([name, f"{difference:+.3f}", decided])
    return rows([f"{OURS} against", "AP50", "by the intervals"], body)


def asked(variants: Variants) -> list[str]:
    """Return the requirements for the smallest aligned variant, and its results."""
    ours = {key: variants.mean(OURS, key) for key in ("ap50", "ap50_day", "ap50_night", "ap50_shift8")}
    lost = {
        name: (variants.mean(name, "ap50") or 0) - (variants.mean(name, "ap50_shift8") or 0) for name in (OURS, "mid")
    }
    best = max((n for n in variants.names if "aligned" not in n), key=lambda n: variants.mean(n, "ap50") or 0)
    share = variants.of_mid(OURS)

    def kept(camera: str, missing: str) -> float:
        return (variants.mean(OURS, f"ap50_{missing}_missing") or 0) / (variants.mean(camera, "ap50") or 1)

    body = [
        ["AP50 at least the best baseline's", f"{ours['ap50']:.3f}, {best} {variants.mean(best, 'ap50'):.3f}"],
        ["at most 0.60 of mid's parameters", formatted(share, ".2f")],
        ["better than rgb by day", f"{ours['ap50_day']:.3f}, {formatted(variants.mean('rgb', 'ap50_day'))}"],
        ["better than ir by night", f"{ours['ap50_night']:.3f}, {formatted(variants.mean('ir', 'ap50_night'))}"],
        ["ir missing: at least 0.90 of rgb's AP50", f"{kept('rgb', 'ir'):.2f}"],
        ["rgb missing: at least 0.90 of ir's AP50", f"{kept('ir', 'rgb'):.2f}"],
        ["8 px: loses at most half of what mid loses", f"{lost[OURS]:.3f}, mid {lost['mid']:.3f}"],
    ]
    return rows(["required", "measured"], body)


def panels(count: int) -> tuple[Any, Any]:
    """Return a figure and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * count, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=8)
    return figure, axes


def draw_costs(variants: Variants, file: Path) -> None:
    """Draw AP50 against parameters and latency."""
    figure, axes = panels(2)
    words = {"params": "parameters, thousands", "latency_to_mid": "latency, relative to mid"}
    for panel, (key, label) in zip(axes, words.items(), strict=True):
        for name in (n for n in variants.names if not n.startswith("aligned ")):
            x, y = (variants.mean(name, key) or 0) / (1e3 if key == "params" else 1), variants.mean(name, "ap50") or 0
            low, high = variants.interval(name)
            mark = "D" if name == OURS else "s" if "aligned" in name or name == "shared" else "o"
            bars = [[y - low], [high - y]]
            panel.errorbar(x, y, bars, fmt=mark, capsize=2, markersize=5, elinewidth=0.7, label=name)
        panel.set_xlabel(label, fontsize=8)
        panel.set_ylabel("AP50, 90 % interval", fontsize=8)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)


def draw_shift(variants: Variants, file: Path) -> None:
    """Draw AP50 over the shift of the infrared image, and the loss against the unshifted."""
    figure, axes = panels(2)
    for name in variants.names:
        start = variants.mean(name, "ap50")
        points = [(px, value) for px in SHIFTS_PX if (value := variants.at_shift(name, px)) is not None]
        if start is None or not points or name.startswith("aligned "):
            continue
        axes[0].plot(*zip((0, start), *points, strict=True), marker="o", markersize=3, label=name)
        axes[1].plot(*zip((0, 0.0), *((px, start - y) for px, y in points), strict=True), marker="o", markersize=3)
    for panel, label in zip(axes, ("AP50", "AP50 lost"), strict=True):
        panel.set_xlabel("shift, pixels of the labels", fontsize=8)
        panel.set_ylabel(label, fontsize=8)
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(file, dpi=110)


def draw_tied(variants: Variants, file: Path) -> None:
    """Draw the share of each convolution's channels that both streams have tied."""
    figure, axes = panels(1)
    figure.set_size_inches(11, 3.6)
    names = [n for n in ("aligned", OURS) if n in variants.names]
    paths = list(dict.fromkeys(path for n in names for r in variants.rows[n] for path in r["tied"]))
    paths.sort(key=_depth)
    for name in names:
        shares = [fmean(r["tied"].get(path, 0.0) for r in variants.rows[name]) for path in paths]
        axes[0].step(range(len(paths)), shares, where="mid", label=name)
    axes[0].set_xticks(range(len(paths)), paths, rotation=90, fontsize=5)
    axes[0].set_ylabel("share of channels tied", fontsize=8)
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=130)


def _depth(path: str) -> tuple[int, str]:
    """Return a convolution's depth in the network, a key to sort by."""
    parts = ("stem", "stage2", "stage3", "stage4")
    first = path.split(".")[0]
    return parts.index(first) if first in parts else len(parts), path


def write_page(runs: list[Row], order: list[str]) -> None:
    """Write the page and its plots."""
    variants = Variants(runs, order)
    lines = [
        "# RGB-IR detectors, measured",
        "",
        "Written by `make bench-rgbir` from `benchmarks/results/rgbir.json`; the settings are in",
        "`benchmarks/rgbir.yaml`, what each variant changes in `benchmarks/rgbir.py`. Real pairs: 273 to train on,",
        "122 held out; ImageNet's MobileNetV2 in each stream. Parameters and latency (ONNX Runtime, one thread,",
        "in turns with mid) are those of the shrunk network. Means over the seeds; an interval is the mean of the",
        "seeds' bootstrap intervals over images. Infrared is shifted by as many pixels of the labels in four",
        "directions. *tied*: share of the channels, of the layers from stride 4 on, whose weights both streams share.",
        "aligned_sparse alone registers infrared to colour (`fusion.registration_radius=2`).",
        "All but the single modalities train with one missing in 15 % of the items and misaligned by up to 1 %.",
        *(ABLATION if {"aligned nowhere", "aligned below"} & set(variants.names) else ()),
        "",
        *whole_table(variants),
    ]
    draw_costs(variants, DOCS / "rgbir-costs.png")
    draw_shift(variants, DOCS / "rgbir-shift.png")
    lines += ["![AP50 against parameters and latency](rgbir-costs.png)", ""]
    lines += ["![AP50 over the shift of the infrared image](rgbir-shift.png)", ""]
    if {"aligned", OURS} & set(variants.names):
        draw_tied(variants, DOCS / "rgbir-tied.png")
        lines += ["![share of channels tied, by layer](rgbir-tied.png)", ""]
    if {"rgb", "ir", "mid", OURS} <= set(variants.names):
        lines += ["## Requirements", "", *asked(variants), *against(variants)]
    PAGE.write_text("\n".join(lines))
    print(f"wrote {PAGE}")
