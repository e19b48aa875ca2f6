"""Shared parts of the benchmarks: cached trainings and shrunk networks, rows of results, steps timed in turns."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from edgemtl.config import Config
from edgemtl.console import print_message, print_table
from edgemtl.data.datasets import open_datasets
from edgemtl.run import Run
from edgemtl.run_files import is_run
from edgemtl.tasks import TASKS
from edgemtl.train import begin, train
from edgemtl_export import shrink
from edgemtl_export.inputs import example_inputs
from edgemtl_export.to_onnx import onnx_of
from edgemtl_runtime.atomic import AtomicFolder

RowT = TypeVar("RowT", bound=Any)
WARM = 2
"""Steps that are not timed."""


def trained(config: Config, folder: Path) -> Run:
    """Return the run of a configuration, trained if it is not finished yet; a stopped training is resumed."""
    return Run.open(folder) if is_run(folder) else train(config, folder, resume=True)


def shrunk(run: Run, align: int = 1) -> tuple[Path, dict[str, Any]]:
    """Return the ONNX file of a run's shrunk network and its sizes; `edgemtl export` takes ``align=8``.

    They are cached next to the run, never in it.
    """
    folder = run.path.with_name(f"{run.path.name}-shrunk" if align == 1 else f"{run.path.name}-shrunk-{align}")
    file, sizes = folder / "model.onnx", folder / "sizes.json"
    if not sizes.is_file():
        result = shrink(run.network, (), example_inputs(run.interface.inputs), align=align)
        trunk = [p.numel() for name, p in result.program.named_parameters() if name.startswith("trunk.")]
        costs = {
            "params_trunk": sum(trunk),
            "params_trunk_before": sum(p.numel() for p in run.network.trunk.parameters()),
            "params": result.report.parameters_after,
            "flops": result.report.flops_after,
            "flops_before": result.report.flops_before,
        }
        with AtomicFolder(folder, "shrunk network") as output:
            (output.folder / file.name).write_bytes(onnx_of(result.program).SerializeToString())
            (output.folder / sizes.name).write_text(json.dumps(costs))
            output.commit()
    return file, json.loads(sizes.read_text())


def choose(configs: dict[str, Config], folder: Path) -> None:
    """Train each configuration and print its primary metrics on the last fifth of the training images."""
    table = []
    for word, config in configs.items():
        run = trained(config, folder / "choose" / word.replace("/", "-"))
        primary = [TASKS[task].primary for task in run.config.tasks]
        metrics = run.reports["all"].flat()
        table.append([word, *(f"{metrics[name]:.3f}" for name in primary)])
    print_table([["", *primary], *table], f"{folder}, held out of train")


def step_ratios(configs: dict[str, Config], turns: int) -> dict[str, float]:
    """Return the duration of a step of each training over the first one's, the median of turns on the same batches."""
    data = open_datasets(next(iter(configs.values())))
    begun = {name: begin(config, data) for name, config in configs.items()}
    first = next(iter(begun))
    batches = begun[first][1]
    seconds: dict[str, list[float]] = {name: [] for name in begun}
    for turn in range(turns + WARM):
        batch = batches[turn]
        for name, (trainer, _) in begun.items():
            start = time.perf_counter()
            trainer.train_step(batch)
            seconds[name].append(time.perf_counter() - start)
    base = seconds[first][WARM:]
    return {name: median(a / b for a, b in zip(taken[WARM:], base, strict=True)) for name, taken in seconds.items()}


@contextmanager
def results(file: Path) -> Iterator[dict[str, list[Any]]]:
    """Yield the lists of a results file to be changed, and write it; the file is locked meanwhile."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        rows: dict[str, list[Any]] = json.loads(file.read_text()) if file.is_file() else {}
        yield rows
        file.write_text(json.dumps(rows, indent=1) + "\n")
    finally:
        os.close(folder)


def save_row(file: Path, name: str, row: dict[str, Any], *identity: str) -> None:
    """Add a row to the list ``name`` of a results file; it replaces the one that has the same ``identity``."""
    with results(file) as rows:
        others = [r for r in rows.get(name, ()) if any(r.get(key) != row.get(key) for key in identity)]
        rows[name] = [*others, row]


def saved_rows(file: Path) -> list[dict[str, Any]]:
    """Return the runs of a results file."""
    content: list[dict[str, Any]] = json.loads(file.read_text())["runs"] if file.is_file() else []
    return content


def measure_missing(
    file: Path, rows: Iterable[RowT], asked: Mapping[str, Any], measured: Callable[[RowT], dict[str, Any]]
) -> None:
    """Measure the rows, dataclasses, whose fields are as ``asked`` and which a results file lacks; each is saved."""
    for row in rows:
        key = asdict(row)
        known = any(all(other.get(name) == value for name, value in key.items()) for other in saved_rows(file))
        if all(key[name] == value for name, value in asked.items()) and not known:
            print_message(str(row))
            save_row(file, "runs", measured(row), *key)
