"""A mistake in a command's arguments is answered before torch is imported; renamed options are read for a version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgemtl import cli
from edgemtl.commands.checks import zoo
from edgemtl.tasks import TASKS
from edgemtl_models import zoo as models_zoo

PROGRAM = """
import contextlib, io, json, sys
from edgemtl.cli import main
answers = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    heavy = {"torch", "torchvision", "ultralytics", "matplotlib", "cv2", "onnx"} & set(sys.modules)
    answers.append([code, out.getvalue(), err.getvalue(), sorted(heavy)])
print(json.dumps(answers))
"""
Answer = tuple[int, str, str, list[str]]
"""Exit code, standard output, standard error, and the large packages that were imported by then."""
RUN = str(Path(__file__).parents[1] / "fixtures" / "version-0.1" / "run")
MISTAKES = {
    "nonsense: cannot be read": ["train", "nonsense"],
    "did you mean 'epochs'": ["train", "epoch=3"],
    "lr=20 is not between": ["train", "lr=20"],
    "tasks: 'boxs' is not one of": ["train", "tasks=[boxs]"],
    "method: 'joit' is not one of": ["train", "method=joit"],
    "task_weighting: 'equl' is not one of": ["train", "task_weighting=equl"],
    "no_plugin.py: cannot be read": ["train", "plugins=[no_plugin.py]"],
    "no network 'nothing'; the zoo has": ["train", "network=nothing"],
    "somewhere: there is no such folder": ["train", "data.source=somewhere"],
    "init_run: no run here": ["train", "init_from=init_run"],
    "teacher: no run here": ["train", "teachers={ir: teacher}"],
    "dense: no run here": ["train", "teacher=dense"],
    "taken: exists and holds something else": ["train", "steps=1", "--out", "taken"],
    "old: no run here": ["adapt", "old", "--task", "edges", "--out", "x"],
    "unknown key 'epoch'": ["adapt", RUN, "epoch=3", "--task", "edges", "--out", "x"],
    "is trained on semantic already": ["adapt", RUN, "--task", "semantic", "--out", "x"],
    "name a run too": ["adapt", "scratch", "--task", "edges", "--out", "x"],
    "nowhere: there is no such folder": ["data", "check", "nowhere"],
    "end the name in .png": ["data", "show", ".", "--out", "sheet.gif"],
    "missing: no such folder; give a run or a bundle": ["eval", "missing"],
    "give both": ["eval", "taken", "--out", "x.png"],
    ".: no bundle here": ["eval", "."],
    "taken: no run here, nor a folder of runs": ["compare", "taken"],
    "absent: no such folder": ["predict", "absent", "taken", "--out", "x"],
    "there is no such file": ["shrink", "net.pt2"],
    "--align 7: is not one of": ["shrink", "net.pt2", "--align", "7"],
    "taken: no run here": ["export", "taken", "--out", "b"],
    "--precisions fp8: is not one of": ["export", "taken", "--out", "b", "--precisions", "fp8"],
    "--steps is not negative": ["demo", "--steps", "-1"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Every mistake made in one process, next to a folder that holds something else."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "taken").mkdir()
    (folder / "taken" / "notes.txt").write_text("mine")
    given = json.dumps(list(MISTAKES.values()))
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["taken"]
    return dict(zip(MISTAKES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("expected", MISTAKES)
def test_a_mistake_is_answered_without_torch(expected: str, answers: dict[str, Answer]) -> None:
    code, out, err, imported = answers[expected]
    assert code == 2 and imported == []
    assert expected in err and err.count("\n") == 1 and out == ""


def test_names_that_are_known_without_torch_are_those_of_the_registries() -> None:
    assert zoo() == models_zoo()


def test_every_task_is_described_without_torch() -> None:
    program = (
        "import sys; from edgemtl.tasks import TASKS;"
        "print(*(t.primary for t in TASKS.values())); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[-1] == "False" and len(done.stdout.split()) == len(TASKS) + 1


@pytest.mark.parametrize(
    ("words", "old", "new", "attribute", "value"),
    [
        (["eval", "RUN"], ["--absent"], "--missing-modality", "missing_modality", True),
        (["export", "RUN", "--out", "b"], ["--for", "tensorrt"], "--backend", "backend", "tensorrt"),
        (["adapt", "RUN", "--task", "edges", "--out", "x"], ["--alone"], "--single-task", "single_task", True),
    ],
)
def test_an_older_option_is_read_and_the_new_one_named(
    words: list[str], old: list[str], new: str, attribute: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vars(cli.parser().parse_args([*words, *old]))[attribute] == value
    warning = capsys.readouterr().err
    assert f"{old[0]} is {new} now" in warning and warning.count("\n") == 1
    assert vars(cli.parser().parse_args([*words, new, *old[1:]]))[attribute] == value
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        cli.parser().parse_args([words[0], "--help"])
    shown = capsys.readouterr().out
    assert new in shown and f"{old[0]} " not in shown
