"""A sweep: one run for each value and seed, what was there is used again, and what cannot be swept is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemtl.cli import main
from edgemtl.errors import ConfigError
from edgemtl.sweep_values import folder_of, split_values

SMALL = ["steps=2", "batch_size=2", "data.synthetic.num_train=4", "data.synthetic.num_val=4", "augment.mosaic=0"]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("sparsity.target=0,0.5", ["0", "0.5"]),
        ("tasks=[boxes],[boxes,semantic]", ["[boxes]", "[boxes,semantic]"]),
        ("network=rgbir-n, rgbir-lite0", ["rgbir-n", "rgbir-lite0"]),
    ],
)
def test_values_are_split_at_commas_outside_of_brackets(word: str, values: list[str]) -> None:
    assert split_values(word) == (word.partition("=")[0], values)


@given(st.lists(st.floats(0, 1).map(str), min_size=2, max_size=5, unique=True))
def test_every_value_has_its_folder(values: list[str]) -> None:
    key, split = split_values("sparsity.target=" + ",".join(values))
    assert split == values and len({folder_of(Path(), key, value, 0) for value in split}) == len(values)


@pytest.mark.parametrize("word", ["sparsity.target=0.5", "sparsity.target=0,", "sparsity.target", "=1,2", "seed=1,1"])
def test_a_word_without_several_values_is_refused(word: str) -> None:
    with pytest.raises(ConfigError):
        split_values(word)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch=1,2"], "nosuch"),
        (["network=rgbir-n,rgbir-m"], "no network 'rgbir-m'"),
        (["method=joint,lomt"], "trains several networks"),
        (["tensorboard=a b,a_b"], "two values would be written to tensorboard-a_b-seed0; sweep them apart"),
        (["lr=0.1,0.2", "--seeds", "1,x"], "--seeds 1,x: list different whole numbers"),
        (["lr=0.1,0.2", "--seeds", "1,1"], "--seeds 1,1: list different whole numbers"),
    ],
)
def test_what_cannot_be_swept_is_one_line_and_writes_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *words, *SMALL, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_sweep_trains_measures_draws_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "front"
    words = ["sweep", "sparsity.target=0,0.5", *SMALL, "tasks=[boxes]", "modalities=[ir]", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    swept = json.loads(capsys.readouterr().out)
    assert swept == json.loads((out / "sweep.json").read_text()) and swept["key"] == "sparsity.target"
    dense, half = swept["points"]
    assert (dense["value"], half["value"]) == ("0", "0.5") and dense["runs"] == ["target-0-seed0"]
    for name in ("latency_ms", "ap50", "parameters_after_removal"):
        assert len(dense["metrics"][name]) == len(half["metrics"][name]) == 1
    removed = [point["metrics"]["parameters_after_removal"][0] for point in (half, dense)]
    assert removed[0] < 0.7 * removed[1]
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    before = {run: (out / run / "weights.safetensors").stat().st_mtime_ns for run in dense["runs"]}
    assert main(words) == 0 and "of the first" in capsys.readouterr().out
    assert before == {run: (out / run / "weights.safetensors").stat().st_mtime_ns for run in dense["runs"]}
    other = [word.replace("steps=2", "steps=3") for word in words]
    assert main(other) == 2 and "a training of another configuration" in capsys.readouterr().err
    assert main(["sweep", "lr=0.1,0.2", *SMALL, "--out", str(out)]) == 2
    assert "holds a sweep of sparsity.target; give another --out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sweep.json", "sweep.png"])
def test_files_of_others_are_not_replaced(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["sweep", "lr=0.1,0.2", *SMALL, "--out", str(tmp_path)]) == 2
    assert "that no sweep wrote; give another --out" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine" and len([*tmp_path.iterdir()]) == 1


def test_an_output_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["sweep", "lr=0.1,0.2", *SMALL, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and (tmp_path / "out").read_text() == "mine"
