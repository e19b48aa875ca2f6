"""A run that teaches another all of its heads: teacher=RUN."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgemtl.config_file import load
from edgemtl.errors import ConfigError
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin, train
from edgemtl.trainer import Trainer

WORDS = ["input_size=[64,96]", "batch_size=4", "tasks=[boxes,semantic,edges]", "modalities=[rgb]", "precision=fp32"]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense") / "run"
    config = load(None, [*WORDS, "steps=6", "seed=1"])
    return train(config, folder, {"train": Streets(8, config.input_size, 0, config.tasks)}, evaluate=False).path


def trainer_of(*words: str) -> tuple[Trainer, object]:
    config = load(None, [*WORDS, "steps=30", *words])
    return begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})


def test_what_the_teacher_answers_is_learned(dense: Path) -> None:
    distances = []
    for words in ((f"teacher={dense}", "teacher_weight=5"), ()):
        trainer, batches = trainer_of(*words)
        rows = [trainer.train_step(batches[step]) for step in range(30)]  # type: ignore[index]
        if words:
            assert rows[-1]["distill"] < 0.7 * rows[0]["distill"]
        judge, _ = trainer_of(f"teacher={dense}", "teacher_weight=1")
        image = {"rgb": torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))}
        judge.network.load_state_dict(trainer.network.state_dict())
        taught = judge.method.loss.output_loss
        assert taught is not None
        with torch.no_grad():
            distances.append(float(taught(judge.network(**image), image)))
    assert distances[0] < 0.7 * distances[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tasks=[boxes,depth]",), "has no depth head"),
        (("input_size=[64,128]",), "takes rgb images of 64x96; the network takes rgb 64x128"),
        (("task_weighting=pcgrad",), "a teacher has no part"),
        (("method=mtml",), "teacher is for method=joint, sparse or single"),
    ],
)
def test_a_teacher_that_does_not_fit_is_rejected(words: tuple[str, ...], message: str, dense: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer_of(f"teacher={dense}", *words)
