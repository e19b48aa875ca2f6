"""Damaged and hostile files: each gives a clear error or is used, and nothing else happens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgemtl_runtime.bundle import Bundle, sha256
from edgemtl_runtime.errors import BundleError
from edgemtl_runtime.onnx_file import check_onnx

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import fuzz

COUNTS = {"manifest": 500, "network": 500, "rig": 300, "choice": 300, "recording": 300, "program": 40}
"""How many are tried here; `make bench-fuzz` tries 10,000 of each."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good file of every kind."""
    return fuzz.write_originals(tmp_path_factory.mktemp("originals"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by Linux's means")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind == "program" else kind for kind in COUNTS]
)
def test_a_mutated_file_is_used_or_rejected_in_one_line(originals: Path, kind: str) -> None:
    before = {file: sha256(file) for file in originals.rglob("*") if file.is_file()}
    report = fuzz.tried(kind, originals, 0, COUNTS[kind])
    assert report["strange"] == [] and sum(report["outcomes"].values()) == COUNTS[kind]
    assert report["outcomes"]["refused"] > COUNTS[kind] / 5 and report["outcomes"]["used"] > 0
    assert report["memory_mb"] < 2000
    assert before == {file: sha256(file) for file in originals.rglob("*") if file.is_file()}


def with_outside_weights(location: str) -> onnx.ModelProto:
    """Return a model one of whose tensors says that it lies in another file."""
    tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), "w")
    outside = TensorProto()
    outside.CopyFrom(tensor)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    stored = [tensor]
    if location == "initializer":
        stored = [outside]
    elif location == "attribute":
        nodes = [helper.make_node("Constant", [], ["w"], value=outside), *nodes]
        stored = []
    else:
        inner = helper.make_graph([helper.make_node("Constant", [], ["z"], value=outside)], "g", [], [])
        nodes = [*nodes, helper.make_node("If", ["c"], ["q"], then_branch=inner, else_branch=inner)]
    return helper.make_model(helper.make_graph(nodes, "m", [], [], stored))


@pytest.mark.parametrize("location", ["initializer", "attribute", "branch"])
def test_weights_in_other_files_are_rejected_wherever_they_hide(toy_bundle: Path, location: str) -> None:
    file = toy_bundle / "model.onnx"
    file.write_bytes(with_outside_weights(location).SerializeToString())
    manifest = json.loads((toy_bundle / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = sha256(file)
    (toy_bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"wants to read weights from another file|holds branches"):
        Bundle.open(toy_bundle)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, b"PK\x03\x04zip", bytes([0x3A, 0xFF, 0x01]), b"\x3b\x01"])
def test_what_is_no_model_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"holds no network|encoding is broken"):
        check_onnx(tmp_path / "model.onnx")
