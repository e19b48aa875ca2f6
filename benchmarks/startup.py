"""Cost of starting: imports, the first result, and memory; into results/deploy.json, list "startup".

    python benchmarks/startup.py BUNDLE

Every script is a subprocess, in turns with what it is compared with; medians. The bare script does by hand
what the runtime does for one pair of images: reads, fits, runs ONNX Runtime on one thread, takes the boxes. The other
detector is ultralytics' YOLO11 in ONNX, of random weights and made as narrow as it takes to be no larger than the
bundle's network, by `predict` at the same size in pixels.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from common import save_row

from edgemtl.console import print_message, print_table
from edgemtl_runtime.bundle import Bundle

RESULTS = Path(__file__).parent / "results" / "deploy.json"
NUM_IMAGES = 20

IMPORTS = {
    "nothing": "",
    "numpy": "import numpy",
    "edgemtl_runtime": "import edgemtl_runtime",
    "edgemtl_runtime.Pipeline": "from edgemtl_runtime import Bundle, Pipeline, open_selected_engine, open_cameras",
}
OURS = """
import cv2, sys
from edgemtl_runtime import Bundle
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.letterbox import Letterbox
bundle = Bundle.open(sys.argv[1])
engine = open_ort_engine(bundle, 1)
folder, count = sys.argv[2], int(sys.argv[3])
for number in range(count):
    inputs = {}
    for spec in bundle.manifest.inputs:
        image = cv2.imread(f"{folder}/{spec.name}-{number}.png", cv2.IMREAD_UNCHANGED)
        fit = Letterbox.plan(image.shape[:2], (spec.height, spec.width))
        inputs[spec.name] = fit.image(image, spec.channels, spec.blank)[None]
    results = decode({k: v[0] for k, v in engine.run(inputs).items()}, bundle.manifest.heads, fit)
print(len(results["boxes"].scores))
"""
BARE = """
import json, sys
import cv2, numpy as np, onnxruntime as ort
manifest = json.load(open(sys.argv[1] + "/manifest.json"))
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1] + "/model.onnx", options, providers=["CPUExecutionProvider"])
folder, count = sys.argv[2], int(sys.argv[3])
for number in range(count):
    inputs = {}
    for spec in manifest["inputs"]:
        image = cv2.imread(f"{folder}/{spec['name']}-{number}.png", cv2.IMREAD_UNCHANGED)
        if image.ndim == 3 and spec["channels"] == 1:
            image = image[:, :, 0]
        scale = min(spec["width"] / image.shape[1], spec["height"] / image.shape[0])
        small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
        canvas = np.full((spec["height"], spec["width"], spec["channels"]), 114, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small.reshape(*small.shape[:2], -1)
        inputs[spec["name"]] = canvas[None]
    boxes = session.run(["boxes"], inputs)[0][0]
    boxes = boxes[boxes[:, 4] > 0.25]
print(len(boxes))
"""
ULTRALYTICS = """
import sys
from ultralytics import YOLO
model = YOLO(sys.argv[1], task="detect")
folder, count, height, width = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
for number in range(count):
    file = f"{folder}/rgb-{number}.png"
    results = model.predict(file, imgsz=(height, width), device="cpu", verbose=False, save=False)
print(len(results[0].boxes))
"""
TAIL = """
held = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(held.split()[1])
"""


def timed(source: str, *words: str) -> tuple[float, float]:
    """Return the seconds that a script takes from its start to its end, and the most memory it held, MB."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", source + TAIL, *words], capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"benchmarks/startup.py: {done.stderr.strip().splitlines()[-1]}")
    return taken, int(done.stdout.split()[-1]) / 1024


def in_turns(scripts: dict[str, tuple[str, ...]], turns: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds and memory of each script, run in turns; the first turn is not counted."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in scripts}
    for turn in range(turns + 1):
        for name, words in scripts.items():
            seconds_mb = timed(*words)
            if turn:
                runs[name].append(seconds_mb)
    return {name: (median(t for t, _ in values), median(m for _, m in values)) for name, values in runs.items()}


def write_images(folder: Path, bundle: Bundle) -> None:
    """Write images of 640x480 for every camera of a bundle."""
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        for spec in bundle.manifest.inputs:
            coarse = rng.integers(0, 256, (12, 16, spec.channels), np.uint8)
            cv2.imwrite(str(folder / f"{spec.name}-{number}.png"), cv2.resize(coarse, (640, 480)))


def rival(folder: Path, most: int, size: tuple[int, int]) -> Path:
    """Return ultralytics' detector in ONNX, the widest that is no larger than ``most`` bytes."""
    import ultralytics
    import yaml

    base = Path(ultralytics.__file__).parent / "cfg/models/11/yolo11.yaml"
    file = folder / "rival.onnx"
    for width in np.arange(0.25, 0.05, -0.01):
        given = yaml.safe_load(base.read_text()) | {"scales": {"n": [0.5, float(round(width, 2)), 1024]}}
        (folder / "rival.yaml").write_text(yaml.safe_dump(given))
        model = ultralytics.YOLO(folder / "rival.yaml", task="detect", verbose=False)
        if 4 * sum(p.numel() for p in model.model.parameters()) <= most:
            Path(model.export(format="onnx", imgsz=size, simplify=False)).rename(file)
            return file
    sys.exit("benchmarks/startup.py: no width of ultralytics' detector is as small as the bundle's network")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    spec = bundle.manifest.inputs[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, bundle)
        other = rival(folder, bundle.model.stat().st_size, (spec.height, spec.width))
        print_message(f"{bundle.model.stat().st_size / 1e6:.1f} MB, ultralytics' {other.stat().st_size / 1e6:.1f} MB")
        imports = in_turns({key: (source,) for key, source in IMPORTS.items()}, 2 * given.turns)
        ours_args, other_args = (str(bundle.path), name), (str(other), name)
        size = (str(spec.height), str(spec.width))
        first = in_turns({"ours": (OURS, *ours_args, "1"), "bare": (BARE, *ours_args, "1")}, given.turns)
        many = str(NUM_IMAGES)
        memory = in_turns(
            {
                "ours": (OURS, *ours_args, many),
                "bare": (BARE, *ours_args, many),
                "ultralytics": (ULTRALYTICS, *other_args, many, *size),
            },
            3,
        )
        row: dict[str, Any] = {
            "bundle": given.bundle.name,
            "bytes": {"ours": bundle.model.stat().st_size, "ultralytics": other.stat().st_size},
            "import_ms_over_numpy": {k: 1e3 * (t - imports["numpy"][0]) for k, (t, _) in imports.items()},
            "first_result_s": {k: t for k, (t, _) in first.items()},
            "first_result_to_bare": first["ours"][0] / first["bare"][0],
            "memory_mb": {k: m for k, (_, m) in memory.items()},
            "memory_to_ultralytics": memory["ours"][1] / memory["ultralytics"][1],
            "images": NUM_IMAGES,
        }
    save_row(RESULTS, "startup", row, "bundle")
    table = [["", "measured", "required"]]
    for key in ("edgemtl_runtime", "edgemtl_runtime.Pipeline"):
        table.append([f"import {key}, over numpy", f"{row['import_ms_over_numpy'][key]:.0f} ms", "60 ms"])
    table.append(["first result, of a bare script's", f"{row['first_result_to_bare']:.2f}", "2"])
    table.append(["memory, of ultralytics'", f"{row['memory_to_ultralytics']:.2f}", "0.33"])
    print_table(table, f"{given.bundle}, medians in turns")


if __name__ == "__main__":
    main()
