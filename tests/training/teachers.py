"""Linear regressions on features of which a few matter to every task: problems whose solutions are known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgemtl.config import Config, Episodes, Sparsity
from edgemtl.data.batch import Batch
from edgemtl.data.targets import VectorTarget
from edgemtl.losses import MultiTaskLoss
from edgemtl.methods import METHODS
from edgemtl.methods.channel_sparsity import ChannelSparsity
from edgemtl.methods.joint import Joint
from edgemtl.tasks.base import LossSum, SimpleTask

FEATURES, RELEVANT, TASKS = 30, 6, ("a", "b")


def targets_of(batch: Batch, task: str) -> Tensor:
    """Return the values that a task's output should have."""
    target = batch.target(task, VectorTarget)
    assert target is not None
    return target.values


class Regression(SimpleTask):
    """Half the squared difference."""

    def __init__(self, name: str) -> None:
        super().__init__(())
        self.name = name

    def loss(self, output: Tensor, batch: Batch) -> LossSum | None:
        if self.name not in batch.targets:
            return None
        return LossSum.of((output - targets_of(batch, self.name)).square() / 2)


class Trunk(nn.Module):
    """One number a task from every feature: a column of weights is a group, as a convolution's input channel is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(FEATURES, len(TASKS), 1, bias=False)

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        return list(self.conv(images["rgb"]).split(1, 1))


class Pick(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[self.index].flatten(1)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.heads = nn.ModuleDict({name: Pick(index) for index, name in enumerate(TASKS)})

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        features = self.trunk({"rgb": rgb})
        return {name: self.read(name, features) for name in TASKS}

    def read(self, head: str, features: list[Tensor]) -> Tensor:
        return self.heads[head](features)


def truth() -> Tensor:
    """Return the teacher's weights, (tasks, features): the last features matter to no task."""
    weights = torch.randn(len(TASKS), FEATURES, generator=torch.Generator().manual_seed(7))
    weights[:, RELEVANT:] = 0
    return weights


def samples(count: int, seed: int, noise: float) -> Batch:
    """Return features and noisy targets."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=generator)
    values = x @ truth().T + noise * torch.randn(count, len(TASKS), generator=generator)
    targets = {name: VectorTarget(values[:, i : i + 1]) for i, name in enumerate(TASKS)}
    return Batch({"rgb": x.view(count, FEATURES, 1, 1)}, dict(targets))


def concatenate(first: Batch, second: Batch) -> Batch:
    images = {"rgb": torch.cat([first.images["rgb"], second.images["rgb"]])}
    targets = {n: VectorTarget(torch.cat([targets_of(first, n), targets_of(second, n)])) for n in first.targets}
    return Batch(images, dict(targets))


class Study:
    """A student under a method, and the optimiser that belongs to it."""

    def __init__(self, method: str, size: int, steps: int, sparsity: Sparsity, episodes: Episodes, lr: float) -> None:
        torch.manual_seed(0)
        self.network, self.steps, self.lr, self.taken = Student(), steps, lr, 0
        self.config = Config(
            method=method, tasks=TASKS, batch_size=size, sparsity=sparsity, episodes=episodes, precision="fp32"
        )
        example = {"rgb": torch.zeros(2, FEATURES, 1, 1)}
        self.sparsity = ChannelSparsity(self.network, example, sparsity, steps) if self.config.sparse else None
        tasks = {name: Regression(name) for name in TASKS}
        self.loss_fn = MultiTaskLoss(self.network, tasks, {"rgb": "rgb"}, self.config, torch.device("cpu"))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=lr, weight_decay=0)
        regularizers = [self.sparsity] if self.sparsity else []
        self.method: Joint = METHODS[method](self.loss_fn, self.config, self.optimizer, regularizers)

    def step(self, batch: Batch) -> None:
        """Take one step, ever shorter."""
        lr = self.lr * (1 - self.taken / self.steps)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad()
        self.method.backward(batch, self.taken)
        self.optimizer.step()
        if self.sparsity:
            self.sparsity.after_step(self.taken, lr, self.optimizer)
        self.taken += 1

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """Return the sum of the losses of the tasks."""
        return float(sum(self.loss_fn(batch).losses.values()))
