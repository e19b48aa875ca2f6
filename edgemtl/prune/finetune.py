"""Pruning of a run of ours: trained on from its weights on its own data, taught by itself, then exported."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from edgemtl_export.cost_model.deployment import Progress
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import Bundle

from ..config import Config, Sparsity
from ..data.datasets import open_datasets
from ..evaluate import of_run
from ..export import export
from ..run import Run
from ..run_files import PRUNING
from ..sizes import Sizes
from ..train import train
from .agreement import agreement
from .figures import figures_of, measured_ms, write_figures
from .options import PruneOptions
from .pruning import BUNDLE_FOLDER, Result

SHARE_OF_STEPS = 1 / 3
SHARE_OF_RATE = 0.2
RUN_FOLDER = "run"


def prune_run(
    run: Run,
    out: Path,
    options: PruneOptions,
    steps: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    progress: Progress = lambda *_: None,
    overwrite: bool = False,
) -> Result:
    """Prune a run with labels and data of its own, and write the run, its bundle and the figures.

    ``steps`` and ``lr`` are by default a third, and a fifth, of those of the run's training, ``batch_size`` is its own.
    Raises `EdgemtlError`, and then nothing is written.
    """
    config = pruning_config(run, options, steps, lr, batch_size)
    with AtomicFolder(out, PRUNING, overwrite) as output:
        pruned = train(config, output.folder / RUN_FOLDER, keep=False)
        bundle, shrunk = export(pruned, output.folder / BUNDLE_FOLDER, progress=progress)
        figures = figures_of(
            str(run.path),
            _latency_ms(run, bundle),
            Sizes.of(shrunk.report),
            options,
            config.steps,
            agreement(of_run(run, None), of_run(pruned, None), open_datasets(config, ("val",))["val"]),
            _accuracy(run, pruned),
        )
        write_figures(output.folder, figures)
        output.commit()
    return Result(out, None, Bundle.open(out / BUNDLE_FOLDER), figures, shrunk, shrunk.report.warnings)


def _latency_ms(run: Run, pruned: Bundle) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dense.onnx"
        write_onnx(run.deployed(), file)
        return measured_ms(file, pruned)


def pruning_config(
    run: Run, options: PruneOptions, steps: int | None, lr: float | None, batch_size: int | None
) -> Config:
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
        batch_size=batch_size or run.config.batch_size,
        sparsity=sparsity,
        seed=options.seed,
        method="joint" if run.config.method == "sparse" else run.config.method,
    )


def _accuracy(run: Run, pruned: Run) -> dict[str, dict[str, tuple[float | None, ...]]]:
    """Return the primary metric of a run and of what it was pruned to, by head and subset."""
    subsets = [subset for subset in pruned.reports if subset in run.reports]
    return {
        head.name: {s: tuple(r.reports[s].primary(head.name) for r in (run, pruned)) for s in subsets}
        for head in run.interface.heads
    }
