"""The whole journey on real RGB-IR pairs: train, export, judge run and bundle; figures into results/rgbir.json.

    make bench-rgbir                    # both networks; needs EDGEMTL_DATA, and EDGEMTL_WEIGHTS for MobileNetV2
    python benchmarks/rgbir.py rgbir-n  # one of them

A finished training in out/bench/rgbir/NETWORK is used again, so that a stopped benchmark can go on.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

from edgemtl.config import load
from edgemtl.console import print_table
from edgemtl.data.loader import fitted_images
from edgemtl.data.open import open_data
from edgemtl.evaluate import evaluate, open_predictor, table
from edgemtl.export import export
from edgemtl.latency import latencies_ms
from edgemtl.run import CONFIG, Run
from edgemtl.train import train
from edgemtl_export import shrink
from edgemtl_export.to_onnx import Deployed, example_inputs, write_onnx

HERE = Path(__file__).parent
OUT = Path("out/bench/rgbir")
NETWORKS = ("rgbir-n", "rgbir-mobilenetv2")


def measure(network: str) -> dict[str, object]:
    """Train one network if that was not done yet, export it, and return its figures."""
    folder = OUT / network
    source = Path(os.environ["EDGEMTL_DATA"]) / "rgbir"
    config = load(HERE / f"{network}.yaml", [f"data.source={source}"])
    started = time.monotonic()
    run = Run.open(folder) if (folder / CONFIG).is_file() else train(config, folder)
    samples = open_data(run.config)["val"]
    bundle, shrunk = export(run, OUT / f"{network}-bundle", samples)
    judged = {"run": run.metrics["val"], "bundle": evaluate(open_predictor(bundle.path), samples)}
    for name, figures in judged.items():
        print_table(table(figures), f"{network}: {name}")
    full = OUT / f"{network}-dense.onnx"
    write_onnx(run.deployed(), full)
    inputs = {spec.name: spec for spec in bundle.manifest.inputs}
    models = {"full": full, "shrunk": bundle.model}
    for align in (1, 16):  # the bundle has 8
        models[f"aligned to {align}"] = OUT / f"{network}-align{align}.onnx"
        other = shrink(run.network, (), example_inputs(run.interface.inputs), align=align)
        write_onnx(Deployed(other.module(), run.interface.inputs, run.interface.heads), models[f"aligned to {align}"])
    latency = latencies_ms(models, fitted_images(samples[0], inputs))
    return {
        "network": network,
        "pairs": {"train": 273, "val": len(samples)},
        "size": list(run.config.size),
        "epochs": run.config.epochs,
        "batch": run.config.batch,
        "seed": run.config.seed,
        "training_seconds": run.metrics["seconds"],
        "seconds": round(time.monotonic() - started, 1),
        "removed": shrunk.report.summary(),
        "parity": bundle.manifest.parity,
        "latency_ms_one_thread": latency,
        "latency_ratio": latency["shrunk"] / latency["full"],
        **judged,
    }


def main() -> None:
    """Measure the networks named on the command line, or all, and write the results."""
    if "EDGEMTL_DATA" not in os.environ:
        sys.exit("benchmarks/rgbir.py: EDGEMTL_DATA is not set; it names the folder that holds rgbir/")
    file = HERE / "results" / "rgbir.json"
    file.parent.mkdir(exist_ok=True)
    for network in sys.argv[1:] or NETWORKS:
        figures = measure(network)
        results = json.loads(file.read_text()) if file.is_file() else {}  # another network may be done by now
        results |= {"machine": f"{os.cpu_count()} cores, {platform.machine()}", network: figures}
        file.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {file}")


if __name__ == "__main__":
    main()
