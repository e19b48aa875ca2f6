"""A new task, trained from several starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgemtl.cli import main
from edgemtl.experiments.adapt import reached
from edgemtl.run import Run

SMALL = (
    "input_size=[32,64]",
    "data.synthetic.num_train=16",
    "data.synthetic.num_val=4",
    "steps=6",
    "batch_size=4",
    "precision=fp32",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is half zeros."""
    out = tmp_path_factory.mktemp("adapt") / "base"
    words = ["tasks=[semantic,depth]", "sparsity.target=0.4", "sparsity.scope=trunk", "method=mtml"]
    assert main(["train", *SMALL, *words, "--out", str(out)]) == 0
    return out


def test_a_new_head_is_trained_next_to_the_others_and_evaluated_on_the_way(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "num_evals=3", "--task", "edges", "--reach", "0", "--out", str(tmp_path / "out"), "--json"]
    assert main(["adapt", str(base), "scratch", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"base", "scratch"} and report["base"]["reached"] == 2
    for name, entry in report.items():
        assert [step for step, _ in entry["points"]] == [2, 4, 6]
        run = Run.open(tmp_path / "out" / name)
        assert run.config.tasks == ("semantic", "depth", "edges")
        assert entry["points"][-1][1] == run.metrics["val"]["all"]["edge_f1"]
    assert (tmp_path / "out" / "adapt.png").stat().st_size > 1000


def test_the_zeros_of_a_start_stay_or_not(base: Path, tmp_path: Path) -> None:
    def zeros(run: Run) -> int:
        norms = [m for m in run.network.trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        return sum(int(((m.weight == 0) & (m.bias == 0)).sum()) for m in norms)

    before = zeros(Run.open(base))
    for kept in (True, False):
        words = [
            *SMALL,
            f"keep_sparsity={kept}".lower(),
            "--alone",
            "--task",
            "normals",
            "--out",
            str(tmp_path / str(kept)),
        ]
        assert main(["adapt", str(base), *words]) == 0
        run = Run.open(tmp_path / str(kept) / "base")
        assert run.config.tasks == ("normals",) and (zeros(run) >= before > 20 if kept else zeros(run) < before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BASE", "--task", "depth"], "is trained on depth already; its tasks are semantic, depth"),
        (["BASE", "--task", "sound"], "--task 'sound' is not one of boxes"),
        (["scratch", "--task", "edges"], "name a run too"),
        (["BASE", "BASE", "--task", "edges"], "given twice"),
        (["nowhere", "--task", "edges"], "nowhere: no run here"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(
    base: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(base) if word == "BASE" else word for word in words]
    assert main(["adapt", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_reached_is_the_step_from_which_on_the_metric_holds() -> None:
    points = [(10, 0.3), (20, 0.6), (30, 0.4), (40, 0.5), (50, 0.7)]
    assert reached(points, 0.5, True) == 40 and reached(points, 0.8, True) is None
    assert reached(points, 0.5, False) is None and reached(points, 0.7, False) == 10
