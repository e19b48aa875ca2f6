"""What a run's network costs at inference, before and after removal: parameters, FLOPs, latency; kept in a cache.

Sizes are of the network that is exported: without what only training needs, and after removal with channels kept up
to the multiple that `edgemtl export` takes. Latency is that of the network after removal in ONNX Runtime on one thread,
of all runs in turns, so that a noisy machine affects them alike. Both are computed once a run, and kept in the user's
cache by the SHA-256 of its weights.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

import edgemtl_export
from edgemtl_export.deployed import Deployed
from edgemtl_export.errors import first_sentence
from edgemtl_export.inputs import example_inputs
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.atomic import write_file
from edgemtl_runtime.bundle import Input
from edgemtl_runtime.engine.cpu import cpu_name

from .export import Options
from .latency import Timed, latencies_of
from .run import Run
from .run_files import WEIGHTS

LATENCY = "latency_ms"


class RunCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of a run's network; ``parameters_nonzero`` counts those before removal that are not zero."""

    parameters: int
    parameters_nonzero: int
    parameters_after_removal: int
    mflop: float
    mflop_after_removal: float
    inputs: tuple[Input, ...]
    onnx_sha256: str = ""
    """Of the file that latency is measured of; "" where there is none yet."""

    def metrics(self) -> dict[str, float]:
        """Return the sizes by name."""
        fields = ("parameters", "parameters_nonzero", "parameters_after_removal", "mflop", "mflop_after_removal")
        return {name: float(getattr(self, name)) for name in fields}


def default_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/edgemtl/runs``, of the user's home where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgemtl" / "runs"


def run_costs(
    folders: Sequence[Path], with_latency: bool, progress: Callable[[int], None] = lambda done: None
) -> tuple[dict[Path, dict[str, float]], dict[Path, str]]:
    """Return the cost of every run by name, its latency in ms among them, and why others could not be measured.

    Calls ``progress`` with the number of runs done.
    """
    cache = default_folder()
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    costs: dict[Path, RunCost] = {}
    models: dict[Path, Path] = {}
    failures: dict[Path, str] = {}
    for done, folder in enumerate(folders, 1):
        try:
            costs[folder], models[folder] = _cost(folder, cache, with_latency)
        except Exception as error:  # a network that cannot be shrunk or exported still has its metrics
            failures[folder] = first_sentence(error)
        progress(done)
    out = {folder: cost.metrics() for folder, cost in costs.items()}
    if with_latency and costs:
        for folder, latency_ms in _latencies(costs, models, cache).items():
            out[folder][LATENCY] = latency_ms
    return out, failures


def _cost(folder: Path, cache: Path, with_onnx: bool) -> tuple[RunCost, Path]:
    """Return a run's cost and the ONNX file of its network after removal, from the cache where it has them."""
    key = _digest((folder / WEIGHTS).read_bytes(), version("edgemtl"), version("torch"))
    record, model = cache / f"{key}.json", cache / f"{key}.onnx"
    try:
        cost = msgspec.json.decode(record.read_bytes(), type=RunCost)
        if not with_onnx or _digest(model.read_bytes()) == cost.onnx_sha256:
            return cost, model
    except (OSError, msgspec.MsgspecError):
        pass
    run = Run.open(folder)
    inputs = run.interface.inputs
    multiple = Options().channel_multiple
    shrunk = edgemtl_export.shrink(run.network, (), example_inputs(inputs), align=multiple, verify=False)
    if with_onnx:
        write_onnx(Deployed(shrunk.module(), inputs, run.interface.heads), model)
    report = shrunk.report
    nonzero = sum(int(p.count_nonzero()) for name, p in run.network.named_parameters() if name in shrunk.keep)
    cost = RunCost(
        report.parameters_before,
        nonzero,
        report.parameters_after,
        report.flops_before / 1e6,
        report.flops_after / 1e6,
        inputs,
        _digest(model.read_bytes()) if with_onnx else "",
    )
    write_file(record, msgspec.json.encode(cost))
    return cost, model


def _latencies(costs: dict[Path, RunCost], models: dict[Path, Path], cache: Path) -> dict[Path, float]:
    """Return the latency of each run's network, measured in turns, from the cache where these were measured before."""
    shas = {folder: cost.onnx_sha256 for folder, cost in costs.items()}
    names = sorted(set(shas.values()))
    record = cache / f"latency-{_digest(*names, cpu_name(), version('onnxruntime'))}.json"
    try:
        by_sha = msgspec.json.decode(record.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.MsgspecError):
        by_sha = {}
    if by_sha.keys() != set(names):
        timed = {shas[f]: Timed(models[f], {s.name: _blank(s) for s in costs[f].inputs}) for f in costs}
        by_sha = latencies_of(timed)
        write_file(record, msgspec.json.encode(by_sha))
    return {folder: by_sha[sha] for folder, sha in shas.items()}


def _blank(spec: Input) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((1, spec.height, spec.width, spec.channels), 127, np.uint8)


def _digest(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]
