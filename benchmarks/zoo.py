"""Sizes and milliseconds of the zoo's networks, for the table of networks on the documentation's site.

    make bench-zoo    # results/zoo.json

Each network finds boxes of three classes in colour images alone and in both cameras' (fused by concatenation), 640×512
pixels; what only training needs is removed. ONNX Runtime on one thread, all networks in turns.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

import onnx
import torch

import edgemtl_models
from edgemtl_export import shrink
from edgemtl_export.latency import interleaved, random_inputs, session
from edgemtl_export.to_onnx import onnx_of
from edgemtl_runtime.engine.cpu import cpu_name

RESULTS = Path(__file__).parent / "results" / "zoo.json"
SIZE = (512, 640)
CAMERAS = {"colour": ("rgb",), "both": ()}
CLASSES, REPEATS = 3, 20


def write_network(name: str, modalities: tuple[str, ...], file: Path) -> dict[str, int]:
    """Write the ONNX of a network without its weights, and return its sizes."""
    torch.manual_seed(0)
    network = edgemtl_models.build(name, {"boxes": CLASSES}, SIZE, modalities=modalities, pretrained=False).eval()
    inputs = {key: torch.rand(1, spec.channels, *SIZE) for key, spec in network.inputs.items()}
    shrunk = shrink(network, (), inputs, verify=False)
    onnx.save(onnx_of(shrunk.program), file)
    return {"params": shrunk.report.parameters_after, "flops": shrunk.report.flops_after}


def main() -> None:
    """Measure every network of the zoo, and write the rows."""
    with tempfile.TemporaryDirectory() as folder:
        rows, files = [], []
        for name in edgemtl_models.zoo():
            for cameras, modalities in CAMERAS.items():
                file = Path(folder) / f"{name}-{cameras}.onnx"
                rows.append({"network": name, "cameras": cameras, **write_network(name, modalities, file)})
                files.append(file)
        runs = []
        for file in files:
            engine = session(str(file), 1)
            inputs = random_inputs(engine)
            runs.append(lambda engine=engine, inputs=inputs: engine.run(None, inputs))
        times_s = interleaved(runs, repeats=REPEATS, of=median)
    for row, time_s in zip(rows, times_s, strict=True):
        row["latency_ms"] = round(1e3 * time_s, 2)
    out = {"size": list(SIZE), "classes": CLASSES, "machine": cpu_name(), "rows": rows}
    RESULTS.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
