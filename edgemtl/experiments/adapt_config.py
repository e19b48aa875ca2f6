"""The configurations of an adaptation, one for each start; they are checked without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import Config
from ..config_file import load
from ..errors import ConfigError
from ..run_files import CONFIG, check_run
from ..tasks import TASKS

SCRATCH = "scratch"
"""The start that is no run: the network at its initial weights."""


def adaptation_configs(
    starts: Sequence[str], task: str, overrides: Sequence[str], single_task: bool
) -> dict[str, Config]:
    """Return the configuration of training ``task`` from every start; raises `ConfigError` where that is impossible."""
    like = next((start for start in starts if start != SCRATCH), "")
    if not like:
        raise ConfigError(f"--start {SCRATCH} alone: name a run too, whose network and data are taken")
    return {_name(start, starts): adapted_config(start, task, overrides, like, single_task) for start in starts}


def adapted_config(start: str, task: str, overrides: Sequence[str], like: str, single_task: bool) -> Config:
    """Return the configuration of training ``task`` from a run ``start``, or from scratch as the run ``like``.

    The run's other tasks are trained too, unless ``single_task``; ``overrides`` come last.
    """
    run = Path(like if start == SCRATCH else start)
    check_run(run)
    TASKS.check(task, "--task")
    trained = load(run / CONFIG).tasks
    if task in trained:
        raise ConfigError(f"{run}: is trained on {task} already; its tasks are {', '.join(trained)}")
    tasks = [task] if single_task else [*trained, task]
    defaults = [f"tasks=[{','.join(tasks)}]", "num_evals=10", "method=joint"]
    defaults += ["sparsity={}", "loss_weights={}", "freeze=[]"]
    if start != SCRATCH:
        defaults.append(f"init_from={run}")
    return load(run / CONFIG, [*defaults, *overrides])


def _name(start: str, starts: Sequence[str]) -> str:
    """Return the last part of a start's path, or as many as make it unique."""
    parts = Path(start).parts
    for count in range(1, len(parts) + 1):
        name = "-".join(parts[-count:])
        if sum("-".join(Path(other).parts[-count:]) == name for other in starts) == 1:
            return name
    raise ConfigError(f"{start}: given twice")
