"""Several processes train the network that one trains on the same batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import several
import torch

from edgemtl import ranks
from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.errors import ConfigError
from edgemtl.run import Run
from edgemtl.train import train
from edgemtl_runtime.atomic import INVENTORY

LONG = (
    "gradient surgery, labels on one process alone",
    "episodes with trained strengths, labels on one process alone",
)
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def ran(command: list[str], timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "edgemtl" in line] + [
        done.stderr[-2000:]
    ]
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long) if case in LONG else case for case in several.CASES]
)
def test_two_processes_train_the_same_network_as_one(tmp_path: Path, case: str) -> None:
    ran([*TWO, several.__file__, str(tmp_path / "weights"), case])
    trained = torch.load(tmp_path / "weights")
    one = several.weights_after([*several.WORDS, *several.CASES[case]])
    assert one.keys() == trained.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(trained[name], tensor, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_torchrun_trains_and_only_the_main_process_prints(tmp_path: Path) -> None:
    """One training after the other, as method=single asks for."""
    words = [
        "input_size=[64,96]",
        "modalities=[rgb]",
        "steps=3",
        "batch_size=4",
        "data.synthetic.num_train=8",
        "data.synthetic.num_val=2",
        "checkpoint_interval_s=0",
    ]
    words += ["tasks=[semantic,edges]", "method=single"]
    report = json.loads(ran([*TWO, "-m", "edgemtl", "train", *words, "--out", str(tmp_path / "out"), "--json"]).stdout)
    for task in ("semantic", "edges"):
        assert report[task]["steps"] == 3 and Run.open(tmp_path / "out" / task).metrics["val"] == report[task]["val"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [INVENTORY, "edges", "semantic"]


LATE = """
import os, sys, time
import edgemtl.train
from edgemtl.run import Run

class LateRun(Run):
    @classmethod
    def open(cls, path):
        if os.environ["RANK"] == "1":
            time.sleep(1)
        return super().open(path)

edgemtl.train.Run = LateRun
from edgemtl.cli import main
sys.exit(main())
"""


@pytest.mark.slow
def test_runs_are_renamed_once_every_process_has_read_them(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    words = ["input_size=[32,64]", "modalities=[rgb]", "steps=1", "batch_size=4", "tasks=[semantic]", "method=single"]
    words += ["data.synthetic.num_train=8", "data.synthetic.num_val=2", "--out", str(tmp_path / "out")]
    ran([*TWO, str(tmp_path / "late.py"), "train", *words])


def launch(monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> None:
    """Set what `torchrun` sets for one of two processes."""
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_PORT": 29500}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


def test_a_batch_must_be_large_enough_to_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch)
    with pytest.raises(ConfigError, match="cannot be shared out among 2 processes"):
        train(load(None, ["batch_size=1"]), tmp_path / "run")


@pytest.mark.fault("L9")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "1", "WORLD_SIZE": "4"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"),
        (
            {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
            "LOCAL_RANK is not set",
        ),
        ({"WORLD_SIZE": "four"}, "WORLD_SIZE=four without a launcher"),
        (
            {"RANK": "x", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "is no number",
        ),
        ({"RANK": "3"}, ""),
        ({"WORLD_SIZE": "1", "RANK": "0"}, ""),
        ({"OMPI_COMM_WORLD_SIZE": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"}, ""),
    ],
)
def test_several_processes_are_those_of_a_launcher(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ranks.LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (ranks.world_size(), ranks.rank(), ranks.is_main()) == (1, 0, True)
    assert expected in ranks.ignored_environment() and bool(expected) == bool(ranks.ignored_environment())


@pytest.mark.fault("L9")
def test_a_launched_process_knows_its_rank_in_training_alone(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(monkeypatch, rank=1)
    assert (ranks.world_size(), ranks.rank(), ranks.is_main()) == (2, 1, False) and not ranks.ignored_environment()
    assert main(["eval", str(tiny_run.path)]) == 0
    assert "miou" in capsys.readouterr().out and ranks.rank() == 1
