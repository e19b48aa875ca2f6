"""Steps relative to the filters: what normalisation left in the sizes of weights does not change a training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edgemtl.prune.relative_adam import RelativeAdam, units_of


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1))


def rescaled(dense: nn.Sequential, sizes: tuple[float, float]) -> nn.Sequential:
    """The same function with its layers in other sizes, as folding a normalisation leaves them."""
    other = copy.deepcopy(dense)
    before = 1.0
    with torch.no_grad():
        for layer, size in zip((other[0], other[2], other[4]), (*sizes, 1.0), strict=True):
            layer.weight *= size / before  # type: ignore[operator]
            layer.bias *= size  # type: ignore[operator]
            before = size
    return other


def trained(student: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 30) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        images = torch.randn(4, 3, 12, 12, generator=generator)
        optimizer.zero_grad()
        (student(images) - images.mean()).abs().mean().backward()
        optimizer.step()
    with torch.no_grad():
        return student(torch.randn(4, 3, 12, 12, generator=generator))  # type: ignore[no-any-return]


def test_a_folded_size_does_not_change_the_training() -> None:
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    outputs, plain = [], []
    for sizes in ((1.0, 1.0), (30.0, 0.1)):
        student = rescaled(network(), sizes)
        units = units_of(student, lambda s=student: s(images))
        outputs.append(trained(student, RelativeAdam(student.parameters(), 0.01, units)))
        student = rescaled(network(), sizes)
        plain.append(trained(student, torch.optim.AdamW(student.parameters(), 0.01, weight_decay=0.0)))
    assert torch.allclose(*outputs, atol=0.01)
    assert not torch.allclose(*plain, atol=0.1)  # Adam's own steps: another training


def test_a_step_changes_every_filter_by_the_same_share() -> None:
    student = nn.Sequential(*(layer for layer in network() if not isinstance(layer, nn.ReLU)))  # none is silent
    with torch.no_grad():
        student[0].weight *= torch.logspace(-2, 0, 8).view(-1, 1, 1, 1)
    before = student[0].weight.detach().clone()
    units = units_of(student, lambda: student(torch.randn(2, 3, 12, 12)))
    trained(student, RelativeAdam(student.parameters(), 0.01, units), steps=1)
    change = (student[0].weight - before).square().mean((1, 2, 3)).sqrt() / before.square().mean((1, 2, 3)).sqrt()
    assert torch.allclose(change, torch.full((8,), 0.01), rtol=0.05)


def test_what_is_zero_can_move_and_other_layers_have_units_of_one_size() -> None:
    student = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2, bias=False))
    with torch.no_grad():
        student[0].weight[0] = 0
        student[1].weight.fill_(0.5)
    units = units_of(student, lambda: student(torch.randn(8, 3, 2, 2)))
    assert set(units) == set(student.parameters())
    assert (units[student[0].weight] > 0).all()
    assert units[student[1].weight] == 0.5 and units[student[1].bias] == 1  # a bias of zeros: nothing is known
    assert units[student[3].weight].shape == (2, 1)


def test_a_single_pixel_has_no_deviation() -> None:
    student = nn.Conv2d(3, 2, 1)
    units = units_of(student, lambda: student(torch.ones(1, 3, 1, 1)))
    assert all(torch.isfinite(unit).all() and (unit > 0).all() for unit in units.values())


def test_a_weight_that_is_computed_has_none_of_its_own() -> None:
    student = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
    units = units_of(student, lambda: student(torch.randn(2, 3, 4, 4)))
    assert set(units) == set(student.parameters())
    RelativeAdam(student.parameters(), 0.01, units)
