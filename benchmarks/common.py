"""What benchmarks share: a training made once, its shrunk network beside it, rows of results, steps timed in turns."""

from __future__ import annotations

import fcntl
import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from edgemtl.config import Config
from edgemtl.console import print_table
from edgemtl.data.datasets import open_datasets
from edgemtl.run import CONFIG, Run
from edgemtl.tasks import TASKS
from edgemtl.train import begin, train
from edgemtl_export import shrink
from edgemtl_export.inputs import example_inputs
from edgemtl_runtime.atomic import AtomicFolder

WARM = 2
"""Steps that are not timed."""


def done(config: Config, folder: Path) -> Run:
    """Train if that was not done yet, going on where it was stopped."""
    return Run.open(folder) if (folder / CONFIG).is_file() else train(config, folder, resume=True)


def shrunk(run: Run, align: int = 1) -> tuple[Path, dict[str, Any]]:
    """Return the ONNX file of a run's shrunk network and its sizes; `edgemtl export` takes ``align=8``.

    They lie beside the run, never in it.
    """
    folder = run.path.with_name(f"{run.path.name}-shrunk" if align == 1 else f"{run.path.name}-shrunk-{align}")
    file, sizes = folder / "model.onnx", folder / "sizes.json"
    if not sizes.is_file():
        result = shrink(run.network, (), example_inputs(run.interface.inputs), align=align)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(result.program, dynamo=True, opset_version=20, verbose=False)
        assert made is not None
        trunk = [p.numel() for name, p in result.program.named_parameters() if name.startswith("trunk.")]
        told = {
            "params_trunk": sum(trunk),
            "params_trunk_before": sum(p.numel() for p in run.network.trunk.parameters()),  # type: ignore[union-attr]
            "params": result.report.parameters_after,
            "flops": result.report.flops_after,
            "flops_before": result.report.flops_before,
        }
        with AtomicFolder(folder, "shrunk network") as output:
            made.save(str(output.folder / file.name))
            (output.folder / sizes.name).write_text(json.dumps(told))
            output.commit()
    return file, json.loads(sizes.read_text())


def choose(configs: dict[str, Config], folder: Path) -> None:
    """Train what each word makes of a configuration and tell how it does on the last fifth of the training pictures."""
    table = []
    for word, config in configs.items():
        run = done(config, folder / "choose" / word.replace("/", "-"))
        primary = [TASKS[task].primary for task in run.config.tasks]
        table.append([word, *(f"{run.metrics['val']['all'][figure]:.3f}" for figure in primary)])
    print_table([["", *primary], *table], f"{folder}, held out of train")


def step_ratios(configs: dict[str, Config], turns: int) -> dict[str, float]:
    """Return what a step of each training takes beside the first one's, the median of turns on the same batches."""
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
    return {name: median(a / b for a, b in zip(each[WARM:], base, strict=True)) for name, each in seconds.items()}


@contextmanager
def results(file: Path) -> Iterator[dict[str, list[Any]]]:
    """Give the lists of a results file to be changed, and write it again; other benchmarks wait meanwhile."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        told: dict[str, list[Any]] = json.loads(file.read_text()) if file.is_file() else {}
        yield told
        file.write_text(json.dumps(told, indent=1) + "\n")
    finally:
        os.close(folder)


def keep(file: Path, kind: str, row: dict[str, Any], *same: str) -> None:
    """Put a row into the list ``kind`` of a results file, in the place of the one that is equal in ``same``."""
    with results(file) as told:
        others = [r for r in told.get(kind, ()) if any(r[key] != row[key] for key in same)]
        told[kind] = [*others, row]
