"""Mistakes on the command line: one line that names the word, before anything large is imported; help that helps."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgemtl import cli
from edgemtl.commands.checks import STRIDE, check_out
from edgemtl.errors import EdgemtlError
from edgemtl.other_tools import setting_hint
from edgemtl.run_files import RUN, check_run
from edgemtl_models import STRIDE as NETWORK_STRIDE
from edgemtl_runtime import cli as runtime_cli
from edgemtl_runtime.atomic import unfinished
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.errors import BundleError
from edgemtl_runtime.text import printable, shortened

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from mistakes import MISTAKES, ROBOT, write_files  # noqa: E402

HEAVY = ("torch", "torchvision", "ultralytics", "matplotlib", "onnx", "onnxruntime", "timm")
PROGRAM = f"""
import contextlib, io, json, shlex, sys
from edgemtl.cli import main
from edgemtl_runtime.cli import main as robot
answers = []
for command in json.load(sys.stdin):
    program, *words = shlex.split(command)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = (robot if program == "{ROBOT}" else main)(words)
        except SystemExit as end:
            code = end.code
    answers.append([code, out.getvalue(), err.getvalue(), sorted(set({HEAVY!r}) & set(sys.modules))])
print(json.dumps(answers))
"""
Answer = tuple[int, str, str, list[str]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Every mistake of the benchmark, made in one process."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_files(folder)
    before = sorted(folder.rglob("*"))
    given = json.dumps(list(MISTAKES))
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(folder.rglob("*")) == before
    return dict(zip(MISTAKES, json.loads(done.stdout), strict=True))


@pytest.mark.fault("C1", "C2")
@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_before_anything_large_is_imported(command: str, answers: dict[str, Answer]) -> None:
    code, out, err, imported = answers[command]
    assert (code, out, imported) == (2, "", [])
    assert MISTAKES[command] in err and err.count("\n") == 1 and err.strip().isprintable()


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a command line's commands, those of a group too."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for command in group.choices.values():
            yield from parsers(command)
    if not groups:
        yield parser


COMMANDS = {command.prog: command for command in parsers(cli.parser())}


@pytest.mark.fault("C1")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_parse(name: str) -> None:
    command = COMMANDS[name]
    text = command.format_help()
    examples = text.partition("examples:\n")[2].splitlines()
    assert examples and all(line.startswith(f"  {name}") for line in examples)
    for line in examples:
        cli.parser().parse_args(line.split()[1:])
    for action in command._actions:
        if action.choices and action.help != argparse.SUPPRESS and action.option_strings:
            assert all(str(choice) in text for choice in action.choices), action.option_strings


def printed(words: list[str], robot: bool = False) -> tuple[int, str, str]:
    """Return a command's exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        (runtime_cli.main if robot else cli.main)(words)
    assert isinstance(end.value.code, int)
    return end.value.code, out.getvalue(), err.getvalue()


@pytest.mark.fault("C1")
@pytest.mark.parametrize("robot", [False, True])
def test_a_program_alone_prints_how_to_begin_and_has_a_version(robot: bool) -> None:
    name = ROBOT if robot else "edgemtl"
    code, out, err = printed([], robot)
    assert (code, err) == (0, "") and "to begin with:\n" in out and len(out.splitlines()) < 60
    code, out, err = printed(["--version"], robot)
    assert (code, err) == (0, "") and out.startswith(f"{name} ") and out.split()[1][0].isdigit()


WORDS = {
    "train --epochs 4": "--epochs 4: settings are words: write epochs=4",
    "train mine.yaml --epochs=4": "--epochs 4: settings are words: write epochs=4",
    "train --batch 8": "write batch_size=8",
    "train --batch-size 8 --lr0 1": "write batch_size=8",
    "train --sparsity.target=0.5": "write sparsity.target=0.5",
    "train --imgsz 640": "input_size=[640,640]",
    "train --device cuda": "a GPU is used where there is one",
    "train --epoch 3": "did you mean epochs=3?",
    "train --ovrwrite": "did you mean '--overwrite'?",
    "train --zzz": "there is no such option; `edgemtl train --help` lists them",
    "train": "give CONFIG; `edgemtl train --help` has examples",
    "adapt run --task edges --out x --lr0 0.1": "write lr=0.1",
    "export run": "give --out",
    "export run --out b --format onnx": "always a bundle with ONNX",
    "eval run --split vals": "--split vals: is not one of val, train, test; did you mean 'val'?",
    "demo --steps four": "--steps four: is no whole number",
    "run b --tolerance-ms soon": "--tolerance-ms soon: is no number",
    "run b --conf 0.4": "--threshold HEAD=SCORE",
    "data chek x": "there is no command 'chek'; did you mean 'check'?",
    "export run --out b more": "more: is one word too many",
    "--foo": "--foo: there is no such option",
    "train --\x1b[31mred": "--red: there is no such option",
}


@pytest.mark.fault("C2")
@pytest.mark.parametrize("words", WORDS)
def test_an_error_of_the_words_names_the_word(words: str) -> None:
    code, out, err = printed(words.split())
    assert (code, out) == (2, "") and WORDS[words] in err
    assert err.count("\n") == 1 and err.strip().isprintable() and err.startswith("edgemtl")


@pytest.mark.fault("C2")
def test_options_of_a_training_are_answered_by_keys() -> None:
    assert setting_hint("--data", "coco.yaml").startswith("settings are words") and setting_hint("--qqq", "") == ""


@pytest.mark.fault("C1")
def test_a_path_of_another_kind_is_named(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "group").mkdir()
    (tmp_path / "run").rename(tmp_path / "group" / "one")
    run, bundle = tmp_path / "group" / "one", tmp_path / "bundle"
    for path, expected in (
        (run, "it is a run"),
        (bundle / "model.onnx", "name the bundle"),
        (tmp_path, "holds bundle"),
    ):
        with pytest.raises(BundleError, match=expected):
            Bundle.open(path)
    stopped = tmp_path / "stopped"
    unfinished(stopped).write_text("")
    paths = {
        bundle: "it is a bundle",
        run / "config.yaml": "name the run",
        run.parent: "holds one",
        stopped: "--resume",
    }
    for path, expected in paths.items():
        with pytest.raises(EdgemtlError, match=expected):
            check_run(path)
    with pytest.raises(EdgemtlError, match="an unfinished training stands here"):
        check_out(stopped, RUN)
    check_out(tmp_path / "new" / "run", RUN)
    assert not (tmp_path / "new").exists()
    assert STRIDE == NETWORK_STRIDE


@pytest.mark.fault("C2")
def test_text_for_a_terminal_has_no_escapes_and_is_cut_after_a_word() -> None:
    assert printable("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x9b2Jx\r\x07‮") == "red link x???"
    text = shortened("one two\nthree  " * 40, 60)
    assert len(text) <= 60 and text.endswith("three…") and text.isprintable()
    assert len(shortened("x" * 500, 60)) == 60 and shortened("short") == "short"
