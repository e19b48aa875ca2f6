"""Bundles in fp32, fp16 and int8 of runs on real data: size, latency and each head's metric; into results/deploy.json.

    python benchmarks/deploy.py out/bench/rgbir/aligned_sparse-0 out/bench/methods/kitchen/joint-0

Needs EDGEMTL_DATA. Exports each run for ONNX Runtime and for TensorRT, evaluates every precision on the held-out split
as `edgemtl export` does, and times those of ONNX Runtime in turns. What is for TensorRT is evaluated on the CPU by
rounding to fp16, and not timed: that takes a GPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import deploy_page
import msgspec
from common import save_row

from edgemtl.console import print_message, print_table
from edgemtl.export import Options, export
from edgemtl.run import Run
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.benchmark import benchmark
from edgemtl_runtime.engine.config import engine_configs

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "deploy.json"
OUT = Path("out/bench/deploy")


def measure(path: Path, target: str, seconds: float) -> dict[str, Any]:
    """Return the row of a run's bundle for a backend: sizes, metrics by precision, latency."""
    run = Run.open(path)
    name = f"{path.parent.name}-{path.name}"
    options = Options(precisions=("fp16", "int8"), backend=target)  # type: ignore[arg-type]
    bundle, shrunk = export(
        run,
        OUT / f"{name}-{target}",
        None,
        options,
        lambda text, *_: print_message(f"{name}, {target}: {text}"),
        overwrite=True,
    )
    manifest = bundle.manifest
    row: dict[str, Any] = {
        "run": name,
        "network": manifest.name,
        "tasks": [head.name for head in manifest.heads],
        "target": target,
        "parameters": shrunk.report.parameters_after,
        "parameters_before": shrunk.report.parameters_before,
        "precisions": manifest.precisions,
        "rejected": manifest.rejected,
    }
    if target == "onnxruntime":
        opened = Bundle.open(bundle.path)
        timings, _ = benchmark(opened, engine_configs(opened, "onnxruntime-cpu"), seconds)
        row["timings"] = [msgspec.to_builtins(timing) for timing in timings]
    return row


def main() -> None:
    """Measure the runs that the command line names, write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=30, help="of timing a bundle (%(default)s)")
    given = parser.parse_args()
    table = [["", "for", "precision", "kB", "figures", "ms of fp32's"]]
    for path in given.runs:
        for target in ("onnxruntime", "tensorrt"):
            row = measure(path, target, given.seconds)
            save_row(RESULTS, "bundles", row, "run", "target")
            table += lines(row)
    deploy_page.write(json.loads(RESULTS.read_text())["bundles"])
    print_table(table, "bundles of runs on real data")


def lines(row: dict[str, Any]) -> list[list[str]]:
    """Return a row's lines of the table, a precision each."""
    times = deploy_page.times_ms(row)
    table = []
    for name, figures in row["precisions"].items():
        text = ", ".join(f"{h} {v:.4f}" for h, metrics in figures["scores"].items() for v in metrics.values())
        ratio = f"{times[name] / times['fp32']:.2f}" if times else "not timed"
        table.append([row["run"], row["target"], name, f"{figures['bytes'] / 1000:,.0f}", text, ratio])
    rejected = row["rejected"] if "rejected" in row else row["refused"]  # the key of version 0.1
    return table + [[row["run"], row["target"], name, "rejected", why, ""] for name, why in rejected.items()]


if __name__ == "__main__":
    main()
