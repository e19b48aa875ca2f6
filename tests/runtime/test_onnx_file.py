"""Untrusted ONNX files: that of a bundle has only what our exporter writes, a foreign one nothing that harms."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgemtl_runtime.errors import BundleError, EdgemtlError
from edgemtl_runtime.onnx_file import check_foreign_onnx, check_onnx


def plain() -> ModelProto:
    """Return a network of one node with a weight."""
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [value], [out], [weight]))


def outside(tensor: TensorProto) -> TensorProto:
    """Mark a tensor as stored in another file."""
    tensor.name, tensor.data_type = "o", TensorProto.FLOAT
    tensor.dims.append(2)
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    return tensor


def constant(model: ModelProto) -> Any:
    """Return a new attribute of a new node."""
    node = model.graph.node.add(op_type="Constant", output=["c"])
    return node.attribute.add(name="value")


def function(model: ModelProto) -> Any:
    return model.functions.add(name="f", domain="", output=["y"])


def branch(model: ModelProto) -> Any:
    node = model.graph.node.add(op_type="If", input=["c"], output=["q"])
    attribute = node.attribute.add(name="then_branch")
    return attribute.g.node.add(op_type="Constant", output=["z"]).attribute.add(name="value")


OUTSIDE: dict[str, Callable[[ModelProto], Any]] = {
    "initializer": lambda m: m.graph.initializer.add(),
    "attribute": lambda m: constant(m).t,
    "list in an attribute": lambda m: constant(m).tensors.add(),
    "sparse initializer": lambda m: m.graph.sparse_initializer.add().values,
    "sparse indices": lambda m: m.graph.sparse_initializer.add().indices,
    "sparse attribute": lambda m: constant(m).sparse_tensor.values,
    "sparse attributes": lambda m: constant(m).sparse_tensors.add().indices,
    "branch": lambda m: branch(m).t,
    "function's node": lambda m: function(m).node.add(op_type="Constant").attribute.add(name="value").t,
    "function's attribute": lambda m: function(m).attribute_proto.add(name="a").t,
    "training": lambda m: m.training_info.add().initialization.initializer.add(),
    "training's algorithm": lambda m: m.training_info.add().algorithm.initializer.add(),
}


@pytest.mark.parametrize("check", [check_onnx, check_foreign_onnx])
@pytest.mark.parametrize("location", OUTSIDE)
def test_weights_in_other_files_are_rejected_wherever_they_hide(tmp_path: Path, location: str, check: Any) -> None:
    model = plain()
    outside(OUTSIDE[location](model))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EdgemtlError, match=r"another file|holds|unknown") as raised:
        check(tmp_path / "m.onnx")
    assert "\n" not in str(raised.value)


def initializer(model: ModelProto, values: Any, name: str = "s") -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def node(model: ModelProto, operator: str, *inputs: str, **attributes: Any) -> None:
    model.graph.node.append(helper.make_node(operator, list(inputs), ["out"], **attributes))


def sized(operator: str, values: Any, *inputs: str) -> Callable[[ModelProto], None]:
    """Return a change that adds a node with a size as an input, from an initializer."""

    def add(model: ModelProto) -> None:
        initializer(model, values)
        node(model, operator, *inputs)

    return add


def by_constant(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["s"], value_ints=[10**6, 10**6]))
    node(model, "ConstantOfShape", "s")


def by_constant_tensor(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(np.array([10**6, 10**6]))
    node(model, "ConstantOfShape", "s")
    model.graph.node.append(helper.make_node("Constant", [], ["s"], value=tensor))


def empty(model: ModelProto) -> None:
    model.graph.initializer.add(name="e", data_type=1).dims.extend([10**6, 10**6])


def long_name(model: ModelProto) -> None:
    model.graph.node[0].name = "x" * 5000


def many_nodes(model: ModelProto) -> None:
    for _ in range(100_001):
        model.graph.node.add(op_type="Relu")


BAD_BYTES = (b"\xff", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82")
"""No UTF-8: no lead byte, a loose one, an overlong form, a surrogate, beyond Unicode, and one that is cut."""


@pytest.mark.parametrize("check", [check_onnx, check_foreign_onnx])
@pytest.mark.parametrize("bad", BAD_BYTES)
def test_a_name_that_is_no_utf_8_never_reaches_onnx_runtime(tmp_path: Path, bad: bytes, check: Any) -> None:
    model = plain()
    name = "x" * len(bad)
    model.graph.node[0].name = name
    data = model.SerializeToString()
    at = data.rindex(bytes([0x1A, len(bad)]) + name.encode())
    (tmp_path / "m.onnx").write_bytes(data[: at + 2] + bad + data[at + 2 + len(bad) :])
    with pytest.raises(EdgemtlError, match="holds a text that is no UTF-8"):
        check(tmp_path / "m.onnx")


LARGE: dict[str, tuple[Callable[[ModelProto], Any], str]] = {
    "a weight without numbers": (empty, "in .* bytes"),
    "ConstantOfShape": (sized("ConstantOfShape", [10**6, 10**6], "s"), "beyond bounds"),
    "by a constant": (by_constant, "beyond bounds"),
    "by a constant tensor": (by_constant_tensor, "beyond bounds"),
    "Expand": (sized("Expand", [10**4, 10**4, 10**4], "x", "s"), "beyond bounds"),
    "Tile": (sized("Tile", [10**4, 10**4], "x", "s"), "beyond bounds"),
    "Range": (sized("Range", np.int64(10**12), "x", "s", "x"), "beyond bounds"),
    "Pad": (sized("Pad", [0, 10**9, 0, 0], "x", "s"), "beyond bounds"),
    "Resize by sizes": (sized("Resize", [1, 1, 10**5, 10**5], "x", "", "", "s"), "beyond bounds"),
    "Resize by scales": (sized("Resize", np.float32([1, 1, 1e5, 1e5]), "x", "", "s"), "beyond bounds"),
    "Resize without end": (sized("Resize", np.float32([1, 1, np.inf, np.nan]), "x", "", "s"), "beyond bounds"),
    "RandomNormal": (lambda m: node(m, "RandomNormal", shape=[10**6, 10**6]), "beyond bounds"),
    "ConvTranspose": (lambda m: node(m, "ConvTranspose", "x", "w", strides=[10**6, 10**6]), "beyond bounds"),
    "MaxPool": (lambda m: node(m, "MaxPool", "x", kernel_shape=[2, 2], pads=[10**8] * 4), "beyond bounds"),
    "a long name": (long_name, "a text of 5000 letters"),
    "many nodes": (many_nodes, "more than 100000 nodes"),
    "a name twice": (lambda m: [initializer(m, [n]) for n in (1, 10**9)], "two constants"),
}


@pytest.mark.parametrize("check", [check_onnx, check_foreign_onnx])
@pytest.mark.parametrize("kind", LARGE)
def test_sizes_have_bounds(tmp_path: Path, kind: str, check: Any) -> None:
    change, why = LARGE[kind]
    model = plain()
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    start = time.process_time()
    with pytest.raises(EdgemtlError, match=why):
        check(tmp_path / "m.onnx")
    assert time.process_time() - start < 5


def tagged(number: int, data: bytes) -> bytes:
    """Return a field of bytes as protobuf writes it."""

    def varint(value: int) -> bytes:
        return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])

    return varint(number << 3 | 2) + varint(len(data)) + data


def deep() -> bytes:
    data = b""
    for _ in range(100):  # graph in attribute in node in graph
        data = tagged(1, tagged(5, tagged(6, data)))
    return tagged(7, data)


def domain(model: ModelProto) -> ModelProto:
    model.graph.node[0].domain = "com.evil"
    return model


def opset(model: ModelProto) -> ModelProto:
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


@pytest.mark.parametrize(
    "data, why",
    [
        (lambda: domain(plain()).SerializeToString(), "calls operators of 'com.evil'"),
        (lambda: opset(plain()).SerializeToString(), "calls operators of 'com.microsoft'"),
        (lambda: plain().SerializeToString() + tagged(99, b"x"), "a field 99 of ModelProto"),
        (lambda: plain().SerializeToString() + tagged(7, tagged(2, b"g")), "has a field of ModelProto twice"),
        (lambda: deep(), "nested without end|branches"),
        (lambda: tagged(7, tagged(5, b"\x08\x01" * 1_000_001)), "more than 1000000 fields"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("check", [check_onnx, check_foreign_onnx])
def test_what_is_not_onnx_is_rejected(tmp_path: Path, data: Any, why: str, check: Any) -> None:
    (tmp_path / "m.onnx").write_bytes(data())
    start = time.process_time()
    with pytest.raises(EdgemtlError, match=why):
        check(tmp_path / "m.onnx")
    assert time.process_time() - start < 10


def test_annotations_and_branches_are_for_foreign_networks_alone(tmp_path: Path) -> None:
    model, file = plain(), tmp_path / "m.onnx"
    file.write_bytes(model.SerializeToString())
    check_onnx(file)
    helper.set_model_props(model, {"stride": "32"})
    model.doc_string = "made by hand"
    file.write_bytes(model.SerializeToString())
    check_onnx(file)
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "i", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["q"], then_branch=inner, else_branch=inner))
    model.graph.metadata_props.add(key="a", value="b")
    file.write_bytes(model.SerializeToString())
    check_foreign_onnx(file)
    with pytest.raises(BundleError, match=r"branches|field 16"):
        check_onnx(file)


def test_the_data_location_in_this_file_is_allowed(tmp_path: Path) -> None:
    model = plain()
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    onnx.save(model, str(tmp_path / "m.onnx"))
    check_onnx(tmp_path / "m.onnx")
