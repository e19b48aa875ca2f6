"""A Triton repository: read by the protobuf schema of Triton's own client, version by version."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from google.protobuf import text_format

from edgemtl_export.triton import write_triton
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.errors import EdgemtlError


def schema():  # type: ignore[no-untyped-def]
    """Return the client's message types, without its transport, which wants grpc."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    file = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_is_triton_s_own_and_versions_follow(toy_bundle: Path, tmp_path: Path) -> None:
    pb = schema()
    bundle = Bundle.open(toy_bundle)
    folders = [write_triton(bundle, tmp_path / "repo", "street") for _ in range(2)]
    assert [folder.name for folder in folders] == ["1", "2"]
    assert (folders[1] / "model.onnx").read_bytes() == bundle.model.read_bytes()
    read = text_format.Parse((tmp_path / "repo/street/config.pbtxt").read_text(), pb.ModelConfig())
    assert read.name == "street" and read.platform == "onnxruntime_onnx" and read.max_batch_size == 0
    assert {(i.name, i.data_type, tuple(i.dims)) for i in read.input} == {
        ("rgb", pb.TYPE_UINT8, (1, 64, 96, 3)),
        ("ir", pb.TYPE_UINT8, (1, 64, 96, 1)),
    }
    assert {(o.name, o.data_type) for o in read.output} == {("boxes", pb.TYPE_FP32), ("semantic", pb.TYPE_UINT8)}
    assert sorted(p.name for p in (tmp_path / "repo/street").iterdir()) == ["1", "2", "config.pbtxt"]


def test_another_model_s_place_is_not_taken(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    write_triton(bundle, tmp_path, "street")
    (tmp_path / "street/config.pbtxt").write_text('name: "street"\n')
    with pytest.raises(EdgemtlError, match="choose another name"):
        write_triton(bundle, tmp_path, "street")
    for name in ("", "../x", "a/b", "a b"):
        with pytest.raises(EdgemtlError, match="is no name for a Triton model"):
            write_triton(bundle, tmp_path, name)
    assert not (tmp_path / "street/2").exists()
