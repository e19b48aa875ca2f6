"""Evaluation in batches and by several processes: the figures of one image after the other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_processes import launch

from edgemtl import distributed
from edgemtl.config_file import load
from edgemtl.corruptions import misalignments, missing_modalities
from edgemtl.data.sample import Sample
from edgemtl.errors import EdgemtlError
from edgemtl.evaluate import Predictor, collect, evaluate, of_network, reports_of
from edgemtl.metric_report import flat
from edgemtl.synthetic.streets import Streets
from edgemtl.tasks import TASKS
from edgemtl.train import begin

pytestmark = pytest.mark.fault("L5")

SIZE = (64, 96)
WORDS = ("input_size=[64,96]", f"tasks=[{','.join(TASKS)}]", "precision=fp32", "steps=1", "batch_size=2")


class Uneven(Streets):
    """Streets of two sizes; every third lacks depth, and every fourth is of no known light."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        if index % 2:
            sample = Streets(index + 1, (48, 80), self.first_seed)[index]
        labels = {task: label for task, label in sample.labels.items() if task != "depth" or index % 3}
        return replace(sample, labels=labels, is_day=None if index % 4 == 0 else sample.is_day)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    config = load(None, WORDS)
    trainer, _ = begin(config, {"train": Streets(2, SIZE, 0)})
    with torch.no_grad():  # scores that differ
        for name, parameter in trainer.ema.network.named_parameters():
            if parameter.ndim == 1 and name.startswith("heads."):
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return of_network(trainer.ema.network, trainer.interface)


def test_batches_give_the_figures_of_single_images(predictor: Predictor) -> None:
    samples = Uneven(3, SIZE, 0)
    suite = dict(list(misalignments(predictor.inputs).items())[:1])
    sizes: list[int] = []
    run = predictor.engine.run

    class Counted:
        def run(self, inputs: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
            sizes.append(len(next(iter(inputs.values()))))
            return run(inputs)

    figures = []
    for batch_size in (1, 2):
        batched = Predictor(Counted(), tuple(predictor.inputs.values()), predictor.heads, None, batch_size)
        figures.append(flat(evaluate(batched, samples, corruptions=suite)))
    assert sizes == [1] * 3 * 2 + [2] * 2 + [1] * 2
    assert figures[0].keys() == figures[1].keys() >= {"all", *suite}
    for subset, values in figures[0].items():
        for name, value in values.items():  # where an untrained network's scores have a ridge is a matter of rounding
            tolerance = 3e-2 if name.startswith("edge_ods") else 2e-3
            assert figures[1][subset][name] == pytest.approx(value, rel=1e-3, abs=tolerance), (subset, name)
    assert predictor.batch_size > 1


@pytest.mark.parametrize(("count", "world_size"), [(7, 2), (7, 3), (2, 4)])
def test_the_parts_of_several_processes_are_the_whole_to_the_last_bit(
    predictor: Predictor, count: int, world_size: int
) -> None:
    samples = Uneven(count, SIZE, 0)
    predictor = Predictor(predictor.engine, tuple(predictor.inputs.values()), predictor.heads, None, 2)
    tasks = {head.name: TASKS[head.task](head.classes) for head in predictor.heads}
    suite = missing_modalities(predictor.inputs)
    parts = [collect(predictor, samples, tasks, suite, None, rank, world_size) for rank in range(world_size)]
    assert flat(reports_of(parts, suite)) == flat(evaluate(predictor, samples, corruptions=suite))


def test_a_process_that_fails_is_heard_of_by_all(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody waits for it: it takes part in the exchange first."""
    launch(monkeypatch, rank=0)
    exchanged: list[object] = []

    def gather(value: tuple[object, str | None]) -> list[object]:
        exchanged.append(value)
        return [value, ({}, "ValueError: image 5 is broken")]

    monkeypatch.setattr(distributed, "gather", gather)
    with pytest.raises(EdgemtlError, match="process 1 failed in the evaluation: ValueError: image 5 is broken"):
        evaluate(predictor, Streets(4, SIZE, 0), shared=True)

    class Broken(Streets):
        def __getitem__(self, index: int) -> Sample:
            raise OSError("gone")

    single = Predictor(predictor.engine, tuple(predictor.inputs.values()), predictor.heads, None)
    with pytest.raises(OSError, match="gone"):
        evaluate(single, Broken(4, SIZE, 0), shared=True)
    assert exchanged[1] == ({}, "OSError: gone")
    evaluate(predictor, Streets(1, SIZE, 0))  # alone it asks nobody
    assert len(exchanged) == 2


def test_samples_are_read_ahead_by_threads_and_no_more_than_needed(predictor: Predictor) -> None:
    readers: list[str] = []

    class Named(Streets):
        def __getitem__(self, index: int) -> Sample:
            readers.append(threading.current_thread().name)
            return super().__getitem__(index)

    class Failing(Predictor):
        def predict(self, samples: Sequence[Sample], corruptions: object) -> list[dict[str, object]]:  # type: ignore[override]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing = Failing(predictor.engine, tuple(predictor.inputs.values()), predictor.heads, None, 2)
        evaluate(failing, Named(300, SIZE, 0))
    assert 2 <= len(readers) < 30 and "MainThread" not in readers


class Fixed:
    """A metric of one value."""

    def __init__(self, value: object) -> None:
        self.value = value

    def update(self, prediction: object, sample: Sample) -> None:
        """Take nothing in."""

    def merge(self, other: Fixed) -> None:
        """Add nothing."""

    def compute(self) -> dict[str, float]:
        if isinstance(self.value, Exception):
            raise self.value
        return {"value": self.value}  # type: ignore[dict-item]


def test_a_metric_that_cannot_be_computed_costs_itself_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """And one of NumPy's numbers is a number, which JSON can hold."""
    broken, whole = Fixed(KeyError("ap50")), Fixed(np.float32(0.5))
    report = reports_of([{"all": {"boxes": broken, "semantic": whole}}], {})["all"]
    assert report.by_task == {"semantic": {"value": 0.5}} and type(report["semantic"]["value"]) is float
    assert "the metrics of boxes could not be computed (KeyError 'ap50')" in capsys.readouterr().err
    with pytest.raises(EdgemtlError, match="no metric could be computed"):
        reports_of([{"all": {"boxes": broken}}], {})
