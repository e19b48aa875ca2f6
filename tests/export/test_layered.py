"""Programs as modules with torch's own layers: the same outputs and names, and layers where there were operators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgemtl_export import Sparsifier, shrink
from edgemtl_export.layered import layered


class Plain(nn.Module):
    """Layers of every kind, a weight that two places read, and one that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 2, dilation=2, groups=16)
        self.shared = nn.Conv2d(16, 16, 1)
        self.computed = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 1))
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.a(x)))
        x = self.shared(self.shared(self.depthwise(x)))
        return self.last(self.computed(x).mean((2, 3)))


X = torch.rand(1, 3, 16, 16)


def test_layers_are_layers_again_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    net = Plain().eval()
    exported = torch.export.export(net, (X,))
    module = layered(exported).eval()
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in net.named_parameters()}
    found = {name: type(m) for name, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert found == {"a": nn.Conv2d, "depthwise": nn.Conv2d, "last": nn.Linear}
    with torch.no_grad():
        torch.testing.assert_close(module(X), net(X))
    module.train()(X).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("refit", [False, True])
def test_a_program_is_pruned_as_its_module_would_be(refit: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 1)).eval()
    module = layered(torch.export.export(net, (X,)))
    sparsifier = Sparsifier(module, (X,), steps=10, target=0.4, metric="flops", refit=refit, begin=0.0, end=0.5)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        sparsifier.see(X)
        module(X).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step(optimizer)
    report = shrink(module, (X,)).report
    assert report.flops_after <= 0.62 * report.flops_before
