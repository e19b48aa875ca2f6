"""Pruning of a run of ours: trained on from its weights on its own data, taught by itself, then exported."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from edgemtl_export.cost_model.deployment import Progress
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.cpu import cpu_name

from ..config import Config, Sparsity
from ..data.datasets import open_datasets
from ..evaluate import of_run
from ..export import export
from ..latency import latencies_ms as timed_ms
from ..run import Run
from ..run_files import PRUNING
from ..sizes import Sizes
from ..train import train
from .agreement import agreement
from .figures import Figures
from .options import PruneOptions
from .pruning import BUNDLE_FOLDER, FIGURES, Result

SHARE_OF_STEPS = 1 / 3
SHARE_OF_RATE = 0.2
RUN_FOLDER = "run"


def prune_run(
    run: Run,
    out: Path,
    options: PruneOptions,
    steps: int | None = None,
    lr: float | None = None,
    progress: Progress = lambda *_: None,
    overwrite: bool = False,
) -> Result:
    """Prune a run with labels and data of its own, and write the pruned run, its bundle, figures and its report.

    ``steps`` and ``lr`` are by default a third, and a fifth, of those of the run's training. Raises `EdgemtlError`,
    and then nothing is written.
    """
    config = pruning_config(run, options, steps, lr)
    with AtomicFolder(out, PRUNING, overwrite) as output:
        pruned = train(config, output.folder / RUN_FOLDER, keep=False)
        bundle, shrunk = export(pruned, output.folder / BUNDLE_FOLDER, progress=progress)
        figures = _figures(run, pruned, bundle, config, options, output.folder)
        sizes = Sizes.of(shrunk.report)
        figures = msgspec.structs.replace(
            figures,
            parameters=(sizes.parameters_before, sizes.parameters_after),
            flops=(sizes.flops_before, sizes.flops_after),
        )
        (output.folder / FIGURES).write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
        output.commit()
    return Result(out, None, Bundle.open(out / BUNDLE_FOLDER), figures, shrunk, shrunk.report.warnings)


def pruning_config(run: Run, options: PruneOptions, steps: int | None, lr: float | None) -> Config:
    """Return the configuration that a run is pruned by: its own, from its weights, with itself as the teacher."""
    trained = int(run.metrics.get("steps", 0)) or options.steps
    sparsity = Sparsity(
        target=options.target,
        metric=options.metric,
        costs=options.costs,
        engine=options.engine,
        begin=options.begin,
        end=options.end,
        importance="taylor",
    )
    return msgspec.structs.replace(
        run.config,
        init_from=str(run.path.resolve()),
        teacher=str(run.path.resolve()),
        steps=steps or max(1, round(SHARE_OF_STEPS * trained)),
        lr=lr or SHARE_OF_RATE * run.config.lr,
        sparsity=sparsity,
        seed=options.seed,
        method="joint" if run.config.method == "sparse" else run.config.method,
    )


def _figures(run: Run, pruned: Run, bundle: Bundle, config: Config, options: PruneOptions, folder: Path) -> Figures:
    """Return the figures of a run and of what it was pruned to; sizes are not known yet."""
    dense = folder / "dense.onnx"
    write_onnx(run.deployed(), dense)
    images = {s.name: np.full((1, s.height, s.width, s.channels), 127, np.uint8) for s in run.interface.inputs}
    measured = timed_ms({"dense": dense, "pruned": bundle.model}, images)
    dense.unlink()
    samples = open_datasets(config, ("val",))["val"]
    accuracy = {
        head.name: {
            subset: (run.reports[subset].primary(head.name), report.primary(head.name))
            for subset, report in pruned.reports.items()
            if subset in run.reports
        }
        for head in run.interface.heads
    }
    return Figures(
        network=str(run.path),
        metric=options.metric,
        target=options.target,
        steps=config.steps,
        parameters=(0, 0),
        flops=(0, 0),
        latency_ms=(measured["dense"], measured["pruned"]),
        machine=cpu_name(),
        agreement=agreement(of_run(run, None), of_run(pruned, None), samples),
        accuracy=accuracy,
        device=options.costs or options.engine,
    )
