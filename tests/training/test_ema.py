"""The average of the weights: what it is after some steps, of any network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgemtl.ema import EMA


@pytest.mark.parametrize(
    "network",
    [nn.Linear(3, 2), nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.ReLU()],
    ids=["weights alone", "with statistics and counters", "nothing to average"],
)
def test_every_tensor_is_averaged_and_counters_are_those_of_the_network(network: nn.Module) -> None:
    network.train()
    ema = EMA(network, 0.5)
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for update in range(1, 5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        if isinstance(network, nn.Sequential):
            network(torch.rand(2, 3, 4, 4))
        ema.update()
        weight = 1 - min(0.5, (1 + update) / (10 + update))
        for name, tensor in network.state_dict().items():
            floating = tensor.is_floating_point()
            expected[name] = expected[name].lerp(tensor, weight) if floating else tensor.clone()
    average = ema.network.state_dict()
    assert average.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(average[name], tensor)
    assert all(not p.requires_grad for p in ema.network.parameters()) and not ema.network.training
