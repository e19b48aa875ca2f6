"""Channels chosen by a fixed index, of tensors that are put together along another dimension, once some are gone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgemtl_export import shrink


class Scales(nn.Module):
    """Two scales with weights of their own, put together along their places, as detectors do; some channels chosen."""

    def __init__(self, index: list[int], form: str, zero: list[int]) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(6, 5, 1)
        self.form = form
        self.register_buffer("index", torch.tensor(index))
        with torch.no_grad():
            self.a.weight[zero] = self.b.weight[zero] = 0
            self.a.bias[zero] = self.b.bias[zero] = 0
            self.first.weight[[1, 4]] = self.first.bias[[1, 4]] = 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        places = torch.cat([self.a(y).flatten(2), self.b(y[:, :, ::2, ::2]).flatten(2)], 2)
        if self.form == "places last":
            return places.sigmoid().index_select(1, self.index)
        rows = places.transpose(1, 2)
        if self.form == "rows":
            return rows[:, :, self.index]
        return torch.cat([rows[:, :, :2], rows[:, :, 1:].index_select(2, (self.index - 1).clamp(min=0))], 2)


@pytest.mark.parametrize("form", ["places last", "rows", "with others"])
@pytest.mark.parametrize("index", [[4, 2], [0], [3, 3, 1], [4, 3, 2, 1, 0], [1, 2]])
@pytest.mark.parametrize("zero", [[], [2], [0, 3]])
def test_every_choice_is_exact_and_the_others_go(form: str, index: list[int], zero: list[int]) -> None:
    torch.manual_seed(0)
    network = Scales(index, form, zero).eval()
    image = torch.randn(1, 3, 8, 8)
    expected = network(image)
    shrunk = shrink(network, (torch.rand(1, 3, 8, 8),))  # proves itself
    small = shrunk.module()
    assert torch.allclose(small(image), expected, atol=1e-5)
    if form == "places last" and not zero:
        sizes = {name: tensor.shape[0] for name, tensor in small.state_dict().items() if name.endswith("a.weight")}
        assert set(sizes.values()) == {len(set(index))}
