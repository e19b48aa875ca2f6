"""Everything of ours that computes on an NVIDIA GPU, tried once in at most eight minutes; into results/gpu.json.

    make gpu                                     # skips, and says why, where there is no GPU
    python benchmarks/gpu.py --rehearse          # the same parts on the processor, into out/bench/gpu

Parts: the tests marked ``gpu``; ten training steps next to the processor's; engines of three bundles in every
precision, compared head by head with ONNX Runtime and timed, next to trtexec where it is installed; the evaluation of a
run; the profile of a probe. A part that fails is a row with its error, and the others follow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from common import results
from torch import Tensor, nn

from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.console import print_message
from edgemtl.data.datasets import open_datasets
from edgemtl.evaluate import evaluate, of_network
from edgemtl.export import Options, build_engines, export, parity_frames
from edgemtl.probe import write_deployed_probe
from edgemtl.run import Run
from edgemtl.train import begin, train
from edgemtl_export.deployed import Deployed
from edgemtl_export.precisions import Backend
from edgemtl_runtime.bundle import Bundle, Head, Input
from edgemtl_runtime.engine.autotune import check_engine
from edgemtl_runtime.engine.build import build_engine
from edgemtl_runtime.engine.config import EngineConfig, open_engine
from edgemtl_runtime.engine.gpu import Gpu, find_gpu
from edgemtl_runtime.engine.profile import profile

OUT = Path("out/bench/gpu")
RESULTS = Path(__file__).parent / "results" / "gpu.json"
LIMIT_S = 480.0
STEPS = 10
SMALL = ("steps=60", "data.synthetic.num_train=160", "data.synthetic.num_val=24", "batch_size=8", "precision=fp32")
RUNS: dict[str, tuple[str, ...]] = {
    "two cameras": ("sparsity.target=0.5",),
    "four tasks": ("tasks=[depth,normals,semantic,edges]", "modalities=[rgb]"),
    "aligned": ("tasks=[boxes]", "fusion.kind=aligned", "alignment.strength=1"),
}
"""Networks on drawn streets whose bundles are built; they are trained for seconds, which gives no ties."""
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu12", "tensorrt-rtx")


@dataclass(frozen=True)
class Target:
    """What the parts compute on: a back end, and the precisions of its bundles."""

    backend: str
    precisions: tuple[Literal["fp16", "int8"], ...]
    out: Path


def gpu_tests(target: Target) -> dict[str, Any]:
    """Run the tests that are marked ``gpu``; returns the last line of what they print."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests", "--durations=0"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return {"exit_code": done.returncode, "last_line": lines[-1] if lines else done.stderr[-300:]}


def training(target: Target) -> dict[str, Any]:
    """Take ten steps here and on the processor; returns the largest relative difference of a loss, and seconds."""
    on_gpu, on_cpu = target.out / "steps-gpu.json", target.out / "steps-cpu.json"
    for file, hidden in ((on_gpu, {}), (on_cpu, {"CUDA_VISIBLE_DEVICES": ""})):
        words = [sys.executable, __file__, "--steps-into", str(file)]
        subprocess.run(words, check=True, timeout=150, env=os.environ | hidden)
    ours, reference = (json.loads(file.read_text()) for file in (on_gpu, on_cpu))
    pairs = [(a[name], b[name]) for a, b in zip(ours["losses"], reference["losses"], strict=True) for name in b]
    return {
        "device": ours["device"],
        "largest_relative_difference": max(abs(a - b) / max(abs(b), 1e-6) for a, b in pairs),
        "step_ms": ours["step_ms"],
        "step_ms_cpu": reference["step_ms"],
    }


def write_steps(file: Path) -> None:
    """Take ten training steps on this process's device, and write their losses and the median time of one."""
    config = load(None, [*SMALL, f"steps={STEPS}", "input_size=[128,160]"])
    trainer, batches = begin(config, open_datasets(config))
    losses, seconds = [], []
    for step in range(STEPS):
        started = time.perf_counter()
        row = trainer.train_step(batches[step])
        seconds.append(time.perf_counter() - started)
        losses.append({name: row[name] for name in trainer.tasks})
    device = torch.cuda.get_device_name() if trainer.device.type == "cuda" else "processor"
    median_ms = 1e3 * sorted(seconds)[STEPS // 2]
    file.write_text(json.dumps({"device": device, "losses": losses, "step_ms": median_ms}))


def run_of(name: str, out: Path) -> Run:
    """Return a small run, trained on this machine."""
    config: Config = load(None, [*SMALL, *RUNS[name]])
    return train(config, out / name.replace(" ", "-"), overwrite=True)


def bundle_part(name: str) -> Callable[[Target], dict[str, Any]]:
    """Return the part that builds, compares and times the engines of one bundle."""

    def part(target: Target) -> dict[str, Any]:
        run = run_of(name, target.out)
        backend: Backend = "onnxruntime" if target.backend == "onnxruntime-cpu" else "tensorrt"
        # Engines are what is tried; a network of some steps has no accuracy to lose.
        options = Options(precisions=target.precisions, backend=backend, keep_undecided=True, max_drop=0.99)
        bundle, _ = export(run, target.out / f"{run.path.name}-bundle", None, options, overwrite=True)
        frames = parity_frames(run, bundle)
        return {
            "agreement": agreements(bundle, target, frames),
            **timings(bundle, target, frames),
            "rejected_by_accuracy": dict(bundle.manifest.rejected),
        }

    return part


def agreements(bundle: Bundle, target: Target, frames: list[Any]) -> dict[str, Any]:
    """Return the share of each head's output that agrees with ONNX Runtime, by precision, or why not enough does."""
    shares: dict[str, Any] = {}
    for precision in bundle.precisions:
        config = EngineConfig(target.backend, precision, 1 if target.backend == "onnxruntime-cpu" else 0)
        try:
            with open_engine(bundle, config) as engine:
                shares[precision] = check_engine(bundle, config, engine, frames)
        except Exception as error:  # another precision may work
            shares[precision] = f"failed: {error}"
    return shares


def timings(bundle: Bundle, target: Target, frames: list[Any]) -> dict[str, Any]:
    """Return the median latency of every engine, and trtexec's of the same plan where it is installed."""
    if target.backend == "onnxruntime-cpu":
        return {}
    built = build_engines(bundle, frames, target.backend, print_message)
    row: dict[str, Any] = {"p50_ms": built.p50_ms, "fastest": built.precision}
    if trtexec := shutil.which("trtexec"):
        row["trtexec_ms"] = {name: trtexec_ms(trtexec, bundle, target, name) for name in bundle.precisions}
    return row


def trtexec_ms(trtexec: str, bundle: Bundle, target: Target, precision: str) -> float | str:
    """Return the median of the host latency that trtexec measures of an engine, or its last words."""
    plan = target.out / f"{bundle.path.name}-{precision}.plan"
    plan.write_bytes(build_engine(bundle, target.backend, precision).data)
    words = [trtexec, f"--loadEngine={plan}", "--duration=3", "--useSpinWait"]
    printed = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout
    latency = re.search(r"\] Latency:.*?median = ([0-9.]+) ms", printed)
    return float(latency[1]) if latency else printed[-300:]


def evaluation(target: Target) -> dict[str, Any]:
    """Evaluate a run here and on the processor; returns both metrics and the time of an image."""
    run = run_of("two cameras", target.out)
    samples = open_datasets(run.config)["val"]
    row: dict[str, Any] = {}
    for name in ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",):
        predictor = of_network(run.network, run.interface, 0.0, torch.device(name))
        started = time.perf_counter()
        reports = evaluate(predictor, samples)
        row[name] = {
            "ap50": reports["all"]["boxes"]["ap50"],
            "miou": reports["all"]["semantic"]["miou"],
            "ms_an_image": 1e3 * (time.perf_counter() - started) / len(samples),
        }
    return row


def probe_profile(target: Target) -> dict[str, Any]:
    """Write the probe of three layers and measure it; returns how many models took how long."""
    size = Input("rgb", 64, 96, 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    head = Head("semantic", "semantic", "label_map", ("road", "person", "car", "sky"))
    folder = target.out / "probe"
    description = write_deployed_probe(Deployed(ThreeLayers(), (size,), (head,)), folder, overwrite=True)
    started = time.perf_counter()
    costs = profile(folder, EngineConfig(target.backend, "fp32", 1 if target.backend == "onnxruntime-cpu" else 0))
    return {"models": len(description.models), "seconds": time.perf_counter() - started, "device": costs.device}


class ThreeLayers(nn.Module):
    """A network whose probe is small: each of its models is an engine to build."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 4, 1)
        )

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        """Return logits at stride 4."""
        return {"semantic": self.layers(rgb)}


PARTS: dict[str, Callable[[Target], dict[str, Any]]] = {
    "gpu tests": gpu_tests,
    "training": training,
    **{f"engines: {name}": bundle_part(name) for name in RUNS},
    "evaluation": evaluation,
    "profile": probe_profile,
}


def machine() -> dict[str, Any]:
    """Return the GPU, its driver, and the versions of what computes on it."""
    gpu = find_gpu()
    row = (
        {"gpu": gpu.name, "compute_capability": gpu.compute_capability, "driver": gpu.driver}
        if isinstance(gpu, Gpu)
        else {}
    )
    for package in PACKAGES:
        try:
            row[package] = version(package)
        except PackageNotFoundError:
            continue
    return row | {"python": platform.python_version(), "date": time.strftime("%Y-%m-%d")}


def tried(name: str, target: Target, deadline: float) -> dict[str, Any]:
    """Return a part's row: what it measured, or its error, or that there was no time."""
    started = time.monotonic()
    if started > deadline:
        return {"part": name, "skipped": f"the {LIMIT_S:g} s were over"}
    print_message(name)
    try:
        row = PARTS[name](target)
    except Exception as error:  # the others are tried all the same
        row = {"failed": f"{type(error).__name__}: {str(error)[-400:]}"}
    return {"part": name, **row, "part_seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    """Try every part that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, into out/bench/gpu/gpu.json")
    parser.add_argument("--steps-into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps_into:
        write_steps(given.steps_into)
        return
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"there is no part '{unknown[0]}'; there are {', '.join(PARTS)}")
    if not given.rehearse and isinstance(why := find_gpu(), str):
        print_message(f"skipped: {why}")
        return
    target = (
        Target("tensorrt", ("fp16", "int8"), OUT) if not given.rehearse else Target("onnxruntime-cpu", ("int8",), OUT)
    )
    OUT.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LIMIT_S
    rows = [tried(name, target, deadline) for name in given.parts or PARTS]
    with results(OUT / "gpu.json" if given.rehearse else RESULTS) as content:
        kept = [row for row in content.get("parts", []) if row["part"] not in {r["part"] for r in rows}]
        content["parts"] = [*kept, *rows]
        content["machine"] = [machine()]
    for row in rows:
        print(json.dumps(row))
    if any("failed" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
