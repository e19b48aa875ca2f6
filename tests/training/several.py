"""Twenty steps in double precision, by one process or by two: ``torchrun --nproc-per-node 2 several.py FILE CASE``.

The weights of the case go to the file. A word "without=TASK" takes that task's labels from every
second image of a batch, so from one of two processes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from edgemtl import distributed
from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.data.batch import Item
from edgemtl.data.datasets import open_datasets
from edgemtl.data.loader import Batches
from edgemtl.train import begin

STEPS = 20
WORDS = (
    "input_size=[64,96]",
    "data.synthetic.num_train=16",
    "data.synthetic.num_val=2",
    "batch_size=5",
    "steps=20",
    "precision=fp32",
    "augment.mosaic=0.3",
)
CASES = {
    "every task, sparsity to a target, uncertainty weighting": (
        "tasks=[boxes,semantic,depth,normals,edges,attributes]",
        "sparsity.target=0.5",
        "sparsity.begin=0.2",
        "task_weighting=uncertainty",
    ),
    "gradient surgery, labels on one process alone": (
        "tasks=[boxes,semantic,depth]",
        "modalities=[rgb]",
        "task_weighting=pcgrad",
        "without=depth",
    ),
    "episodes with trained strengths, labels on one process alone": (
        "tasks=[semantic,depth]",
        "method=meta_sparsity",
        "sparsity.granularity=stage",
        "sparsity.begin=0.2",
        "episodes.subsets=2",
        "without=depth",
        "batch_size=12",  # statistics of a support of two images amplify roundings: 2e-5 after twenty steps
    ),
}


class Lacking(Batches):
    """Batches whose items at odd positions lack a task's labels."""

    without = ""

    def _item(self, place: int, mosaic: float) -> Item:
        item = super()._item(place, mosaic)
        targets = {task: t for task, t in item.targets.items() if place % 2 == 0 or task != self.without}
        return replace(item, targets=targets)


def trained(config: Config, without: str) -> dict[str, torch.Tensor]:
    """Return every weight and statistic after so many steps."""
    trainer, whole = begin(config, open_datasets(config))
    batches = Lacking(whole.dataset, config, whole.inputs, whole.target_types, STEPS)
    batches.without = without
    for step in range(STEPS):
        batch = batches[step].map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
        trainer.train_step(batch)
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def weights_after(words: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return every weight and statistic after so many steps in double precision."""
    without = [word.partition("=")[2] for word in words if word.startswith("without=")]
    config = load(None, [word for word in words if not word.startswith("without=")])
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return trained(config, *without or [""])
    finally:
        torch.set_default_dtype(usual)


def main(file: str, case: str) -> None:
    """Train a case, and let the main process write the weights."""
    torch.set_num_threads(1)
    with distributed.process_group():
        weights = weights_after([*WORDS, *CASES[case]])
        if distributed.is_main():
            torch.save(weights, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
