"""Overhead of the live runtime over a bare ONNX Runtime loop, and its peers on a stream; into results/live.json.

    make bench-live   # needs EDGEMTL_DATA, out/bench/rgbir/aligned_sparse-0 and rgb-0 (make bench-rgbir); 7 minutes
    python benchmarks/live.py --parts latency --pair BUNDLE

throughput: images held in memory, as fast as they are used, the pipeline and the bare loop in turns; the bare loop
has fitted inputs and only infers. latency: the same images as two live cameras at a rate, against a bare loop that
infers as often; "beyond" is from the arrival of a pair's later frame to its result, less inference, and the processor
time of a pair less that of a bare inference. peers: one camera over HTTP, each peer in a subprocess, see
live_streams.py and live_peers.py. One thread for ONNX Runtime everywhere, no sinks. A PATH is a bundle or a run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import live_page
import numpy as np
from live_memory import PAIRS, Held, Memory, TimedEngine, load, network_inputs
from live_peers import PEERS
from live_streams import peers

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.onnxruntime import OrtEngine, cores
from edgemtl_runtime.pipeline import Pipeline

RESULTS = Path(__file__).parent / "results" / "live.json"
PARTS = ("throughput", "latency", "peers")
RATES = (30.0, 15.0)
"""Of the cameras for latency: at the first this network takes most of a period, and a late one makes the next wait."""
ENOUGH = 0.97
BEYOND_MS, BEYOND_SHARE = 3.0, 0.1
"""The most that p99 beyond inference is to be: the larger of the two, the latter of inference."""


def opened(path: Path, room: Path) -> Bundle:
    """Open a bundle, or export a run to one, in a subprocess: torch is not imported."""
    if not (path / "config.yaml").is_file():
        return Bundle.open(path)
    words = [sys.executable, "-m", "edgemtl", "export", str(path), "--out", str(room / path.name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"benchmarks/live.py: {path}: {done.stderr.strip().splitlines()[-1]}")
    return Bundle.open(room / path.name)


def throughput(bundle: Bundle, held: Held, rounds: int) -> dict[str, Any]:
    """Return pairs a second of both loops, and the median of their ratios."""
    engine, inputs = OrtEngine(bundle.model, 1), network_inputs(bundle, held)
    seconds: dict[str, list[float]] = {"bare": [], "pipeline": []}
    for turn in range(rounds + 1):
        for loop in ("bare", "pipeline") if turn % 2 else ("pipeline", "bare"):
            cameras = {name: Memory(name, images, PAIRS) for name, images in held.items()}
            start = time.perf_counter()
            if loop == "bare":
                for feed in inputs:
                    engine.session.run(None, feed)
            else:
                stats = Pipeline(bundle, engine, cameras).run()
                assert stats.pairs == PAIRS and not stats.drops and not stats.unpaired, stats.to_dict()
            if turn:  # the first one warms up
                seconds[loop].append(time.perf_counter() - start)
    ratios = [bare / ours for bare, ours in zip(seconds["bare"], seconds["pipeline"], strict=True)]
    rates = {f"{loop}_pairs_per_second": PAIRS / median(values) for loop, values in seconds.items()}
    size = "x".join(map(str, held["rgb"][0].shape[1::-1]))
    row = {"camera": size, "pairs": PAIRS, "rounds": rounds, **rates, "ratio": median(ratios)}
    return row | {"ratio_range": [min(ratios), max(ratios)], "asked": ENOUGH}


def latency(bundle: Bundle, held: Held, fps: float, seconds: float, turns: int) -> dict[str, Any]:
    """Return the overhead of the pipeline over inference at a camera's rate, in latency and in processor time."""
    engine, inputs = TimedEngine(bundle.model), network_inputs(bundle, held)
    paced(engine, inputs, fps, 30)
    count = round(fps * seconds)
    beyond, infer, bare, bare_beyond, wakes = [], [], [], [], []
    cpu: dict[str, list[float]] = {"bare": [], "pipeline": []}
    drops: dict[str, int] = {}
    for _ in range(turns):
        beyond_ms, wakes_ms, cpu_s = paced(engine, inputs, fps, count)
        bare += engine.times_ms
        bare_beyond += beyond_ms
        wakes += wakes_ms
        cpu["bare"].append(cpu_s * fps)
        begin_ns = time.monotonic_ns() + 200_000_000
        engine.times_ms, ages_ms = [], []
        start = time.process_time()
        pipeline = Pipeline(bundle, engine, {n: Memory(n, images, count, fps, begin_ns) for n, images in held.items()})
        for pair, _ in pipeline:
            ages_ms.append((time.monotonic_ns() - pair.arrived_ns) / 1e6)
        cpu["pipeline"].append((time.process_time() - start) / len(ages_ms) * fps)
        stats = pipeline.stats
        for cause, lost in stats.drops.items():
            drops[cause] = drops.get(cause, 0) + lost
        infer += engine.times_ms
        beyond += [whole - inside for whole, inside in zip(ages_ms, engine.times_ms, strict=True)]
    most_ms = max(BEYOND_MS, BEYOND_SHARE * median(bare))
    shares = [ours - reference for ours, reference in zip(cpu["pipeline"], cpu["bare"], strict=True)]
    return {
        "camera": "x".join(map(str, held["rgb"][0].shape[1::-1])),
        "fps": fps,
        "pairs": len(beyond),
        "beyond_ms": percentiles(beyond),
        "bare_beyond_ms": percentiles(bare_beyond),
        "bare_wakes_ms": percentiles(wakes),
        "inference_ms": percentiles(infer),
        "bare_inference_ms": percentiles(bare),
        "asked_p99_ms": most_ms,
        "within": percentiles(beyond)["p99"] <= most_ms,
        "cores": {loop: median(values) for loop, values in cpu.items()},
        "cores_beyond": median(shares),
        "cores_beyond_range": [min(shares), max(shares)],
        "drops": drops,
    }


def paced(
    engine: TimedEngine, inputs: list[dict[str, Any]], fps: float, count: int
) -> tuple[list[float], list[float], float]:
    """Infer at a rate; return milliseconds beyond each inference, those of waking late, and one's processor seconds.

    An image arrives when the loop wakes for it; where the one before took too long, when it was due.
    """
    begin, start, engine.times_ms, beyond = time.perf_counter() + 0.2, time.process_time(), [], []
    wakes = []
    for index in range(count):
        due = begin + index / fps
        late = time.perf_counter() > due
        time.sleep(max(0.0, due - time.perf_counter()))
        arrived = due if late else time.perf_counter()
        wakes.append(1e3 * (arrived - due))
        engine.run(inputs[index % len(inputs)])
        beyond.append(1e3 * (time.perf_counter() - arrived) - engine.times_ms[-1])
    return beyond, wakes, (time.process_time() - start) / count


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the median, the 90th and the 99th percentile."""
    return {f"p{q}": float(np.percentile(values, q)) for q in (50, 90, 99)}


def machine() -> dict[str, Any]:
    """Return the processor, its load and the versions of the packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ("edgemtl-runtime", "onnxruntime", "numpy", "av")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": cores(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def main() -> None:
    """Measure the parts that the command line names, write them and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    paths = Path("out/bench/rgbir")
    parser.add_argument("--parts", default=",".join(PARTS), help="%(default)s")
    parser.add_argument("--pair", type=Path, default=paths / "aligned_sparse-0", metavar="PATH", help="%(default)s")
    parser.add_argument("--one", type=Path, default=paths / "rgb-0", metavar="PATH", help="for peers, %(default)s")
    parser.add_argument("--rounds", type=int, default=12, help="of throughput (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of latency (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="a turn, and a peer (%(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="%(default)s")
    parser.add_argument("--fps", type=float, default=30, help="of the peers' camera (%(default)s)")
    parser.add_argument(
        "--other-python", type=Path, default=Path("out/peers/venv/bin/python"), help="roboflow's, %(default)s"
    )
    given = parser.parse_args()
    if "EDGEMTL_DATA" not in os.environ:
        sys.exit("benchmarks/live.py: EDGEMTL_DATA is not set; it names the folder that holds rgbir/")
    folder, parts = Path(os.environ["EDGEMTL_DATA"]) / "rgbir", given.parts.split(",")
    report = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    report = {key: report[key] for key in PARTS if key in report} | {"machine": machine()}
    with TemporaryDirectory() as name:
        room = Path(name)
        if {"throughput", "latency"} & set(parts):
            bundle = opened(given.pair, room)
            same = {"bundle": given.pair.name, "bytes": bundle.model.stat().st_size, "threads": 1}
            large = load(folder, (640, 480))
            if "throughput" in parts:
                report["throughput"] = [same | throughput(bundle, h, given.rounds) for h in (load(folder), large)]
            if "latency" in parts:
                report["latency"] = [same | latency(bundle, large, r, given.seconds, given.turns) for r in RATES]
        if "peers" in parts:
            one, shown = opened(given.one, room), folder / "rgb" / "val"
            names = given.peers.split(",")
            report["peers"] = peers(names, one, shown, given.other_python, given.fps, given.seconds)
    order = [key for key in (*PARTS, "machine") if key in report]
    RESULTS.write_text(json.dumps({key: report[key] for key in order}, indent=1) + "\n")
    live_page.write()
    from live_table import show  # it imports torch

    show(report)
    print(f"\nwrote {RESULTS.name}")


if __name__ == "__main__":
    main()
