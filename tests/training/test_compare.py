"""Tasks alone and together: the reference is found by its protocol, and the change is told with its sign."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgemtl.cli import main
from edgemtl.compare import columns, rows, unique_names
from edgemtl.config import Config, Data
from edgemtl.config_file import load
from edgemtl.data.sample import Sample
from edgemtl.delta_m import FIXED, FIXED_DATA, FREE, FREE_DATA, delta_m, protocol, references
from edgemtl.experiments.single import single_task
from edgemtl.run import Run
from edgemtl.run_cost import run_costs
from edgemtl.tasks.semantic import Semantic
from edgemtl_export import Shrunk
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.result import LabelMap

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


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are not measured, which takes seconds each."""
    monkeypatch.setattr("edgemtl.run_cost.run_costs", lambda *_: ({}, {}))


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


@pytest.mark.usefixtures("unmeasured")
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


@pytest.mark.fault("L8")
@pytest.mark.usefixtures("unmeasured")
def test_whatever_runs_there_are_are_drawn(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without references there is no Δm, which is reported, and no error."""
    apart = tmp_path / "apart"
    shutil.copytree(runs / "joint-0", apart / "joint")
    for index, run in enumerate((runs / "single-0", apart / "joint")):
        figure = tmp_path / f"{index}.png"
        capsys.readouterr()
        assert main(["compare", str(run), "--out", str(figure)]) == 0
        output = capsys.readouterr()
        assert "no Δm" in output.err and "--baseline" in output.err and "Δm" not in output.out
        image = cv2.imread(str(figure))
        assert image is not None and image.std() > 20 and image.shape[1] >= 400


@pytest.mark.fault("L8")
@pytest.mark.usefixtures("unmeasured")
def test_a_named_baseline_of_the_same_seed_is_the_reference(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joint, single = runs / "joint-1", runs / "single-1"
    capsys.readouterr()
    assert (
        main(["compare", str(joint), "--baseline", str(runs), "--json"]) == 0
    )  # joint-0 and joint-1: of seed 1 itself
    (column,) = json.loads(capsys.readouterr().out).values()
    assert column["Δ delta_m"] == [0.0] and column["Δ semantic"] == [0.0]
    assert main(["compare", str(joint), "--baseline", str(single / "depth"), "--json"]) == 0
    (column,) = json.loads(capsys.readouterr().out).values()
    depth = json.loads((single / "depth" / "metrics.json").read_text())["val"]["all"]["abs_rel"]
    assert column["Δ depth"] == pytest.approx([-100 * (column["abs_rel"][0] - depth) / depth])
    assert column["Δ delta_m"] == column["Δ depth"] and "Δ semantic" not in column


@pytest.mark.fault("L8")
def test_columns_have_the_names_of_what_was_trained(tmp_path: Path) -> None:
    for folder in ("a/lomt/network", "b/lomt/network", "b/joint"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.yaml").write_text("")
        (tmp_path / folder / "metrics.json").write_text('{"val": {"all": {"miou": 0.5}}}')
    for folder in ("a/lomt", "b/lomt"):
        (tmp_path / folder / "profile.json").write_text("{}")
    folders = [tmp_path / name for name in ("a/lomt/network", "b/joint")]
    assert [column.name for column in columns(folders[:1])] == ["lomt"]
    assert unique_names([tmp_path / "a" / "lomt", tmp_path / "b" / "lomt", tmp_path / "b" / "joint"]) == [
        "a/lomt",
        "b/lomt",
        "joint",
    ]


@pytest.mark.slow
@pytest.mark.fault("L8")
def test_costs_are_those_of_the_bundle(
    tiny_run: Run, tiny_bundle: tuple[Bundle, Shrunk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    costs, failures = run_costs([tiny_run.path], with_latency=True)
    removed, values = tiny_bundle[0].manifest.removed, costs[tiny_run.path]
    assert not failures and removed is not None
    assert values["parameters"] == removed["parameters_before"]
    assert values["parameters_after_removal"] == removed["parameters_after"] < values["parameters_nonzero"]
    assert values["parameters_nonzero"] < 0.8 * values["parameters"]
    assert values["mflop"] == removed["flops_before"] / 1e6 > values["mflop_after_removal"]
    assert 0 < values["latency_ms"] < 1000
    monkeypatch.setattr("edgemtl_export.shrink", None)
    monkeypatch.setattr("edgemtl.run_cost.latencies_of", None)
    assert run_costs([tiny_run.path], with_latency=True) == (costs, {})  # from the cache
    (column,) = columns([tiny_run.path], costs)
    labels = [row[0] for row in rows([column])]
    expected = ["parameters", "parameters, not zero", "parameters after removal", "MFLOP", "MFLOP after removal"]
    assert labels[labels.index("parameters") :] == [*expected, "ms after removal, 1 thread", "training, s an epoch"]


@pytest.mark.fault("L8")
def test_a_network_that_cannot_be_measured_has_its_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "weights.safetensors").write_bytes(b"none")
    costs, failures = run_costs([tmp_path], with_latency=True)
    assert costs == {} and "config.yaml is missing" in failures[tmp_path]


@pytest.mark.fault("L8")
def test_miou_is_over_the_classes_that_labels_have() -> None:
    """One stray pixel of a class that no label has costs its pixel, not a class of the mean."""
    metric = Semantic(("road", "sky", "boat")).metric()
    labels = np.repeat(np.array([[0], [1]], np.uint8), 10, 1)
    predicted = labels.copy()
    predicted[0, 0] = 2
    metric.update(LabelMap(predicted, ("road", "sky", "boat")), Sample({}, {"semantic": labels}))
    values = metric.compute()
    assert values["miou"] == pytest.approx((0.9 + 1) / 2) and "iou_boat" not in values
    assert values["pixel_accuracy"] == pytest.approx(0.95)


@pytest.mark.fault("L9")
def test_every_key_is_free_or_fixed_in_a_comparison() -> None:
    """A key that is added to the configuration has to be put into one of the two lists."""
    assert sorted([*FREE, *FIXED]) == sorted(Config.__struct_fields__)
    assert sorted([*FREE_DATA, *FIXED_DATA]) == sorted(Data.__struct_fields__)


def test_another_protocol_is_no_reference(runs: Path) -> None:
    config = load(None, [*WORDS, "steps=6"])
    assert {task: len(found) for task, found in references(config, runs).items()} == {"depth": 2, "semantic": 2}
    for word in ("lr=1e-3", "steps=7", "input_size=[64,64]", "data.synthetic.num_train=25", "modalities=[ir]"):
        assert references(load(None, [*WORDS, "steps=6", word]), runs) == {}
    for word in (
        "task_weighting=upgrad",
        "seed=7",
        "tensorboard=board",
        "sparsity.target=0.5",
        "data.num_workers=2",
        "tasks=[depth]",
    ):
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
