"""The whole way on drawn streets: train, shrink, export, judge, run live; figures and pictures of each step."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgemtl_export import Shrunk
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.engine.onnxruntime import open_engine
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.sink.video import Video
from edgemtl_runtime.stats import Stats

from .config import Augment, Config, Data, Sparsity, Synthetic
from .console import console, print_table, progress_bar, say
from .data.datasets import open_datasets
from .data.loader import fitted_images
from .errors import EdgemtlError
from .evaluate import evaluate, open_predictor
from .export import export
from .latency import latencies_ms
from .reports.demo import write_report
from .reports.html import png
from .run import Run
from .synthetic.streets import HELD_OUT, street
from .train import peak_mb, train

DEMO = "demo"
"""What `edgemtl_runtime.atomic` calls such a folder."""
STEPS = 400
STREAM_FPS = 10.0
STREAM_SECONDS = 5.0
STREAM_STREETS = (
    (HELD_OUT + 50_000, True),
    (HELD_OUT + 50_001, False),
    (HELD_OUT + 50_002, True),
    (HELD_OUT + 50_003, False),
)


def demo_config(steps: int, threads: int, target: float) -> Config:
    """Return the demo's configuration; ``target`` is the share of the parameters to remove."""
    return Config(
        data=Data(
            "streets", synthetic=Synthetic(num_train=1200, num_val=200 if steps >= STEPS else 24)
        ),  # a demo cut short is not for its figures
        steps=steps,
        augment=Augment(mosaic=0.3),
        sparsity=Sparsity(target=target),
        num_threads=threads,
    )


def demo(out: Path, steps: int = 0, overwrite: bool = False) -> dict[str, Any]:
    """Run the demo into the folder ``out`` and return what ``demo.json`` holds.

    With ``overwrite`` an older demo there is replaced.
    """
    if steps < 0:
        raise EdgemtlError("--steps is not negative")
    with AtomicFolder(out, DEMO, overwrite) as output:
        told = _demo_into(output.folder, steps)
        output.commit()
    say(f"wrote {out}/: report.html, stream.mp4, bundle/, demo.json in {told['seconds']:.0f} s")
    return told


def _demo_into(out: Path, steps: int) -> dict[str, Any]:
    started = time.monotonic()
    steps = steps or STEPS
    cores = os.cpu_count() or 1
    threads = max(1, cores // 2)
    config = demo_config(steps, threads, 0.6)
    samples = open_datasets(config)["val"]

    say(f"1/5  training on drawn streets, {steps} steps; beside it a dense twin to compare with")
    with Beside(_train_dense, str(out), steps, threads) as twin:
        run = train(config, out / "run", keep=False)
        twin.join("the dense twin")
    dense = Run.open(out / "dense")

    say("2/5  removing the zeroed channels and writing the bundle")
    with Beside(_write_masked, str(out)) as masked:
        bundle, shrunk = export(run, out / "bundle", samples)
        masked.join("the masked network")

    say("3/5  judging the bundle on held-out streets")
    predictor = open_predictor(bundle.path)
    with progress_bar("judging", len(samples)) as bar:
        figures = evaluate(predictor, samples, lambda n: bar(n, {}))
    inputs = {spec.name: spec for spec in bundle.manifest.inputs}
    models = {"dense": out / "dense.onnx", "sparse": out / "masked.onnx", "shrunk": bundle.model}
    latency = latencies_ms(models, fitted_images(samples[0], inputs))

    say("4/5  running it on two streams")
    stats = stream(bundle, out)

    say("5/5  writing the report")
    told = figures_of(run, shrunk, bundle, figures, latency)
    rows = comparison(dense, run, shrunk, figures, latency)
    write_report(out / "report.html", bundle, run, dense, samples, rows, figures, shrunk, stats)
    for name in ("dense", "masked"):
        (out / f"{name}.onnx").unlink()
    told["seconds"] = round(time.monotonic() - started, 1)
    told["peak_mb"] = peak_mb() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    (out / "demo.json").write_text(json.dumps(told, indent=2) + "\n")
    print_table(rows, "on held-out streets")
    return told


def figures_of(
    run: Run, shrunk: Shrunk, bundle: Bundle, figures: dict[str, dict[str, float]], latency: dict[str, float]
) -> dict[str, Any]:
    """Return the demo's figures; AP50 and mIoU are the bundle's, latency_ratio is shrunk over dense."""
    return {
        "ap50_day": figures["day"]["ap50"],
        "ap50_night": figures["night"]["ap50"],
        "miou": figures["all"]["miou"],
        "params_dense": shrunk.report.parameters_before,
        "params_shrunk": shrunk.report.parameters_after,
        "latency_ratio": latency["shrunk"] / latency["dense"],
        "parity_max_abs": max(bundle.manifest.parity["raw_max_abs"].values()),
        "steps": run.metrics["steps"],
    }


def comparison(
    dense: Run, run: Run, shrunk: Shrunk, figures: dict[str, dict[str, float]], latency: dict[str, float]
) -> list[list[str]]:
    """Return the table dense / sparse / shrunk: parameters, FLOPs, latency and accuracy."""
    report = shrunk.report
    header = ["", "parameters", "MFLOP", "ms (1 thread)", "AP50", "day", "night", "mIoU"]
    sizes = {
        "dense": (report.parameters_before, report.flops_before, dense.metrics["val"]),
        "sparse": (report.parameters_before, report.flops_before, run.metrics["val"]),
        "shrunk": (report.parameters_after, report.flops_after, figures),
    }
    rows = [header]
    for name, (parameters, flops, judged) in sizes.items():
        accuracy = [judged["all"]["ap50"], judged["day"]["ap50"], judged["night"]["ap50"], judged["all"]["miou"]]
        rows.append(
            [
                name,
                f"{parameters:,}",
                f"{flops / 1e6:.0f}",
                f"{latency[name]:.2f}",
                *(f"{value:.3f}" for value in accuracy),
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
        for moment in np.arange(0, STREAM_SECONDS, 1 / STREAM_FPS):
            sample = street(seed, (256, 320), is_day, float(moment))
            for name, picture in sample.images.items():
                (frames / name / f"{index:05d}.png").write_bytes(png(picture))
            index += 1
    cameras = open_cameras({name: str(frames / name) for name in ("rgb", "ir")})
    return Pipeline(bundle, open_engine(bundle), cameras).run([Video(out / "stream.mp4", STREAM_FPS)])


class Beside:
    """A function in a process of its own, beside this one; a context manager that ends it."""

    def __init__(self, function: Any, *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=function, args=args, daemon=True)
        self.process.start()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():  # it writes into a folder that is going
            self.process.terminate()
            self.process.join()

    def join(self, what: str) -> None:
        """Wait for it; raises `EdgemtlError` when it failed."""
        self.process.join()
        if self.process.exitcode:
            raise EdgemtlError(f"{what}: its process ended with code {self.process.exitcode}; see the lines above")


def _beside() -> None:
    """Leave Ctrl-C to the first process, which ends this one; be quiet; clean up when ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console.quiet = True


def _train_dense(out: str, steps: int, threads: int) -> None:
    _beside()
    run = train(demo_config(steps, threads, 0.0), Path(out) / "dense", keep=False)
    write_onnx(run.deployed(), Path(out) / "dense.onnx")


def _write_masked(out: str) -> None:
    _beside()
    write_onnx(Run.open(Path(out) / "run").deployed(), Path(out) / "masked.onnx")
