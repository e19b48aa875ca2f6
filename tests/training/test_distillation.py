"""Feature distillation from teachers of one modality."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_alignment import USUAL

from edgemtl.config_file import load
from edgemtl.errors import ConfigError
from edgemtl.methods.distillation import correlation
from edgemtl.synthetic.streets import Streets
from edgemtl.train import begin, train
from edgemtl.trainer import Trainer

WORDS = [w for w in USUAL if not w.startswith(("fusion", "steps"))]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    paths = {}
    for modality in ("rgb", "ir"):
        config = load(None, [*WORDS, "steps=3", "tasks=[boxes]", f"modalities=[{modality}]"])
        data = {"train": Streets(8, config.input_size, 0, config.tasks)}
        paths[modality] = train(config, folder / modality, data, evaluate=False).path
    return paths


def begun(teachers: dict[str, Path], *words: str) -> tuple[Trainer, object]:
    given = ", ".join(f"{modality}: {path}" for modality, path in teachers.items())
    config = load(None, [*WORDS, "steps=30", "tasks=[boxes]", "fusion.kind=aligned", f"teachers={{{given}}}", *words])
    return begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})


def test_correlation_is_pearsons_and_knows_no_scale() -> None:
    a, b = torch.randn(3, 5, 4, 6), torch.randn(3, 5, 4, 6)
    expected = [torch.corrcoef(torch.stack([a[:, i].flatten(), b[:, i].flatten()]))[0, 1] for i in range(5)]
    torch.testing.assert_close(correlation(a, b), torch.stack(expected))
    torch.testing.assert_close(correlation(a, 7 * a + 3), torch.ones(5))
    assert correlation(a, torch.ones_like(a)).abs().max() < 1e-3


def test_streams_come_to_correlate_with_their_teachers(teachers: dict[str, Path]) -> None:
    trainer, batches = begun(teachers, "distill_weight=20")
    rows = [trainer.train_step(batches[step]) for step in range(30)]  # type: ignore[index]
    assert all(p.grad is None for t in trainer.distillation.teachers.values() for p in t.parameters())  # type: ignore[union-attr]
    assert sum(r["distill"] for r in rows[-5:]) < 0.75 * sum(r["distill"] for r in rows[:5])


def test_the_gradient_is_that_of_the_returned_loss(teachers: dict[str, Path]) -> None:
    """Against finite differences, in single precision."""
    trainer, batches = begun(teachers)
    batch, distillation = batches[0], trainer.distillation  # type: ignore[index]
    assert distillation is not None
    weight = trainer.network.trunk.streams.rgb.neck.top8.cv2.conv.weight  # type: ignore[union-attr]
    trainer.network.zero_grad()
    distillation.backward(batch)
    gradient = weight.grad.clone()
    direction = gradient / gradient.norm()
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * 1e-2 * direction)
        losses.append(distillation.backward(batch))
        with torch.no_grad():
            weight.sub_(sign * 1e-2 * direction)
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(float(gradient.norm()), rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fusion.kind=concat",), "two full streams"),
        (("teachers={depth: out/depth}",), "names 'depth'"),
        (("network=rgbir-resnet18",), "channels, the network"),
    ],
)
def test_teachers_that_do_not_fit_are_rejected(words: tuple[str, ...], message: str, teachers: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=message):
        begun(teachers, *words)
    with pytest.raises(ConfigError, match=r"is of rgb; train one with modalities=\[ir\]"):
        begun({"ir": teachers["rgb"]})
