"""Random numbers: from generators of our own; the global ones belong to the program that calls us."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edgemtl.config_file import load
from edgemtl.data.datasets import open_datasets
from edgemtl.rng import isolated_rng, seed_of
from edgemtl.train import begin, train

pytestmark = [pytest.mark.usefixtures("undrawn"), pytest.mark.fault("L9")]

ROOT = Path(__file__).parents[2]
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli", "rand_like", "randn_like"}
METHODS = {"multinomial", "bernoulli", "bernoulli_", "normal_", "uniform_", "random_", "exponential_"}
SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all", "np.random.seed", "random.seed"}
WORDS = (
    "input_size=[32,64]",
    "data.synthetic.num_train=8",
    "data.synthetic.num_val=2",
    "batch_size=2",
    "steps=2",
    "tasks=[semantic]",
    "task_weighting=pcgrad",
    "augment.modality_dropout=0.5",
    "precision=fp32",
)


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    for folder in ("edgemtl", "models", "export"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call):
                    yield f"{file}:{node.lineno}", ast.unparse(node.func), node


def test_no_file_seeds_or_draws_from_a_global_generator() -> None:
    wrong = []
    for place, name, call in calls():
        module, _, function = name.rpartition(".")
        draws = module == "torch" and function in DRAWS and not any(k.arg == "generator" for k in call.keywords)
        draws |= function in METHODS and not any(k.arg == "generator" for k in call.keywords)
        numpy = module == "np.random" and function[0].islower() and function != "default_rng"
        python = module == "random" and function[0].islower()
        if name in SEEDS or draws or numpy or python:
            wrong.append(f"{place}: {name}")
    assert not wrong


def states() -> list[object]:
    return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_leaves_the_global_generators_and_repeats_itself(tmp_path: Path, workers: int) -> None:
    torch.manual_seed(11)
    random.seed(11)
    before = states()
    config = load(None, [*WORDS, f"data.num_workers={workers}"])
    runs = [train(config, tmp_path / "one", evaluate=workers == 0)]
    assert states() == before
    torch.manual_seed(12)
    random.seed(12)
    runs.append(train(config, tmp_path / "two", evaluate=False))
    one, two = (run.network.state_dict() for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_layer_that_draws_depends_on_the_step_alone() -> None:
    """Dropout: torch's layers know the global generator only."""
    weights = []
    for seed in (1, 2):
        config = load(None, WORDS)
        trainer, batches = begin(config, open_datasets(config))
        trainer.network.heads["semantic"].register_forward_hook(lambda _head, _args, out: torch.dropout(out, 0.5, True))
        torch.manual_seed(seed)
        trainer.train_step(batches[0])
        weights.append(trainer.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_an_isolated_block_restores_the_state_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), isolated_rng(seed_of(1, 2)):
        torch.rand(3)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert seed_of(1, 2) != seed_of(2, 1)
