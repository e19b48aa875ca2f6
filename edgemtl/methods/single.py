"""A network for each task by itself: the reference that learning together is measured against."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..config import Config
from ..console import say
from ..run import CONFIG, Run


def only(config: Config, task: str) -> Config:
    """Return the configuration of a task by itself, on those of several data sets that give its labels."""
    data = config.data
    if not isinstance(data.source, str):
        giving = tuple(msgspec.structs.replace(s, tasks=(task,)) for s in data.source if s.gives(task))
        data = msgspec.structs.replace(data, source=giving)
    return msgspec.structs.replace(config, data=data, tasks=(task,), balance="equal", weights={})


def train_single(config: Config, out: str | Path, resume: bool = False) -> list[Run]:
    """Train every task of ``config`` alone, into ``out``/TASK; with ``resume`` those that are finished are kept."""
    from ..train import train

    runs = []
    for task in config.tasks:
        alone = only(config, task)
        folder = Path(out) / task
        if resume and (folder / CONFIG).is_file():
            say(f"{folder} is finished")
            runs.append(Run.open(folder))
            continue
        say(f"{task} alone")
        runs.append(train(alone, folder, resume=resume))
    return runs
