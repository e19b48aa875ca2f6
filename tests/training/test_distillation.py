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
    words = (f"teachers={{{given}}}", *words) if teachers else words
    config = load(None, [*WORDS, "steps=30", "tasks=[boxes]", "fusion.kind=aligned", *words])
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
    batch = batches[0]  # type: ignore[index]

    def distilled() -> torch.Tensor:
        auxiliary = trainer.method.loss(batch).auxiliary
        assert auxiliary is not None
        return auxiliary

    weight = trainer.network.trunk.streams.rgb.neck.top8.cv2.conv.weight  # type: ignore[union-attr]
    trainer.network.zero_grad()
    distilled().backward()
    gradient = weight.grad.clone()
    direction = gradient / gradient.norm()
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * 1e-2 * direction)
            losses.append(float(distilled()))
            weight.sub_(sign * 1e-2 * direction)
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(float(gradient.norm()), rel=0.05)


@pytest.mark.fault("L4")
@pytest.mark.parametrize(
    "words", [(), ("task_weighting=pcgrad",), ("unimodal_aux_loss=true",), ("method=mtml", "episodes.subsets=2")]
)
def test_the_student_is_run_once(words: tuple[str, ...], teachers: dict[str, Path]) -> None:
    """But for the episodes' own passes, which there are without teachers too; statistics move once a pass."""
    passes = {}
    for given in (teachers, {}):
        trainer, batches = begun(given, *words)
        ran: list[int] = []
        trainer.network.trunk.streams["ir"].stage1.register_forward_hook(lambda *_, ran=ran: ran.append(1))
        row = trainer.train_step(batches[0])  # type: ignore[index]
        statistics = [int(b) for n, b in trainer.network.trunk.named_buffers() if n.endswith("num_batches_tracked")]
        passes[bool(given)] = (len(ran), max(statistics))
        assert ("distill" in row) == bool(given) and row.get("distill", 1) > 0
    assert passes[True] == passes[False]
    if "method=mtml" not in words:
        assert passes[True] == (1, 1)


@pytest.mark.fault("L4")
def test_gradient_weighting_adds_the_same_gradient(teachers: dict[str, Path]) -> None:
    """Of one task, whose gradient no weighting changes."""
    grads = []
    for weighting in ("equal", "pcgrad"):
        trainer, batches = begun(teachers, "distill_weight=5", f"task_weighting={weighting}")
        trainer.method.backward(batches[0], 0)  # type: ignore[index]
        grads.append({n: p.grad for n, p in trainer.network.named_parameters() if p.grad is not None})
    for name, gradient in grads[0].items():
        torch.testing.assert_close(grads[1][name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.fault("L4")
def test_what_is_distilled_is_registered_and_the_teacher_alike(teachers: dict[str, Path]) -> None:
    """A teacher that is the student's own stream: the same but at the borders, where both are shifted."""
    trainer, batches = begun(teachers, "fusion.registration_radius=2", "input_size=[96,128]")
    distillation, trunk = trainer.distillation, trainer.network.trunk
    assert distillation is not None
    stream = trunk.streams["ir"]  # type: ignore[union-attr]

    class Own(torch.nn.Module):
        strides = (4, 8, 16, 32)

        def forward(self, images: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            return list(stream(*stream.fine(images["ir"])).values())

    distillation.teachers = {"ir": Own()}  # type: ignore[dict-item]
    assert trunk.registration is not None
    trunk.registration.forward = lambda first, _: torch.tensor([[2.0, 0.0]]).expand(len(first), 2)  # type: ignore[method-assign,union-attr]
    rgb = batches[0].images["rgb"]  # type: ignore[index]
    images = {"rgb": rgb, "ir": rgb.mean(1, keepdim=True).roll(16, 3)}
    with torch.no_grad():
        features = trunk.stream_features(images)
        assert features.shifts[0] is None and torch.equal(features.shifts[1], torch.tensor([[2.0, 0.0]] * 4))  # type: ignore[arg-type]
        registered = float(distillation(features, images))
        not_registered = float(distillation(features._replace(shifts=[None, None]), images))
    assert registered < 0.75 * not_registered


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
