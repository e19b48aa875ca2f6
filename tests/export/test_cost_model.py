"""The cost model: blocks of any network run as they are in it, and on a device of known times it is exact."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from simulated_device import simulated_device, time_ms
from torch import Tensor, nn

from edgemtl_export import Sparsifier, channel_groups
from edgemtl_export.cost_model.block_onnx import block_model
from edgemtl_export.cost_model.deployed_latency import DeployedLatency
from edgemtl_export.cost_model.deployment import Deployment, engine_config
from edgemtl_export.cost_model.latency import CPU_STEP, Latency, nnls
from edgemtl_export.cost_model.measured import costs_from, measured_costs, write_probe
from edgemtl_export.cost_model.narrow import onnx_without_weights
from edgemtl_export.cost_model.probe import Probe, network_name, quarters
from edgemtl_export.latency import random_inputs, session
from edgemtl_export.sparsity import Settings
from edgemtl_runtime.engine.config import EngineConfig
from edgemtl_runtime.engine.costs import MODELS, PROBE, read_costs
from edgemtl_runtime.engine.profile import profile
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.onnx_constants import with_constants

__all__ = ["simulated_device"]

IMAGES = (torch.rand(1, 3, 32, 48),)


class Net(nn.Module):
    """What networks are made of: a residual sum, a depthwise and a grouped layer, gates, a join, a linear layer."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU())
        self.inner = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.depthwise = nn.Sequential(nn.Conv2d(width, width, 3, 1, "same", groups=width), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 16, 1), nn.ReLU(), nn.Conv2d(16, width, 1))
        self.grouped = nn.Conv2d(width, 32, 3, padding=1, groups=4)
        self.join = nn.Conv2d(width + 32, 48, 3, dilation=2, padding=2)
        self.up = nn.ConvTranspose2d(48, 24, 2, 2)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.inner(x))
        x = self.depthwise(x) * torch.sigmoid(self.gate(x))
        x = self.join(torch.cat([x, self.grouped(x)], 1))
        return self.head(self.up(x).mean((2, 3)))


@pytest.fixture(scope="module")
def probe() -> Probe:
    torch.manual_seed(0)
    probe = Probe(Net(), IMAGES)
    probe.networks = 6
    return probe


@pytest.fixture(scope="module")
def times_ms(probe: Probe) -> dict[str, float]:
    """The times of the probe's models on the simulated device."""
    return {name: time_ms(onnx.load_from_string(model)) for name, model in probe.models()}


def test_every_layer_is_a_block_with_the_element_wise_operators_after_it(probe: Probe) -> None:
    steps = {
        (len(b.reads), len(b.makes), b.signature.geometry and b.signature.geometry.kernel): [
            s.op for s in b.signature.steps
        ]
        for b in probe.parts.blocks
    }
    assert steps == {
        (3, 64, (3, 3)): ["batch_norm", "silu"],
        (64, 64, (3, 3)): ["relu"],
        (64, 64, (1, 1)): ["add", "relu"],
        (1, 64, (3, 3)): ["hardswish"],
        (64, 16, (1, 1)): ["relu"],
        (16, 64, (1, 1)): ["sigmoid"],
        (64, 32, (3, 3)): [],
        (96, 48, (3, 3)): [],
        (48, 24, (2, 2)): [],
        (24, 10, None): [],
    }
    kinds = [t.kind for t in probe.parts.traffic]
    assert kinds.count("moved") == 3  # the join reads two and makes one
    assert sum(t.per_channel * len(t.channels) for t in probe.parts.traffic if t.kind == "moved") == 4 * 192 * 16 * 24


def test_every_block_runs_at_every_width_and_makes_what_it_does_in_the_network(probe: Probe) -> None:
    for block in probe.blocks:
        for reads in block.read_marks:
            for makes in block.make_marks:
                model = block_model(block.signature, reads, makes, 3)
                onnx.checker.check_model(model, full_check=True)
                opened = session(model.SerializeToString())
                outputs = opened.run(None, random_inputs(opened))
                assert len(outputs) == 3 and all(o.shape[1] == makes and np.isfinite(o).all() for o in outputs)
                assert len({o.tobytes() for o in outputs}) == 3  # or the back end would compute one of them


def test_widths_are_measured_at_quarters_that_processors_compute(probe: Probe) -> None:
    assert quarters(256) == (64, 128, 192, 256) and quarters(48) == (16, 24, 32, 48) and quarters(6) == (2, 3, 4, 6)
    assert quarters(80) == (16, 32, 64, 80) and quarters(32, groups=4) == (8, 16, 24, 32) and quarters(1) == (1,)
    grouped = next(b for b in probe.blocks if b.signature.geometry and b.signature.geometry.groups == 4)
    assert all(mark % 4 == 0 for mark in grouped.read_marks + grouped.make_marks)


def test_on_a_device_of_known_times_every_pattern_is_predicted(probe: Probe, times_ms: dict[str, float]) -> None:
    latency = Latency(probe, times_ms)
    assert latency.step == 16 and latency.residual < 0.01
    rng = np.random.default_rng(5)
    for _ in range(5):
        pruned = probe.patterns.random(rng)
        assert latency(pruned) == pytest.approx(time_ms(probe.network_model(pruned)), rel=0.02)


def test_some_narrow_networks_do_not_make_a_step_that_a_processor_cannot_have(
    probe: Probe, times_ms: dict[str, float]
) -> None:
    """Noise of a few percent may fit widths in steps of 64 best; blocks of so many would leave small layers whole."""
    widest = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(1, 0.05, len(probe.pruned))
        noisy = times_ms | {network_name(n): times_ms[network_name(n)] * noise[n] for n in range(len(probe.pruned))}
        widest = max(widest, Latency(probe, noisy).step)
        assert Latency(probe, noisy, CPU_STEP).step <= 16
    assert widest > 16  # or nothing was tried


def probe_group(probe: Probe) -> int:
    """Return a group that large layers make and read."""
    return int(probe.coupled.groups().rows["inner.0.weight"][0])


def test_a_reduction_is_the_slope_of_the_latency(probe: Probe, times_ms: dict[str, float]) -> None:
    latency = Latency(probe, times_ms)
    latency.step = 1  # without steps the latency is its own interpolation
    reductions = latency.reductions()
    whole = latency()
    assert reductions.shape == (probe.coupled.count,) and reductions.min() >= 0 and reductions[probe_group(probe)] > 0
    for group in range(0, probe.coupled.count, 7):
        pruned = np.zeros(probe.coupled.count, bool)
        pruned[group] = True
        kinds_change = latency.traffic.totals(None, 1)[:-1] - latency.traffic.totals(pruned, 1)[:-1]
        assert kinds_change.min() >= 0
        assert whole - latency(pruned) == pytest.approx(latency.known[0][1] * reductions[group], rel=0.05)


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1))


def small_probe(size: int = 16) -> Probe:
    probe = Probe(plain(), (torch.rand(1, 3, size, size),))
    probe.networks = 2
    return probe


def test_measured_costs_are_kept_and_those_of_another_network_are_refused(
    simulated_device: None, tmp_path: Path
) -> None:
    probe = small_probe()
    seen: list[str] = []
    costs = measured_costs(probe, progress=lambda work, *_: seen.append(work))
    assert seen[-1] == "measuring the costs"
    assert measured_costs(probe, progress=lambda *_: pytest.fail("measured again")) == costs
    file = tmp_path / "costs.json"
    file.write_bytes(msgspec.json.encode(costs))
    for asked in ("", "onnxruntime-cpu", "onnxruntime-cpu/fp32/1"):
        assert costs_from(file, probe, engine_config(asked) if asked else None) == costs
    for asked in ("onnxruntime-cpu/fp32/2", "tensorrt/fp16"):
        with pytest.raises(EdgemtlError, match=r"are of onnxruntime-cpu fp32 on .*, 1 thread; asked for are those of"):
            costs_from(file, probe, engine_config(asked))
    with pytest.raises(EdgemtlError, match="these costs are of another network or another size"):
        costs_from(file, Probe(nn.Conv2d(3, 16, 3), (torch.rand(1, 3, 16, 16),)))
    with pytest.raises(EdgemtlError, match="another size"):
        costs_from(file, small_probe(24))


@pytest.mark.parametrize(
    "text", ["tensorrt/fp15", "gpu", "onnxruntime-cpu/int8", "onnxruntime-cpu/fp32/two", "onnxruntime-cpu/fp32/-1", "/"]
)
def test_an_engine_that_there_is_not_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=f"^engine={text}: is no BACKEND/PRECISION/THREADS, like [^\n]*$"):
        Settings(target=0.5, engine=text)


def test_a_probe_measured_by_the_runtime_is_read_back(tmp_path: Path) -> None:
    small = small_probe()
    description = write_probe(small, tmp_path)
    assert description.models == small.names and sum(f.stat().st_size for f in tmp_path.rglob("*")) < 1 << 20
    costs = profile(tmp_path, EngineConfig("onnxruntime-cpu", "fp32", 1))
    file = tmp_path / "costs.json"
    file.write_bytes(msgspec.json.encode(costs))
    assert read_costs(file) == costs == costs_from(file, small)
    assert costs.threads == 1 and costs.backend == "onnxruntime-cpu" and costs.device
    once, thrice = (costs.times_ms[f"block-0-i3-o16-x{copies}"] for copies in (1, 3))
    assert thrice > once > 0


def test_a_probe_in_half_precision_computes_in_it_and_is_measured(tmp_path: Path) -> None:
    description = write_probe(small_probe(), tmp_path, "fp16")
    for name in description.models:
        inferred = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / MODELS / f"{name}.onnx")).graph
        types = {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
        layers = [node for node in inferred.node if node.op_type == "Conv"]
        assert layers and all(types[node.output[0]] == onnx.TensorProto.FLOAT16 for node in layers), name
    costs = profile(tmp_path, EngineConfig("onnxruntime-cpu", "fp16", 1))
    assert costs.precision == "fp16" and set(costs.times_ms) == set(description.models)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_tensorrt_builds_has_its_weights_as_constants(precision: str, tmp_path: Path) -> None:
    description = write_probe(small_probe(), tmp_path, precision)
    for name in description.models:
        file = tmp_path / MODELS / f"{name}.onnx"
        model = onnx.load_from_string(with_constants(file.read_bytes()))
        onnx.checker.check_model(model, full_check=True)
        constants = {i.name for i in model.graph.initializer}
        assert all(node.input[1] in constants for node in model.graph.node if node.op_type == "Conv")
        first, second = session(file.read_bytes()), session(model.SerializeToString())
        for a, b in zip(*(opened.run(None, random_inputs(opened)) for opened in (first, second)), strict=True):
            np.testing.assert_array_equal(a, b)
        assert "ConstantOfShape" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / PROBE).unlink(), "is no probe"),
        (lambda f: (f / PROBE).write_text("{"), "cannot be read"),
        (lambda f: next((f / MODELS).iterdir()).unlink(), "is missing; copy the whole probe"),
        (lambda f: next((f / MODELS).iterdir()).write_bytes(b"no network"), "is no ONNX model|holds no network"),
        (
            lambda f: (f / PROBE).write_text((f / PROBE).read_text().replace("block-0-", "../block-")),
            "no name of a model",
        ),
    ],
)
def test_a_damaged_probe_is_refused(harm: object, message: str, tmp_path: Path) -> None:
    write_probe(small_probe(), tmp_path)
    assert callable(harm)
    harm(tmp_path)
    with pytest.raises(EdgemtlError, match=message):
        profile(tmp_path, EngineConfig("onnxruntime-cpu", "fp32", 1))


def test_a_probe_in_another_precision_is_refused(tmp_path: Path) -> None:
    write_probe(small_probe(), tmp_path)
    with pytest.raises(EdgemtlError, match="is a probe in fp32, not in fp16"):
        profile(tmp_path, EngineConfig("onnxruntime-cpu", "fp16", 1))


class Deployed(nn.Module):
    """A network in a larger one, as it is deployed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.network(image.float().permute(0, 3, 1, 2) / 255).softmax(1)
        return scores


def test_the_groups_of_a_deployed_network_are_those_of_the_trained_one(simulated_device: None) -> None:
    torch.manual_seed(0)
    network = Net()
    groups = channel_groups(network, IMAGES)
    frames = (torch.zeros(1, 32, 48, 3, dtype=torch.uint8),)
    cost = DeployedLatency(network, groups, Deployment(Deployed(network), frames))
    pruned = np.zeros(groups.count, bool)
    rows = groups.rows["inner.0.weight"]
    pruned[rows[:32]] = True
    with torch.no_grad():
        for name, numbers in groups.rows.items():
            weight = network.get_parameter(name)
            weight.movedim(groups.axis(name), 0)[torch.from_numpy((numbers >= 0) & pruned[numbers])] = 0
    measured = cost.measure()
    assert cost(pruned) / cost() == pytest.approx(measured, abs=0.01)
    assert cost.reductions().shape == (groups.count,)
    before = cost(pruned)
    cost.take_in(pruned, 0.5)
    assert cost(pruned) == pytest.approx(0.5 * cost()) and before != cost(pruned)
    with pytest.raises(EdgemtlError, match="does not hold the one that is trained"):
        DeployedLatency(Net(), groups, Deployment(Deployed(network), frames))


class Chain(nn.Module):
    """Twelve layers of their own widths, so that no block of channels is much of the whole."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *[64, 96, 80, 112] * 3]
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in pairwise(widths))
        )
        self.head = nn.Conv2d(widths[-1], 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.layers(x))
        return scores


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("target", [0.3, 0.5])
def test_a_latency_target_is_met_by_the_clock(target: float, simulated_device: None) -> None:
    torch.manual_seed(0)
    network, images = Chain(), (torch.rand(1, 3, 16, 24),)
    sparsifier = Sparsifier(network, images, target=target, metric="latency", steps=60)
    assert sparsifier.blocks.multiple.max() == 16  # what the device computes at a time
    optimizer = torch.optim.AdamW(network.train().parameters(), 1e-3)
    dense = time_ms(onnx_without_weights(Chain(), images, {}))
    for _ in range(60):
        optimizer.zero_grad()
        network(torch.rand(2, 3, 16, 24)).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step(optimizer)
    assert sparsifier.frozen and sparsifier.aim.measured
    taken = time_ms(onnx_without_weights(network.eval(), images, {}))
    assert 1 - target - 0.03 <= taken / dense <= 1 - target + 1e-6


def test_the_aim_is_restored_with_the_rest(simulated_device: None) -> None:
    network, images = plain(), (torch.rand(1, 3, 16, 16),)
    given = {"target": 0.5, "metric": "latency", "steps": 40}
    first, second = (Sparsifier(network, images, **given) for _ in range(2))
    pruned = np.zeros(first.penalised.groups.count, bool)
    pruned[::2] = True
    assert first.aim.follow(0.6, pruned) and not first.aim.follow(0.7, pruned)
    state = first.state_dict()
    assert all(isinstance(value, Tensor) or json.dumps(value) for value in state.values())
    second.load_state_dict(state)
    assert second.cost(pruned) == first.cost(pruned) and second.aim.passed == first.aim.passed == 1


def test_non_negative_least_squares() -> None:
    rng = np.random.default_rng(0)
    rows, truth = rng.random((20, 4)), np.array([1.5, 0.0, 0.3, 0.0])
    x, distance = nnls(rows, rows @ truth)
    assert x == pytest.approx(truth, abs=1e-9) and distance < 1e-9
    x, _ = nnls(rows, -rows[:, 0])
    assert (x == 0).all()
