"""The figures in README.md, written from the results of the benchmarks that measured them.

python benchmarks/readme_page.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from methods_page import Matrix, spread
from page_section import table, write_section
from rgbir_page import Variants, formatted

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
SECTION = "measured"
RESULTS = ROOT / "benchmarks" / "results"
OURS = "aligned_sparse"
PAIRS = {
    "rgb": "colour only",
    "ir": "thermal only",
    "mid": "`concat`: fused at three levels",
    "aligned_sparse": "aligned, pruned, registered",
}
"""Variants of rgbir.json as README calls them."""
COLUMNS = {
    "ap50": "AP50",
    "ap50_day": "day",
    "ap50_night": "night",
    "ap50_rgb_missing": "colour missing",
    "ap50_ir_missing": "thermal missing",
    "ap50_shift8": "thermal 8 px off",
}
PRUNED = "sparse to 70 %, by 8"


def section() -> str:
    """Return the section: the demo, RGB-IR pairs, then a line for each of the other parts."""
    return "\n\n".join(
        (
            _demo(_rows("demo")),
            _pairs(_rows("rgbir")["runs"]),
            "\n".join((*_methods(_rows("methods")["runs"]), *_rest())),
        )
    )


def _rows(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _demo(figures: dict[str, Any]) -> str:
    head, *body = figures["table"]
    dense, shrunk = ({name: row[i] for i, name in enumerate(head)} for row in (body[0], body[-1]))
    lost = {name: float(dense[name]) - float(shrunk[name]) for name in ("AP50", "mIoU")}
    costs = f"{figures['steps']} steps, at most {figures['peak_mb'] / 1024:.1f} GB, {figures['seconds']:.0f} s"
    share = f"{figures['latency_ratio']:.2f} of the milliseconds"
    above = [
        f"Held-out drawn streets, 160×128, `make demo` ({costs} on two cores of an",
        f"{figures['machine']}; one seed): at {share} AP50 is {lost['AP50']:.3f} lower, mIoU {lost['mIoU']:.3f}:",
    ]
    return "\n".join(above) + "\n\n" + table([head, *body])


def _pairs(runs: list[dict[str, Any]]) -> str:
    variants = Variants(runs, list(PAIRS))
    seeds = {len(rows) for rows in variants.rows.values()}
    head = ["network", *COLUMNS.values(), "parameters", "latency"]
    body = [
        [
            PAIRS[name],
            *(formatted(variants.mean(name, key)) for key in COLUMNS),
            formatted(variants.mean(name, "params"), ",.0f"),
            formatted(variants.mean(name, "latency_to_mid"), ".2f"),
        ]
        for name in variants.names
    ]
    apart = [PAIRS[name] for name in variants.names if variants.interval(name)[1] < variants.interval(OURS)[0]]
    above = [
        "Real RGB-IR pairs, 320×240 (MSRS subset: 273 for training, 122 held out; ImageNet's MobileNetV2, 12 epochs,",
        f"means of {seeds.pop()} seeds, `make bench-rgbir`, [all rows](docs/rgbir.md)); latency: of `concat`'s:",
    ]
    below = f"The 90 % intervals of AP50 of the last row and the others overlap, but for: {', '.join(apart) or 'none'}."
    return "\n\n".join(("\n".join(above), table([head, *body]), below))


def _methods(runs: list[dict[str, Any]]) -> list[str]:
    matrix = Matrix(runs, "kitchen", "rgbir-mobilenetv2")
    joint, pruned = spread(matrix.gains("joint")), spread(matrix.gains(PRUNED))
    latency = [row["latency_by_8_to_dense"] for row in matrix.of(PRUNED)]
    return [
        "- **Multi-task learning** (RedKitchen, four dense tasks, MobileNetV2, "
        f"{len(matrix.gains('joint'))} seeds, `make bench-methods`): Δm against single-task",
        f"  networks is {joint} % for one network of all four, and {pruned} % with 70 % of its trunk's parameters",
        f"  pruned, at {sum(latency) / len(latency):.2f} of its latency on one thread "
        "([all methods](docs/methods-measured.md)).",
    ]


def _rest() -> list[str]:
    cases = [case for case in _rows("shrink") if (case["tool"], case["mode"]) == ("edgemtl", "coupled")]
    exact = sum(case["ok"] for case in cases)
    live = _rows("live")
    throughput = next(row for row in live["throughput"] if row["camera"] == "640x480")
    beyond = next(row["beyond_ms"] for row in live["latency"] if row["fps"] == 15)
    machine = f"{live['machine']['cores']} cores of an {live['machine']['cpu']}"
    return [
        f"- **Exact removal** on {exact} of {len(cases)} networks, [next to others](docs/shrinking.md).",
        f"- **Live** ({machine}, one inference thread, cameras of 640×480 in memory, `make bench-live`):",
        f"  {throughput['ratio']:.3f} of the throughput of a bare ONNX Runtime loop; at 15 pairs a second results come",
        f"  {beyond['p99']:.1f} ms after inference's own time (p99). [All figures, and faults](docs/live.md).",
    ]


def main() -> None:
    """Write the section again, after a demo with that one's figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, metavar="FILE", help="demo.json of a demo")
    args = parser.parse_args()
    if args.demo:
        (RESULTS / "demo.json").write_text(args.demo.read_text())
    write_section(PAGE, SECTION, section())


if __name__ == "__main__":
    main()
