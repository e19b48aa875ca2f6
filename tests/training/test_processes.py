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

from edgemtl.config_file import load
from edgemtl.errors import ConfigError
from edgemtl.run import Run
from edgemtl.train import train
from edgemtl_runtime.atomic import INVENTORY

TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def ran(command: list[str], timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "edgemtl" in line] + [
        done.stderr[-2000:]
    ]
    return done


@pytest.mark.slow
@pytest.mark.parametrize("case", several.CASES)
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


def test_a_batch_must_be_large_enough_to_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="cannot be shared out among 2 processes"):
        train(load(None, ["batch_size=1"]), tmp_path / "run")
