"""Running plans, on stand-ins of CUDA and TensorRT that compute what ONNX Runtime does, and the choice of a way."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from stand_ins import VERSIONS, install

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.cli import main
from edgemtl_runtime.engine import autotune, config, cuda, selection
from edgemtl_runtime.engine.benchmark import noise
from edgemtl_runtime.engine.cache import Cache
from edgemtl_runtime.engine.config import BACKENDS, EngineConfig, open_engine
from edgemtl_runtime.engine.gpu import find_gpu
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import EdgemtlError, EngineError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Return what puts stand-ins in their places, beside a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *words, **options: install(monkeypatch, *words, **options)


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_answers_as_the_network_does_by_one_graph(gpu, toy_bundle: Path, version: str, integrated: bool) -> None:  # type: ignore[no-untyped-def]
    runtime = gpu(version, integrated=integrated)
    bundle = Bundle.open(toy_bundle)
    engine, exact = open_engine(bundle, EngineConfig("tensorrt")), OrtEngine(bundle.model)
    assert runtime.told.count("cudaGraphLaunch") == 1  # a graph is there when the engine is
    rng = np.random.default_rng(0)
    for _ in range(4):
        images = {name: rng.integers(0, 256, image.shape, np.uint8) for name, image in noise(bundle.manifest).items()}
        found, expected = engine.run(images), exact.run(images)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    copies = 0 if integrated else 2 * 4  # as it runs once, and as it is recorded: two inputs and two outputs
    assert runtime.told.count("cudaGraphLaunch") == 1 + 4 and runtime.told.count("cudaMemcpyAsync") == copies
    with pytest.raises(EngineError, match=r"'rgb' is \(1, 2, 2, 3\), the engine takes"):
        engine.run(images | {"rgb": np.zeros((1, 2, 2, 3), np.uint8)})


def test_results_are_not_written_over_by_the_next_run(gpu, toy_bundle: Path) -> None:  # type: ignore[no-untyped-def]
    gpu()
    bundle = Bundle.open(toy_bundle)
    engine = open_engine(bundle, EngineConfig("tensorrt"))
    bright = {name: np.full_like(image, 255) for name, image in noise(bundle.manifest).items()}
    first = engine.run(bright)["semantic"]
    engine.run({name: np.zeros_like(image) for name, image in bright.items()})
    assert (first == 1).all()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("load", "cannot load the engine: magicTag does not match; build it again"),
        ("context", "cannot start the engine"),
        ("types", "the network takes"),
        ("run", "does not run the engine: illegal memory access"),
        ("memory", "cudaHostAlloc fails: cudaErrorMemoryAllocation"),
    ],
)
def test_what_goes_wrong_is_told(gpu, toy_bundle: Path, fault: str, message: str) -> None:  # type: ignore[no-untyped-def]
    gpu(fault=fault, memory=1000 if fault == "memory" else 1 << 30)
    bundle = Bundle.open(toy_bundle)
    with pytest.raises(Exception, match=message):
        open_engine(bundle, EngineConfig("tensorrt")).run(noise(bundle.manifest))


ALL = ["cudaStreamSynchronize", "cudaGraphExecDestroy", "context goes", "engine goes"]


@pytest.mark.parametrize("how", ["close", "with", "drop"])
@pytest.mark.parametrize("integrated", [False, True])
def test_whatever_an_engine_holds_is_freed_in_order(gpu, toy_bundle: Path, how: str, integrated: bool) -> None:  # type: ignore[no-untyped-def]
    runtime = gpu(integrated=integrated)
    bundle = Bundle.open(toy_bundle)
    engine = open_engine(bundle, EngineConfig("tensorrt"))
    for _ in range(2):
        engine.run(noise(bundle.manifest))
    assert runtime.kept and runtime.graphs and runtime.streams == 1
    runtime.told.clear()
    if how == "drop":
        del engine
    else:
        with engine if how == "with" else contextlib.nullcontext():
            pass
        engine.close()
        engine.close()
        with pytest.raises(EngineError, match="this tensorrt engine is closed; open it again"):
            engine.run(noise(bundle.manifest))
    pinned = ["cudaFreeHost"] if integrated else ["cudaFree", "cudaFreeHost"]
    assert runtime.told == [*ALL, *pinned * 4, "cudaStreamDestroy"]
    assert not runtime.kept and not runtime.graphs and not runtime.streams


@pytest.mark.parametrize("fault", ["load", "context", "types", "memory"])
def test_an_engine_that_does_not_open_leaves_nothing(gpu, toy_bundle: Path, fault: str) -> None:  # type: ignore[no-untyped-def]
    # 18,432 bytes are the colour input: its pinned half fits, and what it has on the GPU does not
    runtime = gpu(fault=fault, memory=20_000 if fault == "memory" else 1 << 30)
    with pytest.raises(EdgemtlError):
        open_engine(Bundle.open(toy_bundle), EngineConfig("tensorrt"))
    assert not runtime.kept and not runtime.streams


def test_what_cannot_be_freed_does_not_keep_the_rest(gpu, toy_bundle: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    runtime = gpu()
    bundle = Bundle.open(toy_bundle)
    engine = open_engine(bundle, EngineConfig("tensorrt"))
    runtime._cudaFree = lambda pointer: runtime.cudaError_t.cudaErrorMemoryAllocation
    engine.close()
    assert runtime.told.count("cudaFreeHost") == 4 and not runtime.streams
    assert "freeing the engine: cudaFree fails" in caplog.text


def test_an_engine_whose_outputs_disagree_is_rejected(gpu, toy_bundle: Path) -> None:  # type: ignore[no-untyped-def]
    gpu(fault="wrong")
    bundle = Bundle.open(toy_bundle)
    selected, rejected = autotune.autotune(bundle, config.engine_configs(bundle), 0.1)
    assert selected.config.backend == "onnxruntime-cpu"
    assert "of 'boxes' agrees with ONNX Runtime" in rejected[EngineConfig("tensorrt")]
    with pytest.raises(EngineError, match="nothing runs this bundle here"):
        autotune.autotune(bundle, [EngineConfig("tensorrt")], 0.1)


def test_what_build_chose_is_what_run_takes(gpu, toy_bundle: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    gpu()
    assert selection.selected_config(Bundle.open(toy_bundle)) is None
    monkeypatch.setattr(
        autotune,
        "time_interleaved",
        lambda engines, *_: {config: [1.0 if config.backend == "tensorrt" else 2.0] for config in engines},
    )
    assert main(["build", str(toy_bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["config"]["backend"] == "tensorrt" and not report["rejected"] and len(report["p50_ms"]) > 2
    assert report["way"] == report["config"] and report["refused"] == report["rejected"]  # read by older programs
    bundle = Bundle.open(toy_bundle)
    assert (
        selection.selected_config(bundle) == EngineConfig("tensorrt")
        and selection.open_selected_engine(bundle).name == "tensorrt"
    )
    words = ["run", str(toy_bundle), "--rgb", "pattern:?fps=0&frames=4", "--ir", "pattern:?fps=0&frames=4", "--json"]
    assert main(words) == 0 and json.loads(capsys.readouterr().out)["pairs"] == 4
    monkeypatch.setattr(selection, "find_gpu", lambda: "gone")
    assert (
        selection.selected_config(bundle) is None and selection.open_selected_engine(bundle).name == "onnxruntime-cpu"
    )
    Cache().selection(bundle.manifest.files).chmod(0o666)
    with pytest.raises(EngineError, match="chmod"):
        selection.selected_config(bundle)


def test_of_configurations_in_a_tie_the_one_of_more_digits_and_fewer_threads_is_taken(
    gpu, toy_bundle: Path, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    gpu()
    bundle = Bundle.open(toy_bundle)
    medians = {
        EngineConfig("tensorrt"): 1.5,
        EngineConfig(threads=2): 1.0,
        EngineConfig(threads=1): 1.02,
        EngineConfig(threads=2, arena=False): 1.0,
    }
    monkeypatch.setattr(
        autotune, "time_interleaved", lambda engines, *_: {config: [medians[config]] for config in engines}
    )
    assert autotune.autotune(bundle, list(medians))[0].config == EngineConfig(threads=1)


def test_every_function_of_cuda_that_is_asked_for_is_in_nvidia_s_bindings() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    source = inspect.getsource(cuda)
    names = set(re.findall(r'"(cuda[A-Z]\w+)"|runtime\.(cuda[A-Z]\w+)', source))
    for name in {a or b for a, b in names}:
        assert hasattr(runtime, name), name
    assert hasattr(runtime.cudaDeviceAttr, "cudaDevAttrIntegrated")
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")
    if isinstance(find_gpu(), str):
        with pytest.raises(EngineError, match="cudaSetDevice fails: cuda"):
            cuda.Cuda()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_back_end_that_is_not_here_says_why(name: str, toy_bundle: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    why = config.unavailable_reason(name)
    words = ["run", str(toy_bundle), "--rgb", "pattern:?fps=0&frames=2", "--ir", "pattern:?fps=0&frames=2"]
    code = main([*words, "--backend", name])
    assert code == (2 if why else 0) and why in capsys.readouterr().err
    assert "there is no back end 'abacus'" in config.unavailable_reason("abacus")


@pytest.mark.gpu
def test_a_real_engine_agrees_with_onnx_runtime(toy_bundle: Path) -> None:
    if isinstance(gpu := find_gpu(), str):
        pytest.skip(gpu)
    tried = 0
    bundle = Bundle.open(toy_bundle)
    for name in ("tensorrt", "tensorrt-rtx"):
        if not config.unavailable_reason(name):
            engine = open_engine(bundle, EngineConfig(name))
            assert autotune.check_engine(bundle, EngineConfig(name), engine, [noise(bundle.manifest)] * 3)
            tried += 1
    if not tried:
        pytest.skip("neither tensorrt nor tensorrt-rtx is installed")
