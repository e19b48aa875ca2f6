"""A network for each task by itself: the reference that learning together is measured against."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..checkpoint import lasting
from ..config import Config
from ..console import print_message
from ..group import group, is_finished
from ..run import Run

SINGLE = "single training"
"""What `edgemtl_runtime.atomic` calls such a folder."""


def only(config: Config, task: str) -> Config:
    """Return the configuration of a task by itself, on those of several data sets that give its labels."""
    data = config.data
    if not isinstance(data.source, str):
        giving = tuple(msgspec.structs.replace(s, tasks=(task,)) for s in data.source if s.gives(task))
        data = msgspec.structs.replace(data, source=giving)
    return msgspec.structs.replace(config, data=data, tasks=(task,), task_weighting="equal", loss_weights={})


def train_single(config: Config, out: str | Path, resume: bool = False, overwrite: bool = False) -> list[Run]:
    """Train every task of ``config`` alone, into ``out``/TASK, which is there when all are done.

    ``resume`` goes on with what was stopped: tasks that are finished are kept. ``overwrite`` replaces what is there.
    """
    from ..train import train

    out, asked = Path(out), lasting(config)
    if not (resume and is_finished(out, SINGLE, asked)):
        with group(out, SINGLE, asked, resume, overwrite) as folder:
            for task in config.tasks:
                print_message(f"{task} alone")
                train(only(config, task), folder / task, resume=resume)
    return [Run.open(out / task) for task in config.tasks]
