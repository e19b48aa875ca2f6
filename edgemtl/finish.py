"""Behind the last step: figures, curves and report. What fails here costs itself alone; the weights are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from edgemtl_export.deployed import Deployed

from .config import Config
from .console import progress_bar, say
from .data.sample import Samples
from .delta_m import delta_m, references
from .evaluate import Figures, Predictor, evaluate
from .reports.run import write_run_report
from .run import METRICS, Interface, write_weights
from .trainer import Loop
from .training_log import JUDGED


def write_run(
    folder: Path, out: Path, config: Config, loop: Loop, metrics: dict[str, Any], val: Samples | None
) -> dict[str, Any]:
    """Write a learned network as a run into ``folder``, which will be ``out``; return its figures.

    ``val`` is what it is judged on, if it is. Raises OSError when the weights or the figures cannot be written.
    """
    network, interface = loop.finished()
    metrics |= {"parameters": sum(p.numel() for p in network.parameters()), "loss": loop.log.last()}
    write_weights(folder, config, network, interface)
    with guarded("the curves could not be drawn", out):
        loop.log.write(folder)
    if val is not None:
        with guarded("the run could not be judged", out):
            _judge(config, loop, metrics, predictor_of(network, interface), val)
            if config.method != "single":
                gained = delta_m(metrics["val"]["all"], references(config, out.parent), list(loop.tasks))
                metrics |= {"delta_m": gained} if gained else {}
    if "val" in metrics and val is not None:
        with guarded("the report could not be written", out):
            _report(folder, config, loop, metrics, network, interface, val)
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


@contextmanager
def guarded(what: str, out: Path | None = None) -> Iterator[None]:
    """Tell of a failure, and of how to get the figures, instead of losing the run by it."""
    try:
        yield
    except Exception as error:  # whatever it is, hours of learning are not lost by it
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        way = f"the weights are kept: `edgemtl eval {out}` judges them" if out else "the training goes on"
        say(f"warning: {what} ({reason}); {way}")


def _judge(config: Config, loop: Loop, metrics: dict[str, Any], predictor: Predictor, val: Samples) -> None:
    with progress_bar("judging", len(val)) as bar:
        figures = evaluate(predictor, val, lambda n: bar(n, {}))
    metrics["judged"] = [*judged(loop), {"step": loop.steps, **primaries(figures, loop)}]
    metrics["val"] = figures


def _report(
    folder: Path,
    config: Config,
    loop: Loop,
    metrics: dict[str, Any],
    network: nn.Module,
    interface: Interface,
    val: Samples,
) -> None:
    deployed = Deployed(network, interface.inputs, interface.heads)
    shown = Predictor(deployed, interface.inputs, interface.heads, None)
    write_run_report(folder, config, metrics, network, shown, val, list(loop.tasks))


def predictor_of(network: nn.Module, interface: Interface) -> Predictor:
    """Return what judges a network: boxes of every score take part."""
    deployed = Deployed(network, interface.inputs, interface.heads)
    return Predictor(deployed, interface.inputs, interface.heads, 0.0)


def primaries(figures: Figures, loop: Loop) -> dict[str, float]:
    """Return each task's primary metric over the whole split, where it has one."""
    whole = figures["all"]
    return {name: whole[task.primary] for name, task in loop.tasks.items() if task.primary in whole}


def judged(loop: Loop) -> list[dict[str, float]]:
    """Return what was judged while the training went on: the steps taken, and each task's primary metric."""
    return [
        {"step": row["step"] + 1, **{n.removeprefix(JUDGED): v for n, v in row.items() if n.startswith(JUDGED)}}
        for row in loop.log.rows
        if any(name.startswith(JUDGED) for name in row)
    ]
