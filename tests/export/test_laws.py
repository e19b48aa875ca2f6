"""Laws of exact removal on random networks with random zeros, and by brute force on tiny ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from random_nets import STEPS, RandomNet, Recipe, make, weigh, zero
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from edgemtl_export import channel_groups, shrink
from edgemtl_export.report import Report
from edgemtl_export.shrink import Shrunk

OFTEN = ["conv"] * 8 + ["join", "join", "residual", "split", "grouped", "attention", "pad", "constant"]
"""Steps that are drawn more often than the others."""

STEP_NAMES = st.sampled_from([*STEPS, *OFTEN])
NUMBERS = st.integers(0, 9999)


def recipes(containers: Sequence[str] = ("tensor", "tuple", "dict")) -> st.SearchStrategy[Recipe]:
    """A convolution, some steps, and mostly a last convolution that reads their results."""
    first, last = (st.tuples(st.just("conv"), NUMBERS) for _ in range(2))
    middle = st.lists(st.tuples(STEP_NAMES, NUMBERS), min_size=1, max_size=8)
    steps = st.builds(lambda a, m, z: (a, *m, *z), first, middle, st.lists(last, max_size=1))
    return st.builds(Recipe, steps, NUMBERS, NUMBERS, st.sampled_from([1, 1, 2]), st.sampled_from(containers))


def examples(count: int) -> settings:
    """The same examples every time."""
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=slow)


def outputs(net: nn.Module, xs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        return pytree.tree_leaves(net(*xs))


def exported(recipe: Recipe) -> tuple[RandomNet, tuple[Tensor, ...], ExportedProgram]:
    """Build a network of finite outputs and export it (once: `shrink` takes the program too)."""
    net, xs = make(recipe)
    assume(all(bool(t.isfinite().all()) for t in outputs(net, xs)))
    return net, xs, torch.export.export(net, xs)


def small(program: ExportedProgram, xs: tuple[Tensor, ...] = (), **options: Any) -> Shrunk:
    """Shrink without verification, which would hide from the laws what it rejects."""
    return shrink(program, xs, verify=False, **options)


def gap(net: nn.Module, other: nn.Module, draw: Callable[[int, float], tuple[Tensor, ...]]) -> float:
    """Return the largest difference on inputs of three sizes, relative to the signal of each output."""
    inputs = [draw(100 + i, scale) for i, scale in enumerate((0.3, 1.0, 3.0))]
    worst = 0.0
    for truth, actual in zip(
        zip(*(outputs(net, xs) for xs in inputs), strict=True),
        zip(*(outputs(other, xs) for xs in inputs), strict=True),
        strict=True,
    ):
        assert [t.shape for t in truth] == [f.shape for f in actual]
        change = max(float((t - truth[0]).abs().max()) for t in truth)
        size = max(float(t.abs().max()) for t in truth)
        signal = change if change > 1e-6 * size else size or 1.0
        errors = [float((t - f).abs().max()) / signal for t, f in zip(truth, actual, strict=True)]
        worst = float(np.max([worst, *errors]))  # NaN stays NaN
    return worst


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def assert_keep_fits(net: nn.Module, result: Shrunk) -> None:
    """``keep`` names what was cut and how much is left of it."""
    assert result.report.parameters_after <= result.report.parameters_before
    big, left = tensors(net), tensors(result.module())
    assert result.keep.keys() <= big.keys()
    for name in big.keys() & left.keys():
        kept = result.keep.get(name, {})
        for dim, (before, after) in enumerate(zip(big[name].shape, left[name].shape, strict=True)):
            assert (kept[dim].shape[-1] if dim in kept else before) == after, (name, dim)


# ---------------------------------------------------------------------------------------------------------------------
# The laws


@examples(30)
@given(recipes())
def test_the_outputs_are_the_same_and_keep_fits(recipe: Recipe) -> None:
    """Also when the result is shrunk again."""
    net, xs, program = exported(recipe)
    result = small(program)
    assert gap(net, result.module(), net.example) < 1e-9
    assert_keep_fits(net, result)
    again = small(result.program, xs)
    assert gap(net, again.module(), net.example) < 1e-9


@examples(20)
@given(recipes(), st.sampled_from([{"branches": "cut"}, {"norms": "rewrite"}, {"align": 4}]))
def test_the_outputs_are_the_same_with_any_option(recipe: Recipe, options: dict[str, Any]) -> None:
    net, _, program = exported(recipe)
    result = small(program, **options)
    assert gap(net, result.module(), net.example) < 1e-9
    assert_keep_fits(net, result)


def verified_report(net: nn.Module, xs: tuple[Tensor, ...]) -> Report:
    return shrink(net, xs).report


@examples(8)
@given(recipes())
def test_verification_holds_in_float32(recipe: Recipe) -> None:
    """What verification finds wrong in a network of float32 would be a wrong removal, or a wrong check."""
    net, xs = make(recipe)
    single = tuple(x.float() for x in xs)
    assume(all(bool(t.isfinite().all()) for t in outputs(net.float(), single)))
    report = verified_report(net, single)
    assert report.proof["float64"] <= 1e-9 and report.proof["noise"] <= 1e-9


@examples(20)
@given(recipes())
@example(Recipe((("conv", 2153), ("pixels", 0), ("conv", 0)), 0, 0, 1, "tensor"))  # a constant at some positions only
def test_nothing_is_left_to_a_second_shrinking(recipe: Recipe) -> None:
    """Where no layer is down to one channel: see test_the_last_channel_is_one_that_is_asked_for."""
    _, xs, program = exported(recipe)
    result = small(program)
    again = small(result.program, xs)
    assume(all(layer.after > 1 or layer.before == 1 for layer in again.report.layers))
    assert again.report.parameters_after == result.report.parameters_after


class Only(nn.Module):
    """One output of a network, still in a dict."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, *xs: Tensor) -> dict[str, Tensor]:
        return {self.name: self.net(*xs)[self.name]}


@examples(8)
@given(recipes(["dict"]), st.integers(0, 2))
def test_selected_outputs_are_those_of_a_network_without_the_others(recipe: Recipe, which: int) -> None:
    net, xs, program = exported(recipe)
    name = "abc"[which % len(net.output_indices)]
    only = Only(net, name).eval()
    result = small(program, outputs=[name])
    assert list(result.module()(*xs)) == [name]
    assert gap(only, result.module(), net.example) < 1e-9
    assert result.report.parameters_after == small(torch.export.export(only, xs)).report.parameters_after


# ---------------------------------------------------------------------------------------------------------------------
# Brute force: what stays matters, what is removed does not


class Chain(nn.Module):
    """Padding, so that constants differ at the border, and a 1x1 convolution after it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU())
        self.b, self.out = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.GELU()), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.a(x)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.act, self.out = nn.SiLU(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(self.act(x + self.b(self.act(self.a(x)))))


class Concat(nn.Module):
    """Two branches side by side, one of them with a second reader."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 4, 1), nn.SiLU()
        self.out, self.side = nn.Conv2d(7, 2, 3, padding=1), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.act(self.a(x)), self.act(self.b(x))
        return self.out(torch.cat([a, b], 1)), self.side(b)


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.dw, self.norm = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.BatchNorm2d(4)
        self.act, self.down, self.out = nn.SiLU(), nn.Conv2d(4, 3, 3), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.down(self.act(self.norm(self.dw(self.act(self.up(x))))))))


class Excite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc1, self.fc2 = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1), nn.Conv2d(3, 4, 1)
        self.act, self.out = nn.SiLU(), nn.Conv2d(4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        return self.out(x * self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid())


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.m, self.act, self.out = nn.Conv2d(2, 6, 1), nn.Conv2d(3, 3, 3), nn.SiLU(), nn.Conv2d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.act(self.a(x)).chunk(2, 1)
        padded = nn.functional.pad(self.act(self.m(right)), (1, 1, 1, 1))
        return self.out(torch.cat([left, right, padded], 1))


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.pool, self.act = nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.SiLU()
        self.b, self.out = nn.Linear(16, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.b(self.pool(self.act(self.a(x))).flatten(1))))


TINY: dict[type[nn.Module], int] = {Chain: 8, Residual: 7, Concat: 7, Depthwise: 7, Excite: 7, Split: 9, Flat: 8}
"""Small networks and how many of their channels can be removed independently; none of their activations saturates."""

Readers = dict[nn.Module, np.ndarray]
"""Convolutions and linear layers that mix channels, with the group of each channel that they read."""


def readers(net: nn.Module, groups: Any) -> Readers:
    result: Readers = {}
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and getattr(module, "groups", 1) == 1:
            read = groups.dims.get(f"{name}.weight", {}).get(1)
            if read is not None and (read >= 0).any():
                result[module] = read
    return result


def frozen(net: nn.Module, readers_of: Readers, group: int, x: Tensor, other: Tensor) -> list[Tensor]:
    """Run on ``x``, but let every reader see one channel as it is for another input."""
    recorded: dict[nn.Module, Tensor] = {}

    def record(module: nn.Module, args: tuple[Tensor]) -> None:
        recorded[module] = args[0].clone()

    def replace(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        dim = 1 if isinstance(module, nn.Conv2d) else -1
        hit = torch.from_numpy(readers_of[module] == group)
        data = args[0].clone()
        data.movedim(dim, 0)[hit] = recorded[module].movedim(dim, 0)[hit]
        return (data,)

    for hook, data in ((record, other), (replace, x)):
        handles = [module.register_forward_pre_hook(hook) for module in readers_of]
        result = outputs(net, (data,))
        for handle in handles:
            handle.remove()
    return result


def carries_nothing(net: nn.Module, readers_of: Readers, group: int) -> bool:
    """Whether no output ever notices what a channel holds: it is constant, or nobody reads it."""
    generator = torch.Generator().manual_seed(7)
    for scale in (0.5, 2.0, 2.0):
        x, other = (torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.float64) * scale for _ in range(2))
        pairs = zip(outputs(net, (x,)), frozen(net, readers_of, group, x, other), strict=True)
        if any(not torch.equal(a, b) for a, b in pairs):
            return False
    return True


@pytest.mark.parametrize("network", TINY)
def test_what_stays_is_what_some_output_notices(network: type[nn.Module]) -> None:
    """By random zeros: a channel stays exactly when fixing it at what another input gives would change an output."""
    torch.manual_seed(0)
    net = network().double().eval()
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    groups = channel_groups(net, (x,))
    assert groups.count == TINY[network]
    program, readers_of, full = torch.export.export(net, (x,)), readers(net, groups), 0
    assert set(np.concatenate(list(readers_of.values()))) - {-1} == set(range(groups.count))
    for seed in range(30):
        weigh(net)
        zero(net, seed, (0.0, 0.2, 0.4))  # the program shares the weights
        pruned = np.array([carries_nothing(net, readers_of, group) for group in range(groups.count)])
        if any(whole_part_pruned(rows, pruned) for rows in groups.rows.values()):
            continue  # a tensor keeps one channel, and with it what that one reads
        full += 1 if pruned.any() else 0
        keep = shrink(program, verify=False).keep
        for name, rows in groups.rows.items():
            kept = keep.get(name, {}).get(0, np.arange(len(rows)))
            expected = np.flatnonzero((rows < 0) | ~pruned[rows])
            assert np.array_equal(kept, expected), (seed, name)
    assert full >= 5


def whole_part_pruned(rows: np.ndarray, pruned: np.ndarray) -> bool:
    """Whether nothing would be left of a layer, or of a third or half of it, as `chunk` may cut it."""
    removed = (rows >= 0) & pruned[rows]
    return any(part.all() for count in (1, 2) for part in np.array_split(removed, count) if len(rows) > 3 or count == 1)


# ---------------------------------------------------------------------------------------------------------------------
# Found by these laws, smallest cases


def drawn(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*modules).eval()


X = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)


class Two(nn.Module):
    """Two outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"a": self.a(x), "b": self.b(x)}


def test_an_output_can_be_selected() -> None:
    assert shrink(Two().eval(), (X,), outputs=["a"]).report.parameters_after == 8


def test_adaptive_maximum() -> None:
    shrink(drawn(nn.Conv2d(3, 4, 1), nn.AdaptiveMaxPool2d(2)), (X,))


def test_a_network_in_float64_is_verified() -> None:
    shrink(drawn(nn.Conv2d(3, 4, 1)).double(), (X.double(),))


def test_groups_that_are_all_pruned_between_gathered_operands() -> None:
    net = drawn(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=2))
    nn.init.zeros_(net[1].weight)
    shrink(net, (X,), branches="cut", verify=False)


def test_normalisation_after_a_gathered_grouped_convolution() -> None:
    net = drawn(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.GroupNorm(1, 4), nn.Conv2d(4, 2, 1))
    net[1].weight.data[0] = 0
    net[3].weight.data[:, 0] = 0
    shrink(net, (X,), branches="cut", norms="rewrite", verify=False)


def test_the_last_channel_is_one_that_is_asked_for() -> None:
    """The first layer keeps row 0, which nobody needs, and row 1, which the last row of the second reads."""
    net = drawn(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1))
    net[0].weight.data[0] = 0
    net[2].weight.data.zero_()
    assert shrink(net, (X,)).report.parameters_after == 8


def test_an_unread_layer_does_not_keep_the_one_before_it() -> None:
    net = drawn(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 1, 1))
    net[2].weight.data.zero_()
    assert shrink(net, (X,)).report.parameters_after == 8


class Concatenated(nn.Module):
    """A constant concatenated to the input that differs from sample to sample of the batch, read by one row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("constant", torch.randn(2, 1, 4, 4))
        self.a, self.b = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(torch.cat([x, self.constant], 1)))


def test_a_constant_that_differs_within_the_batch() -> None:
    net, x = Concatenated().double().eval(), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    net.a.weight.data[1, 0] = 0
    result = shrink(net, (x,), verify=False)
    assert gap(net, result.module(), lambda seed, scale: (x * scale + seed % 7,)) < 1e-9


class OneAHead(nn.Module):
    """A product over one channel a head, one factor constant but not everywhere the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.q, self.k = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 1, 1, padding=1, bias=False), nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.q(self.stem(x)).flatten(2).transpose(1, 2) @ self.k(x).flatten(2)


def test_a_product_of_one_channel_with_a_constant_map() -> None:
    net = OneAHead().eval()
    nn.init.zeros_(net.stem.weight)
    shrink(net, (X,))


def test_constants_at_the_border_of_a_gathered_grouped_convolution() -> None:
    net = drawn(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Conv2d(4, 2, 1))
    net[0].weight.data[[0, 2]] = 0
    net[2].weight.data[:, 0] = 0
    shrink(net, (X,), branches="cut", verify=False)


def test_shrink_zero_more_and_shrink_again() -> None:
    net = drawn(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1))
    net[0].weight.data[0] = 0
    program = shrink(net, (X,)).program
    program.state_dict["0.weight"].data[0] = 0
    shrink(program, (X,))
