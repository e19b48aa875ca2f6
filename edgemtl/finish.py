"""The end of a training: metrics, curves and report. A failure here costs that part alone; the weights are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import run_plugins
from .config import Config
from .console import print_message, progress_bar
from .data.sample import Dataset
from .delta_m import delta_m, references
from .errors import brief
from .evaluate import Predictor, evaluate, of_network
from .licence import licence
from .metric_report import Reports, from_json, to_json
from .plots import training_curves
from .reports.run import write_run_report
from .run import write_weights
from .run_files import METRICS
from .sizes import sizes_of
from .trainer import Trainer
from .training_log import VAL

MEASURED_FROM_S = 120.0
"""How long a training takes whose network's latency is measured at its end: that takes some seconds."""


def write_run(
    folder: Path, out: Path, config: Config, trainer: Trainer, metrics: dict[str, Any], val: Dataset | None
) -> dict[str, Any]:
    """Write a trained network as a run into ``folder``, which will be ``out``; return its metrics.

    ``val`` is the split it is evaluated on, if it is. Raises OSError when the weights or metrics cannot be written.
    """
    network, interface = trainer.finish()
    metrics |= {"parameters": sum(p.numel() for p in network.parameters()), "loss": trainer.log.last()}
    write_weights(folder, config, network, interface)
    run_plugins.write(folder, config, interface.network)
    with guarded("the curves could not be drawn", out):
        trainer.log.write(folder)
        (folder / "curves.png").write_bytes(training_curves(trainer.log.plotted()))
    if val is not None:
        with guarded("the run could not be evaluated", out):
            _evaluate(trainer, metrics, of_network(network, interface, device=trainer.device), val)
    if "val" in metrics and config.method != "single":
        with guarded("Δm could not be computed", out):
            change = delta_m(from_json(metrics)["all"].flat(), references(config, out.parent), list(trainer.tasks))
            metrics |= {"delta_m": change} if change else {}
    if figures := {name: text for part in trainer.regularizers.values() for name, text in part.figures().items()}:
        metrics |= {"figures": figures}
    if config.removes:
        with guarded("the sizes after removal are not known", out):
            metrics |= sizes_of(network, interface.inputs).as_metrics()
    if metrics["seconds"] >= MEASURED_FROM_S:
        with guarded("the latency is not known", out):
            from .latency import run_latency  # loads onnx and ONNX Runtime

            metrics |= run_latency(network, interface, config.removes).as_metrics()
    if "val" in metrics and val is not None:
        with guarded("the report could not be written", out):
            shown = of_network(network, interface, None)
            write_run_report(
                folder, config, metrics, network, shown, val, list(trainer.tasks), licence(interface.origins)
            )
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def evaluate_part(trainer: Trainer, val: Dataset | None) -> None:
    """Take part in the evaluation at the end of a training, which the main process writes down."""
    if val is not None:
        network, interface = trainer.finish()
        with guarded("the run could not be evaluated"):
            evaluate(of_network(network, interface, device=trainer.device), val, shared=True)


@contextmanager
def guarded(failure: str, out: Path | None = None) -> Iterator[None]:
    """Report an exception, and how to get the metrics later, instead of losing the run by it."""
    try:
        yield
    except Exception as error:  # whatever it is, hours of training are not lost by it
        remedy = f"the weights are kept: `edgemtl eval {out}` evaluates them" if out else "the training goes on"
        print_message(f"warning: {failure} ({brief(error)}); {remedy}")


def _evaluate(trainer: Trainer, metrics: dict[str, Any], predictor: Predictor, val: Dataset) -> None:
    with progress_bar("evaluating", len(val)) as bar:
        reports = evaluate(predictor, val, lambda n: bar(n, {}), shared=True)
    metrics["evals"] = [*logged_evals(trainer), {"step": trainer.steps, **primary_metrics(reports, trainer)}]
    metrics["judged"] = metrics["evals"]  # the key of version 0.1, written for one version more
    metrics |= to_json(reports)


def primary_metrics(reports: Reports, trainer: Trainer) -> dict[str, float]:
    """Return each task's primary metric over the whole split, where it has one."""
    values = {name: reports["all"].primary(name) for name in trainer.tasks} if reports else {}
    return {name: value for name, value in values.items() if value is not None}


def logged_evals(trainer: Trainer) -> list[dict[str, float]]:
    """Return the evaluations during the training: the steps taken, and each task's primary metric."""
    return [
        {"step": row["step"] + 1, **{n.removeprefix(VAL): v for n, v in row.items() if n.startswith(VAL)}}
        for row in trainer.log.evaluations()
    ]
