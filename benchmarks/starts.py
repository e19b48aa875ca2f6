"""What a training starts from: ImageNet, a trained YOLO or nothing, and our box head next to ultralytics'.

    make bench-starts                             # needs EDGEMTL_DATA; the weights package, ultralytics
    python benchmarks/starts.py --case start --network rgbir-lite0 --cameras ir --seed 0
    python benchmarks/starts.py --case head --data streets --seed 0
    python benchmarks/starts.py --case yolo --epochs 3

A row is appended as it comes, and not measured again; a finished training in out/bench/starts is used again. The
networks of case ``start`` and ``head`` train as benchmarks/rgbir.yaml says, those on drawn streets as the demo's dense
network, but for 400 steps of 16 images. Latency is of the network without what it does not need, in ONNX Runtime on one
thread, in turns with a fixed network (rgbir-n on both cameras).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from common import measure_missing, saved_rows, shrunk, trained
from starts_page import write_page

import edgemtl_models
from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.console import progress_bar
from edgemtl.data.datasets import open_datasets
from edgemtl.demo import demo_config
from edgemtl.evaluate import evaluate, of_run
from edgemtl.metric_report import Reports
from edgemtl.run import Run
from edgemtl_export import shrink
from edgemtl_export.latency import compare
from edgemtl_export.to_onnx import onnx_of

HERE = Path(__file__).parent
OUT = Path("out/bench/starts")
RESULTS = HERE / "results" / "starts.json"
BOTH = "rgb,ir"
YOLO = "yolo11n"
EPOCHS = 12
"""Of benchmarks/rgbir.yaml."""
SIZE = (256, 320)


@dataclass(frozen=True)
class Row:
    """What identifies a row of the results."""

    case: str
    network: str
    data: str
    cameras: str
    seed: int
    head: str = "own"
    start: str = "zoo"
    """What the zoo's file says; of case yolo: a yolo11n that was trained on the colour images, or "scratch"."""
    epochs: int = EPOCHS
    """0 where a training has so many steps instead."""

    def __str__(self) -> str:
        words = [self.network, self.data, self.cameras.replace(",", "+"), self.head]
        words += [self.start, str(self.epochs)] if self.case == "yolo" else []
        return "-".join([*words, str(self.seed)])


def rows() -> list[Row]:
    """Return all rows, those of the first seed before the others."""
    wanted = []
    for seed in (0, 1, 2):
        for head in ("own", "ultralytics"):
            wanted.append(Row("head", "rgbir-n", "streets", BOTH, seed, head, epochs=0))
            wanted.append(Row("head", "rgbir-lite0", "rgbir", BOTH, seed, head))
        for network in ("rgbir-lite0", "rgbir-n", "rgbir-mobilenetv2"):
            wanted += [Row("start", network, "rgbir", cameras, seed) for cameras in (BOTH, "ir")]
        for epochs in (3, 6, EPOCHS):
            for start in (YOLO, "scratch"):
                wanted.append(Row("yolo", f"rgbir-{YOLO}", "rgbir", BOTH, seed, start=start, epochs=epochs))
    return wanted


def configured(row: Row) -> Config:
    """Return the configuration of a row's training."""
    if row.data == "streets":
        config = demo_config(400, torch.get_num_threads(), 0.0)
        return msgspec.structs.replace(config, batch_size=16, seed=row.seed)
    source = f"data.source={Path(os.environ['EDGEMTL_DATA']) / 'rgbir'}"
    words = [source, f"seed={row.seed}", f"network={row.network}", f"modalities=[{row.cameras}]"]
    if row.case == "yolo":
        from prune_labelled import base

        words += [f"epochs={row.epochs}", *([f"init_from={base(YOLO)}"] if row.start == YOLO else [])]
    return load(HERE / "rgbir.yaml", words)


def reference() -> Path:
    """Return the ONNX file of the untrained network that latencies are measured in turns with."""
    file = OUT / "reference.onnx"
    if not file.is_file():
        torch.manual_seed(0)
        network = edgemtl_models.build("rgbir-n", {"boxes": 3}, SIZE, pretrained=False).eval()
        images = {name: torch.rand(1, spec.channels, *SIZE) for name, spec in network.inputs.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(onnx_of(shrink(network, (), images).program).SerializeToString())
    return file


def run_of(row: Row) -> Run:
    """Return a row's run, trained if that was not done yet."""
    folder = OUT / str(row)
    if row.head == "own":
        return trained(configured(row), folder)
    from library_head import library_head

    with library_head():
        trained(configured(row), folder)
    return Run.open(folder)


def evaluated(run: Run) -> Reports:
    """Return the metrics of a network with ultralytics' head, by our own layers, which read its parameters."""
    samples = open_datasets(run.config)["val"]
    with progress_bar("evaluating", len(samples)) as bar:
        return evaluate(of_run(run), samples, lambda n: bar(n, {}))


def measured(row: Row) -> dict[str, Any]:
    """Return what the results file holds of a row."""
    begun = time.monotonic()
    run = run_of(row)
    reports = run.reports if row.head == "own" else evaluated(run)
    file, sizes = shrunk(run)
    seconds, of_reference = compare([file, reference()])
    figures = {name: part.flat() for name, part in reports.items()}
    return {
        **asdict(row),
        "steps": run.config.steps,
        "ap50": figures["all"]["ap50"],
        "ap": figures["all"]["ap"],
        "ap50_day": figures["day"]["ap50"],
        "ap50_night": figures["night"]["ap50"],
        "latency_ms": 1e3 * seconds,
        "latency_to_n": seconds / of_reference,
        "params": sizes["params"],
        "train_seconds": run.metrics["seconds"],
        "seconds": round(time.monotonic() - begun),
    }


def main() -> None:
    """Measure the rows that the command line names, or all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("case", "network", "data", "cameras", "head", "start"):
        parser.add_argument(f"--{name}", help=f"only rows of this {name}")
    for name in ("seed", "epochs"):
        parser.add_argument(f"--{name}", type=int, help=f"only rows of this {name}")
    parser.add_argument("--page", action="store_true", help="only write the page again")
    given = vars(parser.parse_args())
    if "EDGEMTL_DATA" not in os.environ and not given["page"]:
        sys.exit("benchmarks/starts.py: EDGEMTL_DATA is not set; it names the folder that holds rgbir/")
    asked = {key: value for key, value in given.items() if value is not None and key != "page"}
    if not given["page"]:
        measure_missing(RESULTS, rows(), asked, measured)
    write_page(saved_rows(RESULTS))


if __name__ == "__main__":
    main()
