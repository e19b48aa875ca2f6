"""Single-task training: one network a task, the baseline of multi-task training (`delta_m`)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..checkpoint import lasting
from ..config import Config
from ..console import print_message
from ..group import group, is_finished
from ..run import Run
from ..run_files import SINGLE
from ..train import train


def single_task(config: Config, task: str) -> Config:
    """Return the configuration of one task by itself, on those of several datasets that have its labels."""
    data = config.data
    if not isinstance(data.source, str):
        sources = tuple(msgspec.structs.replace(s, tasks=(task,)) for s in data.source if s.gives(task))
        data = msgspec.structs.replace(data, source=sources)
    return msgspec.structs.replace(config, data=data, tasks=(task,), task_weighting="equal", loss_weights={})


def train_single(config: Config, out: str | Path, resume: bool = False, overwrite: bool = False) -> list[Run]:
    """Train every task of ``config`` by itself, into ``out``/TASK; ``out`` is put in place when all are finished.

    ``resume`` continues what was stopped: finished tasks are kept. ``overwrite`` replaces what exists.
    """
    out, asked = Path(out), lasting(config)
    if not (resume and is_finished(out, SINGLE, asked)):
        with group(out, SINGLE, asked, resume, overwrite) as folder:
            for task in config.tasks:
                print_message(f"{task} by itself")
                train(single_task(config, task), folder / task, resume=resume)
    return [Run.open(out / task) for task in config.tasks]
