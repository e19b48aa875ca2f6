"""Engines: what is asked of each TensorRT, what its refusals become, and the cache that trusts nobody."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from stand_ins import ORIN, VERSIONS, StandInCuda, stand_in

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.cli import main
from edgemtl_runtime.engine import build, cuda, trt_build, trt_run
from edgemtl_runtime.engine.cache import Cache, Key, default_folder
from edgemtl_runtime.engine.config import BACKENDS
from edgemtl_runtime.engine.gpu import find_gpu
from edgemtl_runtime.errors import EngineError

KEY = Key("a" * 64, "tensorrt", "11.4.0", "Orin", "8.7", "13.2", "fp16")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Put a stand-in of a version in the place of tensorrt, a GPU beside it, and a cache of the test's own."""

    def use(version: str, fault: str = "") -> object:
        module = stand_in(version, fault)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(trt_build, "_LOGS", {})
        return module

    runtime = StandInCuda()
    monkeypatch.setattr(cuda, "bindings", lambda: runtime)
    for part in (build, trt_run):
        monkeypatch.setattr(part, "find_gpu", lambda: ORIN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return use


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_builds_by_the_names_it_has(engine, version: str) -> None:  # type: ignore[no-untyped-def]
    module = engine(version)
    told: list[tuple[str, int, int]] = []
    settings = trt_build.Settings(workspace_mb=64)
    data = trt_build.build("tensorrt", b"model", settings, lambda *step: not told.append(step))  # type: ignore[func-returns-value]
    assert data == b"plan of model" and told == [("Building", 0, 2)]
    assert ("network", 2) in module.calls and ("limit", 0, 64 << 20) in module.calls  # strongly typed, and no more
    assert ("clear", "TF32") in module.calls


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("parse", r"cannot read the network: node_7 \(Det\): no importer"),
        ("nothing", "finds no output"),
        ("build", r"cannot build this network: 10: could not find any implementation for node 7$"),
    ],
)
def test_what_tensorrt_refuses_is_told_in_its_own_words(engine, version: str, fault: str, message: str) -> None:  # type: ignore[no-untyped-def]
    engine(version, fault)
    with pytest.raises(EngineError, match=message):
        trt_build.build("tensorrt", b"model")


def test_a_build_can_be_stopped_and_an_empty_file_is_none(engine) -> None:  # type: ignore[no-untyped-def]
    engine("11.4.0")
    with pytest.raises(EngineError, match="was stopped"):
        trt_build.build("tensorrt", b"model", progress=lambda *_: False)
    with pytest.raises(EngineError, match="is empty"):
        trt_build.build("tensorrt", b"")
    with pytest.raises(EngineError, match="only tensorrt-rtx builds for another GPU"):
        trt_build.build("tensorrt", b"model", trt_build.Settings(capability="8.9"))


def test_a_precision_that_tensorrt_has_lost_is_told_and_timings_are_kept(engine, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    engine("10.3.0", "fp32")
    trt_build.build("tensorrt", b"model", precision="fp32")
    for precision in ("fp16", "int8"):
        with pytest.raises(EngineError, match=f"has read the {precision} network without any {precision}"):
            trt_build.build("tensorrt", b"model", precision=precision)
    engine("10.3.0")
    cache = Cache(tmp_path / "engines")
    timings = cache.timings(KEY)
    assert timings and timings.read() == b""
    timings.add(lambda there: there + b"another")
    trt_build.build("tensorrt", b"model", timings=timings)
    assert timings.read().splitlines() == [b"a kernel", b"another"] and timings.path.stat().st_mode & 0o077 == 0
    assert cache.timings(Key("a" * 64, "tensorrt-rtx", "1.7", "", "8.6", "", "fp16")) is None


def test_an_open_batch_gets_its_profile(engine) -> None:  # type: ignore[no-untyped-def]
    module = engine("10.3.0", "open")
    trt_build.build("tensorrt", b"model", trt_build.Settings(batch=(1, 4, 8)))
    sizes = tuple((size, 8, 8, 3) for size in (1, 4, 8))
    assert ("profile", {"rgb": sizes, "ir": sizes}) in module.calls
    with pytest.raises(EngineError, match=r"'rgb' does not take batches of \(1, 4, 128\)"):
        trt_build.build("tensorrt", b"model", trt_build.Settings(batch=(1, 4, 128)))


def test_an_engine_is_built_once_and_again_when_something_else_is_here(engine, toy_bundle: Path) -> None:  # type: ignore[no-untyped-def]
    engine("10.3.0")
    bundle = Bundle.open(toy_bundle)
    first, second = (build.build_engine(bundle, "tensorrt") for _ in range(2))
    assert (
        not first.cached
        and second.cached
        and second.data == first.plan.read_bytes() == b"plan of " + bundle.model.read_bytes()
    )
    assert first.plan.parent == default_folder() and first.plan.parent.stat().st_mode & 0o777 == 0o700
    assert first.plan.stat().st_mode & 0o077 == 0
    engine("11.4.0")
    third = build.build_engine(bundle, "tensorrt")
    assert not third.cached and third.differs == ("version 10.3.0, now 11.4.0",)
    assert build.build_engine(bundle, "tensorrt", settings=trt_build.Settings(level=5)).key.flags != third.key.flags


def test_without_a_gpu_tensorrt_is_not_touched(engine, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    module = engine("11.4.0")
    monkeypatch.setattr(build, "find_gpu", lambda: "no NVIDIA driver here")
    with pytest.raises(EngineError, match="tensorrt needs a GPU to build: no NVIDIA driver here"):
        build.build_engine(Bundle.open(toy_bundle), "tensorrt")
    assert not module.calls


def test_the_command_builds_finds_and_copies(engine, toy_bundle: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    engine("10.16.1")
    words = ["build", str(toy_bundle), "--backend", "tensorrt", "--json", "--engine-out", str(tmp_path / "plain.plan")]
    words += ["--overwrite"]
    told = []
    for _ in range(2):
        assert main(words) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["agreed"] == {"boxes": 1.0, "semantic": 1.0}
    assert [each["cached"] for each in told] == [False, True] and (tmp_path / "plain.plan").read_bytes().startswith(
        b"plan of "
    )
    assert main(["inspect", str(toy_bundle), "--json"]) == 0
    (known,) = json.loads(capsys.readouterr().out)["engines"]
    assert known["key"]["gpu"] == "Orin" and known["plan_bytes"] == (tmp_path / "plain.plan").stat().st_size
    assert main(["inspect", str(toy_bundle)]) == 0
    assert "engine: fp32, tensorrt 10.16.1, Orin 8.7" in capsys.readouterr().out
    assert main(["build", str(toy_bundle), "--precision", "int8"]) == 2
    assert "holds no int8 network; it has fp32" in capsys.readouterr().err
    assert main(["build", str(toy_bundle), "--workspace-mb", "-1"]) == 2


def test_bench_times_what_is_here(toy_bundle: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["bench", str(toy_bundle), "--seconds", "0.2", "--json"]) == 0
    timings = json.loads(capsys.readouterr().out)["timings"]
    assert {each["config"]["precision"] for each in timings} == {"fp32"}
    for each in timings:
        assert each["way"] == each["config"]  # read by older programs
        assert 0 < each["p50_ms"] <= each["p90_ms"] <= each["p99_ms"] and each["runs"] > 5
        assert 0 < each["memory_mb"] < 500 and each["per_second"] == pytest.approx(1e3 / each["p50_ms"])
    assert main(["bench", str(toy_bundle), "--seconds", "0.1"]) == 0
    assert "onnxruntime-cpu fp32 x1" in capsys.readouterr().out
    assert main(["bench", str(toy_bundle), "--seconds", "0"]) == 2


def test_doctor_gives_a_reason_and_a_remedy(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    parts = {"gpu", "onnxruntime", "tensorrt", "tensorrt-rtx", "cuda-bindings", "opencv", "cameras"}
    assert set(told) == parts | {f"run by {name}" for name in BACKENDS} and told["run by onnxruntime-cpu"] == "works"
    assert "CPUExecutionProvider" in told["onnxruntime"]
    if isinstance(find_gpu(), str):
        assert told["gpu"].startswith("absent: ")
    assert main(["doctor"]) == 0 and "onnxruntime" in capsys.readouterr().out


def test_a_plan_comes_back_only_as_it_was_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "engines")
    assert cache.find(KEY) is None
    plan = cache.keep(KEY, b"engine")
    assert cache.find(KEY) == b"engine" and not list(tmp_path.rglob("*.part"))
    plan.write_bytes(b"enginf")
    with pytest.raises(EngineError, match="is not what was built here"):
        cache.find(KEY)
    cache.keep(KEY, b"engine")
    plan.with_suffix(".json").write_bytes(b"{}")
    with pytest.raises(EngineError, match="cannot be read"):
        cache.find(KEY)


@pytest.mark.parametrize("what", ["folder", "plan", "json"])
def test_what_others_may_write_or_links_is_refused(tmp_path: Path, what: str) -> None:
    cache = Cache(tmp_path / "engines")
    plan = cache.keep(KEY, b"engine")
    path = {"folder": cache.folder, "plan": plan, "json": plan.with_suffix(".json")}[what]
    path.chmod(path.stat().st_mode | 0o020)
    with pytest.raises(EngineError, match="chmod go-rwx"):
        Cache(cache.folder).find(KEY)
    path.chmod(path.stat().st_mode & ~0o020)
    there = path.rename(tmp_path / "elsewhere")
    path.symlink_to(there)
    with pytest.raises(EngineError, match="is a link"):
        Cache(cache.folder).find(KEY)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a file away")
def test_another_user_s_engine_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "engines")
    os.chown(cache.keep(KEY, b"engine"), 12345, -1)
    with pytest.raises(EngineError, match="belongs to another user"):
        cache.find(KEY)


def test_a_full_disk_leaves_the_older_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "engines")
    cache.keep(KEY, b"engine")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.keep(KEY, b"another")
    assert cache.find(KEY) == b"engine" and not list(cache.folder.glob("*.part"))
