"""The importance of channels, against networks in which it is known, and the choice of the one that loses least."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgemtl_export import Sparsifier
from edgemtl_export.sparsity.activation_energy import ActivationEnergy
from edgemtl_export.sparsity.importance import IMPORTANCES
from edgemtl_export.teacher import Teacher

X = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers whose channels are pruned; of the first a half is hardly read, the second hardly matters at all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.main = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)
        self.second, self.side = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)
        with torch.no_grad():
            self.main.weight[:, ::2] *= 1e-2
            self.side.weight *= 1e-4

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.main(self.first(x).relu()) + self.side(self.second(x).relu())
        return answer


def sparsifier_of(model: nn.Module, **settings: Any) -> Sparsifier:
    settings = {"target": 0.4, "channel_multiple": 1, "min_keep_ratio": 0.05} | settings
    return Sparsifier(model, (X[:1],), steps=40, progress=lambda *_: None, **settings)


def observed(model: nn.Module, teacher: Teacher, sparsifier: Sparsifier, steps: int = 20) -> None:
    for _ in range(steps):
        outputs = model(X)
        sparsifier.observe(teacher.likelihood(outputs))
        model.zero_grad()
        teacher.loss(outputs, X).backward()
        sparsifier.before_step()


@pytest.mark.parametrize("name", ["fisher", "activation"])
def test_channels_that_are_hardly_read_are_the_least_important_of_their_layer(name: str) -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance=name)
    observed(model, Teacher(model, model), sparsifier)
    of_first = sparsifier.importance.of(sparsifier.parameters)[sparsifier.partition.groups_of("first.weight")]
    assert float(of_first[::2].mean()) < 0.1 * float(of_first[1::2].mean())


def test_a_student_that_equals_its_teacher_has_no_importance_by_the_loss() -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance="auto")
    observed(model, Teacher(model, model), sparsifier)
    by_name = {name: sparsifier.importance.of(sparsifier.parameters, name) for name in IMPORTANCES}
    assert float(by_name["taylor"].max()) == 0
    assert all(float(values.max()) > 0 for name, values in by_name.items() if name != "taylor")


def test_the_energy_of_activations_is_what_independent_channels_add_to_their_readers_answer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1, bias=False), nn.Flatten(), nn.Linear(5, 2))
    sparsifier = Sparsifier(model, (torch.rand(1, 3, 1, 1),), steps=10, target=0.5, channel_multiple=1)
    energy = ActivationEnergy(model, sparsifier.penalised)
    model(torch.randn(4000, 3, 1, 1))
    x = model[0](torch.randn(100_000, 3, 1, 1))
    part = x.square().mean((0, 2, 3)) * model[1].weight.square().sum((0, 2, 3))
    groups = sparsifier.partition.groups_of("0.weight")
    torch.testing.assert_close(energy()[groups], part / part.sum(), rtol=0.1, atol=0.01)
    answer = energy()[sparsifier.partition.groups_of("1.weight")]
    assert math.isclose(float(answer.sum()), 1.0, rel_tol=1e-5)


def test_what_takes_activations_in_is_neither_copied_nor_saved() -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance="activation")
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        copied(X)
        assert not sparsifier.importance.energy.squares
    model(X)
    assert set(sparsifier.importance.energy.squares) == {"main", "side"}
    del sparsifier
    model(X)


def test_the_choice_knows_layers_apart_and_leaves_the_weights_alone() -> None:
    model = Net()
    dense = copy.deepcopy(model)
    sparsifier = sparsifier_of(model, importance="auto")
    teacher = Teacher(dense, model)
    observed(model, teacher, sparsifier)
    before = copy.deepcopy(model.state_dict())

    def loss() -> float:
        with torch.no_grad():
            return float((model(X) - dense(X)).square().mean())

    trials = sparsifier.choose_importance(loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {(t.importance, t.by_layer) for t in trials} == {
        (name, by_layer) for name in ("fisher", "magnitude", "activation") for by_layer in (False, True)
    }
    losses = {(t.importance, t.by_layer): t.loss for t in trials}
    assert list(losses.values()) == sorted(losses.values())
    assert sparsifier.importance.name == trials[0].importance
    for name in ("magnitude", "activation"):  # by themselves they take all layers to be alike
        assert losses[name, True] < 0.5 * losses[name, False]
    values = sparsifier.importance.of(sparsifier.parameters)
    first, second = (values[sparsifier.partition.groups_of(f"{name}.weight")] for name in ("first", "second"))
    assert float(second.sum()) < 1e-3 * float(first.sum())


def test_a_choice_is_part_of_the_state() -> None:
    models = [Net(), Net()]
    sparsifiers = [sparsifier_of(model, importance="auto") for model in models]
    teacher = Teacher(Net(), models[0])
    observed(models[0], teacher, sparsifiers[0], 4)
    sparsifiers[1].load_state_dict(sparsifiers[0].state_dict())
    for name in IMPORTANCES:
        values = [s.importance.of(s.parameters, name) for s in sparsifiers]
        assert torch.equal(*values), name
    sparsifiers[0].choose_importance(lambda: float((models[0](X) - 1).square().mean()))
    sparsifiers[1].load_state_dict(sparsifiers[0].state_dict())
    a, b = (s.importance.of(s.parameters) for s in sparsifiers)
    assert torch.equal(a, b) and sparsifiers[1].importance.names == sparsifiers[0].importance.names


def test_an_evaluation_that_is_no_number_loses() -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance="magnitude")
    trials = sparsifier.choose_importance(lambda: math.nan)
    assert [t.loss for t in trials] == [math.inf, math.inf]


def pruned_network(refit: bool) -> tuple[Net, Sparsifier, float]:
    """Return a network that was pruned to a half at once, without training, and how far its answers are then."""
    model = Net()
    dense = copy.deepcopy(model)
    sparsifier = sparsifier_of(model, target=0.5, importance="activation", begin=0.0, end=0.0, refit=refit)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    model(X).sum().backward()
    sparsifier.see(X)
    sparsifier.before_step()
    optimizer.step()
    sparsifier.after_step(optimizer)
    with torch.no_grad():
        return model, sparsifier, float((model(X) - dense(X)).square().mean())


def test_what_reads_pruned_channels_is_fitted_within_the_schedule() -> None:
    model, sparsifier, left = pruned_network(True)
    plain, _, lost = pruned_network(False)
    assert left < 0.6 * lost
    assert sparsifier.frozen and sparsifier.refitting is None and sparsifier.pruned_share >= 0.5
    filters = sparsifier.partition.groups_of("first.weight")
    zero = model.first.weight.flatten(1).abs().amax(1) == 0
    assert torch.equal(zero, sparsifier.pruned[filters]) and torch.equal(
        zero, plain.first.weight.flatten(1).abs().amax(1) == 0
    )


def test_a_refit_needs_inputs() -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance="magnitude", begin=0.0, end=0.0, refit=True)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    model(X).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"refit: give Sparsifier\.see the inputs of each batch"):
        sparsifier.after_step(optimizer)


def test_what_no_layer_is_known_to_read_is_the_last_to_be_pruned() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, 8, 3, groups=2))
    sparsifier = sparsifier_of(model, importance="activation", groups="output")
    model(X)
    values = sparsifier.importance.of(sparsifier.parameters)
    read, last = (values[sparsifier.partition.groups_of(f"{name}.weight")] for name in ("0", "3"))
    assert read.isfinite().all() and (read > 0).all() and last.isinf().all()


def test_inputs_that_are_not_finite_are_no_activation() -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance="activation")
    with pytest.raises(ValueError, match="importance=activation: no forward pass went through the layers"):
        sparsifier.importance.of(sparsifier.parameters)
    model(X)
    before = sparsifier.importance.of(sparsifier.parameters)
    model(X * math.inf)
    model(X[:0])
    assert torch.equal(before, sparsifier.importance.of(sparsifier.parameters))


def test_frozen_parameters_have_no_gradient_to_observe() -> None:
    model = Net()
    model.first.weight.requires_grad_(False)
    sparsifier = sparsifier_of(model, importance="fisher")
    observed(model, Teacher(model, model), sparsifier, 2)
    values = sparsifier.importance.of(sparsifier.parameters)
    assert float(values[sparsifier.partition.groups_of("second.weight")].min()) > 0


def test_a_layer_that_is_half_pruned_is_measured_by_what_is_left_of_it() -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance="magnitude")
    sparsifier.pruned[sparsifier.partition.groups_of("first.weight")[:8]] = True
    sparsifier.mask(model)
    sparsifier.choose_importance(lambda: float(model(X).square().mean()))
    assert float(sparsifier.importance.of_layer.max()) < 1e3


def test_the_state_of_another_importance_is_refused() -> None:
    taylor, fisher = (sparsifier_of(Net(), importance=name) for name in ("taylor", "fisher"))
    with pytest.raises(ValueError, match="the state is of importance=taylor, not of fisher"):
        fisher.load_state_dict(taylor.state_dict())


def test_a_fit_leaves_what_is_read_of_a_channel_pruned() -> None:
    model = Net()
    settings = {"groups": "input", "importance": "magnitude", "begin": 0.0, "end": 0.0, "refit": True}
    sparsifier = sparsifier_of(model, **settings)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    model(X).sum().backward()
    sparsifier.see(X)
    optimizer.step()
    sparsifier.after_step(optimizer)
    before = copy.deepcopy(model.state_dict())
    assert sparsifier.frozen and bool(sparsifier.pruned.any())
    sparsifier.mask(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_target_that_cannot_be_met_is_refitted_a_dozen_times() -> None:
    model = Net()
    sparsifier = sparsifier_of(
        model, target=0.9, min_keep_ratio=0.5, importance="magnitude", begin=0.0, end=0.4, refit=True
    )
    fits = []
    sparsifier.refitting.fit = lambda: fits.append(1)  # type: ignore[method-assign]
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    for _ in range(40):
        optimizer.zero_grad()
        model(X).sum().backward()
        sparsifier.see(X)
        optimizer.step()
        sparsifier.after_step(optimizer)
    assert not sparsifier.frozen and 1 <= len(fits) <= 13


def test_a_choice_does_without_activations_where_none_were_taken_in() -> None:
    model = Net()
    sparsifier = sparsifier_of(model, importance="auto")
    trials = sparsifier.choose_importance(lambda: float(model.first.weight.square().sum()))  # no forward pass
    assert {trial.importance for trial in trials} == {"magnitude"}
