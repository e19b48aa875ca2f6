"""The whole way on small data by the command line: a run, its bundle, the same figures, a live stream."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from stand_ins import install

from edgemtl.cli import main
from edgemtl.evaluate import open_predictor
from edgemtl.run import Run
from edgemtl.synthetic.streets import HELD_OUT, Streets
from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.config import EngineConfig
from edgemtl_runtime.engine.selection import selected_config
from edgemtl_runtime.result import Boxes, LabelMap

Exported = tuple[Bundle, Shrunk]


def test_half_of_the_parameters_are_gone(tiny_run: Run, tiny_bundle: Exported) -> None:
    bundle, shrunk = tiny_bundle
    report = shrunk.report
    assert report.parameters_after <= 0.5 * report.parameters_before and report.flops_after < report.flops_before
    assert bundle.manifest.removed["parameters_after"] == report.parameters_after
    assert sum(p.numel() for p in shrunk.module().parameters()) == report.parameters_after


def test_the_bundle_answers_as_the_run(tiny_run: Run, tiny_bundle: Exported) -> None:
    bundle, _ = tiny_bundle
    assert max(bundle.manifest.parity["raw_max_abs"].values()) <= 1e-3
    assert bundle.manifest.parity["agreement"]["boxes"] == 1.0
    run, shipped = open_predictor(tiny_run.path), open_predictor(bundle.path)
    for sample in (Streets(6, (96, 128), HELD_OUT + 500)[i] for i in range(6)):
        left, right = run(sample), shipped(sample)
        assert isinstance(left["semantic"], LabelMap) and isinstance(right["semantic"], LabelMap)
        assert (left["semantic"].labels == right["semantic"].labels).mean() >= 0.999
        assert isinstance(left["boxes"], Boxes) and isinstance(right["boxes"], Boxes)
        sure = left["boxes"].scores > 0.1
        assert np.allclose(left["boxes"].xyxy[sure], right["boxes"].xyxy[: sure.sum()], atol=0.1)


def test_one_command_judges_run_and_bundle(
    tiny_run: Run, tiny_bundle: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for words in ([str(tiny_run.path)], [str(tiny_bundle[0].path), "--data", "streets"]):
        assert main(["eval", *words, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert set(told[0]) == {"what", "data", "images", "pictures", "all", "day", "night"}
    # the run was judged on its own 24 pictures; both of the same streets
    assert all(one["images"] == one["pictures"] for one in told)  # the latter for one version more
    assert told[0]["images"] == 24 and told[1]["images"] == 200
    assert main(["eval", str(tiny_run.path)]) == 0
    assert "miou" in capsys.readouterr().out


def test_a_bundle_from_real_folders_runs_live(
    tiny_bundle: Exported, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(tiny_bundle[0].path)
    words = ["--rgb", f"{pairs}/rgb/train?fps=30", "--ir", f"{pairs}/ir/train?fps=30"]
    files = ["--jsonl", str(tmp_path / "o.jsonl"), "--video", str(tmp_path / "o.mp4")]
    assert main(["run", bundle, *words, *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == {"rgb": 6, "ir": 6} and told["pairs"] + told["drops"].get("pair: superseded", 0) == 6
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == told["pairs"]
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == told["pairs"]


@pytest.mark.slow
def test_precisions_of_a_real_run_are_judged_shipped_and_run(
    tiny_run: Run, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    words = ["export", str(tiny_run.path), "--out", str(out), "--heads", "semantic", "--precisions", "fp16,int8"]
    words += ["--keep-undecided", "--max-drop", "0.3"]  # of 24 images
    assert main([*words, "--triton", str(tmp_path / "repo"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["precisions"]["int8"]["undecided"] == "semantic has 24 of 64 labelled images"
    assert set(told["precisions"]) == {"fp32", "fp16", "int8"} and told["triton"] == str(tmp_path / "repo/b/1")
    scores = {name: each["scores"]["semantic"]["miou"] for name, each in told["precisions"].items()}
    assert all(score >= 0.7 * scores["fp32"] for score in scores.values())
    judged = {}
    for precision in ("fp32", "int8"):
        asked = ["eval", str(out), "--data", str(pairs), "--precision", precision, "--json"]
        assert main(asked) == 0
        judged[precision] = json.loads(capsys.readouterr().out)["all"]["miou"]
    assert judged["int8"] != judged["fp32"] and judged["int8"] > 0.5 * judged["fp32"]
    views = ["--rgb", f"{pairs}/rgb/train?fps=30", "--ir", f"{pairs}/ir/train?fps=30", "--precision", "int8", "--json"]
    assert main(["run", str(out), *views]) == 0


def test_judging_a_folder_of_other_pictures(
    tiny_bundle: Exported, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(tiny_bundle[0].path), "--data", str(pairs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 4


@pytest.mark.slow
def test_export_builds_and_checks_an_engine_where_a_gpu_is(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install(monkeypatch)
    words = ["export", str(tiny_run.path), "--out", str(tmp_path / "b"), "--max-drop", "0.9", "--json"]
    assert main([*words, "--tensorrt", "--engine-out", str(tmp_path / "plain.plan")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["precisions"]) == {"fp32", "fp16"}
    assert Path(told["engine"]["plan"]).read_bytes() == (tmp_path / "plain.plan").read_bytes()
    assert selected_config(Bundle.open(tmp_path / "b")) == EngineConfig("tensorrt", told["engine"]["precision"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["export", "RUN", "--out", "b", "--engine-out", "f"], "give --tensorrt too"),
        (["eval", "nowhere"], "no such folder"),
        (["eval", "."], "no bundle here"),
        (["export", "nowhere", "--out", "b"], "no run here"),
        (["export", "RUN", "--out", "b", "--tensorrt"], "--tensorrt"),
        (["export", "RUN", "--out", "b", "--align", "0"], "--align lies between"),
        (["export", "RUN", "--out", "full"], "holds something else"),
        (["export", "RUN", "--out", "b", "--heads", "semantics"], "did you mean 'semantic'"),
        (["export", "RUN", "--out", "b", "--precisions", "fp8"], "--precisions fp8: is not one of fp16, int8"),
        (["export", "RUN", "--out", "b", "--max-drop", "2"], "--max-drop 2: is a share"),
        (["eval", "RUN", "--precision", "int8"], "a run computes in fp32"),
        (["eval", "BUNDLE", "--data", "streets", "--precision", "int8"], "holds no int8 network"),
        (["eval", "BUNDLE"], "give --data PATH"),
        (["eval", "BUNDLE", "--data", "nowhere"], "there is no such folder"),
        (["train", "nowhere.yaml"], "No such file"),
        (["train", "epoch=3"], "did you mean 'epochs'"),
        (["data", "check", "nowhere"], "there is no such folder"),
    ],
)
def test_wrong_words_are_one_line_and_code_2(
    words: list[str],
    expected: str,
    tiny_run: Run,
    tiny_bundle: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    stand_in = {"RUN": str(tiny_run.path), "BUNDLE": str(tiny_bundle[0].path)}
    assert main([stand_in.get(word, word) for word in words]) == 2
    error = capsys.readouterr().err
    assert expected in error and "Traceback" not in error
    assert sorted(file.name for file in tmp_path.iterdir()) == ["full"] and (tmp_path / "full" / "x").exists()


def test_an_interrupted_training_leaves_what_resume_goes_on_with(tmp_path: Path) -> None:
    import os
    import signal
    import time

    words = [
        "train",
        "input_size=[64,96]",
        "data.synthetic.num_train=16",
        "data.synthetic.num_val=4",
        "steps=5000",
        "batch_size=4",
        "--out",
        "run",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgemtl.cli", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, Ctrl-C is ignored and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not list(tmp_path.glob(".run.*")):
        time.sleep(0.2)
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130 and error.strip().endswith("interrupted")
    left = {file.name for file in tmp_path.iterdir()}
    state = {".run.unfinished", ".run.unfinished.log.jsonl"}
    assert left == state if "--resume goes on" in error else not left and "nothing to keep" in error


@pytest.mark.slow
def test_the_real_pairs_go_the_same_way(rgbir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "network=rgbir-n",
        f"data.source={rgbir}",
        "input_size=[128,160]",
        "steps=15",
        "batch_size=8",
        "sparsity.target=0.5",
    ]
    assert main(["train", *words, "--out", str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["loss"]["pruned"] >= 0.5 and set(told["val"]) == {"all", "day", "night"}
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parity"]["raw_max_abs"]["boxes"] <= 1e-3 and told["parity"]["agreement"]["boxes"] == 1
    streams = ["--rgb", f"{rgbir}/rgb/val", "--ir", f"{rgbir}/ir/val", "--json"]
    assert main(["run", str(tmp_path / "bundle"), *streams]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 122
    shutil.rmtree(tmp_path / "run")
