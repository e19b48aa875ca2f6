"""Options under an earlier name: the same value, one line on standard error, nothing in the help."""

from __future__ import annotations

import argparse

import pytest

from edgemtl_runtime.renamed_options import renamed


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser("tool")
    command.add_argument("--queue-size", type=int, default=8, choices=range(1, 9), help="pairs that wait")
    command.add_argument("--wait-for-cameras", action="store_true")
    command.add_argument("--missing-modality", action="append", default=[])
    command.add_argument("--serve", nargs="?", const="all")
    command.add_argument("--backend", required=True)
    renamed(command, "--depth", "--queue-size")
    renamed(command, "--wait", "--wait-for-cameras")
    renamed(command, "--absent", "--missing-modality")
    renamed(command, "--page", "--serve")
    renamed(command, "--for", "--backend")
    return command


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--depth", "3"], ["--queue-size", "3"]),
        (["--depth=3"], ["--queue-size=3"]),
        (["--wait"], ["--wait-for-cameras"]),
        (["--absent", "ir", "--absent", "rgb"], ["--missing-modality", "ir", "--missing-modality", "rgb"]),
        (["--page"], ["--serve"]),
        (["--page", "8080"], ["--serve", "8080"]),
    ],
)
def test_the_old_option_is_the_new_one(capsys: pytest.CaptureFixture[str], old: list[str], new: list[str]) -> None:
    expected = parser().parse_args([*new, "--backend", "x"])
    assert capsys.readouterr().err == ""
    assert vars(parser().parse_args([*old, "--for", "x"])) == vars(expected)
    given, name = old[0].partition("=")[0], new[0].partition("=")[0]
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"tool: {given} is {name} now; the old name goes with the next version"
    assert second.startswith("tool: --for is --backend now")


def test_defaults_stand_and_help_shows_the_new_names() -> None:
    given = parser().parse_args(["--backend", "x"])
    assert given.queue_size == 8 and given.missing_modality == [] and not given.wait_for_cameras
    text = parser().format_help()
    assert "--queue-size" in text and "--depth" not in text and "--for" not in text


def test_values_are_checked_as_the_new_ones(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--depth", "9", "--backend", "x"], ["--depth", "many", "--backend", "x"], []):
        with pytest.raises(SystemExit):
            parser().parse_args(words)
    assert "--backend" in capsys.readouterr().err
