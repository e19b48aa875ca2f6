"""A network for each task by itself: the reference that learning together is measured against."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..config import Config
from ..console import say
from ..run import CONFIG, Run


def train_single(config: Config, out: str | Path, resume: bool = False) -> list[Run]:
    """Train every task of ``config`` alone, into ``out``/TASK; with ``resume`` those that are finished are kept."""
    from ..train import train

    runs = []
    for task in config.tasks:
        alone = msgspec.structs.replace(config, tasks=(task,), balance="equal", weights={})
        folder = Path(out) / task
        if resume and (folder / CONFIG).is_file():
            say(f"{folder} is finished")
            runs.append(Run.open(folder))
            continue
        say(f"{task} alone")
        runs.append(train(alone, folder, resume=resume))
    return runs
