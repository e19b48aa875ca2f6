"""The log of a training: a file that is appended to, whatever happens to the program."""

from __future__ import annotations

import csv
import errno
import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edgemtl import checkpoint
from edgemtl.config_file import load
from edgemtl.data.loader import Loader
from edgemtl.log_file import PLOTTED, TrainingLog
from edgemtl.train import train
from edgemtl.training_log import read_log

pytestmark = [pytest.mark.usefixtures("undrawn"), pytest.mark.fault("L2")]

WORDS = (
    "input_size=[32,64]",
    "modalities=[rgb]",
    "tasks=[semantic]",
    "data.synthetic.num_train=8",
    "data.synthetic.num_val=2",
    "steps=6",
    "batch_size=2",
    "num_evals=3",
    "num_threads=1",
    "precision=fp32",
)


def filled(log: TrainingLog, first: int, last: int) -> TrainingLog:
    for step in range(first, last):
        log.add(step, 0.1, {"boxes": step / 7})
    return log


@pytest.mark.parametrize("steps", [20_000, pytest.param(600_000, marks=pytest.mark.slow)])
def test_a_log_of_many_steps_takes_little_memory_and_no_room_in_the_state(tmp_path: Path, steps: int) -> None:
    log = TrainingLog()
    log.open(tmp_path / "log")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    filled(log, 0, steps)
    assert len(json.dumps(log.state())) < 200
    points = log.plotted()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000
    assert len(points) == PLOTTED and points[-1]["step"] == steps - 1
    assert points[0]["boxes"] == pytest.approx((steps // PLOTTED - 1) / 2 / 7)
    assert log.last()["boxes"] == (steps - 1) / 7
    log.write(tmp_path)
    with (tmp_path / "log.csv").open() as stream:
        assert next(stream) == "step,lr,boxes\n" and sum(1 for _ in stream) == steps


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_kill_at_any_byte_loses_nothing_that_a_state_tells_of(tmp_path: Path, cut: int) -> None:
    log = TrainingLog()
    log.open(tmp_path / "log")
    state = json.loads(json.dumps(filled(log, 0, 4).state()))
    filled(log, 4, 9)
    content = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(content[: state["size"] + cut])
    again = TrainingLog()
    again.load_state(state)
    again.open(tmp_path / "log")
    again.annotate({"val/boxes": 0.5})
    again.write(tmp_path)
    filled(again, 4, 6).write(tmp_path)
    with (tmp_path / "log.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == list("012345")
    assert again.evaluations() == [{"step": 3, "lr": 0.1, "boxes": 3 / 7, "val/boxes": 0.5}]


@pytest.mark.parametrize("content", [None, b"", b'{"step":0', b'{"step":7,"lr":0.1}\n' * 40])
def test_another_log_or_none_is_a_line_and_begins_anew(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    log = TrainingLog()
    log.open(tmp_path / "log")
    state = filled(log, 0, 4).state()
    (tmp_path / "log").unlink()
    if content is not None:
        (tmp_path / "log").write_bytes(content)
    again = TrainingLog()
    again.load_state(state)
    again.open(tmp_path / "log")
    assert "is not the log of this training up to step 3" in capsys.readouterr().err.replace("\n", " ")
    assert [row["step"] for row in filled(again, 4, 6).rows()] == [3, 4, 5]


def test_a_link_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    log = TrainingLog()
    log.open(tmp_path / "log")
    state = filled(log, 0, 4).state()
    (tmp_path / "log").unlink()
    (tmp_path / "log").symlink_to(tmp_path / "mine")
    again = TrainingLog()
    again.load_state(state)
    again.open(tmp_path / "log")
    assert "cannot be written" in capsys.readouterr().err and (tmp_path / "mine").read_text() == "mine"
    assert filled(again, 4, 6).last()["step"] == 5


def test_a_full_disk_is_told_once_and_the_rows_follow_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = TrainingLog()
    log.open(tmp_path / "log")
    filled(log, 0, 3)
    stream = log._stream

    class Full:
        def seek(self, *_: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    log._stream = Full()  # type: ignore[assignment]
    filled(log, 3, 6)
    log._stream = stream
    filled(log, 6, 8)
    assert capsys.readouterr().err.count("No space left") == 1
    assert [row["step"] for row in log.rows()] == list(range(8))


def stopped(out: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> Path:
    whole = Loader.__iter__

    def broken(self: Loader):  # type: ignore[no-untyped-def]
        for step, batch in enumerate(whole(self)):
            if step == at:
                raise OSError("disk gone")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "__iter__", broken)
        with pytest.raises(OSError, match="disk gone"):
            train(load(None, WORDS), out)
    return out.with_name(f".{out.name}.unfinished")


def test_a_training_goes_on_with_its_log_also_from_a_state_that_held_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And both end with the log of one that was not stopped; nothing is left next to the runs."""
    state = stopped(tmp_path / "new", monkeypatch, 5)
    log = state.with_name(f"{state.name}.log.jsonl")
    assert log.is_file()
    stopped(tmp_path / "old", monkeypatch, 5)
    old = state.with_name(".old.unfinished")
    with safe_open(old, "pt") as file:
        metadata = file.metadata()
        tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values = json.loads(metadata[checkpoint.HEADER])
    rows = [json.loads(line) for line in log.read_text().splitlines()[:4]]
    values["log"] = [*rows, values["log"]["last"]]  # as it was before the log had a file
    save_file(tensors, old, {checkpoint.HEADER: json.dumps(values)})
    old.with_name(f"{old.name}.log.jsonl").unlink()
    train(load(None, WORDS), tmp_path / "whole")
    for name in ("new", "old"):
        train(load(None, WORDS), tmp_path / name, resume=True)
        assert read_log(tmp_path / name / "log.csv") == read_log(tmp_path / "whole" / "log.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "whole"]
    assert len(read_log(tmp_path / "new" / "log.csv")) == 6


def test_what_stops_before_the_first_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(tmp_path / "run", monkeypatch, 0)
    assert not list(tmp_path.iterdir())
