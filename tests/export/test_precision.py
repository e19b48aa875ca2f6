"""fp16 and int8 conversion of ONNX models, the accuracy gate, and a bundle's figures of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgemtl_export.accuracy_gate import AccuracyGate, Score
from edgemtl_export.deployed import Deployed
from edgemtl_export.fp16 import emulate_fp16, largest_magnitudes, to_fp16
from edgemtl_export.int8 import Quantiser, by_sensitivity, convolutions, fewest, last_convolutions, to_int8
from edgemtl_export.precisions import Precisions
from edgemtl_export.to_bundle import export_bundle
from edgemtl_export.to_onnx import write_onnx
from edgemtl_runtime.bundle import Bundle, Head, Input
from edgemtl_runtime.engine.cpu import cpu_name
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import BundleError

INPUTS = (Input("rgb", 32, 48, 3, (0.5,) * 3, (0.25,) * 3), Input("ir", 32, 48, 1, (0.5,), (0.25,), "ir"))
HEADS = (
    Head("semantic", "semantic", "label_map", ("a", "b", "c")),
    Head("depth", "depth", "depth_map", ()),
)


class Net(nn.Module):
    """Two cameras, a sum, a pool, a resize, and two heads; ``loud`` makes one layer leave fp16's range."""

    def __init__(self, loud: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rgb, self.ir = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(1, 8, 3, 2, 1)
        self.loud, self.quiet = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        with torch.no_grad():
            self.loud.weight.mul_(loud)
            self.quiet.weight.div_(loud)
            if loud > 1:
                self.rgb.weight.mul_(20)
        self.body = nn.Conv2d(8, 16, 3, padding=1)
        self.out = nn.ModuleDict({"semantic": nn.Conv2d(16, 3, 1), "depth": nn.Conv2d(16, 1, 1)})

    def forward(self, rgb: Tensor, ir: Tensor) -> dict[str, Tensor]:
        x = self.quiet(self.loud(nn.functional.silu(self.rgb(rgb) + self.ir(ir))))
        x = nn.functional.max_pool2d(nn.functional.silu(self.body(x)), 2)
        return {name: head(nn.functional.interpolate(x, scale_factor=2.0)) for name, head in self.out.items()}


def frames(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{s.name: rng.integers(0, 256, (1, 32, 48, s.channels), np.uint8) for s in INPUTS} for _ in range(count)]


def written(tmp_path: Path, loud: float = 1.0) -> onnx.ModelProto:
    write_onnx(Deployed(Net(loud).eval(), INPUTS, HEADS), tmp_path / "net.onnx")
    return onnx.load(str(tmp_path / "net.onnx"))


def outputs(model: onnx.ModelProto, file: Path) -> list[dict[str, Any]]:
    onnx.save(model, str(file))
    return [OrtEngine(file).run(frame) for frame in frames(4, 1)]


def weights(model: onnx.ModelProto) -> dict[str, int]:
    """Return the type of each convolution's weight."""
    types = {i.name: i.data_type for i in model.graph.initializer}
    maker = {o: n for n in model.graph.node for o in n.output}
    by_layer = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            name = node.input[1]
            by_layer[node.name] = types[name] if name in types else types[maker[name].input[0]]
    return by_layer


def test_half_precision_reaches_from_the_first_convolution_to_the_last(tmp_path: Path) -> None:
    given_ = written(tmp_path)
    half, stays = to_fp16(given_, largest_magnitudes(given_, frames(4)))
    assert not stays and set(weights(half).values()) == {TensorProto.FLOAT16}
    for before, after in zip(
        (*given_.graph.input, *given_.graph.output), (*half.graph.input, *half.graph.output), strict=True
    ):
        assert before == after
    exact, actual = outputs(given_, tmp_path / "a.onnx"), outputs(half, tmp_path / "b.onnx")
    for a, b in zip(exact, actual, strict=True):
        assert np.allclose(a["depth"], b["depth"], rtol=0.01) and not np.array_equal(a["depth"], b["depth"])
        assert (a["semantic"] == b["semantic"]).mean() > 0.98
    assert len(half.SerializeToString()) < 0.75 * len(given_.SerializeToString())
    casts = [n for n in half.graph.node if n.op_type == "Cast" and n.name.endswith("_cast")]
    assert len(casts) == len({n.input[0] for n in casts})  # each tensor once


def test_a_layer_beyond_the_range_of_fp16_stays_in_single_precision(tmp_path: Path) -> None:
    given_ = written(tmp_path, loud=4e4)
    largest = largest_magnitudes(given_, frames(4))
    half, stays = to_fp16(given_, largest)
    kinds = weights(half)
    assert len(stays) == 2 and {kinds[name] for name in stays} == {TensorProto.FLOAT}
    assert TensorProto.FLOAT16 in kinds.values()
    for a, b in zip(outputs(given_, tmp_path / "a.onnx"), outputs(half, tmp_path / "b.onnx"), strict=True):
        assert np.isfinite(b["depth"]).all() and np.allclose(a["depth"], b["depth"], rtol=0.02)
    weights_alone = {i.name: largest[i.name] for i in given_.graph.initializer if i.name in largest}
    careless = outputs(emulate_fp16(given_, weights_alone), tmp_path / "c.onnx")
    assert not all(np.isfinite(values["depth"]).all() for values in careless)


def test_the_rounding_that_a_cpu_skips_is_emulated(tmp_path: Path) -> None:
    given_ = written(tmp_path)
    largest = largest_magnitudes(given_, frames(4))
    exact, actual = outputs(given_, tmp_path / "a.onnx"), outputs(emulate_fp16(given_, largest), tmp_path / "b.onnx")
    lenient = outputs(to_fp16(given_, largest)[0], tmp_path / "c.onnx")
    off, less = (
        np.mean([np.abs(a["depth"] - b["depth"]).mean() for a, b in zip(exact, o, strict=True)])
        for o in (actual, lenient)
    )
    assert 0 < less < off


def test_a_model_with_branches_is_rejected() -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([node], "m", [], []))
    with pytest.raises(ValueError, match="branches or loops"):
        to_fp16(model, {})


@pytest.mark.parametrize("half", [False, True])
def test_int8_stores_a_byte_a_weight_and_keeps_the_named_layers_in_float(tmp_path: Path, half: bool) -> None:
    given_ = written(tmp_path)
    keep = convolutions(given_)[-2:]
    small = to_int8(given_, frames(8), keep, outputs=not half)
    if half:
        small, _ = to_fp16(small, largest_magnitudes(small, frames(2)))
    other = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    assert weights(small) == {n: other if n in keep else TensorProto.INT8 for n in convolutions(given_)}
    for a, b in zip(outputs(given_, tmp_path / "a.onnx"), outputs(small, tmp_path / "b.onnx"), strict=True):
        assert np.abs(np.log(a["depth"] / b["depth"])).mean() < 0.1 * np.log(a["depth"]).std() + 0.02


def test_the_most_sensitive_layer_comes_first(tmp_path: Path) -> None:
    net = Net().eval()
    with torch.no_grad():
        net.quiet.weight[:] = net.quiet.weight[:, :1]  # one channel a thousand times as large drowns the others
        net.loud.weight[0] *= 1000
        net.quiet.weight[:, 0] /= 1000
    write_onnx(Deployed(net, INPUTS, HEADS), tmp_path / "net.onnx")
    model = onnx.load(str(tmp_path / "net.onnx"))
    order = by_sensitivity(Quantiser(model, frames(4)), frames(2))
    assert sorted(order) == sorted(convolutions(model))
    assert order.index(convolutions(model)[3]) < 2  # the one that reads them
    assert len(last_convolutions(model)) == len(HEADS)


@given(st.integers(0, 60), st.integers(0, 70))
def test_the_fewest_that_pass_are_found(count: int, needed: int) -> None:
    asked: list[int] = []

    def passes(number: int) -> bool:
        assert 0 <= number <= count
        asked.append(number)
        return number >= needed

    assert fewest(count, passes) == (needed if needed <= count else None)
    assert len(asked) <= 2 * count.bit_length() + 3


def test_a_drop_is_a_share_of_the_reference_in_the_metric_s_own_direction() -> None:
    assert Score("iou", 0.45).drop(Score("iou", 0.5)) == pytest.approx(0.1)
    assert Score("rmse", 1.1, False).drop(Score("rmse", 1.0, False)) == pytest.approx(0.1)
    assert Score("iou", 0.6).drop(Score("iou", 0.5)) < 0 == Score("iou", 0.0).drop(Score("iou", 0.0))
    assert Score("iou", float("nan")).drop(Score("iou", 0.5)) == float("inf")
    with pytest.raises(ValueError, match="max_drop"):
        AccuracyGate(lambda run: {}, 1.5)


def scorer_against(net: Net, spoil: float) -> Any:
    """Score by the closeness of depths to the net's; of all but the exact ones, less by ``spoil``."""
    deployed = Deployed(net.eval(), INPUTS, HEADS)
    exact = [deployed.run(frame) for frame in frames(4, 2)]

    def scores(run: Any) -> dict[str, Score]:
        actual = [run(frame) for frame in frames(4, 2)]
        off = np.mean([np.abs(np.log(a["depth"] / b["depth"])).mean() for a, b in zip(exact, actual, strict=True)])
        return {"depth": Score("closeness", 1 / (1 + off) - (spoil if off > 1e-5 else 0))}

    return scores


@pytest.mark.parametrize("spoil", [0.0, 0.5])
def test_a_bundle_holds_what_passed_and_why_the_rest_was_rejected(tmp_path: Path, spoil: float) -> None:
    net = Net()
    steps: list[str] = []
    wanted = Precisions(
        ("fp16", "int8"),
        AccuracyGate(scorer_against(net, spoil), 0.05),
        frames(8),
        "tensorrt",
        lambda text, *_: steps.append(text),
    )
    export_bundle(net, INPUTS, HEADS, frames(2), tmp_path / "b", "net", "CC0-1.0", align=1, precisions=wanted)
    bundle = Bundle.open(tmp_path / "b")
    manifest = bundle.manifest
    card = (bundle.path / "card.md").read_text()
    assert (
        {"evaluating fp32", "writing and evaluating fp16", "writing and evaluating int8"} <= set(steps)
        and "closeness" in card
        and f"| fp32 | {manifest.precisions['fp32']['latency_ms']:.2f} |" in card
        and f" ms an image in fp32: ONNX Runtime, one thread, {cpu_name()}." in card
    )
    assert all("latency_ms" not in manifest.precisions[name] for name in bundle.precisions[1:])  # for another machine
    if spoil:
        assert bundle.precisions == ("fp32",) and set(manifest.rejected) == {"fp16", "int8"}
        assert "worse (5.0% allowed)" in manifest.rejected["fp16"] and manifest.rejected["fp16"] in card
        with pytest.raises(BundleError, match=r"holds no int8 network: .*worse.*; it has fp32"):
            bundle.model_in("int8")
        return
    assert bundle.precisions == ("fp32", "fp16", "int8") == tuple(manifest.precisions)
    sizes = [manifest.precisions[name]["bytes"] for name in bundle.precisions]
    assert sizes == [bundle.model_in(name).stat().st_size for name in bundle.precisions] and sizes[0] > sizes[1]
    assert 0 <= len(manifest.precisions["int8"]["kept"]) <= manifest.precisions["int8"]["convolutions"] // 2
    assert manifest.precisions["fp16"]["agreement"]["semantic"] > 0.95


def test_only_the_heads_that_are_asked_for_are_shipped(tmp_path: Path) -> None:
    net = Net()
    bundle, shrunk = export_bundle(net, INPUTS, HEADS[1:], frames(2), tmp_path / "b", "net", "CC0-1.0", align=1)
    assert [head.name for head in bundle.manifest.heads] == ["depth"] == OrtEngine(bundle.model).outputs
    assert not any("semantic" in name for name, _ in shrunk.program.named_parameters())
    exact = Deployed(net.eval(), INPUTS, HEADS).run(frames(1, 3)[0])["depth"]
    assert np.allclose(OrtEngine(bundle.model).run(frames(1, 3)[0])["depth"], exact, rtol=1e-4)


def test_quantised_weights_are_those_of_a_quantise_step(tmp_path: Path) -> None:
    model = to_int8(written(tmp_path), frames(4))
    stored = [i for i in model.graph.initializer if i.data_type == TensorProto.INT8 and len(i.dims) == 4]
    assert stored and all(np.abs(numpy_helper.to_array(i).astype(int)).max() == 127 for i in stored)


def test_scales_that_fp16_cannot_hold_stay_in_single_precision(tmp_path: Path) -> None:
    net = Net().eval()
    with torch.no_grad():
        net.loud.weight[2] *= 1e-8
        net.quiet.weight.mul_(1e-7)
        net.quiet.bias.mul_(1e-7)
    write_onnx(Deployed(net, INPUTS, HEADS), tmp_path / "net.onnx")
    model = to_int8(onnx.load(str(tmp_path / "net.onnx")), frames(4), outputs=False)
    mixed, _ = to_fp16(model, largest_magnitudes(model, frames(4)))
    scales = {n.input[1] for n in mixed.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    stored = {i.name: numpy_helper.to_array(i) for i in mixed.graph.initializer if i.name in scales}
    halves = [value for value in stored.values() if value.dtype == np.float16]
    assert halves and all(value.min() >= 2**-14 for value in halves)
    assert any(value.min() < 2**-14 for value in stored.values() if value.dtype == np.float32)
