"""Channel rounding by latency: which multiples are selected, on a machine whose latencies are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgemtl_export import channel_rounding, shrink
from edgemtl_export.latency import Convolutions


def network() -> nn.Sequential:
    """Return three convolutions, of which two have 14 active channels of 24."""
    torch.manual_seed(0)
    first, second, last = nn.Conv2d(3, 24, 3), nn.Conv2d(24, 24, 3), nn.Conv2d(24, 4, 1)
    for layer in (first, second):
        layer.weight.data[14:], layer.bias.data[14:] = 0, 0
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).eval()


def fast_by_eight(_: Convolutions, channels: int, filters: int, *rest: Any) -> float:
    """Return a latency by multiplications, which doubles with inputs or outputs that are no multiple of 8."""
    return channels * filters * 2.0 ** ((channels > 3 and channels % 8 > 0) + (filters > 4 and filters % 8 > 0))


@pytest.fixture()
def compared(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """Latencies of whole programs, to be given by a test, in place of measured ones."""
    latencies: list[list[float]] = []

    def compare(files: list[Path], inputs: object) -> list[float]:
        assert len(files) == len(latencies[0])  # programs of the same shapes are compared once
        return latencies.pop(0)

    monkeypatch.setattr(Convolutions, "_measure", fast_by_eight)
    monkeypatch.setattr(channel_rounding, "_write", lambda program, file: None)
    monkeypatch.setattr(channel_rounding, "compare", compare)
    return latencies


@pytest.mark.parametrize(
    ("latencies", "kept"),
    [([1.0, 0.9], 16), ([1.0, 0.99], 14), ([1.0, 1.1], 14)],
    ids=["clearly faster", "within noise", "slower"],
)
def test_rounding_is_taken_where_the_whole_program_is_clearly_faster(
    compared: list[list[float]], latencies: list[float], kept: int
) -> None:
    compared.append(latencies)
    report = shrink(network(), (torch.rand(1, 3, 16, 16),), align="auto").report
    assert [layer.after for layer in report.layers] == [kept, kept, 4] and not compared


def test_the_lookup_table_selects_the_multiple_of_each_group_of_coupled_layers(
    compared: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    selected: list[dict[str, int]] = []
    by_layer = channel_rounding.multiples_by_layer

    def recorded(*args: Any) -> dict[str, int]:
        selected.append(by_layer(*args))
        return selected[-1]

    monkeypatch.setattr(channel_rounding, "multiples_by_layer", recorded)
    compared.append([1.0, 0.9])
    shrink(network(), (torch.rand(1, 3, 16, 16),), align="auto")
    assert [selected[0][name] for name in ("0.weight", "2.weight")] == [8, 8]
