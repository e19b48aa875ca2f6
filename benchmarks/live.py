"""Throughput of the live pipeline against a bare ONNX Runtime loop over the same, preloaded frames.

    make bench-live   # needs EDGEMTL_DATA and out/bench/rgbir/aligned_sparse-0 (make bench-rgbir)
    python benchmarks/live.py BUNDLE|RUN

Both run the 122 validation pairs as fast as they can with one inference thread, in turns, without sinks; the pipeline
reads, decodes, pairs, fits and decodes results, the bare loop only infers. Written to results/live.json.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from edgemtl.export import export
from edgemtl.run import CONFIG, Run
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.engine.ort import OrtEngine
from edgemtl_runtime.fit import Fit
from edgemtl_runtime.pipeline import Pipeline

HERE = Path(__file__).parent
ROUNDS = 9
THREADS = 1


def preload(bundle: Bundle, folder: Path) -> list[dict[str, object]]:
    """Read and fit every pair."""
    frames = []
    for file in sorted((folder / "rgb" / "val").iterdir()):
        rgb = cv2.imread(str(file))[:, :, ::-1]
        ir = cv2.imread(str(folder / "ir" / "val" / file.name), cv2.IMREAD_GRAYSCALE)
        images = {"rgb": rgb, "ir": ir}
        frames.append(
            {
                spec.name: Fit.plan(rgb.shape[:2], (spec.height, spec.width)).image(
                    images[spec.name], spec.channels, spec.blank
                )[None]
                for spec in bundle.manifest.inputs
            }
        )
    return frames


def bare(engine: OrtEngine, frames: list[dict[str, object]]) -> float:
    """Return pairs a second of inference alone."""
    start = time.perf_counter()
    for frame in frames:
        engine.run(frame)
    return len(frames) / (time.perf_counter() - start)


def pipeline(bundle: Bundle, engine: OrtEngine, folder: Path) -> float:
    """Return pairs a second of the whole pipeline, from opening the folders to the last result."""
    start = time.perf_counter()
    cameras = open_cameras({name: str(folder / name / "val") for name in ("rgb", "ir")})
    stats = Pipeline(bundle, engine, cameras).run()
    assert not stats.drops
    return stats.pairs / (time.perf_counter() - start)


def opened(path: Path, room: Path) -> Bundle:
    """Open a bundle, or what a run becomes, written into ``room``."""
    return export(Run.open(path), room / "bundle")[0] if (path / CONFIG).is_file() else Bundle.open(path)


def main() -> None:
    """Measure what the command line names."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/bench/rgbir/aligned_sparse-0")
    if "EDGEMTL_DATA" not in os.environ:
        sys.exit("benchmarks/live.py: EDGEMTL_DATA is not set; it names the folder that holds rgbir/")
    folder = Path(os.environ["EDGEMTL_DATA"]) / "rgbir"
    with TemporaryDirectory() as room:
        measure(opened(path, Path(room)), folder)


def measure(bundle: Bundle, folder: Path) -> None:
    """Measure in turns and write the ratio."""
    engine = OrtEngine(bundle.model, THREADS)
    frames = preload(bundle, folder)
    rows = []
    for turn in range(ROUNDS + 1):
        pair = (bare(engine, frames), pipeline(bundle, engine, folder))
        if turn:  # the first one warms up
            rows.append(pair)
            print(f"bare {pair[0]:7.1f}  pipeline {pair[1]:7.1f} pairs/s  ratio {pair[1] / pair[0]:.3f}")
    result = {
        "bundle": bundle.manifest.name,
        "pairs": len(frames),
        "threads": THREADS,
        "rounds": ROUNDS,
        "bare_pairs_per_second": statistics.median(row[0] for row in rows),
        "pipeline_pairs_per_second": statistics.median(row[1] for row in rows),
        "ratio": statistics.median(row[1] / row[0] for row in rows),
        "ratio_range": [min(row[1] / row[0] for row in rows), max(row[1] / row[0] for row in rows)],
    }
    file = HERE / "results" / "live.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(f"ratio {result['ratio']:.3f}; wrote {file}")


if __name__ == "__main__":
    main()
