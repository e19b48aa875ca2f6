"""A training that is killed and resumed ends with the same weights as one that was not."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file

from edgemtl import checkpoint
from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.data.loader import Loader
from edgemtl.run import Run
from edgemtl.train import train
from edgemtl_runtime.atomic import disk

pytestmark = pytest.mark.usefixtures("undrawn")

WORDS = (
    *TINY,
    "steps=12",
    "data.synthetic.num_train=16",
    "data.synthetic.num_val=4",
    "num_threads=1",
    "checkpoint_interval_s=0",
    "sparsity.begin=0.2",
)


def saved_step(file: Path) -> int:
    """Return the step of a state that a training may replace meanwhile: opened once, where `safe_open` opens twice."""
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    except FileNotFoundError:
        return -1
    return int(json.loads(header["__metadata__"][checkpoint.HEADER])["step"])


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "edgemtl", "train", *WORDS, "--out", str(out), *more]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights.safetensors")


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    state = tmp_path / ".killed.unfinished"
    process = subprocess.Popen(command(tmp_path / "killed"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while saved_step(state) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 4 <= saved_step(state) < 12 and not (tmp_path / "killed").exists()
    resumed = subprocess.run(command(tmp_path / "killed", "--resume"), capture_output=True, text=True, check=True)
    assert "going on from step" in resumed.stderr and not state.exists()
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    left, right = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    runs = [Run.open(tmp_path / name) for name in ("killed", "whole")]
    assert runs[0].metrics["val"] == runs[1].metrics["val"] and runs[0].metrics["loss"] == runs[1].metrics["loss"]
    assert (runs[0].path / "log.csv").read_text().count("\n") == 13


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training that stopped with an error at its sixth step."""
    whole = Loader.__iter__

    def broken(self: Loader):  # type: ignore[no-untyped-def]
        for step, batch in enumerate(whole(self)):
            if step == 5:
                raise OSError("disk gone")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "__iter__", broken)
        with pytest.raises(OSError, match="disk gone"):
            train(load(None, WORDS), tmp_path / "run")
    return tmp_path / ".run.unfinished"


@pytest.mark.long
@pytest.mark.slow
def test_the_choice_of_an_importance_and_refits_are_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*WORDS, "sparsity.importance=auto", "sparsity.refit=true", "sparsity.channel_multiple=1", "steps=8")
    config = load(None, words)
    whole = train(config, tmp_path / "whole")
    iterate = Loader.__iter__
    for last in (1, 4):  # before the choice, and after it

        def broken(self: Loader):  # type: ignore[no-untyped-def]
            for step, batch in enumerate(iterate(self)):
                if step == last:  # noqa: B023
                    raise OSError("disk gone")
                yield batch

        run = tmp_path / f"run{last}"
        with monkeypatch.context() as patch:
            patch.setattr(Loader, "__iter__", broken)
            with pytest.raises(OSError, match="disk gone"):
                train(config, run)
        resumed = train(config, run, resume=True)
        left, right = weights(run), weights(tmp_path / "whole")
        assert all(torch.equal(left[name], right[name]) for name in right)
        assert resumed.metrics["figures"] == whole.metrics["figures"]
    tried = whole.metrics["figures"]["importance"]
    assert all(name in tried for name in ("taylor", "fisher by layer", "magnitude", "activation by layer"))
    assert tried.split()[0] in (whole.path / "report.html").read_text()


def test_a_full_disk_leaves_the_last_good_state(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = unfinished.read_bytes()

    written = disk.write_all

    def full(descriptor: int, content: bytes) -> None:
        if len(content) > 10_000:
            os.write(descriptor, b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(descriptor, content)

    monkeypatch.setattr(disk, "write_all", full)
    monkeypatch.setattr(checkpoint.Checkpoint, "remove", lambda self: None)
    train(load(None, WORDS), unfinished.with_name("run"), resume=True, evaluate=False)
    assert "could not be saved" in capsys.readouterr().err
    assert unfinished.read_bytes() == before
    log = f"{unfinished.name}.log.jsonl"
    assert sorted(file.name for file in unfinished.parent.iterdir()) == [unfinished.name, log, "run"]


def test_another_configuration_is_rejected(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(unfinished.with_name("run"))
    assert main(["train", *WORDS, "lr=0.5", "--out", out, "--resume"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "lr=0.002" in line and "lr=0.5" in line and unfinished.is_file()


def test_a_damaged_state_is_one_line(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished.write_bytes(b"x" * 100)
    assert main(["train", *WORDS, "--out", str(unfinished.with_name("run")), "--resume"]) == 2
    assert "move it away" in capsys.readouterr().err and unfinished.read_bytes() == b"x" * 100
    assert main(["train", *WORDS, "--out", str(unfinished.with_name("run")), "--overwrite"]) == 2
    assert "move it away" in capsys.readouterr().err and unfinished.read_bytes() == b"x" * 100


def test_resuming_nothing_starts_from_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(load(None, (*WORDS, "steps=2")), tmp_path / "run", resume=True, evaluate=False)
    assert run.metrics["steps"] == 2 and "nothing unfinished" in capsys.readouterr().err


def test_starting_again_needs_an_option(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = unfinished.read_bytes()
    words = [*WORDS, "steps=2", "--out", str(unfinished.with_name("run"))]
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert "an unfinished training stands here" in error and "--resume" in error and "--overwrite" in error
    assert unfinished.read_bytes() == before
    assert main(["train", *words, "--overwrite"]) == 0 and not unfinished.exists()
