"""What several benchmarks make once and keep: a training, its shrunk network beside it, and rows of results."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edgemtl.config import Config
from edgemtl.run import CONFIG, Run
from edgemtl.train import train
from edgemtl_export import shrink
from edgemtl_export.to_onnx import example_inputs


def done(config: Config, folder: Path) -> Run:
    """Train if that was not done yet, going on where it was stopped."""
    return Run.open(folder) if (folder / CONFIG).is_file() else train(config, folder, resume=True)


def shrunk(run: Run, align: int = 1) -> tuple[Path, dict[str, Any]]:
    """Return the ONNX file of a run's shrunk network and its sizes; `edgemtl export` takes ``align=8``."""
    name = "shrunk" if align == 1 else f"shrunk-{align}"
    file, sizes = run.path / f"{name}.onnx", run.path / f"{name}.json"
    if not sizes.is_file():
        result = shrink(run.network, (), example_inputs(run.interface.inputs), align=align)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(result.program, dynamo=True, opset_version=20, verbose=False)
        assert made is not None
        made.save(str(file))
        trunk = [p.numel() for name, p in result.program.named_parameters() if name.startswith("trunk.")]
        told = {
            "params_trunk": sum(trunk),
            "params_trunk_before": sum(p.numel() for p in run.network.trunk.parameters()),  # type: ignore[union-attr]
            "params": result.report.parameters_after,
            "flops": result.report.flops_after,
            "flops_before": result.report.flops_before,
        }
        sizes.write_text(json.dumps(told))
    return file, json.loads(sizes.read_text())


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
