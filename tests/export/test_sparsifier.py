"""A sparsifier in loops that are not ours: any optimiser, scaled gradients, wrapped networks, averages, checkpoints."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edgemtl_export import Sparsifier, shrink
from edgemtl_export.sparsity import Settings
from edgemtl_export.sparsity.collapse import CollapseWarning
from edgemtl_export.sparsity.wrappers import unwrapped

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=1e-4)


class Net(nn.Module):
    """Convolutions with a shortcut, a gate that is given by name, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.SiLU())
        self.body = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.SiLU())
        self.wide = nn.Sequential(nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.ReLU())
        self.out = nn.Conv2d(48, 4, 1)

    def forward(self, x: Tensor, *, gate: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        x = self.wide(x + self.body(x))
        return {"map": self.out(x) * gate, "mean": x.mean((2, 3))[:, :1]}


def arguments() -> dict[str, Any]:
    return {"args": (X[:1],), "kwargs": {"gate": torch.ones(1)}}


def loss_of(model: nn.Module) -> Tensor:
    outputs = model(X, gate=torch.ones(1))
    loss: Tensor = (outputs["map"] - 1).square().mean() + outputs["mean"].square().mean()
    return loss


def train(model: nn.Module, sparsifier: Sparsifier, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    shares = []
    for _ in steps:
        optimizer.zero_grad()
        loss_of(model).backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step(optimizer)
        shares.append(sparsifier.pruned_share)
    return shares


@pytest.mark.parametrize(
    "make",
    [
        sgd,
        lambda p: torch.optim.AdamW(p, 1e-3),
        lambda p: torch.optim.AdamW(p, 1e-3, amsgrad=True),
        lambda p: torch.optim.NAdam(p, 1e-3),
        lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5),
        lambda p: torch.optim.Adagrad(p, 1e-2),
        lambda p: torch.optim.Rprop(p, 1e-3),
    ],
    ids=["sgd", "adamw", "amsgrad", "nadam", "rmsprop", "adagrad", "rprop"],
)
def test_the_target_is_met_with_any_optimiser_and_what_is_pruned_can_be_removed(make: Make) -> None:
    model = Net().train()
    sparsifier = Sparsifier(model, **arguments(), target=0.5, channel_multiple=2, steps=40)
    shares = train(model, sparsifier, make(model.parameters()), range(40))
    assert sparsifier.frozen and 0.5 <= sparsifier.pruned_share < 0.65 and max(np.diff(shares)) < 0.2
    report = shrink(model, **arguments()).report
    assert 1 - report.parameters_after / report.parameters_before >= 0.5
    assert all(bool(p.isfinite().all()) for p in model.parameters()) and not sparsifier.warnings()


def test_a_resumed_loop_ends_with_the_same_weights() -> None:
    model = Net().train()
    sparsifier, optimizer = (
        Sparsifier(model, **arguments(), target=0.5, channel_multiple=2, steps=30),
        sgd(model.parameters()),
    )
    train(model, sparsifier, optimizer, range(9))
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict(), sparsifier.state_dict()))
    train(model, sparsifier, optimizer, range(21))
    again = Net().train()
    second, optimizer = (
        Sparsifier(again, **arguments(), target=0.5, channel_multiple=2, steps=30),
        sgd(again.parameters()),
    )
    again.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    second.load_state_dict(kept[2])
    train(again, second, optimizer, range(21))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(sparsifier.pruned, second.pruned) and second.frozen


def test_a_step_whose_gradients_overflowed_changes_no_importance() -> None:
    model = Net().train()
    sparsifier = Sparsifier(model, **arguments(), target=0.5, channel_multiple=2, steps=30)
    loss_of(model).backward()
    sparsifier.before_step()
    before = sparsifier.importance.means["taylor"].clone()
    assert before.any()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    sparsifier.before_step()
    assert torch.equal(before, sparsifier.importance.means["taylor"])


def test_gradients_that_are_accumulated_or_scaled_choose_the_same_groups() -> None:
    chosen = []
    for scale, parts in ((1.0, 1), (256.0, 1), (1.0, 2)):
        model = Net().train()
        optimizer = sgd(model.parameters())
        sparsifier = Sparsifier(model, **arguments(), target=0.5, channel_multiple=2, steps=20)
        for _ in range(20):
            optimizer.zero_grad()
            for _ in range(parts):
                (loss_of(model) * scale / parts).backward()
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad /= scale  # a scaler's unscale_
            sparsifier.before_step()
            optimizer.step()
            sparsifier.after_step(optimizer)
        chosen.append(sparsifier.pruned)
    assert torch.equal(chosen[0], chosen[1])
    assert (chosen[0] == chosen[2]).float().mean() > 0.9  # batch statistics are averaged twice a step


def test_an_average_has_the_zeros_of_its_network() -> None:
    model = Net().train()
    sparsifier, optimizer = (
        Sparsifier(model, **arguments(), target=0.5, channel_multiple=2, steps=20),
        sgd(model.parameters()),
    )
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    for _ in range(20):
        train(model, sparsifier, optimizer, range(1))
        average.update_parameters(model)
        sparsifier.mask(average)
    of_average, of_model = (shrink(m, **arguments()).report.parameters_after for m in (average.module, model))
    assert of_average == of_model < sum(p.numel() for p in model.parameters()) / 2


def test_wrapped_networks_are_pruned_in_place(tmp_path: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = Net().train()
        wrapped = DistributedDataParallel(model)
        sparsifier = Sparsifier(wrapped, **arguments(), target=0.5, channel_multiple=2, steps=20)
        train(wrapped, sparsifier, sgd(wrapped.parameters()), range(20))
    finally:
        torch.distributed.destroy_process_group()
    assert sparsifier.frozen and shrink(model, **arguments()).report.parameters_after < 10_000
    ours = nn.Sequential(OrderedDict(module=nn.Conv2d(3, 4, 1)))
    assert unwrapped(ours) is ours  # a layer of that name is no wrapped network
    compiled = torch.compile(Net().train(), backend="eager")
    assert (
        Sparsifier(compiled, **arguments(), target=0.5, channel_multiple=2, steps=20).partition.count
        == sparsifier.partition.count
    )


def test_groups_are_chosen_a_hundred_times_at_most_and_stay_zero_between(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net().train()
    sparsifier = Sparsifier(model, **arguments(), target=0.5, channel_multiple=2, steps=2000)
    chosen, choose = [], Sparsifier.least_important

    def counted(self: Sparsifier, *given: Any) -> Tensor:
        chosen.append(self.step)
        return choose(self, *given)

    monkeypatch.setattr(Sparsifier, "least_important", counted)
    optimizer = sgd(model.parameters())
    loss_of(model).backward()
    for _ in range(820):
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step(optimizer)
        assert not sparsifier.partition.norms(model)[sparsifier.pruned].any()
    assert sparsifier.frozen and 60 <= len(chosen) <= 105 and max(np.diff(chosen)) == sparsifier.interval


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": 1.5}, "target=1.5: is a share"),
        ({"target": 1.0}, "nothing would be left"),
        ({"target": 0.5, "max_cost": 100.0}, "give one of them"),
        ({"target": 0.5, "begin": 0.6, "end": 0.5}, "end=0.5 is before begin=0.6"),
        ({"channel_multiple": -1}, "channel_multiple=-1: is 0 or more"),
        ({"max_cost": 1e9}, "there are but"),
        ({"target": 0.5, "scope": "neck"}, "no channel of neck"),
    ],
)
def test_settings_that_cannot_be_met_are_one_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        Sparsifier(Net(), **arguments(), steps=10, **given)
    assert "\n" not in str(raised.value)


def test_settings_have_the_names_of_the_configuration() -> None:
    from edgemtl.config import Sparsity

    assert set(Sparsity.__struct_fields__) == set(Settings.__dataclass_fields__)


def test_it_warns_before_the_network_becomes_constant() -> None:
    model = Net()
    sparsifier = Sparsifier(model, **arguments(), strength=3.0, min_keep_ratio=0.0, begin=0.0, steps=30)
    with pytest.warns(CollapseWarning, match="the network is about to become constant") as caught:
        train(model, sparsifier, sgd(model.parameters()), range(30))
    assert len({str(w.message).split()[0] for w in caught}) == len(caught)  # each layer once


def test_what_is_observed_is_the_loss_where_it_is_the_loss_that_is_observed() -> None:
    values = []
    for name in ("taylor", "fisher"):
        model = Net()
        sparsifier = Sparsifier(model, **arguments(), target=0.5, importance=name, steps=20, begin=1.0, end=1.0)
        loss = loss_of(model)
        sparsifier.observe(loss)
        loss.backward()
        sparsifier.before_step()
        values.append(sparsifier.importance.of(sparsifier.parameters))
    assert float(values[0].max()) > 0
    torch.testing.assert_close(values[0], values[1])


def test_magnitude_compares_the_groups_of_a_layer() -> None:
    model = Net()
    sparsifier = Sparsifier(model, **arguments(), target=0.5, importance="magnitude", steps=20)
    before = sparsifier.importance.of(sparsifier.parameters).clone()
    with torch.no_grad():
        model.wide[0].weight.mul_(10)
        model.wide[0].bias.mul_(10)
    after = sparsifier.importance.of(sparsifier.parameters)
    torch.testing.assert_close(before, after)
    assert float(before.max()) > 1 > float(before.min()) > 0
    shares = train(model, sparsifier, sgd(model.parameters()), range(20))
    assert sparsifier.frozen and shares[-1] >= 0.5


@pytest.mark.parametrize("target", [0.0, 0.5])
def test_a_warm_up_may_begin_with_a_rate_of_zero(target: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Conv2d(24, 4, 1))
    images = torch.rand(4, 3, 8, 8)
    sparsifier = Sparsifier(net, (images,), steps=6, target=target, begin=0.0, end=0.8)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0)
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 0.002 * step
        optimizer.zero_grad()
        net(images).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step(optimizer)
        assert all(bool(p.isfinite().all()) for p in net.parameters()), step
    assert sparsifier.pruned_share >= target
