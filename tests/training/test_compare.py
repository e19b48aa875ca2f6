"""Tasks alone and together: the reference is found by its protocol, and the change is told with its sign."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import pytest

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.delta_m import delta_m, protocol, references
from edgemtl.experiments.single import single_task

WORDS = (
    "input_size=[32,64]",
    "batch_size=4",
    "data.synthetic.num_train=24",
    "data.synthetic.num_val=6",
    "precision=fp32",
    "augment.mosaic=0",
    "tasks=[semantic,depth]",
    "modalities=[rgb]",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each task alone under two seeds, and both together."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        words = [*WORDS, f"seed={seed}", "steps=6"]
        assert main(["train", *words, "method=single", "--out", str(folder / f"single-{seed}")]) == 0
        assert main(["train", *words, "--out", str(folder / f"joint-{seed}")]) == 0
    return folder


def test_joint_runs_tell_what_they_gained(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads((runs / "joint-1" / "metrics.json").read_text())
    figures = told["val"]["all"]
    alone = {
        task: [json.loads((runs / f"single-{s}" / task / "metrics.json").read_text())["val"]["all"] for s in (0, 1)]
        for task in ("semantic", "depth")
    }
    miou = sum(f["miou"] for f in alone["semantic"]) / 2
    error = sum(f["abs_rel"] for f in alone["depth"]) / 2
    by_hand = [100 * (figures["miou"] - miou) / miou, -100 * (figures["abs_rel"] - error) / error]
    assert told["delta_m"]["semantic"] == pytest.approx(by_hand[0])
    assert told["delta_m"]["depth"] == pytest.approx(by_hand[1])
    assert told["delta_m"]["delta_m"] == pytest.approx(sum(by_hand) / 2)
    assert told["parameters"] > 0 and told["seconds_epoch"] > 0 and 0 <= told["data_wait"] < 1


def test_single_nets_know_their_task_alone(runs: Path) -> None:
    told = json.loads((runs / "single-0" / "depth" / "metrics.json").read_text())
    assert "abs_rel" in told["val"]["all"] and "miou" not in told["val"]["all"] and "delta_m" not in told


def test_comparing_puts_seeds_together(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    picture = tmp_path / "deep" / "compare.png"
    assert main(["compare", *map(str, sorted(runs.glob("*-*"))), "--out", str(picture)]) == 0
    table = capsys.readouterr().out
    assert (
        "joint-0 (2 seeds)" in table
        and "Δm %" in table
        and "±" in table
        and "miou ↑" in table
        and "single-0 (2 seeds)" in table
    )
    assert cv2.imread(str(picture)) is not None
    assert main(["compare", str(runs / "joint-0"), str(runs / "joint-1"), "--json"]) == 0
    (column,) = json.loads(capsys.readouterr().out).values()
    assert column["seeds"] == [0, 1] and len(column["miou"]) == len(column["Δ delta_m"]) == 2


def test_what_has_no_figures_is_told(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path)]) == 2
    assert "no run here" in capsys.readouterr().err
    assert main(["compare", str(runs / "single-0"), "--out", str(tmp_path / "x.png")]) == 2
    assert "no run here has single-task references" in capsys.readouterr().err


def test_another_protocol_is_no_reference(runs: Path) -> None:
    config = load(None, [*WORDS, "steps=6"])
    assert {task: len(found) for task, found in references(config, runs).items()} == {"depth": 2, "semantic": 2}
    for word in ("lr=1e-3", "steps=7", "input_size=[64,64]", "data.synthetic.num_train=25", "modalities=[ir]"):
        assert references(load(None, [*WORDS, "steps=6", word]), runs) == {}
    for word in ("task_weighting=upgrad", "seed=7", "sparsity.target=0.5", "data.num_workers=2", "tasks=[depth]"):
        assert protocol(load(None, [*WORDS, "steps=6", word]), "depth") == protocol(config, "depth")


def test_of_several_sets_those_count_that_give_the_task() -> None:
    """By epochs, each picture of a task's own set is seen as often alone as beside other sets; by steps it is not."""
    sets = "data.source=[{source: a, tasks: [depth]}, {source: b, tasks: [semantic]}]"
    both = load(None, [*WORDS, sets])
    alone = single_task(both, "depth")
    assert [(s.source, s.tasks) for s in alone.data.sources] == [("a", ("depth",))]
    assert (
        protocol(alone, "depth") == protocol(both, "depth") == protocol(load(None, [*WORDS, "data.source=a"]), "depth")
    )
    assert protocol(load(None, [*WORDS, "data.source=b"]), "depth") != protocol(both, "depth")
    by_steps = load(None, [*WORDS, sets, "steps=6"])
    assert protocol(single_task(by_steps, "depth"), "depth") != protocol(by_steps, "depth")


def test_a_task_without_a_reference_leaves_no_mean() -> None:
    single = {"depth": [{"abs_rel": 0.2}]}
    assert delta_m({"abs_rel": 0.1}, single, ["depth"]) == {"depth": 50.0, "delta_m": 50.0}
    assert delta_m({"abs_rel": 0.1, "miou": 0.5}, single, ["depth", "semantic"]) == {}


def test_finished_tasks_are_kept_on_resuming(runs: Path) -> None:
    weights = runs / "single-0" / "depth" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    words = [*WORDS, "seed=0", "steps=6", "method=single"]
    assert main(["train", *words, "--out", str(runs / "single-0"), "--resume"]) == 0
    assert weights.stat().st_mtime_ns == before
    assert msgspec.structs.asdict(load(runs / "single-0" / "depth" / "config.yaml"))["tasks"] == ("depth",)
