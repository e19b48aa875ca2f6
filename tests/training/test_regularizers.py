"""Regularisers: a custom one is a class and a line in the table, and is observed, applied, logged and resumed."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgemtl
from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.methods import REGULARIZERS
from edgemtl.regularizer import Regularizer
from edgemtl.run import Interface
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin
from edgemtl.trainer import Trainer
from edgemtl_models import MultiTask

WORDS = ["input_size=[32,64]", "batch_size=4", "tasks=[semantic]", "modalities=[rgb]", "precision=fp32", "steps=8"]


class ClippedHead(Regularizer):
    """Keeps the weights of the semantic head within bounds that shrink with every step."""

    def __init__(self, network: MultiTask) -> None:
        self.parameters = dict(network.heads["semantic"].named_parameters(prefix="heads.semantic"))
        self.bound = 1.0
        self.largest_gradient = 0.0

    def no_weight_decay(self) -> set[str]:
        return set(self.parameters)

    def observe(self, grads: Mapping[str, Tensor]) -> None:
        self.largest_gradient = max(float(grads[name].abs().max()) for name in self.parameters)

    @torch.no_grad()
    def after_step(self, step: int, lr: float, optimizer: torch.optim.AdamW) -> None:
        self.bound *= 0.5
        for parameter in self.parameters.values():
            parameter.clamp_(-self.bound, self.bound)

    @torch.no_grad()
    def mask(self, network: nn.Module) -> None:
        named = dict(network.named_parameters())
        for name in self.parameters:
            named[name].clamp_(-self.bound, self.bound)

    def metrics(self) -> dict[str, float]:
        return {"bound": self.bound}

    def state_dict(self) -> dict[str, Any]:
        return {"bound": self.bound, "tensor": torch.tensor(self.bound)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert float(state["tensor"]) == state["bound"]
        self.bound = state["bound"]

    def warnings(self) -> list[str]:
        return ["the head is small"]

    def finish(self, network: MultiTask) -> dict[str, Any]:
        return {"bound": self.bound}


@pytest.fixture
def clipped() -> Iterator[None]:
    def build(network: MultiTask, interface: Interface, config: Config, steps: int) -> Regularizer:
        assert [spec.name for spec in interface.inputs] == ["rgb"] and steps == config.steps
        return ClippedHead(network)

    REGULARIZERS.register("clipped")(build)
    yield
    REGULARIZERS.discard("")


def trainer_of(*words: str) -> tuple[Trainer, Any]:
    config = load(None, [*WORDS, *words])
    return begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})


def largest_weight(network: nn.Module) -> float:
    return max(float(p.detach().abs().max()) for n, p in network.named_parameters() if n.startswith("heads.semantic"))


def test_a_custom_regularizer_is_a_class_and_a_line(clipped: None) -> None:
    trainer, batches = trainer_of("sparsity.target=0.3", "sparsity.scope=trunk")
    assert list(trainer.regularizers) == ["sparsity", "clipped"]
    regularizer = trainer.regularizers["clipped"]
    assert isinstance(regularizer, ClippedHead)
    for step in range(6):
        row = trainer.train_step(batches[step])
        assert row["bound"] == 0.5 ** (step + 1) and "pruned" in row
        assert largest_weight(trainer.network) <= row["bound"] and largest_weight(trainer.ema.network) <= row["bound"]
    assert regularizer.largest_gradient > 0
    decayed, others = (set(map(id, group["params"])) for group in trainer.optimizer.param_groups)
    assert all(id(p) in others and id(p) not in decayed for p in regularizer.parameters.values())
    resumed, _ = trainer_of("sparsity.target=0.3", "sparsity.scope=trunk")
    resumed.load_state(copy.deepcopy(trainer.state()))
    assert resumed.train_step(batches[6]) == trainer.train_step(batches[6])
    assert [w for r in trainer.regularizers.values() for w in r.warnings()][-1] == "the head is small"
    assert trainer.finish()[1].network["bound"] == 0.5**7


def test_a_regularizer_writes_only_the_methods_it_needs() -> None:
    class Nothing(Regularizer):
        pass

    nothing = Nothing()
    params = {"w": torch.zeros(1)}
    assert nothing.project(params) is params and nothing.proximal() is None
    assert (
        nothing.metrics() == {} == nothing.state_dict() and nothing.warnings() == [] and not nothing.no_weight_decay()
    )


def test_the_sparsity_package_imports_no_network_and_no_training() -> None:
    for file in (Path(edgemtl.__file__).parent / "sparsity").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2 or node.module in ("config", "errors"), file.name
                assert node.module is None or not node.module.startswith("edgemtl_models"), file.name
