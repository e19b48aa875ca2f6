"""Twenty steps in double precision, by one process or by several that torchrun started; the weights go to a file.

    python several.py FILE key=value ...        torchrun --nproc-per-node 2 several.py FILE key=value ...

A word "without=TASK" takes that task's labels from every second picture of a batch, so from one of two processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import edgemtl_models
from edgemtl import processes
from edgemtl.config import Config, load
from edgemtl.data.loader import Batches
from edgemtl.data.open import open_data
from edgemtl.loop import Loop
from edgemtl.run import interface_of
from edgemtl.train import choose_tasks

STEPS = 20


class Lacking(Batches):
    """Batches whose items at odd places lack a task's labels."""

    without = ""

    def _item(self, place: int, mosaic: float) -> dict[str, torch.Tensor]:
        item = super()._item(place, mosaic)
        return {k: v for k, v in item.items() if place % 2 == 0 or k != self.without}


def learned(config: Config, without: str) -> dict[str, torch.Tensor]:
    """Return every weight and statistic after so many steps."""
    torch.manual_seed(0)
    data = open_data(config)["train"]
    tasks = choose_tasks(config, data)
    channels = {name: task.channels for name, task in tasks.items()}
    network = edgemtl_models.build(config.network, channels, config.size, cameras=config.cameras)
    interface = interface_of(network, config, tuple(task.head() for task in tasks.values()))
    inputs = {spec.name: spec for spec in interface.inputs}
    batches = Lacking(data, config, inputs, {name: task.label for name, task in tasks.items()}, STEPS)
    batches.without = without
    loop = Loop(network, tasks, config, interface, STEPS, 4)
    for step in range(STEPS):
        batch = batches[step]
        loop.learn({key: value.double() if value.is_floating_point() else value for key, value in batch.items()})
    return {name: tensor.clone() for name, tensor in loop.network.state_dict().items()}


def main(file: str, *words: str) -> None:
    """Learn, and let the first process write what it has."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    without = [word.partition("=")[2] for word in words if word.startswith("without=")]
    config = load(None, [word for word in words if not word.startswith("without=")])
    with processes.together():
        weights = learned(config, *without or [""])
        if processes.first():
            torch.save(weights, Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
