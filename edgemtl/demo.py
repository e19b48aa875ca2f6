"""The demo on drawn streets: train, shrink, export, evaluate, run live; the metrics and images of each step."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgemtl_export import Shrunk
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.engine.cpu import cpu_name
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.sink.video import Video
from edgemtl_runtime.stats import Stats

from .config import Augment, Config, Data, Sparsity, Synthetic
from .console import console, print_message, print_table, progress_bar
from .data.datasets import open_datasets
from .data.loader import fitted_images
from .errors import EdgemtlError
from .evaluate import evaluate, open_predictor
from .export import export
from .latency import latencies_ms
from .metric_report import Reports
from .reports.demo import write_report
from .reports.html import png
from .run import Run
from .run_files import DEMO
from .synthetic.streets import HELD_OUT, street
from .tables import Table
from .train import peak_mb, train

STEPS = 640
PRUNED = 0.72
"""Share of the operations that the demo prunes."""
STREAM_FPS = 10.0
STREAM_SECONDS = 5.0
STREAM_STREETS = (
    (HELD_OUT + 50_000, True),
    (HELD_OUT + 50_001, False),
    (HELD_OUT + 50_002, True),
    (HELD_OUT + 50_003, False),
)


def demo_config(steps: int, threads: int, target: float) -> Config:
    """Return the demo's configuration; ``target`` is the share of the operations to prune."""
    return Config(
        data=Data(
            "streets", synthetic=Synthetic(num_train=1200, num_val=200 if steps >= STEPS else 24)
        ),  # a short demo is not run for its metrics
        steps=steps,
        batch_size=8,
        augment=Augment(mosaic=0.3),
        sparsity=Sparsity(target=target, metric="flops"),
        num_threads=threads,
    )


def demo(out: Path, steps: int = 0, overwrite: bool = False) -> dict[str, float]:
    """Run the demo into the folder ``out`` and return the figures of ``demo.json``.

    With ``overwrite`` an older demo there is replaced.
    """
    with AtomicFolder(out, DEMO, overwrite) as output:
        summary = _demo_into(output.folder, steps)
        output.commit()
    print_message(f"wrote {out}/: report.html, stream.mp4, bundle/, demo.json in {summary['seconds']:.0f} s")
    return summary


def _demo_into(out: Path, steps: int) -> dict[str, float]:
    started = time.monotonic()
    steps = steps or STEPS
    cores = os.cpu_count() or 1
    threads = max(1, cores // 2)
    config = demo_config(steps, threads, PRUNED)
    samples = open_datasets(config)["val"]

    print_message(f"1/5  training on drawn streets, {steps} steps; in parallel a dense network to compare with")
    with ChildProcess(_train_dense, str(out), steps, threads) as dense_training:
        run = train(config, out / "run", keep=False)
        dense_training.join("the dense network")
    dense = Run.open(out / "dense")

    print_message("2/5  removing the pruned channels and writing the bundle")
    with ChildProcess(_write_masked, str(out)) as masked:
        bundle, shrunk = export(run, out / "bundle", samples)
        masked.join("the masked network")

    print_message("3/5  evaluating the bundle on held-out streets")
    predictor = open_predictor(bundle.path)
    with progress_bar("evaluating", len(samples)) as bar:
        reports = evaluate(predictor, samples, lambda n: bar(n, {}))
    inputs = {spec.name: spec for spec in bundle.manifest.inputs}
    models = {"dense": out / "dense.onnx", "sparse": out / "masked.onnx", "shrunk": bundle.model}
    latency = latencies_ms(models, fitted_images(samples[0], inputs))

    print_message("4/5  running it on two streams")
    stats = stream(bundle, out)

    print_message("5/5  writing the report")
    summary = summary_of(run, shrunk, bundle, reports, latency)
    rows = comparison(dense, run, shrunk, reports, latency)
    write_report(out / "report.html", bundle, run, dense, samples, rows, reports, shrunk, latency, stats)
    for name in ("dense", "masked"):
        (out / f"{name}.onnx").unlink()
    summary["seconds"] = round(time.monotonic() - started, 1)
    summary["peak_mb"] = peak_mb() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    figures = {**summary, "machine": cpu_name(), "table": rows}
    (out / "demo.json").write_text(json.dumps(figures, indent=2) + "\n")
    print_table(rows, "on held-out streets")
    return summary


def summary_of(
    run: Run, shrunk: Shrunk, bundle: Bundle, reports: Reports, latency: dict[str, float]
) -> dict[str, float]:
    """Return the figures of demo.json; AP50 and mIoU are the bundle's, latency_ratio is shrunk over dense."""
    return {
        "ap50_day": reports["day"]["boxes"]["ap50"],
        "ap50_night": reports["night"]["boxes"]["ap50"],
        "miou": reports["all"]["semantic"]["miou"],
        "params_dense": shrunk.report.parameters_before,
        "params_shrunk": shrunk.report.parameters_after,
        "latency_ratio": latency["shrunk"] / latency["dense"],
        "parity_max_abs": max(bundle.manifest.parity["raw_max_abs"].values()),
        "steps": run.metrics["steps"],
    }


def comparison(dense: Run, run: Run, shrunk: Shrunk, reports: Reports, latency: dict[str, float]) -> Table:
    """Return the table dense / sparse / shrunk: latency, accuracy, FLOPs and parameters."""
    report = shrunk.report
    header = ["", "ms (1 thread)", "AP50", "day", "night", "mIoU", "MFLOP", "parameters"]
    sizes = {
        "dense": (report.parameters_before, report.flops_before, dense.reports),
        "sparse": (report.parameters_before, report.flops_before, run.reports),
        "shrunk": (report.parameters_after, report.flops_after, reports),
    }
    rows = [header]
    for name, (parameters, flops, by_subset) in sizes.items():
        accuracy = [by_subset[subset]["boxes"]["ap50"] for subset in ("all", "day", "night")]
        accuracy.append(by_subset["all"]["semantic"]["miou"])
        rows.append(
            [
                name,
                f"{latency[name]:.2f}",
                *(f"{value:.3f}" for value in accuracy),
                f"{flops / 1e6:.0f}",
                f"{parameters:,}",
            ]
        )
    return rows


def stream(bundle: Bundle, out: Path) -> Stats:
    """Draw moving streets into two folders, run the bundle on them as two streams, write ``stream.mp4``."""
    frames = out / "frames"
    for modality in ("rgb", "ir"):
        (frames / modality).mkdir(parents=True, exist_ok=True)
    index = 0
    for seed, is_day in STREAM_STREETS:
        for time_s in np.arange(0, STREAM_SECONDS, 1 / STREAM_FPS):
            sample = street(seed, (256, 320), is_day, float(time_s))
            for name, pixels in sample.images.items():
                (frames / name / f"{index:05d}.png").write_bytes(png(pixels))
            index += 1
    cameras = open_cameras({name: str(frames / name) for name in ("rgb", "ir")})
    return Pipeline(bundle, open_ort_engine(bundle), cameras).run([Video(out / "stream.mp4", STREAM_FPS)])


class ChildProcess:
    """A function that runs in a child process; a context manager that ends it."""

    def __init__(self, function: Callable[..., None], *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=function, args=args, daemon=True)
        self.process.start()

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():  # it writes into a folder that is about to be removed
            self.process.terminate()
            self.process.join()

    def join(self, name: str) -> None:
        """Wait for the process; raises `EdgemtlError` where it failed."""
        self.process.join()
        if self.process.exitcode:
            raise EdgemtlError(f"{name}: its process ended with code {self.process.exitcode}; see the lines above")


def _start_child() -> None:
    """Leave Ctrl-C to the parent, which ends this process; print nothing; clean up when terminated."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console.quiet = True


def _train_dense(out: str, steps: int, threads: int) -> None:
    _start_child()
    run = train(demo_config(steps, threads, 0.0), Path(out) / "dense", keep=False)
    write_onnx(run.deployed(), Path(out) / "dense.onnx")


def _write_masked(out: str) -> None:
    _start_child()
    write_onnx(Run.open(Path(out) / "run").deployed(), Path(out) / "masked.onnx")
