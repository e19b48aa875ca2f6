"""A Triton repository: read by the protobuf schema of Triton's own client, version by version."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from edgemtl.export import Options, export
from edgemtl_export.triton import write_triton
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import EdgemtlError


def schema():  # type: ignore[no-untyped-def]
    """Return the client's message types, without its transport, which wants grpc."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
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


@pytest.mark.slow
def test_a_dynamic_batch_is_gathered_by_triton_and_has_the_outputs_of_single_images(tiny_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    options = Options(dynamic_batch=True)
    bundle, _ = export(tiny_run, tmp_path / "bundle", None, options)
    text = (write_triton(bundle, tmp_path / "repo", "street").parent / "config.pbtxt").read_text()
    read = text_format.Parse(text, schema().ModelConfig())
    assert read.max_batch_size == 64 and read.HasField("dynamic_batching")
    assert all(1 not in tensor.dims[:1] for tensor in (*read.input, *read.output))
    rng = np.random.default_rng(0)
    shape = {s.name: (5, s.height, s.width, s.channels) for s in bundle.manifest.inputs}
    images = {name: rng.integers(0, 256, size, np.uint8) for name, size in shape.items()}
    for precision in bundle.precisions:
        engine = OrtEngine(bundle.model_in(precision), 1)
        engine.check(bundle.manifest)
        together = engine.run(images)
        for index in range(5):
            alone = engine.run({name: image[index : index + 1] for name, image in images.items()})
            for name, out in alone.items():
                np.testing.assert_allclose(together[name][index], out[0], rtol=1e-3, atol=1e-3)


def test_another_model_is_not_overwritten(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    write_triton(bundle, tmp_path, "street")
    (tmp_path / "street/config.pbtxt").write_text('name: "street"\n')
    with pytest.raises(EdgemtlError, match="choose another name"):
        write_triton(bundle, tmp_path, "street")
    for name in ("", "../x", "a/b", "a b"):
        with pytest.raises(EdgemtlError, match="is no name for a Triton model"):
            write_triton(bundle, tmp_path, name)
    assert not (tmp_path / "street/2").exists()


@pytest.mark.parametrize("linked", ["street", "street/config.pbtxt"])
def test_links_in_a_repository_are_not_followed(linked: str, toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    write_triton(bundle, tmp_path / "theirs", "street")
    before = {file: file.read_bytes() for file in (tmp_path / "theirs").rglob("*") if file.is_file()}
    target, link = tmp_path / "theirs" / linked, tmp_path / "repo" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    with pytest.raises(EdgemtlError, match="is a link"):
        write_triton(bundle, tmp_path / "repo", "street")
    assert before == {file: file.read_bytes() for file in (tmp_path / "theirs").rglob("*") if file.is_file()}


def test_a_version_that_is_being_written_is_not_written_by_another(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    write_triton(bundle, tmp_path, "street")
    with AtomicFolder(tmp_path / "street" / "2", "run"), pytest.raises(EdgemtlError, match="is writing there"):
        write_triton(bundle, tmp_path, "street")
    assert write_triton(bundle, tmp_path, "street").name == "2"
