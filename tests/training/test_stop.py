"""Interrupted trainings: the state is kept wherever they are stopped, and existing files stay as they are."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgemtl import distributed, finish, train
from edgemtl.checkpoint import read_values
from edgemtl.cli import main
from edgemtl.data import datasets
from edgemtl.data.loader import Loader
from edgemtl.trainer import Trainer

pytestmark = pytest.mark.usefixtures("undrawn")

WORDS = [
    "network=rgbir-n",
    "input_size=[32,64]",
    "tasks=[semantic,depth]",
    "data.synthetic.num_train=8",
    "data.synthetic.num_val=2",
    "batch_size=4",
]
WORDS += [
    "steps=6",
    "precision=fp32",
    "num_threads=1",
    "checkpoint_interval_s=1e6",
    "num_evals=2",
    "data.num_workers=0",
]


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """The command line handles SIGTERM; the previous handlers are restored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", *WORDS, "--out", str(out)]) == 0
    return out


def same_weights(left: Path, right: Path) -> bool:
    first, second = (load_file(run / "weights.safetensors") for run in (left, right))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def contents(folder: Path) -> dict[str, Any]:
    return {str(f): (f.read_bytes(), f.stat().st_mtime_ns, f.stat().st_ino) for f in folder.rglob("*") if f.is_file()}


def at_call(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int, then: Callable[[], None]) -> None:
    """Let something happen within a call of a function, the first one being 1."""
    original, calls = getattr(owner, name), [0]

    def changed(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            then()
        return original(*args, **kwargs)

    patch.setattr(owner, name, changed)


def sent(number: int, times: int = 1) -> Callable[[], None]:
    def send() -> None:
        for _ in range(times):
            os.kill(os.getpid(), number)

    return send


INTERRUPTIONS = {
    "in the first step": (Trainer, "train_step", 1, 1),
    "in a step": (distributed, "all_reduce_gradients", 4, 4),
    "in an evaluation on the way": (train, "evaluate", 1, 3),
    "in the last step": (Trainer, "_end_epoch", 3, 6),
    "in the evaluation at the end": (finish, "evaluate", 1, 6),
    "in the report": (finish, "write_run_report", 1, 6),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_a_signal_keeps_the_state(
    interruption: str,
    number: int,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner, name, call, step = INTERRUPTIONS[interruption]
    command = ["train", *WORDS, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, call, sent(number))
        assert main(command) == 128 + number
    error = capsys.readouterr().err
    assert f"the state after step {step} is kept: the same command with --resume goes on" in error
    state = {".run.unfinished", ".run.unfinished.log.jsonl"}
    assert {file.name for file in tmp_path.iterdir()} == state
    assert read_values(tmp_path / ".run.unfinished")["step"] == step
    assert main([*command, "--resume"]) == 0
    assert f"going on from step {step}" in capsys.readouterr().err
    assert same_weights(tmp_path / "run", whole) and [file.name for file in tmp_path.iterdir()] == ["run"]
    figures = [json.loads((run / "metrics.json").read_text()) for run in (tmp_path / "run", whole)]
    assert figures[0]["evals"] == figures[1]["evals"] and figures[0]["val"] == figures[1]["val"]


def test_a_signal_while_data_are_read_has_nothing_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_call(monkeypatch, datasets, "open_datasets", 1, sent(signal.SIGINT))
    assert main(["train", *WORDS, "--out", str(tmp_path / "deep" / "run")]) == 130
    assert capsys.readouterr().err == "edgemtl: interrupted\n"
    assert not list(tmp_path.iterdir())


def test_a_second_signal_does_not_wait_for_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_call(monkeypatch, distributed, "all_reduce_gradients", 3, sent(signal.SIGINT, 2))
    assert main(["train", *WORDS, "checkpoint_interval_s=0", "--out", str(tmp_path / "run")]) == 130
    assert "the state after step 2 is kept" in capsys.readouterr().err
    assert read_values(tmp_path / ".run.unfinished")["step"] == 2


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        assert main(["train", *WORDS, "--out", str(tmp_path / "run")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines = capsys.readouterr().err.strip().splitlines()
    assert "the state at step 6 could not be saved" in lines[-2] and "the weights cannot be written" in lines[-1]
    assert not list(tmp_path.iterdir())


def failing() -> None:
    raise RuntimeError("CUDA out of memory.\nTried to allocate")


@pytest.mark.parametrize(
    ("owner", "name", "call", "step"),
    [(distributed, "all_reduce_gradients", 4, 3), (Loader, "__iter__", 1, None)],
    ids=["in a step", "before the first"],
)
def test_an_error_keeps_the_last_whole_step(
    owner: Any,
    name: str,
    call: int,
    step: int | None,
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["train", *WORDS, "checkpoint_interval_s=0", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, call, failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            main(command)
    assert (f"the state after step {step} is kept" in capsys.readouterr().err) is (step is not None)
    assert main([*command, "--resume"]) == 0 and same_weights(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("owner", "name", "call", "message"),
    [
        (finish, "evaluate", 1, "the run could not be evaluated"),
        (finish, "references", 1, "Δm could not be computed"),
        (finish, "write_run_report", 1, "the report could not be written"),
        (train, "evaluate", 1, "step 3 could not be evaluated"),
    ],
)
def test_a_failure_after_the_weights_costs_that_part_alone(
    owner: Any,
    name: str,
    call: int,
    message: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, call, failing)
        assert main(["train", *WORDS, "--out", str(tmp_path / "run")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1 and message in lines[0] and "CUDA out of memory. Tried to allocate" in lines[0]
    assert ("edgemtl eval" in lines[0]) is (owner is finish)
    assert same_weights(tmp_path / "run", whole) and [file.name for file in tmp_path.iterdir()] == ["run"]
    assert main(["eval", str(tmp_path / "run"), "--json"]) == 0


def test_a_failure_of_the_sizes_costs_their_lines_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_call(monkeypatch, finish, "sizes_of", 1, failing)
    assert main(["train", *WORDS, "sparsity.target=0.2", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert "warning: the sizes after removal are not known (CUDA out of memory" in printed.err
    assert (
        "parameters in training" in printed.out and "in training</td>" in (tmp_path / "run" / "report.html").read_text()
    )


def test_a_finished_run_is_returned(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(whole.parent)
    options = ["--out", str(whole), "--resume"]
    capsys.readouterr()
    assert main(["train", *WORDS, *options, "--json"]) == 0
    captured = capsys.readouterr()
    assert "is finished: nothing to do" in captured.err
    assert json.loads(captured.out)["val"] == json.loads((whole / "metrics.json").read_text())["val"]
    assert main(["train", *WORDS, "checkpoint_interval_s=5", *options]) == 0
    capsys.readouterr()
    assert main(["train", *WORDS, "lr=0.5", *options]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the finished run has lr=0.002, this one lr=0.5" in line and contents(whole.parent) == before


def test_a_finished_run_is_replaced_only_when_asked(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(whole.parent)
    assert main(["train", *WORDS, "lr=0.5", "--out", str(whole)]) == 2
    assert "a finished run stands here; --overwrite replaces it" in capsys.readouterr().err
    assert contents(whole.parent) == before


def test_the_users_folder_is_not_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`edgemtl init config && edgemtl train config.yaml --out .`, with photos and other programs' files around."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("photos/me.jpg", "config.yaml.bak", "manifest.json", "results.jsonl", "metrics.json"):
        (tmp_path / name).write_text("mine")
    assert main(["init", "config"]) == 0
    before = contents(tmp_path)
    for out in (".", "..", "photos", "./photos/../../", "config.yaml", str(tmp_path), "photos/me.jpg/x"):
        for more in ([], ["--overwrite"], ["--resume"]):
            assert main(["train", "config.yaml", *WORDS, "--out", out, *more]) == 2, (out, more)
            assert len(capsys.readouterr().err.strip().splitlines()) <= 2
    assert contents(tmp_path) == before


def test_default_names_count_up_and_resume_finds_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "steps=1"]
    assert main(["train", *words]) == 0 and main(["train", *words, "seed=1"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["rgbir-n", "rgbir-n-2"]
    capsys.readouterr()
    for seed, name in ((0, "rgbir-n"), (1, "rgbir-n-2")):
        assert main(["train", *words, f"seed={seed}", "--resume"]) == 0
        assert f"runs/{name} is finished: nothing to do" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "train_step", 2, sent(signal.SIGINT))
        assert main(["train", *WORDS]) == 130
    assert main(["train", *words, "seed=7"]) == 0
    assert main(["train", *WORDS, "--resume"]) == 0
    steps = {path.name: json.loads((path / "metrics.json").read_text())["steps"] for path in Path("runs").iterdir()}
    assert steps == {"rgbir-n": 1, "rgbir-n-2": 1, "rgbir-n-3": 6, "rgbir-n-4": 1}


def test_several_trainings_are_whole_or_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "single"
    command = ["train", *WORDS, "method=single", "--out", str(out)]
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "train_step", 8, sent(signal.SIGTERM))
        assert main(command) == 128 + signal.SIGTERM
    assert "--resume goes on" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".single.unfinished"]
    first = (tmp_path / ".single.unfinished" / "semantic" / "weights.safetensors").stat()
    assert main(command) == 2 and "an unfinished training stands here; --resume" in capsys.readouterr().err
    assert main(["train", *WORDS, "method=single", "lr=0.5", "--out", str(out), "--resume"]) == 2
    assert "the unfinished single training has lr=0.002, this one lr=0.5" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0 and "going on from step 2" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["single"]
    after = (out / "semantic" / "weights.safetensors").stat()
    assert (after.st_ino, after.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    before = contents(tmp_path)
    assert main([*command, "--resume", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"semantic", "depth"} and contents(tmp_path) == before
    assert main(command) == 2 and main(["train", *WORDS, "--out", str(out / "depth"), "--overwrite"]) == 2
    assert contents(tmp_path) == before
