"""Half of the milliseconds: our own networks, dense and narrow, next to what they are compared with.

    make bench-speed                              # needs EDGEMTL_DATA for kitchen, rgbir and half of front
    python benchmarks/speed.py --case demo --variant half --seed 0
    python benchmarks/speed.py --case rgbir --variant aligned_sparse --seed 0

A row is appended as it comes, and not measured again; a finished training in out/bench/speed is used again. Latencies
are of deployed networks, pre- and post-processing included, in turns with the reference on this machine, on one thread
and on two; a sparse network is pruned until it takes so many milliseconds as its ``budget`` says of the reference's.
Cases: ``graph`` (what the exporter's rewriting saves, and where the time goes), ``demo``, ``kitchen`` (four tasks in
one network, reference: four networks), ``rgbir`` (real pairs), ``front`` (pruned beside narrower ones trained dense for
as long).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import measure_missing, saved_rows, step_ratios, trained
from speed_graph import graph_row
from speed_networks import KITCHEN_TASKS, demo_of, kitchen_config, narrow_network, rgbir_config, streets_config
from speed_page import write_page

from edgemtl.config import Config
from edgemtl.data.datasets import open_datasets
from edgemtl.experiments.single import single_task
from edgemtl.latency import Timed, latencies_of
from edgemtl.run import Run
from edgemtl.run_files import is_run
from edgemtl.sizes import sizes_of
from edgemtl.tasks import TASKS
from edgemtl.train import begin
from edgemtl_export import shrink
from edgemtl_export.deployed import Deployed
from edgemtl_export.inputs import example_inputs
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.engine.onnxruntime import OrtEngine

OUT = Path("out/bench/speed")
RESULTS = Path(__file__).parent / "results" / "speed.json"
SEEDS = (0, 1, 2)
RGBIR_BUDGET, KITCHEN_BUDGET, DEMO_BUDGET = 0.75, 0.25, 0.5
FRONT = (1.0, 0.75, 0.5, 0.35, 0.25)
GRAPHS = ("rgbir-n", "rgbir-n relu", "rgbir-lite0", "rgbir-mobilenetv2", "yolov8n", "yolo11n", "yolo26n")
NEAR = 0.03
"""A narrower network is one whose milliseconds are so near to the budget, of the reference's."""


@dataclass(frozen=True)
class Row:
    """What identifies a row of the results."""

    case: str
    variant: str
    reference: str
    seed: int = 0
    budget: float = 1.0

    def __str__(self) -> str:
        return f"{self.case}-{self.variant}-{self.budget:g}-{self.seed}"


def rows() -> Iterator[Row]:
    """Yield all rows, those of the first seed before the others."""
    for network in GRAPHS:
        yield Row("graph", network, "as exported")
    for seed in SEEDS:
        yield Row("demo", "dense", "dense", seed)
        yield Row("demo", "half", "dense", seed, DEMO_BUDGET)
        for variant in ("concat", "concat_aux", "ir"):
            yield Row("rgbir", variant, "concat", seed)
        for variant in ("aligned_sparse", "concat_sparse"):
            yield Row("rgbir", variant, "concat", seed, RGBIR_BUDGET)
        yield Row("kitchen", "multi", "four_singles", seed)
        yield Row("kitchen", "multi", "four_singles", seed, KITCHEN_BUDGET)
    for data in ("streets", "kitchen"):
        for budget in FRONT:
            for variant in ("ours", "narrow") if budget < 1 else ("ours",):
                yield Row(f"front {data}", variant, "dense", 0, budget)


def run_of(row: Row) -> Run:
    """Return the run of a row, trained if that was not done yet."""
    folder = OUT / str(row)
    if is_run(folder):
        return Run.open(folder)
    most = most_ms(row)
    builders: dict[str, Callable[[], Config]] = {
        "demo": lambda: demo_of(row.seed, row.budget < 1),
        "rgbir": lambda: rgbir_config(row.variant, row.seed, most),
        "kitchen": lambda: kitchen_config(row.seed, most),
        "front streets": lambda: streets_config(row.seed, most),
        "front kitchen": lambda: kitchen_config(row.seed, most, "rgbir-n"),
    }
    if row.variant == "narrow":
        return trained(narrow_config(row, most), folder)
    return trained(builders[row.case](), folder)


def most_ms(row: Row) -> float:
    """Return how many milliseconds a row's network may take, 0: any; kept, so that a stopped training goes on."""
    if row.budget == 1 or row.case == "demo":  # which says itself how much it prunes
        return 0.0
    file = OUT / f"{row}.ms"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{row.budget * sum(latencies_ms(references(row))):.3f}")
    return float(file.read_text())


def references(row: Row) -> list[Path]:
    """Return the deployed networks whose milliseconds together are a row's reference."""
    if row.reference == "four_singles":
        config = kitchen_config(row.seed, 0.0)
        folders = {task: OUT / f"kitchen-single-{row.seed}" / task for task in KITCHEN_TASKS}
        return [deployed_file(trained(single_task(config, task), folder)) for task, folder in folders.items()]
    variant = {"demo": "dense", "rgbir": "concat"}.get(row.case, "ours")
    return [deployed_file(run_of(Row(row.case, variant, row.reference, row.seed)))]


def narrow_config(row: Row, most_ms: float) -> Config:
    """Return the configuration of a narrower network of so many milliseconds, trained for as long as the whole one."""
    make = streets_config if row.case == "front streets" else kitchen_config
    whole = run_of(Row(row.case, "ours", row.reference, row.seed))
    low, high = 0.1, 1.0
    for _ in range(8):
        width = (low + high) / 2
        network = str(narrow_network(width, OUT / "networks").absolute())
        took = sum(latencies_ms([untrained_file(make(row.seed, 0.0, network), OUT / f"{row}-{width:.3f}.onnx")]))
        if abs(took / most_ms - 1) <= NEAR:
            break
        low, high = (low, width) if took > most_ms else (width, high)
    config = make(row.seed, 0.0, network)
    faster = 1 / step_ratios({"whole": whole.config, "narrow": config}, turns=10)["narrow"]
    if row.case == "front streets":
        return streets_config(row.seed, 0.0, network, round(faster * whole.config.steps))
    return kitchen_config(row.seed, 0.0, network, round(faster * whole.config.epochs, 1))


def untrained_file(config: Config, file: Path) -> Path:
    """Write the deployed network of a configuration before its first step."""
    trainer, _ = begin(config, open_datasets(config))
    network, interface = trainer.finish()
    small = shrink(network, (), example_inputs(interface.inputs), align=8, verify=False).module()
    write_onnx(Deployed(small, interface.inputs, interface.heads), file)
    return file


def deployed_file(run: Run) -> Path:
    """Return the deployed network of a run after removal, written next to the run."""
    file = run.path.with_name(f"{run.path.name}.onnx")  # a name may end in a budget, as in demo-half-0.5-1
    if not file.is_file():
        small = shrink(run.network, (), example_inputs(run.interface.inputs), align=8).module()
        write_onnx(Deployed(small, run.interface.inputs, run.interface.heads), file)
    return file


def latencies_ms(files: list[Path], threads: int = 1) -> list[float]:
    """Return the medians of networks in turns, ms, on grey images."""
    timed = {}
    for number, file in enumerate(files):
        shapes = {spec.name: spec.shape for spec in OrtEngine(file, 1).session.get_inputs()}
        timed[str(number)] = Timed(file, {name: np.full(shape, 127, np.uint8) for name, shape in shapes.items()})
    return list(latencies_of(timed, threads).values())


def measured(row: Row) -> dict[str, Any]:
    """Return what the results file holds of a row."""
    if row.case == "graph":
        return asdict(row) | graph_row(row.variant, OUT)
    begun = time.monotonic()
    against = references(row)
    run = run_of(row)
    file = deployed_file(run)
    one, two = (latencies_ms([file, *against], threads) for threads in (1, 2))
    figures = {name: part.flat() for name, part in run.reports.items()}
    wanted = {TASKS[task].primary for task in run.config.tasks} | {"ap", "ap50"}
    return {
        **asdict(row),
        "latency_ms": one[0],
        "latency_to_reference": one[0] / sum(one[1:]),
        "latency_to_reference_2_threads": two[0] / sum(two[1:]),
        "params": sizes_of(run.network, run.interface.inputs).parameters_after,
        **{name: value for name, value in figures["all"].items() if name in wanted},
        **{f"{name}_{part}": figures[part][name] for part in ("day", "night") for name in ("ap50",) if part in figures},
        "steps": run.metrics["steps"],
        "train_seconds": run.metrics["seconds"],
        "seconds": round(time.monotonic() - begun),
    }


def main() -> None:
    """Measure the rows that the command line names, or all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("case", "variant"):
        parser.add_argument(f"--{name}", help=f"only rows of this {name}")
    parser.add_argument("--seed", type=int, help="only rows of this seed")
    parser.add_argument("--budget", type=float, help="only rows of this budget")
    parser.add_argument("--page", action="store_true", help="only write the page again")
    given = vars(parser.parse_args())
    asked = {key: value for key, value in given.items() if value is not None and key != "page"}
    if not given["page"]:
        measure_missing(RESULTS, rows(), asked, measured)
    write_page(saved_rows(RESULTS))


if __name__ == "__main__":
    main()
